"""Deadlines and budgets that do not hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from stint.estimate.runtime import hours_between
from stint.model.job import Job, JobId
from stint.model.plan import Hold, Placement, Plan, Reason, Requeue, Stay
from stint.model.situation import Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A promise of a job that a plan does not keep."""

    job: JobId
    promise: str  # "deadline" or "budget"
    message: str


def broken_promises(situation: Situation, plan: Plan) -> tuple[Broken, ...]:
    """Every deadline and budget that cannot hold as far as the plan can see, by job."""
    jobs = {j.id: j for j in situation.jobs}
    parts: list[Placement | Hold | Stay | Requeue] = [*plan.placements, *plan.holds, *plan.stays, *plan.requeues]
    return tuple(b for part in sorted(parts, key=lambda p: p.job) for b in _of(jobs[part.job], part))


def _of(job: Job, part: Placement | Hold | Stay | Requeue) -> Iterator[Broken]:
    match part:
        case Placement(chosen=chosen):
            yield from _late(job, chosen.finish)
        case Hold(reason=Reason.OVER_BUDGET, message=message) | Requeue(reason=Reason.OVER_BUDGET, message=message):
            yield Broken(job=job.id, promise="budget", message=message)
        case Hold(reason=Reason.MISSES_DEADLINE, message=message):
            yield Broken(job=job.id, promise="deadline", message=message)
        case Hold(chosen=chosen) if chosen is not None:
            yield from _late(job, chosen.finish)
        case Stay(finish=finish, cost_to_finish_usd=usd):
            yield from _late(job, finish)
            if job.budget_usd is not None and job.spent_usd + usd > job.budget_usd:
                text = f"will have spent {job.spent_usd + usd:.2f} of {job.budget_usd:.2f} USD when it is done"
                yield Broken(job=job.id, promise="budget", message=text)


def _late(job: Job, finish: datetime | None) -> Iterator[Broken]:
    if finish is not None and job.deadline is not None and finish > job.deadline:
        text = f"done {hours_between(job.deadline, finish):.1f} h after its deadline"
        yield Broken(job=job.id, promise="deadline", message=text)
