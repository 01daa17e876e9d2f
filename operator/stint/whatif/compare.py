"""Two plans side by side: where each job would be, when it would be done, and what that would cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from stint.estimate.runtime import hours_between
from stint.model.job import JobId
from stint.model.offering import OfferingId
from stint.model.plan import Candidate, Plan
from stint.model.situation import Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of a job in a plan. What is None is not known, as the job has no place in sight."""

    decision: str  # place, hold, stay, requeue; suspended: nothing is decided
    where: OfferingId | None = None
    start: datetime | None = None
    finish: datetime | None = None
    usd: float | None = None  # from now on until it is done


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """One job in two plans; None: it is in one of them only."""

    job: JobId
    before: Fate | None
    after: Fate | None

    @property
    def usd(self) -> float | None:
        """How much more it costs after the change."""
        if self.before is None or self.after is None or self.before.usd is None or self.after.usd is None:
            return None
        return self.after.usd - self.before.usd

    @property
    def hours(self) -> float | None:
        """How much later it is done after the change."""
        if self.before is None or self.after is None or self.before.finish is None or self.after.finish is None:
            return None
        return hours_between(self.before.finish, self.after.finish)


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Of all jobs of a plan."""

    usd: float  # until all that have a place in sight are done
    last_finish: datetime | None
    without_place: int


def fates(situation: Situation, plan: Plan) -> dict[JobId, Fate]:
    """Of every job of the situation."""
    jobs = {j.id: j for j in situation.jobs}
    found = {j.id: Fate(decision="suspended") for j in situation.jobs}
    found |= {p.job: _chosen("place", p.chosen) for p in plan.placements}
    found |= {h.job: _chosen("hold", h.chosen) if h.chosen else Fate(decision="hold") for h in plan.holds}
    found |= {r.job: Fate(decision="requeue") for r in plan.requeues}
    for s in plan.stays:
        place = jobs[s.job].assignment
        assert place is not None
        found[s.job] = Fate(
            decision="stay", where=place.offering, start=place.since, finish=s.finish, usd=s.cost_to_finish_usd
        )
    return found


def side_by_side(before: dict[JobId, Fate], after: dict[JobId, Fate]) -> tuple[Both, ...]:
    """By job."""
    return tuple(Both(job=j, before=before.get(j), after=after.get(j)) for j in sorted(before.keys() | after.keys()))


def total(of: Iterable[Fate]) -> Total:
    """Added up."""
    told = [f for f in of if f.decision != "suspended"]
    return Total(
        usd=sum(f.usd for f in told if f.usd is not None),
        last_finish=max((f.finish for f in told if f.finish is not None), default=None),
        without_place=sum(f.usd is None for f in told),
    )


def _chosen(decision: str, c: Candidate) -> Fate:
    return Fate(decision=decision, where=c.offering, start=c.start, finish=c.finish, usd=c.cost.usd)
