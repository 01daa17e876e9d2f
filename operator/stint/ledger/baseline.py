"""What savings are against: the default scheduler, with the first GPU of the job's own choice, on demand.

It places the gang at once, on machines that nobody takes back, at the prices that hold here: so its cost is that of the
work alone, with the checkpoints it writes. Nothing is said of whether it would have had room.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stint.estimate.runtime import units_per_hour
from stint.model.job import Job
from stint.model.market import Offering
from stint.model.offering import CapacityType


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """In words and in money."""

    text: str
    usd: float  # for the whole job, from its beginning to its end


def baseline(job: Job, offerings: Iterable[Offering]) -> Baseline | None:
    """None where no node that the job could run on has a GPU that it would take, a speed and a price.

    Its first choice is the first of `gpu_models` that is sold here, or the fastest one where any will do; of its
    offerings the cheapest for each GPU. A worker pays for the GPUs that it takes. Where data must not leave a place
    that sells nothing on demand, the machines owned there are meant.
    """
    speeds = job.work.units_per_second
    wanted = job.gpu_models or sorted(speeds, key=lambda model: (-speeds[model], model))
    home = (job.data.provider, job.data.region)
    possible = [o for o in offerings if job.data.may_leave_region or (o.provider, o.region) == home]
    for terms in (CapacityType.ON_DEMAND, CapacityType.OWNED):
        rates = _usd_per_gpu_hour(job, (o for o in possible if o.capacity_type is terms))
        for model in wanted:
            per_hour = units_per_hour(job, model, job.workers)
            if model in rates and per_hour > 0:
                return _whole(job, model, terms, rates[model], job.work.units / per_hour)
    return None


def _usd_per_gpu_hour(job: Job, offerings: Iterable[Offering]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for o in offerings:
        price, gpus = o.usd_per_new_node_hour or o.usd_per_node_hour, o.whole_gpus(o.per_node.gpus)
        if price is not None and price.usable and o.slices is None and gpus >= max(job.per_worker.gpus, 1):
            rates[o.gpu_model] = min(rates.get(o.gpu_model, price.value / gpus), price.value / gpus)
    return rates


def _whole(job: Job, model: str, terms: CapacityType, usd_per_gpu_hour: float, hours: float) -> Baseline:
    if job.checkpoint.every is not None:
        hours *= 1 + job.checkpoint.takes / job.checkpoint.every
    gpus = job.gpus(job.workers)
    usd_per_hour = gpus * usd_per_gpu_hour
    how = "on demand" if terms is CapacityType.ON_DEMAND else "of one's own"
    text = f"default scheduler, {gpus} {model} {how} at {usd_per_hour:.2f} USD/h for {hours:.1f} h"
    return Baseline(text=text, usd=usd_per_hour * hours)
