"""Who is served first."""

from __future__ import annotations

import math

from stint.estimate.runtime import hours_between, work_hours_left
from stint.model.job import Job
from stint.model.situation import Situation


def slack_hours(job: Job, situation: Situation) -> float:
    """Hours that a job can still afford to wait: until its deadline, less its fastest run. inf: no deadline."""
    if job.deadline is None:
        return math.inf
    models = {offering.gpu_model for offering in situation.offerings}
    fastest = min((work_hours_left(job, model, job.max_workers) for model in models), default=math.inf)
    left = hours_between(situation.now, job.deadline)
    return left - fastest if math.isfinite(fastest) else left


def in_order(situation: Situation) -> tuple[Job, ...]:
    """The waiting jobs: higher priority first, then less slack, then older, then by name."""
    waiting = [job for job in situation.jobs if job.waiting]
    return tuple(sorted(waiting, key=lambda j: (-j.priority, slack_hours(j, situation), j.created, j.id)))
