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
    """None where no on-demand node here has a GPU that the job would take, a speed and a price.

    Its first choice is the first of `gpu_models` that is sold here, or the fastest one where any will do; of its
    offerings the cheapest for each GPU. A worker pays for the GPUs that it takes.
    """
    speeds = job.work.units_per_second
    wanted = job.gpu_models or sorted(speeds, key=lambda model: (-speeds[model], model))
    rates: dict[str, tuple[float, str]] = {}
    for offering in offerings:
        price = offering.usd_per_node_hour
        gpus = offering.whole_gpus(offering.per_node.gpus)
        if offering.capacity_type is not CapacityType.ON_DEMAND or price is None or not price.usable or gpus <= 0:
            continue
        if offering.slices is None and offering.per_node.gpus >= job.per_worker.gpus:
            found = price.value / gpus, offering.id
            rates[offering.gpu_model] = min(rates.get(offering.gpu_model, found), found)
    for model in wanted:
        per_hour = units_per_hour(job, model, job.workers)
        if model in rates and per_hour > 0:
            hours = job.work.units / per_hour
            if job.checkpoint.every is not None:
                hours *= 1 + job.checkpoint.takes / job.checkpoint.every
            gpus = job.workers * job.per_worker.gpus
            usd_per_hour = gpus * rates[model][0]
            text = f"default scheduler, {gpus} {model} on demand at {usd_per_hour:.2f} USD/h for {hours:.1f} h"
            return Baseline(text=text, usd=usd_per_hour * hours)
    return None
