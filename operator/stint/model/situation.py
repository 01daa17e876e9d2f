"""Everything one decision may look at, frozen, with the time in it. A stored situation can be decided again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from stint.model.cluster import Node
from stint.model.constraints import Neighbour
from stint.model.figure import Figure
from stint.model.gang import GangFacts
from stint.model.job import Job
from stint.model.last_full_plan import LastFullPlan
from stint.model.market import EgressRate, Offering, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What the jobs of one namespace may have at a time."""

    namespace: str
    usd_per_hour: float | None = None  # None: no limit
    gpus: Mapping[str, int] = field(default_factory=dict)  # by canonical model; one that is missing has no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class FairShare:
    """Dollars an hour are shared between namespaces in proportion to their weights."""

    weights: Mapping[str, float] = field(default_factory=dict)  # > 0; a namespace that is missing has 1
    patience_hours: float = 24.0  # who has waited for longer goes before all who have not


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the people who run Stint have chosen."""

    solver: str = "portfolio"  # a name in `stint.placement.solvers`
    start_seconds: float = 30.0  # pods let go until they work, images and all
    reserve_seconds: float = 300.0  # before a deadline, for nodes and gangs that come or end later than is foreseen
    moves_per_hour: int = 0  # gangs that run and may be moved to save money
    evictions_across_namespaces_per_hour: int = 0  # of those, gangs that may make room for another namespace's job
    payback: float = 1.5  # what a move must save, over what it costs
    max_unused_usd_per_hour: float | None = None  # of bought nodes that are empty or on order; None: no limit
    node_grace_seconds: float = 60.0  # on the wall: a running gang keeps a node that is not ready for so long
    quotas: tuple[Quota, ...] = ()
    pace: float = 1.0  # seconds of the deciding clock in one second on the wall; more than 1 in demos
    fair_share: FairShare | None = None  # None: the queue knows no namespaces
    budget_steps: int = 10_000  # of work a solver may do; steps, not seconds, so a replay is exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices that do not belong to an offering."""

    egress: tuple[EgressRate, ...] = ()
    licence_usd_per_gpu_hour: Mapping[str, Figure] = field(default_factory=dict)
    labour_usd_per_job_hour: Figure | None = None
    carbon_usd_per_tonne: Figure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Snapshot, queue, prices and now."""

    now: datetime  # aware, UTC
    jobs: tuple[Job, ...] = ()  # every job that has not ended, in no order
    gangs: tuple[GangFacts, ...] = ()  # of jobs that have a placement or had one, in no order
    nodes: tuple[Node, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()  # pods of no gang that keep a gang away from their node, or draw it there
    offerings: tuple[Offering, ...] = ()
    pools: tuple[Pool, ...] = ()
    rates: Rates = field(default_factory=Rates)
    settings: Settings = field(default_factory=Settings)
    before: LastFullPlan | None = None  # the last full plan, where the queue was long
    notes: tuple[str, ...] = ()  # what the observer could not see, for people: "no Prometheus"
