"""All that one cycle decided: who runs where, who waits and why, which pools change, all in money."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from stint.model.gang import Admitted
from stint.model.job import JobId, NodeName
from stint.model.last_full_plan import LastFullPlan
from stint.model.market import PoolName
from stint.model.offering import OfferingId


class Reason(StrEnum):
    """Why not. Declared in order of precedence: wrong, impossible, gated, waiting."""

    UNKNOWN_GPU_MODEL = "UnknownGpuModel"
    NO_SPEED_FOR_MODEL = "NoSpeedForModel"
    MODEL_NOT_ALLOWED = "ModelNotAllowed"
    CAPACITY_TYPE_NOT_ALLOWED = "CapacityTypeNotAllowed"
    GPU_MEMORY_TOO_SMALL = "GpuMemoryTooSmall"
    SLICE_TOO_SMALL = "SliceTooSmall"
    SHARED_GPU = "SharedGpu"  # the job wants whole ones
    WORKER_EXCEEDS_NODE = "WorkerExceedsNode"
    NODE_SELECTOR_MISMATCH = "NodeSelectorMismatch"
    TAINT_NOT_TOLERATED = "TaintNotTolerated"
    VOLUME_ELSEWHERE = "VolumeElsewhere"  # a volume of its pods can be mounted on other nodes only
    NODE_BLAMED = "NodeBlamed"  # its gang did not start there a moment ago
    BESIDE_OTHERS = "BesideOthers"  # what its pods, or those that are there, demand of the pods beside them
    DATA_MUST_STAY = "DataMustStay"
    TOPOLOGY_MISMATCH = "TopologyMismatch"  # no domain of that label would ever hold the gang
    POOL_LIMIT = "PoolLimit"
    NO_PRICE = "NoPrice"
    NEVER_FINISHES = "NeverFinishes"  # interrupted too often, or too slow to live to see it
    OVER_BUDGET = "OverBudget"
    OVER_QUOTA = "OverQuota"
    MISSES_DEADLINE = "MissesDeadline"
    INCOMPLETE = "Incomplete"  # pods of a steered group are missing, or somebody else holds them
    BACKING_OFF = "BackingOff"
    NODES_REFUSED = "NodesRefused"  # every node of it that the job could use has refused its workers lately
    NOT_ENOUGH_GPUS = "NotEnoughGpus"
    WAITING_IS_CHEAPER = "WaitingIsCheaper"
    NODES_ON_THE_WAY = "NodesOnTheWay"
    ADVICE_ONLY = "AdviceOnly"
    NODES_DID_NOT_COME = "NodesDidNotCome"  # an order for it was not carried out, and is not repeated yet
    PURCHASE_DID_NOT_HELP = "PurchaseDidNotHelp"  # a node that was bought for such a job would not take it
    SCALE_UP_STOPPED = "ScaleUpStopped"  # nodes that nothing uses cost as much as they may
    DEARER = "Dearer"  # feasible, but something else costs less
    CHEAPER_ELSEWHERE = "CheaperElsewhere"  # it runs, and moving it pays for itself
    MAKES_ROOM = "MakesRoom"  # for a job that would miss its deadline otherwise, or waits until that room is made
    REFUSED = "Refused"  # by the API server: a quota, a policy, a webhook
    ADMITTED_OTHERWISE = "AdmittedOtherwise"  # admission changed what its pods ask for, so that the plan is wrong
    DID_NOT_START = "DidNotStart"  # released, and not all of it ran in time
    NODE_REJECTED = "NodeRejected"  # a kubelet did not take a worker, or did not let it go on
    WORKER_FAILED = "WorkerFailed"
    NODE_LOST = "NodeLost"
    NODE_INTERRUPTED = "NodeInterrupted"
    DISRUPTED = "Disrupted"  # a worker was preempted or evicted
    IDLE = "Idle"  # its GPUs did nothing for as long as its idlePolicy allows
    SUSPENDED = "Suspended"  # spec.suspend is true
    INTERNAL_ERROR = "InternalError"  # deciding about this job raised what nobody foresaw
    NO_PLAN = "NoPlan"  # no solver had a plan that could be trusted: everything is left as it is


MOVES = frozenset({Reason.CHEAPER_ELSEWHERE, Reason.MAKES_ROOM})  # why a gang that could go on is taken back


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Dollars to finish, term by term; `usd` is their sum. Carbon stands beside it."""

    usd: float
    hardware_usd: float
    rework_usd: float
    startup_usd: float
    energy_usd: float
    egress_usd: float
    storage_usd: float
    licence_usd: float
    labour_usd: float
    lateness_usd: float
    carbon_usd: float
    energy_kwh: float
    carbon_g: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to run a job that would have worked."""

    offering: OfferingId
    workers: int
    new_nodes: int  # that would have to be bought
    cost: Cost
    usd_per_hour: float  # while it runs
    objective_usd: float  # J: what was compared
    start: datetime
    finish: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One offering that cannot or should not have the job, and the first constraint in its way."""

    offering: OfferingId
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The rest of the story behind a placement or a hold."""

    runner_up: Candidate | None = None
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Let this gang go, whole, onto these nodes, now."""

    job: JobId
    chosen: Candidate
    nodes: tuple[NodeName, ...]  # by rank
    late_by_hours: float = 0.0  # past its deadline, as expected; 0: in time
    explanation: Explanation = field(default_factory=Explanation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """This gang waits. `chosen` is what it waits for, where there is such a thing."""

    job: JobId
    reason: Reason
    message: str
    chosen: Candidate | None = None
    explanation: Explanation = field(default_factory=Explanation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """A gang that keeps its place; what it will have cost and when it will be done, looked at afresh."""

    job: JobId
    cost_to_finish_usd: float  # from now on
    usd_per_hour: float
    finish: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeue:
    """Requeue this whole gang: its pods go, and it waits again from its last checkpoint."""

    job: JobId
    reason: Reason
    message: str
    avoid: tuple[NodeName, ...] = ()  # nodes that it is not to come back to for a while
    avoid_until: datetime | None = None  # None: for ten minutes
    avoid_for: str = ""  # what is said against them, in a word: UnexpectedAdmissionError
    retries: int | None = None  # that are used now; None: as many as before
    failed_starts: int | None = None  # in a row; None: as many as before
    not_before: datetime | None = None  # back-off; None: it competes again at once
    admitted: Admitted | None = None  # what its pods turned out to ask for; None: nothing new
    made_room_for: JobId | None = None  # what it leaves for; None: no other job


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """Bring a pool to so many nodes. Absolute, so that saying it twice asks for nothing twice.

    Nodes that the provider takes are in neither number.
    """

    pool: PoolName
    offering: OfferingId
    from_nodes: int
    to_nodes: int
    give_back: tuple[NodeName, ...] = ()  # which ones go, where nodes go
    for_jobs: tuple[JobId, ...] = ()
    usd_per_hour: float = 0.0  # what the change adds to (or takes off) the bill
    advise_only: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWorth:
    """What one more node of an offering, there now, would save the jobs that wait: the price of its scarcity."""

    offering: OfferingId
    usd: float  # in the hours ahead that were looked at
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """How good the plan is known to be."""

    solver: str
    objective_usd: float  # J of the jobs that got a place, and the idle part of what is bought for them
    bound_usd: float  # no plan gives those jobs their places for less
    gap_ratio: float | None  # of the two; None: nothing was placed
    left_out: int = 0  # jobs that no place was found for
    node_worth: tuple[NodeWorth, ...] = ()  # the most valuable first


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now. Every job of the situation is in exactly one of the first four.

    Only where it is a decision about those who came since `Situation.before`, those who were held then are in none, and
    are held still.
    """

    decided_at: datetime
    placements: tuple[Placement, ...] = ()
    holds: tuple[Hold, ...] = ()
    stays: tuple[Stay, ...] = ()
    requeues: tuple[Requeue, ...] = ()
    resizes: tuple[Resize, ...] = ()
    certificate: Certificate | None = None
    scale_up_stopped: str = ""  # why no node was ordered that would have been; empty: nothing was stopped
    standing: LastFullPlan | None = None  # for the next situation, where the queue is long

    @property
    def is_about_newcomers(self) -> bool:
        """Whether it is about those alone who came since the last decision about everybody."""
        return self.standing is not None and self.standing.decided_at != self.decided_at
