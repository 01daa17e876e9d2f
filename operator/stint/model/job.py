"""A job as the core knows it: a `TrainingJob` that was parsed and found right. See `stint.lifecycle` for its phases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType

from stint.model.constraints import UNCONSTRAINED, PodConstraints
from stint.model.offering import CapacityType, OfferingId
from stint.model.resources import Resources

JobId = NewType("JobId", str)  # "namespace/name", joined in `job_id` only
NodeName = NewType("NodeName", str)


def job_id(namespace: str, name: str) -> JobId:
    """The one place where a job's key is made."""
    return JobId(f"{namespace}/{name}")


def split_job_id(job: JobId) -> tuple[str, str]:
    """Namespace and name again."""
    namespace, _, name = job.partition("/")
    return namespace, name


class Phase(StrEnum):
    """Where a job stands, for humans; machines read the conditions."""

    QUEUED = "Queued"
    PROVISIONING = "Provisioning"
    STARTING = "Starting"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    INVALID = "Invalid"


ENDED = frozenset({Phase.SUCCEEDED, Phase.FAILED})


class OnExceed(StrEnum):
    """What happens when a job has spent its budget while it runs."""

    WARN = "Warn"  # it goes on; its status says so
    CHECKPOINT_AND_STOP = "CheckpointAndStop"  # requeued from its last checkpoint and held until the budget is raised


class OnMiss(StrEnum):
    """What happens to a waiting job that can no longer meet its deadline anywhere."""

    RUN = "Run"  # run it as cheaply as lateness allows, and say so
    HOLD = "Hold"


class OnIdle(StrEnum):
    """What happens to a job all of whose GPUs do nothing."""

    ADVISE = "Advise"
    CHECKPOINT = "Checkpoint"  # back to its last checkpoint, and held until somebody edits it
    STOP = "Stop"  # ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How much there is to do and how fast it goes."""

    units: float
    unit: str = "step"
    units_per_second: Mapping[str, float]  # whole gang at `Job.workers`, by canonical GPU model
    scaling_exponent: float = 1.0  # speed of w workers = speed of the reference gang x (w / workers) ** this
    units_done: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint contract promises. `every` None: the job never checkpoints."""

    every: timedelta | None = None
    takes: timedelta = timedelta(0)
    restart: timedelta = timedelta(0)  # from lost nodes to working again, capacity given


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """J = performance x usd_per_hour x hours until done + cost x dollars to finish (alpha and beta)."""

    performance: float = 1.0
    cost: float = 1.0
    usd_per_hour: float = 1.0  # what having the result an hour sooner is worth
    lateness_usd_per_hour: float = 0.0  # in addition, for each hour past the deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where the training data lies."""

    gib: float = 0.0
    provider: str = ""
    region: str = ""
    may_leave_region: bool = True
    scratch_gib: float = 0.0  # block storage rented while the job runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """All workers on nodes that have the same value of a label: one domain."""

    key: str
    required: bool = True  # False: where possible


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """As in a pod. An empty key tolerates everything; an empty effect, every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A gang's place: decided, durable, and either being started or running."""

    offering: OfferingId
    nodes: tuple[NodeName, ...]  # by rank
    since: datetime  # when its capacity became its own
    released: bool = False  # every pod has been let go
    running: bool = False  # every worker runs
    usd_per_hour: float = 0.0  # at the prices of the decision
    finish: datetime | None = None  # as expected when last looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An offering every node of which has refused the job's workers lately."""

    offering: OfferingId
    nodes: tuple[NodeName, ...]
    until: datetime  # then it is tried again
    said: str = ""  # against its nodes, in a word or two


class WhyNoNew(StrEnum):
    """Why no node is ordered. Each is a `Reason`, too."""

    ON_ORDER = "NodesOnTheWay"
    DID_NOT_HELP = "PurchaseDidNotHelp"
    DID_NOT_COME = "NodesDidNotCome"
    STOPPED = "ScaleUpStopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoNew:
    """No node of an offering is ordered for a job now."""

    offering: OfferingId  # empty: of no offering at all
    why: WhyNoNew
    message: str  # in words, with when it is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Pods of a gang that are unlike its workers: a head, a master, a launcher, an evaluator.

    They get nodes of the same offering as the workers, at the same instant.
    """

    name: str
    replicas: int
    per_pod: Resources
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    constraints: PodConstraints = UNCONSTRAINED


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One gang and everything a decision about it needs.

    Numbers of workers count all pods of the gang, those of `roles` too: these are the last ones in rank.
    """

    id: JobId
    uid: str
    created: datetime
    workers: int  # the reference size: `work.units_per_second` is meant at this many
    min_workers: int
    max_workers: int
    per_worker: Resources
    roles: tuple[Role, ...] = ()  # unlike the workers; only the number of workers may change
    gpu_models: tuple[str, ...] = ()  # canonical; empty: any that fits and whose speed is known
    gpu_memory_gib: float = 0.0  # the least a single GPU must have, or a worker's part of one
    gpu_fraction: float | None = None  # of one GPU, which is all that a worker needs; None: whole ones
    work: Work
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    capacity_types: tuple[CapacityType, ...] = tuple(CapacityType)
    priority: int = 0
    deadline: datetime | None = None
    on_deadline_miss: OnMiss = OnMiss.RUN
    budget_usd: float | None = None
    on_exceed: OnExceed = OnExceed.WARN
    spent_usd: float = 0.0
    objective: Objective = field(default_factory=Objective)
    data: Data = field(default_factory=Data)
    licences: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    constraints: PodConstraints = UNCONSTRAINED
    topology: Topology | None = None
    suspended: bool = False
    assignment: Binding | None = None
    not_before: datetime | None = None  # back-off after a roll-back or a failure
    avoid: tuple[NodeName, ...] = ()  # nodes blamed for a roll-back, while the blame lasts
    refusals: tuple[Refusal, ...] = ()  # offerings that are out for it, while the blame lasts
    no_new: tuple[NoNew, ...] = ()  # offerings of which no node is ordered for it now
    moved_at: datetime | None = None  # for money, the last time
    moved_for: str = ""  # the job that it made room for then; empty: none
    lacking: str = ""  # what somebody else still has to do before it can be placed; empty: nothing
    read_as: Mapping[str, str] = field(default_factory=dict)  # GPU names as they were written, and the canonical ones

    @property
    def waiting(self) -> bool:
        """True when a decision is owed to it."""
        return self.assignment is None and not self.suspended

    @property
    def others(self) -> int:
        """Pods of the gang that are no workers."""
        return sum(r.replicas for r in self.roles)

    def by_rank(self, pods: int) -> tuple[Resources, ...]:
        """What each pod of a gang of so many asks for."""
        workers = (self.per_worker,) * max(0, pods - self.others)
        return (*workers, *(r.per_pod for r in self.roles for _ in range(r.replicas)))[:pods]

    def of_role(self, role: Role) -> Job:
        """A gang like this one whose workers are the pods of a role: what is asked of a node for one of them."""
        return replace(
            self,
            per_worker=role.per_pod,
            roles=(),
            node_selector=dict(role.node_selector),
            tolerations=role.tolerations,
            constraints=role.constraints,
        )

    @property
    def kinds(self) -> tuple[Job, ...]:
        """What to ask a node for: the job itself for one of its workers, `of_role` for one pod of each role."""
        return (self, *(self.of_role(role) for role in self.roles))

    def seats(self, pods: int) -> tuple[Job, ...]:
        """By rank, what to ask a node for: the job itself for its workers, `of_role` for the others."""
        others = [(self.of_role(r), r.replicas) for r in self.roles]
        workers = (self,) * max(0, pods - self.others)
        return (*workers, *(seat for seat, count in others for _ in range(count)))[:pods]

    def gpus(self, pods: int) -> int:
        """GPUs (or parts of one) of a gang of so many pods."""
        if not self.roles:
            return pods * self.per_worker.gpus
        return sum(each.gpus for each in self.by_rank(pods))

    def on_nodes(self, nodes: Sequence[NodeName]) -> dict[NodeName, Resources]:
        """What a gang with these nodes, by rank, holds of each."""
        held: dict[NodeName, Resources] = {}
        for name, needs in zip(nodes, self.by_rank(len(nodes)), strict=True):
            held[name] = held.get(name, Resources()) + needs
        return held


def held_by_node(jobs: Iterable[Job]) -> dict[NodeName, Resources]:
    """What those of some jobs that have a place hold of each node."""
    held: dict[NodeName, Resources] = {}
    for job in jobs:
        for name, needs in job.on_nodes(job.assignment.nodes if job.assignment is not None else ()).items():
            held[name] = held.get(name, Resources()) + needs
    return held
