"""What the cluster shows of a gang: facts without a verdict. `stint.lifecycle` says what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from stint.model.job import JobId, NodeName, OnIdle
from stint.model.resources import Resources


class GangState(StrEnum):
    """Where the gang's objects stand."""

    ABSENT = "absent"  # no Job
    LEAVING = "leaving"  # pods of an earlier placement are still there, or the Job is being deleted
    PARKED = "parked"  # a suspended Job without pods
    PLACED = "placed"  # a Job with a plan
    TAKEN_BACK = "taken-back"  # the same, but the status says already that the gang was requeued: the Job must follow
    SUCCEEDED = "succeeded"
    FAILED = "failed"


WITHOUT_PLACE = frozenset({GangState.ABSENT, GangState.PARKED, GangState.LEAVING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """GPUs of a running gang that do nothing, as far as that is measured of all of them."""

    since: datetime
    gpus: int  # that were measured, all of them idle
    processless: bool = False  # no process has any of them open
    usd_per_hour: float = 0.0  # what they cost meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRejection:
    """A worker that a kubelet did not take, or did not let go on."""

    rank: int
    node: NodeName
    reason: str  # in the kubelet's word: UnexpectedAdmissionError
    message: str = ""  # in its words


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What admission (LimitRange, RuntimeClass, webhooks) made of a worker's pod, where it is not what was planned."""

    requests: Resources
    node_selector: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GangFacts:
    """One job's gang as pods, Job, nodes and status show it.

    Ranks index `nodes`. Times are on the deciding clock.
    """

    job: JobId
    state: GangState
    made_by: str = ""  # "PyTorchJob mnist"; empty: a Job of ours
    had_place: bool = False  # its status says that it starts or runs
    nodes: tuple[NodeName, ...] = ()  # of its plan, by rank; empty: it has none
    since: datetime | None = None  # when it was placed
    attempt: int = 0  # retries that were used when it was placed
    failed_starts: int = 0  # in a row, before this one
    pods: int = 0  # alive
    ready: int = 0  # pods that run
    done: int = 0  # workers that have finished
    running_since: datetime | None = None  # every worker has run since then
    failure: str = ""  # why a worker failed
    disruption: str = ""  # which worker is preempted or evicted, and why
    gone: tuple[int, ...] = ()  # ranks whose pods were evicted or deleted
    admitted_before: bool = False  # since its spec was edited, admission has changed its pods once already
    admitted: Admitted | None = None  # of its pods, none of which is released; None: as planned, or let go already
    unschedulable: tuple[int, ...] = ()  # released ranks for which kube-scheduler found no room
    refusal: str = ""  # kube-scheduler's words for that
    refused_since: datetime | None = None  # since when it says so; None: it does not, or what it says may pass
    rejections: tuple[NodeRejection, ...] = ()  # by rank: what kubelets did not take
    ignored: int = 0  # released pods that no scheduler has looked at
    placement_timeout: timedelta = timedelta(seconds=120)  # from placement until every worker runs
    node_grace: timedelta = timedelta(seconds=60)  # on the wall: how long a node may be not ready while the gang runs
    deleting: bool = False  # its TrainingJob is being deleted
    suspend: bool = False  # spec.suspend
    idle: Idle | None = None  # None: its GPUs work, or that is not known
    on_idle: OnIdle = OnIdle.ADVISE
    idle_after: timedelta = timedelta(minutes=30)
    idle_held: bool = False  # requeued as idle, and its spec was not edited since

    @property
    def running(self) -> bool:
        """Every worker runs, or has finished what it had to do."""
        return bool(self.nodes) and self.ready + self.done >= len(self.nodes)

    @property
    def vanished(self) -> bool:
        """Pods that something else makes, all of them deleted while the gang had its placement."""
        return bool(self.made_by) and self.state is GangState.PLACED and not (self.pods or self.done)
