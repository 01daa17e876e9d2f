"""Nodes, pods and Jobs with the few fields that matter: as they come over the wire, and as we keep them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec

from stint.api.pod_requests import pod_requests
from stint.api.quantity import amounts, as_resources, as_slices, resources, slices
from stint.kube.steered import GATE, INDEX_ANNOTATION, JOB_NAME_LABEL, MANAGED, RANK, Steered, find, steered_name
from stint.model.market import Taint
from stint.model.resources import Resources

# What our own objects carry.
JOB_LABEL = "stint.dev/trainingjob"
PLAN_ANNOTATION = "stint.dev/plan"
UNITS_DONE = "stint.dev/units-done"  # how far a job is, as it says itself
_ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
_SHORT_OF_THE_GROUP = "minCount ("  # kube-scheduler 1.37: "minCount (4) cannot be satisfied: 1 scheduled, 2 remaining"
GROUP_INFIX = "-gang-"  # between a Job's name and what tells its PodGroup from those of earlier Jobs of this name


class WireMeta(msgspec.Struct, rename="camel"):
    """metadata"""

    name: str
    uid: str
    resource_version: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None
    generation: int = 0


class WireOwner(msgspec.Struct):
    """metadata.ownerReferences[]"""

    kind: str
    name: str
    uid: str
    controller: bool = False


class OwnedMeta(WireMeta, rename="camel"):
    """metadata of what something else may have made"""

    owner_references: list[WireOwner] = msgspec.field(default_factory=list)

    @property
    def maker(self) -> WireOwner | None:
        """What made it; None: a person did."""
        return next((o for o in self.owner_references if o.controller), None)


class WireCondition(msgspec.Struct, rename="camel"):
    """status.conditions[]"""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class _WireTaint(msgspec.Struct):
    key: str
    effect: str
    value: str = ""


class _NodeSpec(msgspec.Struct, rename="camel"):
    provider_id: str = msgspec.field(name="providerID", default="")
    taints: list[_WireTaint] = []
    unschedulable: bool = False


class _NodeStatus(msgspec.Struct):
    allocatable: dict[str, str] = {}
    conditions: list[WireCondition] = []


class WireNode(msgspec.Struct):
    """core/v1 Node"""

    metadata: WireMeta
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


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


def reduce_node(node: WireNode) -> tuple[str, str, NodeRecord]:
    """For `Informer`."""
    meta = node.metadata
    ready = next((c for c in node.status.conditions if c.type == "Ready"), None)
    record = NodeRecord(
        name=meta.name,
        uid=meta.uid,
        provider_id=node.spec.provider_id,
        labels=meta.labels,
        annotations={k: v for k, v in meta.annotations.items() if k.startswith("stint.dev/")},
        taints=tuple(Taint(key=t.key, value=t.value, effect=t.effect) for t in node.spec.taints),
        allocatable=resources(node.status.allocatable),
        unschedulable=node.spec.unschedulable,
        ready=ready is not None and ready.status == "True",
        ready_since=ready.last_transition_time if ready else None,
        created=meta.creation_timestamp,
        deleting=meta.deletion_timestamp is not None,
        slices=slices(node.status.allocatable),
    )
    return meta.uid, meta.resource_version, record


class _Named(msgspec.Struct):
    name: str


class _Resources(msgspec.Struct):
    requests: dict[str, str] = {}
    claims: list[_Named] = []  # of spec.resourceClaims


class _Container(msgspec.Struct, rename="camel"):
    resources: _Resources = msgspec.field(default_factory=_Resources)
    restart_policy: str = ""


class _PodSpec(msgspec.Struct, rename="camel"):
    containers: list[_Container] = []
    init_containers: list[_Container] = []
    resources: _Resources | None = None
    overhead: dict[str, str] = {}
    node_name: str = ""
    scheduling_gates: list[_Named] = []
    resource_claims: list[_Named] = []
    affinity: msgspec.Raw = msgspec.Raw(b"null")
    node_selector: msgspec.Raw = msgspec.Raw(b"null")
    tolerations: msgspec.Raw = msgspec.Raw(b"null")
    priority_class_name: str = ""


class _Running(msgspec.Struct, rename="camel"):
    started_at: datetime | None = None


class _Terminated(msgspec.Struct, rename="camel"):
    started_at: datetime | None = None
    finished_at: datetime | None = None


class _ContainerState(msgspec.Struct):
    running: _Running | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(msgspec.Struct):
    state: _ContainerState = msgspec.field(default_factory=_ContainerState)


class _Claim(msgspec.Struct):
    """That there is one is all there is to know."""


class _PodStatus(msgspec.Struct, rename="camel"):
    phase: str = ""
    reason: str = ""
    nominated_node_name: str = ""
    conditions: list[WireCondition] = []
    container_statuses: list[_ContainerStatus] = []
    extended_resource_claim_status: _Claim | None = None


class WirePod(msgspec.Struct):
    """core/v1 Pod"""

    metadata: OwnedMeta
    spec: _PodSpec
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class PodRecord(msgspec.Struct, frozen=True, gc=False):
    """Any pod as we keep it: where it is and what it takes. `gang` has the rest for pods of ours."""

    uid: str
    node: str
    nominated: str  # where the scheduler makes room for it, by preempting others
    phase: str
    requests: Resources
    gang: GangPod | None
    slices: int = 0  # parts of a GPU that it asks for, where those are a resource of their own
    claims: bool = False  # it gets devices by claims (Dynamic Resource Allocation), which `requests` does not count

    @property
    def over(self) -> bool:
        """Whether it has ended, and so takes nothing."""
        return self.phase in _OVER

    @property
    def where(self) -> str:
        """The node whose room it has or is promised; empty: none, or the pod has ended."""
        return "" if self.over else self.node or self.nominated

    @property
    def takes_devices(self) -> bool:
        """Whether a node with this pod is not empty."""
        return bool(self.requests.gpus or self.slices or self.claims)


class Times(msgspec.Struct, frozen=True, gc=False):
    """When what happened to a pod, as the API server tells it; None: not yet, or nobody says."""

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


_OVER = ("Succeeded", "Failed")
_BY_CLASS = "deviceclass.resource.kubernetes.io/"  # an extended resource that names a DeviceClass


_Texts = tuple[tuple[str, str], ...]


def _texts(amounts_as_written: Mapping[str, str]) -> _Texts:
    return tuple(sorted(amounts_as_written.items()))


@functools.lru_cache(maxsize=4096)
def _counted(
    containers: tuple[_Texts, ...], first: tuple[tuple[_Texts, bool], ...], pod_level: _Texts, overhead: _Texts
) -> tuple[Resources, int]:
    found = pod_requests(
        [amounts(dict(c)) for c in containers],
        [(amounts(dict(c)), is_sidecar) for c, is_sidecar in first],
        pod_level=amounts(dict(pod_level)),
        overhead=amounts(dict(overhead)),
    )
    return replace(as_resources(found), pods=1), sum(as_slices(found).values())


def _requests(spec: _PodSpec) -> tuple[Resources, int]:
    """What the scheduler counts, and how many parts of GPUs. Limits are no matter: the API server fills in requests."""
    return _counted(
        tuple(_texts(c.resources.requests) for c in spec.containers if c.resources.requests),
        tuple((_texts(c.resources.requests), c.restart_policy == "Always") for c in spec.init_containers),
        _texts(spec.resources.requests) if spec.resources else (),
        _texts(spec.overhead),
    )


def _claims(spec: _PodSpec, status: _PodStatus, requests: Resources) -> bool:
    """Whether devices are allocated to a pod that no extended resource of its requests counts.

    A claim does not say here which devices it is for: that takes the claim, its class and the slices of the node. So
    every claim may be for the node's GPUs.
    """
    if spec.resource_claims or (status.extended_resource_claim_status and not requests.gpus):
        return True
    asked = [c.resources for c in (*spec.containers, *spec.init_containers)]
    return any(r.claims or any(name.startswith(_BY_CLASS) for name in r.requests) for r in asked)


def reduce_pod(pod: WirePod) -> tuple[str, str, PodRecord]:
    """For `Informer`."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    requests, parts = _requests(spec)
    job, index = meta.labels.get(JOB_LABEL), meta.annotations.get(INDEX_ANNOTATION, "")
    steered = None
    # Anybody can give a pod our label; only the Job controller makes workers.
    if job is None or job != meta.labels.get(JOB_NAME_LABEL) or not (index.isascii() and index.isdigit()):
        if MANAGED in meta.labels and requests.gpus:
            steered = find(
                meta.labels,
                meta.annotations,
                name=meta.name,
                maker=meta.maker.kind if meta.maker else "",
                gates=[g.name for g in spec.scheduling_gates],
                node_selector=spec.node_selector,
                tolerations=spec.tolerations,
            )
        job = steered_name(steered.kind, steered.group) if steered else None
        index = meta.annotations.get(RANK, "") if steered else ""
    gang = None
    if job is not None:
        conditions = {c.type: c for c in status.conditions}
        scheduled = conditions.get("PodScheduled")
        ready = conditions.get("Ready")
        disruption = conditions.get("DisruptionTarget")
        gang = GangPod(
            namespace=meta.namespace,
            name=meta.name,
            job=job,
            index=int(index) if index.isascii() and index.isdigit() and len(index) < 10 else -1,
            gated=any(g.name == GATE for g in spec.scheduling_gates),
            scheduled=bool(spec.node_name),
            ready=ready is not None and ready.status == "True",
            unschedulable=scheduled is not None
            and scheduled.status == "False"
            and scheduled.reason != "SchedulingGated",
            deleting=meta.deletion_timestamp is not None,
            disrupted=disruption.reason if disruption is not None and disruption.status == "True" else "",
            created=meta.creation_timestamp,
            affinity=bytes(spec.affinity),
            steered=steered,
            priority_class=sys.intern(spec.priority_class_name),
            for_its_group=scheduled is not None and _SHORT_OF_THE_GROUP in scheduled.message,
            run=_run(meta, steered),
            times=_times(meta, status, scheduled),
            units_done=meta.annotations.get(UNITS_DONE, ""),
        )
    record = PodRecord(
        uid=meta.uid,
        node=spec.node_name,
        nominated=status.nominated_node_name,
        phase=status.phase,
        requests=requests,
        gang=gang,
        slices=parts,
        claims=_claims(spec, status, requests),
    )
    return meta.uid, meta.resource_version, record


def _run(meta: OwnedMeta, steered: Steered | None) -> str:
    """By what made it; a JobSet's pods are made by several Jobs, and those of a group by anything."""
    if meta.maker is not None and (steered is None or steered.kind == meta.maker.kind):
        return meta.maker.uid
    return meta.labels.get(_ATTEMPT, "")


def _times(meta: OwnedMeta, status: _PodStatus, scheduled: WireCondition | None) -> Times:
    states = [c.state for c in status.container_statuses]
    # Containers of a pod that goes on are started again.
    over = status.phase in _OVER or meta.deletion_timestamp is not None
    ended = over and bool(states) and all(s.terminated is not None for s in states)
    starts = [s.running.started_at if s.running else s.terminated.started_at if s.terminated else None for s in states]
    ends = [s.terminated.finished_at for s in states if s.terminated is not None]
    leaving = meta.deletion_timestamp
    if leaving is not None and meta.deletion_grace_period_seconds:
        leaving -= timedelta(seconds=meta.deletion_grace_period_seconds)
    return Times(
        bound=scheduled.last_transition_time if scheduled is not None and scheduled.status == "True" else None,
        works=max((t for t in starts if t), default=None) if starts and all(starts) else None,
        leaving=leaving,
        end=max((t for t in ends if t), default=None) if ended else _last_change(status),
    )


def _last_change(status: _PodStatus) -> datetime | None:
    """When a pod ended whose containers tell nothing, as one that was evicted or whose node was lost."""
    if status.phase not in _OVER:
        return None
    told = ("Ready", "ContainersReady", "DisruptionTarget")
    return max(
        (c.last_transition_time for c in status.conditions if c.type in told and c.last_transition_time), default=None
    )


class WireService(msgspec.Struct):
    """core/v1 Service"""

    metadata: WireMeta


class ServiceRecord(msgspec.Struct, frozen=True):
    """The Service of a namespace's workers: that it is there is all there is to know."""

    namespace: str


def reduce_service(service: WireService) -> tuple[str, str, ServiceRecord]:
    """For `Informer`."""
    meta = service.metadata
    return meta.uid, meta.resource_version, ServiceRecord(namespace=meta.namespace)


class _SchedulingGroup(msgspec.Struct, rename="camel"):
    pod_group_name: str = ""


class _TemplateSpec(msgspec.Struct, rename="camel"):
    scheduling_group: _SchedulingGroup | None = None


class _Template(msgspec.Struct):
    spec: _TemplateSpec = msgspec.field(default_factory=_TemplateSpec)


class _JobSpec(msgspec.Struct):
    suspend: bool = False
    completions: int = 0
    template: _Template = msgspec.field(default_factory=_Template)


class _JobStatus(msgspec.Struct, rename="camel"):
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    terminating: int = 0
    conditions: list[WireCondition] = []


class WireJob(msgspec.Struct):
    """batch/v1 Job"""

    metadata: WireMeta
    spec: _JobSpec = msgspec.field(default_factory=_JobSpec)
    status: _JobStatus = msgspec.field(default_factory=_JobStatus)


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
    pod_group: str = ""  # ours, which its pods name; empty: none, or one that somebody named himself


def reduce_job(job: WireJob) -> tuple[str, str, JobRecord]:
    """For `Informer`."""
    meta, status = job.metadata, job.status
    conditions = {c.type: c for c in status.conditions if c.status == "True"}
    failed, complete = conditions.get("Failed"), conditions.get("Complete")
    end = failed or complete
    group = job.spec.template.spec.scheduling_group
    record = JobRecord(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        job=meta.labels.get(JOB_LABEL, ""),
        plan=meta.annotations.get(PLAN_ANNOTATION, ""),
        suspended=job.spec.suspend,
        completions=job.spec.completions,
        active=status.active,
        succeeded=status.succeeded,
        failed_message=None if failed is None else f"{failed.reason}: {failed.message}",
        complete=complete is not None,
        deleting=meta.deletion_timestamp is not None,
        ended=end.last_transition_time if end else None,
        pod_group=group.pod_group_name if group and group.pod_group_name.startswith(meta.name + GROUP_INFIX) else "",
    )
    return meta.uid, meta.resource_version, record


class WirePodGroup(msgspec.Struct):
    """scheduling.k8s.io/v1beta1 PodGroup"""

    metadata: WireMeta


class PodGroupRecord(msgspec.Struct, frozen=True):
    """A PodGroup of ours: that it is there is all there is to know."""

    namespace: str
    name: str


def reduce_pod_group(group: WirePodGroup) -> tuple[str, str, PodGroupRecord]:
    """For `Informer`."""
    meta = group.metadata
    return meta.uid, meta.resource_version, PodGroupRecord(namespace=meta.namespace, name=meta.name)
