"""Jobs that hold more than they use: what would do, and what it would save. Pure; nobody acts on it but people.

Each rule speaks of one way to pay less an hour for the same progress. GPUs that are busy for a part of the time are
held up by something else, so that fewer or slower ones, up to a margin, would be no slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from stint.estimate.runtime import units_per_hour
from stint.model.cluster import Utilisation
from stint.model.job import Job
from stint.model.market import Offering
from stint.model.offering import OfferingId

BUSY_ENOUGH = 0.5  # from here on nothing is said of a size
ROOM = 1.25  # what is left above what was measured: of time and of memory
WORTH_SAYING_USD_PER_HOUR = 0.01
MOST = 4


@dataclass(frozen=True, slots=True)
class Waste:
    """One way to pay less."""

    what: str  # Idle, FewerWorkers, SmallerModel, Fraction
    usd_per_hour: float
    why: str


def advise(job: Job, used: Utilisation | None, offerings: Mapping[OfferingId, Offering]) -> tuple[Waste, ...]:
    """What would save money, most first; nothing where nothing is known, or the job does not run."""
    place = job.assignment
    here = offerings.get(place.offering) if place is not None else None
    if used is None or used.gpu_ratio is None or place is None or here is None or not place.running:
        return ()
    if (used.gpus or 0) < job.gpus(len(place.nodes)):
        return ()  # the others may work
    if used.all_idle:
        rate = place.usd_per_hour
        bare = f"; no process has {used.processless_gpus} of them open" if used.processless_gpus else ""
        text = f"none of its {used.gpus} GPUs does anything{bare}: end it, or set spec.idlePolicy.action to Checkpoint"
        found = [Waste("Idle", rate, text)]
    else:
        found = [
            *_fewer_workers(job, used, len(place.nodes), place.usd_per_hour),
            *_elsewhere(job, used, here, offerings.values(), len(place.nodes), place.usd_per_hour),
        ]
    worth = [w for w in found if w.usd_per_hour >= WORTH_SAYING_USD_PER_HOUR]
    best = {w.what: w for w in sorted(worth, key=lambda w: w.usd_per_hour)}  # of each kind the one that saves most
    return tuple(sorted(best.values(), key=lambda w: (-w.usd_per_hour, w.what))[:MOST])


def _fewer_workers(job: Job, used: Utilisation, workers: int, rate: float) -> Iterator[Waste]:
    ratio = used.gpu_ratio or 0.0
    if workers < 2 or ratio >= BUSY_ENOUGH:
        return
    enough = max(1, math.ceil(workers * ratio * ROOM))
    if used.idle_gpus and used.gpus:
        idle = used.idle_gpus * workers // used.gpus  # whole workers
        enough = min(enough, workers - idle) if idle else enough
    if enough >= workers:
        return
    field = "spec.elastic.max" if job.max_workers > job.min_workers else "spec.workers"
    text = f"its GPUs are busy {ratio:.0%} of the time: {enough} of {workers} workers would do; lower {field}"
    yield Waste("FewerWorkers", rate * (workers - enough) / workers, text)


def _elsewhere(
    job: Job, used: Utilisation, here: Offering, offerings: Iterable[Offering], workers: int, rate: float
) -> Iterator[Waste]:
    """A model that costs less and is fast enough for the part of the time that this one is busy; a part of a GPU."""
    ratio = used.gpu_ratio or 0.0
    if ratio >= BUSY_ENOUGH or used.memory_gib is None:
        return
    speed = units_per_hour(job, here.gpu_model, workers)
    for offering in offerings:
        price = offering.price_of_existing
        if (
            price is None
            or not price.usable
            or not offering.per_node.gpus
            or offering.capacity_type != here.capacity_type
        ):
            continue
        there = price.value / offering.per_node.gpus * job.gpus(workers)
        saved = rate - there
        if offering.slices is not None:
            fits = offering.slices.memory_gib >= used.memory_gib * ROOM and offering.slices.fraction >= ratio * ROOM
            if here.slices is None and job.per_worker.gpus == 1 and fits and offering.gpu_model == here.gpu_model:
                text = (
                    f"its GPU is busy {ratio:.0%} of the time with {used.memory_gib:.1f} GiB in use: "
                    f"{offering.slices.name} in pool {offering.pool} would do; set spec.gpu.fraction to "
                    f"{offering.slices.fraction:.2f}"
                )
                yield Waste("Fraction", saved, text)
            continue
        fast = units_per_hour(job, offering.gpu_model, workers)
        fits = offering.gpu_memory_gib >= max(used.memory_gib * ROOM, job.gpu_memory_gib)
        enough = speed > 0 and fast >= speed * ratio * ROOM and offering.per_node.gpus >= job.per_worker.gpus
        if here.slices is None and offering.gpu_model != here.gpu_model and fits and enough:
            text = (
                f"its {here.gpu_model} are busy {ratio:.0%} of the time with {used.memory_gib:.1f} GiB in use: "
                f"{offering.gpu_model} in pool {offering.pool} would do; put it into spec.gpu.models"
            )
            yield Waste("SmallerModel", saved, text)
