"""Who is served first."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Mapping
from datetime import timedelta

from stint.estimate.runtime import hours_between, work_hours_left
from stint.model.job import Job, split_job_id
from stint.model.situation import FairShare, Situation


def slack_hours(job: Job, situation: Situation) -> float:
    """Hours that a job can still afford to wait: until its deadline, less its fastest run. inf: no deadline."""
    if job.deadline is None:
        return math.inf
    models = {offering.gpu_model for offering in situation.offerings}
    fastest = min((work_hours_left(job, model, job.max_workers) for model in models), default=math.inf)
    left = hours_between(situation.now, job.deadline)
    return left - fastest if math.isfinite(fastest) else left


def in_order(situation: Situation) -> tuple[Job, ...]:
    """The waiting jobs: higher priority first, then less slack, then older, then by name.

    With fair shares, jobs of one priority take turns by namespace; see `_in_turn`.
    """
    waiting = [job for job in situation.jobs if job.waiting]
    ordered = sorted(waiting, key=lambda j: (-j.priority, slack_hours(j, situation), j.created, j.id))
    share = situation.settings.fair_share
    if share is None:
        return tuple(ordered)
    rates = _rates(situation)
    found: list[Job] = []
    for _, level in itertools.groupby(ordered, key=lambda j: j.priority):
        found += _in_turn(situation, share, list(level), rates)
    return tuple(found)


def _in_turn(situation: Situation, share: FairShare, level: list[Job], rates: dict[str, float]) -> list[Job]:
    """Next is always the namespace that has least for its weight: dollars an hour that run or were just given to it.

    So GPUs count by what they cost. Who has waited for longer than the patience goes first, the oldest first: however
    many others come, nobody waits for their sake for longer than that.
    """
    impatient = situation.now - timedelta(hours=share.patience_hours)
    late = sorted((j for j in level if j.created <= impatient), key=lambda j: (j.created, j.id))
    queues: dict[str, deque[Job]] = {}
    for job in level:
        if job.created > impatient:
            queues.setdefault(split_job_id(job.id)[0], deque()).append(job)
    cheapest = _usd_per_gpu_hour(situation)
    found = []
    for job in late:
        namespace, _ = split_job_id(job.id)
        rates[namespace] = rates.get(namespace, 0.0) + _rate(job, cheapest)
        found.append(job)
    heap = [(rates.get(n, 0.0) / share.weights.get(n, 1.0), n) for n in queues]
    heapq.heapify(heap)
    while heap:
        _, namespace = heapq.heappop(heap)
        job = queues[namespace].popleft()
        found.append(job)
        rates[namespace] = rates.get(namespace, 0.0) + _rate(job, cheapest)
        if queues[namespace]:
            heapq.heappush(heap, (rates[namespace] / share.weights.get(namespace, 1.0), namespace))
    return found


def _rates(situation: Situation) -> dict[str, float]:
    """Dollars an hour that each namespace's jobs cost now."""
    rates: dict[str, float] = {}
    for job in situation.jobs:
        if job.assignment is not None:
            namespace, _ = split_job_id(job.id)
            rates[namespace] = rates.get(namespace, 0.0) + job.assignment.usd_per_hour
    return rates


def _usd_per_gpu_hour(situation: Situation) -> dict[str, float]:
    """The least that a whole GPU of each model costs, by the bill."""
    least: dict[str, float] = {}
    for offering in situation.offerings:
        price = offering.billed_price
        if price is not None and offering.per_node.gpus:
            usd = price.value / offering.whole_gpus(offering.per_node.gpus)
            least[offering.gpu_model] = min(usd, least.get(offering.gpu_model, math.inf))
    return least


def _rate(job: Job, usd_per_gpu_hour: Mapping[str, float]) -> float:
    """What a waiting job will cost an hour at the least; 0 where nothing that it could use has a price."""
    models = job.gpu_models or tuple(job.work.units_per_second)
    usd = min((usd_per_gpu_hour[m] for m in models if m in usd_per_gpu_hour), default=0.0)
    part = 1.0 if job.gpu_fraction is None else job.gpu_fraction  # of each GPU
    return usd * job.gpus(job.min_workers) * part
