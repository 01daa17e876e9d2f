"""A job as much as its namespace's limits let count of it, and what of it does not. Pure."""

from __future__ import annotations

from dataclasses import replace

from stint.model.job import Job
from stint.model.limits import Limits


def within(job: Job, limits: Limits) -> Job:
    """The same job with no more priority and worth of time than its namespace may have."""
    o = job.objective
    # A job chooses by the proportion of its weights. Their size would only make its dollars count more than others'.
    scale = max(o.cost, 1.0)
    if scale == 1.0 and not exceeded(job, limits):
        return job
    weighted = replace(o, cost=o.cost / scale, performance=o.performance / scale)
    bounded = replace(
        weighted,
        usd_per_hour=_bounded(o.usd_per_hour, weighted.performance, limits.usd_per_hour),
        lateness_usd_per_hour=min(o.lateness_usd_per_hour, limits.lateness_usd_per_hour),
    )
    return replace(job, priority=min(job.priority, limits.priority), objective=bounded)


def exceeded(job: Job, limits: Limits) -> tuple[str, ...]:
    """What counts less than it says, in words."""
    o = job.objective
    found = []
    if job.priority > limits.priority:
        found.append(f"spec.priority {job.priority} counts as {limits.priority}")
    for field, value, weight, most in (
        ("usdPerHour", o.usd_per_hour, o.performance / max(o.cost, 1.0), limits.usd_per_hour),
        ("latenessUsdPerHour", o.lateness_usd_per_hour, 1.0, limits.lateness_usd_per_hour),
    ):
        bound = _bounded(value, weight, most)
        if bound < value:
            found.append(f"spec.objective.{field} {value:g} counts as {bound:g}")
    return tuple(found)


def _bounded(value: float, weight: float, most: float) -> float:
    """What leaves value times weight within the limit, where the weight is more than 1."""
    return min(value, most / max(weight, 1.0))
