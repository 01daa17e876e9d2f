"""What a job would get if it were submitted now, and what that would do to the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stint.errors import InvalidInputError, Mistake
from stint.model.job import Job
from stint.model.market import Offering
from stint.model.plan import Hold, Placement, Plan
from stint.model.situation import Situation
from stint.whatif.compare import Both, fates, side_by_side
from stint.whatif.odds import Odds, odds
from stint.whatif.promises import Broken, broken_promises

_NOTHING_USD, _NOTHING_HOURS = 0.01, 1 / 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """For one job. Without a place in sight there are no odds and no offering; the hold says why."""

    job: Job
    part: Placement | Hold
    offering: Offering | None
    odds: Odds | None
    broken: tuple[Broken, ...]  # its own promises


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """For all that would be submitted together."""

    plan: Plan
    quotes: tuple[Quote, ...]
    others: tuple[Both, ...]  # jobs that are there already, and that it changes something for
    others_broken: tuple[Broken, ...]  # promises to them that would hold otherwise


def quote(situation: Situation, jobs: Sequence[Job], decide: Callable[[Situation], Plan]) -> Quoted:
    """Decide with and without them.

    Raises:
        InvalidInputError: a job of that name is there, or two have one name.
    """
    there = [j.id for j in situation.jobs]
    mistakes = [
        Mistake(f"{j.id} metadata.name", j.id, "is a job that is there already; `stint explain` tells about it")
        for i, j in enumerate(jobs)
        if j.id in there or j.id in [other.id for other in jobs[:i]]
    ]
    if mistakes:
        raise InvalidInputError("what is to be quoted", mistakes)
    extended = replace(situation, jobs=(*situation.jobs, *jobs))
    before, after = decide(situation), decide(extended)
    broken = broken_promises(extended, after)
    mine = {j.id for j in jobs}
    was_broken = {(b.job, b.promise) for b in broken_promises(situation, before)}
    pairs = side_by_side(fates(situation, before), fates(extended, after))
    decided: list[Placement | Hold] = [*after.placements, *after.holds]
    parts = {p.job: p for p in decided}
    return Quoted(
        plan=after,
        quotes=tuple(_quote(extended, j, parts[j.id], tuple(b for b in broken if b.job == j.id)) for j in jobs),
        others=tuple(p for p in pairs if p.job not in mine and _differs(p)),
        others_broken=tuple(b for b in broken if b.job not in mine and (b.job, b.promise) not in was_broken),
    )


def _quote(situation: Situation, job: Job, part: Placement | Hold, broken: tuple[Broken, ...]) -> Quote:
    chosen = part.chosen
    offering = next((o for o in situation.offerings if chosen is not None and o.id == chosen.offering), None)
    likely = odds(job, chosen, offering) if chosen is not None and offering is not None else None
    return Quote(job=job, part=part, offering=offering, odds=likely, broken=broken)


def _differs(pair: Both) -> bool:
    before, after = pair.before, pair.after
    if before is None or after is None or before.where != after.where:
        return True
    return abs(pair.hours or 0.0) >= _NOTHING_HOURS or abs(pair.usd or 0.0) >= _NOTHING_USD
