"""How sure a quote is: what interruptions can do to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from scipy.special import nbdtr

from stint.estimate.runtime import SECONDS_PER_HOUR, hours_after, work_hours_left
from stint.model.job import Job
from stint.model.market import Offering
from stint.model.plan import Candidate
from stint.placement.fit import workers_per_node

LIKELY = 0.9  # how often it is no worse than the upper end
_MOST_INTERRUPTIONS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """From the best case to one that nine runs in ten do not exceed, if rates and speeds are as given."""

    undisturbed: float  # chance that no node is taken
    usd: tuple[float, float]
    finish: tuple[datetime, datetime]


def odds(job: Job, chosen: Candidate, offering: Offering) -> Odds:
    """Of a job's best place.

    Work is cut into segments of s hours, each ended by a checkpoint, or is a single one. At r interruptions an hour a
    segment is got through with probability e^(-r s), so how often n of them are interrupted is negative binomial. Each
    time costs a restart and what was done of the segment, on average 1/r - s / (e^(r s) - 1).
    """
    work = work_hours_left(job, offering.gpu_model, chosen.workers)
    nodes = math.ceil(chosen.workers / max(workers_per_node(job.per_worker, offering.per_node), 1))
    rate = nodes * offering.interruptions_per_hour.value if offering.interruptions_per_hour else 0.0
    every = job.checkpoint.every.total_seconds() / SECONDS_PER_HOUR if job.checkpoint.every is not None else math.inf
    if rate == 0 or work == 0:
        return Odds(undisturbed=1.0, usd=(chosen.cost.usd,) * 2, finish=(chosen.finish,) * 2)
    count = max(1, math.ceil(work / every))
    segment = work if count == 1 else every + job.checkpoint.takes.total_seconds() / SECONDS_PER_HOUR
    through = math.exp(-rate * segment)
    lost = 1 / rate - segment / math.expm1(rate * segment)
    each = lost + job.checkpoint.restart.total_seconds() / SECONDS_PER_HOUR
    mean = count * (1 - through) / through
    most = int(np.argmax(nbdtr(np.arange(_MOST_INTERRUPTIONS), count, through) >= LIKELY))
    low, high = -mean * each, max(0.0, most - mean) * each
    return Odds(
        undisturbed=through**count,
        usd=(chosen.cost.usd + low * chosen.usd_per_hour, chosen.cost.usd + high * chosen.usd_per_hour),
        finish=(hours_after(chosen.finish, low), hours_after(chosen.finish, high)),
    )
