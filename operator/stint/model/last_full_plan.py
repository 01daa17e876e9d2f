"""What stands after a decision about a long queue: enough to place one more job without deciding about all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from stint.model.job import JobId, NodeName
from stint.model.market import PoolName
from stint.model.offering import OfferingId


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What a gang that waits was promised. Hours are from the decision on."""

    job: JobId
    nodes: tuple[NodeName, ...]  # by worker; of those that are there or under way
    from_hours: float
    until_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPrice:
    """What a unit of an offering's resources is worth to the queue, for an hour before each horizon."""

    offering: OfferingId
    usd: tuple[tuple[float, float, float], ...]  # by horizon: GPUs, cores, GiB


@dataclass(frozen=True, slots=True, kw_only=True)
class LastFullPlan:
    """The last decision about everybody, and what has come since. See `stint.placement.newcomers`."""

    decided_at: datetime  # about everybody
    good_until: datetime
    world: str  # a digest of all that was decided by, but for those who came since and those who run
    held: tuple[JobId, ...]  # who waits, sorted
    placed: tuple[JobId, ...]  # who has a place, or was just given one, sorted
    reserved: tuple[Reserved, ...]
    bought: tuple[tuple[PoolName, int], ...]  # nodes that were ordered for those who wait
    horizon_hours: tuple[float, ...]
    prices: tuple[UnitPrice, ...]  # those that are not 0
    regret_usd: float  # of all who came since: what they cost beyond what the prices promised
    most_regret_usd: float  # from there on everybody is decided about again
