"""From what comes over the wire to what we keep, one function a kind for `Informer`, and what a pod asks for."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec

from stint.accelerators import registry
from stint.api.parse.constraints import Written, constraints_from
from stint.api.pod_requests import pod_requests
from stint.api.quantity import amounts, as_resources, as_slices, resources, slices
from stint.kube.plan_note import PLAN_ANNOTATION, SIGNATURE_ANNOTATION
from stint.kube.records import (
    GROUP_INFIX,
    JOB_LABEL,
    OVER,
    UNITS_DONE,
    DaemonSetRecord,
    GangPod,
    JobRecord,
    LimitRangeRecord,
    NamespaceRecord,
    NodeRecord,
    PodGroupRecord,
    PodRecord,
    RuntimeClassRecord,
    ServiceRecord,
    StorageClassRecord,
    Times,
    VolumeClaimRecord,
    VolumeRecord,
)
from stint.kube.rejection import rejects, said
from stint.kube.steered import (
    GATE,
    INDEX_ANNOTATION,
    JOB_NAME_LABEL,
    MANAGED,
    RANK,
    RELEASE,
    Steered,
    Unplaced,
    find,
    find_unplaced,
    steered_name,
    tolerations_in,
    unreadable,
)
from stint.kube.wire import (
    OwnedMeta,
    PodSpec,
    PodStatus,
    WireCondition,
    WireDaemonSet,
    WireJob,
    WireLimitRange,
    WireNamespace,
    WireNode,
    WirePod,
    WirePodGroup,
    WireRuntimeClass,
    WireService,
    WireStorageClass,
    WireVolume,
    WireVolumeClaim,
)
from stint.model.constraints import HostPort, Labels, PodTerm, Requirement, Terms
from stint.model.job import Toleration
from stint.model.market import Taint
from stint.model.resources import Resources
from stint.workloads.kind import Maker
from stint.workloads.registry import KINDS

log = logging.getLogger(__name__)

_ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
_LONGEST_GRACE_S = 366 * 86_400
_SHORT_OF_THE_GROUP = "minCount ("  # kube-scheduler 1.37: "minCount (4) cannot be satisfied: 1 scheduled, 2 remaining"


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
        device=registry.device_of(node.status.allocatable),
        given_out_by=registry.given_out_by(meta.annotations),
    )
    return meta.uid, meta.resource_version, record


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
    found = {name: max(amount, 0.0) for name, amount in found.items()}  # what is negative would make others look free
    return replace(as_resources(found), pods=1), sum(as_slices(found).values())


def _requests(spec: PodSpec) -> tuple[Resources, int]:
    """What the scheduler counts, and how many parts of GPUs. Limits are no matter: the API server fills in requests."""
    return _counted(
        tuple(_texts(c.resources.requests) for c in spec.containers if c.resources.requests),
        tuple((_texts(c.resources.requests), c.restart_policy == "Always") for c in spec.init_containers),
        _texts(spec.resources.requests) if spec.resources else (),
        _texts(spec.overhead),
    )


def _claims(meta: OwnedMeta, spec: PodSpec, status: PodStatus, requests: Resources) -> bool:
    """Whether devices are allocated to a pod that no extended resource of its requests counts.

    A claim does not say here which devices it is for: that takes the claim, its class and the slices of the node. So
    every claim may be for the node's GPUs, with two exceptions. A pod that asks for GPUs by name claims a NIC or a
    channel beside them. A DaemonSet watches devices with adminAccess, which takes none; counted, it would leave a whole
    cluster without a free GPU.
    """
    if requests.gpus or (meta.maker is not None and meta.maker.kind == "DaemonSet"):
        return False
    if spec.resource_claims or status.extended_resource_claim_status:
        return True
    asked = [c.resources for c in (*spec.containers, *spec.init_containers)]
    return any(r.claims or any(name.startswith(_BY_CLASS) for name in r.requests) for r in asked)


@functools.lru_cache(maxsize=8192)
def _shared(labels: Labels) -> Labels:
    """One copy of labels that many pods have."""
    return tuple((sys.intern(k), sys.intern(v)) for k, v in labels)


_MOST_REMEMBERED = 16_384  # bytes of a pod's constraints: larger ones are read each time, and kept by nobody


def _written(
    affinity: bytes, spread: bytes, volumes: bytes, ports: tuple[HostPort, ...], labels: Labels, namespace: str
) -> Written | None:
    small = len(affinity) + len(spread) + len(volumes) <= _MOST_REMEMBERED
    return (_read_once if small else _read)(affinity, spread, volumes, ports, labels, namespace)


def _read(
    affinity: bytes, spread: bytes, volumes: bytes, ports: tuple[HostPort, ...], labels: Labels, namespace: str
) -> Written | None:
    try:
        return constraints_from(
            affinity=affinity, spread=spread, volumes=volumes, ports=ports, labels=dict(labels), namespace=namespace
        )
    except ValueError:
        return None  # of a kind that is not known here yet


_read_once = functools.lru_cache(maxsize=2048)(_read)


def _host_ports(spec: PodSpec) -> tuple[HostPort, ...]:
    """The API server fills in those of pods in the node's network."""
    sidecars = [c for c in spec.init_containers if c.restart_policy == "Always"]
    return tuple(
        HostPort(port=p.host_port, protocol=p.protocol, ip="" if p.host_ip in ("0.0.0.0", "::") else p.host_ip)
        for c in (*spec.containers, *sidecars)
        for p in c.ports
        if p.host_port
    )


@functools.lru_cache(maxsize=1024)
def _read_selector(written: bytes) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((msgspec.json.decode(written, type=dict[str, str] | None) or {}).items()))


def _selector(written: msgspec.Raw) -> tuple[tuple[str, str], ...]:
    return _read_selector(bytes(written))


def _keeps_away(spec: PodSpec, labels: Labels, namespace: str) -> tuple[PodTerm, ...]:
    """Pods that a pod wants away from it."""
    affinity = bytes(spec.affinity)
    if b"podAntiAffinity" not in affinity:
        return ()
    written = _written(affinity, b"null", b"null", (), labels, namespace)
    return written.constraints.anti_affinity if written else ()


def reduce_pod(pod: WirePod) -> tuple[str, str, PodRecord]:
    """For `Informer`. Whatever else is written on a pod, what it takes of its node counts."""
    meta, spec, status = pod.metadata, pod.spec, pod.status
    requests, parts = _requests(spec)
    labels, ports = _shared(tuple(sorted(meta.labels.items()))), _host_ports(spec)
    gates = [g.name for g in spec.scheduling_gates]
    gang: GangPod | None = None
    unplaced: Unplaced | None = None
    try:
        gang, unplaced = _membership(pod, gates, requests, labels, ports)
    except Exception as error:
        log.exception("pod %s/%s cannot be read", meta.namespace, meta.name)
        if GATE in gates or MANAGED in meta.labels:
            unplaced = unreadable(meta.namespace, meta.name, _maker(meta), gated=GATE in gates, error=error)
    record = PodRecord(
        uid=meta.uid,
        node=spec.node_name,
        nominated=status.nominated_node_name,
        phase=status.phase,
        requests=requests,
        gang=gang,
        slices=parts,
        labels=labels,
        anti_affinity=_keeps_away(spec, labels, meta.namespace),
        host_ports=ports,
        namespace=sys.intern(meta.namespace),
        claims=_claims(meta, spec, status, requests),
        daemon=meta.maker is not None and meta.maker.kind == "DaemonSet",
        unplaced=unplaced,
    )
    return meta.uid, meta.resource_version, record


def _membership(
    pod: WirePod, gates: Sequence[str], requests: Resources, labels: Labels, ports: tuple[HostPort, ...]
) -> tuple[GangPod | None, Unplaced | None]:
    """What a pod is for Stint: a member of a gang, or one that is told why it is none; neither: any pod."""
    meta, spec = pod.metadata, pod.spec
    job, index = meta.labels.get(JOB_LABEL), meta.annotations.get(INDEX_ANNOTATION, "")
    # Anybody can give a pod our label; only the Job controller makes workers.
    if job is not None and job == meta.labels.get(JOB_NAME_LABEL) and index.isascii() and index.isdigit():
        return _member(pod, job, index, gates, None), None
    steered: Steered | None = None
    maker = _maker(meta)
    if MANAGED in meta.labels and requests.gpus:
        steered = find(
            meta.labels,
            meta.annotations,
            name=meta.name,
            maker=maker,
            gates=gates,
            node_selector=spec.node_selector,
            tolerations=spec.tolerations,
            written=_written(
                bytes(spec.affinity),
                bytes(spec.topology_spread_constraints),
                bytes(spec.volumes),
                ports,
                labels,
                meta.namespace,
            ),
        )
    if steered is not None:
        name = steered_name(steered.kind, steered.group)
        return _member(pod, name, meta.annotations.get(RANK, ""), gates, steered), None
    if MANAGED not in meta.labels and GATE not in gates:
        return None, None
    return None, find_unplaced(
        meta.labels,
        meta.annotations,
        namespace=meta.namespace,
        name=meta.name,
        maker=maker,
        gates=gates,
        asks_for_gpus=bool(requests.gpus),
    )


def _member(pod: WirePod, job: str, index: str, gates: Sequence[str], steered: Steered | None) -> GangPod:
    meta, spec, status = pod.metadata, pod.spec, pod.status
    conditions = {c.type: c for c in status.conditions}
    scheduled = conditions.get("PodScheduled")
    ready = conditions.get("Ready")
    disruption = conditions.get("DisruptionTarget")
    return GangPod(
        namespace=meta.namespace,
        name=meta.name,
        job=job,
        index=int(index) if index.isascii() and index.isdigit() and len(index) < 10 else -1,
        gated=GATE in gates,
        scheduled=bool(spec.node_name),
        ready=ready is not None and ready.status == "True",
        unschedulable=scheduled is not None and scheduled.status == "False" and scheduled.reason != "SchedulingGated",
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
        refusal=_refusal(scheduled),
        **_rejection(status),
        node_selector=_selector(spec.node_selector) if spec.scheduling_gates else (),
        at_once=meta.annotations.get(RELEASE) == "now",
    )


def _maker(meta: OwnedMeta) -> Maker | None:
    made = meta.maker
    return None if made is None else Maker(made.kind, made.name, made.uid, made.api_version)


def _refusal(scheduled: WireCondition | None) -> str:
    if scheduled is None or (scheduled.status, scheduled.reason) != ("False", "Unschedulable"):
        return ""
    return said(scheduled.message) or "it gives no reason"


def _rejection(status: PodStatus) -> dict[str, str]:
    if status.phase != "Failed":
        return {}
    states = [c.state for c in status.container_statuses]
    began = any(s.running or (s.terminated and s.terminated.started_at) for s in states)
    if not rejects(status.reason, status.message, began=began):
        return {}
    return {"rejected": said(status.reason)[:63], "rejection": said(status.message)}


def _run(meta: OwnedMeta, steered: Steered | None) -> str:
    """By what made it, where one object makes all pods of the group.

    A JobSet's pods are made by several Jobs, an MPIJob's launcher by one, and those of a group by anything.
    """
    if meta.maker is not None and (steered is None or _makes_all(steered.kind, meta.maker.kind)):
        return meta.maker.uid
    return meta.labels.get(_ATTEMPT, "")


def _makes_all(kind: str, maker: str) -> bool:
    known = KINDS.get(kind)
    if known is None or known.belonging is None:
        return kind == maker
    return maker == known.api_kind and len(known.belonging.makers) <= 1


def _times(meta: OwnedMeta, status: PodStatus, scheduled: WireCondition | None) -> Times:
    states = [c.state for c in status.container_statuses]
    # Containers of a pod that goes on are started again.
    over = status.phase in OVER or meta.deletion_timestamp is not None
    ended = over and bool(states) and all(s.terminated is not None for s in states)
    starts = [s.running.started_at if s.running else s.terminated.started_at if s.terminated else None for s in states]
    ends = [s.terminated.finished_at for s in states if s.terminated is not None]
    leaving = meta.deletion_timestamp
    if leaving is not None and meta.deletion_grace_period_seconds:
        # A pod's own grace period may be longer than there are dates.
        leaving -= timedelta(seconds=min(meta.deletion_grace_period_seconds, _LONGEST_GRACE_S))
    return Times(
        bound=scheduled.last_transition_time if scheduled is not None and scheduled.status == "True" else None,
        works=max((t for t in starts if t), default=None) if starts and all(starts) else None,
        leaving=leaving,
        end=max((t for t in ends if t), default=None) if ended else _last_change(status),
    )


def _last_change(status: PodStatus) -> datetime | None:
    """When a pod ended whose containers tell nothing, as one that was evicted or whose node was lost."""
    if status.phase not in OVER:
        return None
    told = ("Ready", "ContainersReady", "DisruptionTarget")
    return max(
        (c.last_transition_time for c in status.conditions if c.type in told and c.last_transition_time), default=None
    )


def reduce_daemon_set(daemons: WireDaemonSet) -> tuple[str, str, DaemonSetRecord]:
    """For `Informer`."""
    meta, spec = daemons.metadata, daemons.spec.template.spec
    requests, _ = _requests(spec)
    written = _written(bytes(spec.affinity), b"null", b"null", (), (), meta.namespace)
    selector = msgspec.json.decode(spec.node_selector, type=dict[str, str] | None) or {}
    record = DaemonSetRecord(
        requests=requests,
        node_selector=tuple(sorted(selector.items())),
        node_affinity=written.constraints.node_affinity if written else None,
        tolerations=(*tolerations_in(spec.tolerations), *_DAEMONS_TOLERATE),
    )
    return meta.uid, meta.resource_version, record


# What the DaemonSet controller adds to each of its pods, as far as it is about taints of nodes that take work.
_DAEMONS_TOLERATE = tuple(
    Toleration(key=f"node.kubernetes.io/{name}", operator="Exists")
    for name in ("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable", "not-ready", "unreachable")
)
_ZONE_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


def reduce_runtime_class(runtime: WireRuntimeClass) -> tuple[str, str, RuntimeClassRecord]:
    """For `Informer`."""
    meta = runtime.metadata
    overhead = amounts(runtime.overhead.pod_fixed or {}) if runtime.overhead else {}
    return meta.uid, meta.resource_version, RuntimeClassRecord(name=meta.name, overhead=tuple(sorted(overhead.items())))


def reduce_limit_range(limits: WireLimitRange) -> tuple[str, str, LimitRangeRecord]:
    """For `Informer`. The API server has made a default request of a default limit already."""
    meta = limits.metadata
    found: dict[str, float] = {}
    for limit in limits.spec.limits or ():
        if limit.type == "Container":
            found |= amounts(limit.default_request or {})
    requests = tuple(sorted(found.items()))
    return (
        meta.uid,
        meta.resource_version,
        LimitRangeRecord(namespace=meta.namespace, name=meta.name, requests=requests),
    )


def reduce_volume_claim(claim: WireVolumeClaim) -> tuple[str, str, VolumeClaimRecord]:
    """For `Informer`."""
    meta = claim.metadata
    record = VolumeClaimRecord(
        namespace=meta.namespace,
        name=meta.name,
        volume=claim.spec.volume_name if claim.status.phase in ("Bound", "Lost") else "",
        storage_class=claim.spec.storage_class_name,
        lost=claim.status.phase == "Lost",
        of_one_pod="ReadWriteOncePod" in (claim.spec.access_modes or ()),
    )
    return meta.uid, meta.resource_version, record


@functools.lru_cache(maxsize=2048)
def _where(node_affinity: bytes) -> Terms | None:
    written = _written(b'{"nodeAffinity":' + _as_required(node_affinity) + b"}", b"null", b"null", (), (), "")
    return written.constraints.node_affinity if written else None


def _as_required(node_affinity: bytes) -> bytes:
    """A volume says `required` where a pod says `requiredDuringSchedulingIgnoredDuringExecution`."""
    found = msgspec.json.decode(node_affinity) or {}
    required = found.get("required") if isinstance(found, dict) else None
    return msgspec.json.encode({"requiredDuringSchedulingIgnoredDuringExecution": required})


def reduce_volume(volume: WireVolume) -> tuple[str, str, VolumeRecord]:
    """For `Informer`."""
    meta = volume.metadata
    where = _where(bytes(volume.spec.node_affinity))
    if where is None and (zones := [(k, meta.labels[k]) for k in _ZONE_LABELS if k in meta.labels]):
        where = (tuple(Requirement(key=k, operator="In", values=tuple(v.split("__"))) for k, v in zones),)
    return meta.uid, meta.resource_version, VolumeRecord(name=meta.name, where=where)


class _Expression(msgspec.Struct):
    key: str
    values: list[str]


class _Topology(msgspec.Struct, rename="camel"):
    match_label_expressions: list[_Expression] = []


def reduce_storage_class(storage: WireStorageClass) -> tuple[str, str, StorageClassRecord]:
    """For `Informer`."""
    meta = storage.metadata
    allowed = msgspec.json.decode(storage.allowed_topologies, type=list[_Topology] | None) or []
    terms = tuple(
        tuple(Requirement(key=e.key, operator="In", values=tuple(e.values)) for e in t.match_label_expressions)
        for t in allowed
    )
    record = StorageClassRecord(
        name=meta.name,
        waits=storage.volume_binding_mode == "WaitForFirstConsumer",
        default=meta.annotations.get("storageclass.kubernetes.io/is-default-class") == "true",
        where=terms or None,
    )
    return meta.uid, meta.resource_version, record


def reduce_namespace(namespace: WireNamespace) -> tuple[str, str, NamespaceRecord]:
    """For `Informer`."""
    meta = namespace.metadata
    return meta.uid, meta.resource_version, NamespaceRecord(name=meta.name)


def reduce_service(service: WireService) -> tuple[str, str, ServiceRecord]:
    """For `Informer`."""
    meta = service.metadata
    return meta.uid, meta.resource_version, ServiceRecord(namespace=meta.namespace)


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
        plan_signature=meta.annotations.get(SIGNATURE_ANNOTATION, ""),
        owner=meta.maker.uid if meta.maker else "",
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


def reduce_pod_group(group: WirePodGroup) -> tuple[str, str, PodGroupRecord]:
    """For `Informer`."""
    meta = group.metadata
    return meta.uid, meta.resource_version, PodGroupRecord(namespace=meta.namespace, name=meta.name)
