"""Nodes, pods, Jobs and the like as we keep them: the few fields that matter, frozen."""

from __future__ import annotations

from datetime import datetime

import msgspec

from stint.api.parse.template import JOB_LABEL as JOB_LABEL
from stint.kube.steered import Steered, Unplaced
from stint.model.constraints import HostPort, Labels, PodTerm, Terms
from stint.model.job import Toleration
from stint.model.market import Taint
from stint.model.resources import Resources

# What our own objects carry.
UNITS_DONE = "stint.dev/units-done"  # how far a job is, as it says itself
GROUP_INFIX = "-gang-"  # between a Job's name and what tells its PodGroup from those of earlier Jobs of this name


class NodeRecord(msgspec.Struct, frozen=True):
    """A node as we keep it."""

    name: str
    uid: str
    provider_id: str
    labels: dict[str, str]
    annotations: dict[str, str]  # only our own
    taints: tuple[Taint, ...]
    allocatable: Resources
    unschedulable: bool
    ready: bool
    ready_since: datetime | None  # or not ready since
    created: datetime | None
    deleting: bool
    slices: dict[str, int] = {}  # what it has of resources that are parts of a GPU
    device: str = ""  # the resource that counts its whole devices, also of those that Stint does not place jobs on
    given_out_by: str = ""  # what gives out each device several times, beside its vendor's plugin; empty: nothing known


class PodRecord(msgspec.Struct, frozen=True, gc=False):
    """Any pod as we keep it: where it is and what it takes. `gang` has the rest for pods of ours."""

    uid: str
    node: str
    nominated: str  # where the scheduler makes room for it, by preempting others
    phase: str
    requests: Resources
    gang: GangPod | None
    slices: int = 0  # parts of a GPU that it asks for, where those are a resource of their own
    labels: Labels = ()
    anti_affinity: tuple[PodTerm, ...] = ()  # required
    host_ports: tuple[HostPort, ...] = ()
    namespace: str = ""
    claims: bool = False  # it gets devices by claims (Dynamic Resource Allocation), which `requests` does not count
    daemon: bool = False  # a DaemonSet's: it stays as long as its node does
    unplaced: Unplaced | None = None  # of a pod that is labelled for Stint, and that Stint cannot place

    @property
    def over(self) -> bool:
        """Whether it has ended, and so takes nothing."""
        return self.phase in OVER

    @property
    def where(self) -> str:
        """The node whose room it has or is promised; empty: none, or the pod has ended."""
        return "" if self.over else self.node or self.nominated

    @property
    def takes_devices(self) -> bool:
        """Whether a node with this pod is not empty."""
        return bool(self.requests.gpus or self.slices or self.claims)


class Times(msgspec.Struct, frozen=True, gc=False):
    """When what happened to a pod, as the API server tells it; None: not yet, or it does not tell."""

    bound: datetime | None = None  # to its node
    works: datetime | None = None  # all its containers run
    leaving: datetime | None = None  # it was asked to end
    end: datetime | None = None  # its last container has ended


class GangPod(msgspec.Struct, frozen=True):
    """What else we need to know of a pod of a gang."""

    namespace: str
    name: str
    job: str  # the TrainingJob's name, which is its batch/v1 Job's too
    index: int  # its rank; -1: a pod of somebody else's that has none yet
    gated: bool
    scheduled: bool
    ready: bool
    unschedulable: bool  # a scheduler has looked at it, and found no room
    deleting: bool
    disrupted: str  # why it is preempted or evicted; empty: it is not
    created: datetime | None
    affinity: bytes  # as JSON, to which the release adds
    priority_class: str = ""  # as admission has left it
    for_its_group: bool = False  # unschedulable only because another one of its PodGroup is
    steered: Steered | None = None  # of a pod that somebody else makes
    run: str = ""  # alike for all that make up one gang at one time
    times: Times = Times()
    units_done: str = ""  # as its annotation says
    refusal: str = ""  # what kube-scheduler says of it, while it calls it unschedulable
    rejected: str = ""  # the kubelet's reason for not taking it, or not letting it go on; empty: it did neither
    rejection: str = ""  # the kubelet's message
    node_selector: tuple[tuple[str, str], ...] = ()  # as long as it is gated
    at_once: bool = False  # somebody wants it let go without a place


OVER = ("Succeeded", "Failed")


class NamespaceRecord(msgspec.Struct, frozen=True):
    """A namespace that is labelled for Stint: that it is there is all there is to know."""

    name: str


class ServiceRecord(msgspec.Struct, frozen=True):
    """The Service of a namespace's workers: that it is there is all there is to know."""

    namespace: str


class JobRecord(msgspec.Struct, frozen=True):
    """A batch/v1 Job of ours as we keep it."""

    namespace: str
    name: str
    uid: str
    job: str  # the TrainingJob's name
    plan: str  # the annotation, JSON
    suspended: bool
    completions: int
    active: int
    succeeded: int
    failed_message: str | None
    complete: bool
    deleting: bool
    ended: datetime | None
    owner: str = ""  # uid of the TrainingJob that made it, or of whatever else did; empty: a person
    plan_signature: str = ""  # the annotation beside it
    pod_group: str = ""  # ours, which its pods name; empty: none, or one that somebody named himself


class DaemonSetRecord(msgspec.Struct, frozen=True):
    """A DaemonSet: what one of its pods asks for, and where they run."""

    requests: Resources
    node_selector: tuple[tuple[str, str], ...]
    node_affinity: Terms | None
    tolerations: tuple[Toleration, ...]


class RuntimeClassRecord(msgspec.Struct, frozen=True):
    """A RuntimeClass: what each of its pods takes besides its containers."""

    name: str
    overhead: tuple[tuple[str, float], ...]  # by resource, in base units


class LimitRangeRecord(msgspec.Struct, frozen=True):
    """A LimitRange: what a container asks for that says nothing."""

    namespace: str
    name: str
    requests: tuple[tuple[str, float], ...]  # by resource, in base units


class VolumeClaimRecord(msgspec.Struct, frozen=True):
    """A PersistentVolumeClaim as we keep it."""

    namespace: str
    name: str
    volume: str  # empty: it is not bound
    storage_class: str | None  # None: the default one
    lost: bool  # its volume is gone
    of_one_pod: bool = False  # ReadWriteOncePod: one pod at a time may use it


class VolumeRecord(msgspec.Struct, frozen=True):
    """A PersistentVolume: where it can be mounted."""

    name: str
    where: Terms | None  # None: anywhere


class StorageClassRecord(msgspec.Struct, frozen=True):
    """A StorageClass: whether its volumes are made where the pod goes, and where that may be."""

    name: str
    waits: bool  # WaitForFirstConsumer
    default: bool
    where: Terms | None  # None: anywhere


class PodGroupRecord(msgspec.Struct, frozen=True):
    """A PodGroup of ours: that it is there is all there is to know."""

    namespace: str
    name: str
