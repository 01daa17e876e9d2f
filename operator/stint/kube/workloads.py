"""What others make pods with, as the informers keep it: one record for all kinds that `stint.workloads` knows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from stint.accelerators import registry
from stint.api.pod_requests import pod_requests
from stint.api.quantity import amounts, as_resources
from stint.kube.wire import OwnedMeta
from stint.workloads.kind import Kind, Object, at
from stint.workloads.label import MANAGED

log = logging.getLogger(__name__)

MOST_PODS = 2**31 - 1  # of a workload, as its fields are 32 bits wide where the API server checks them
RESUME = "stint.dev/resume"  # Stint has suspended it, to take its gang back, and resumes it
QUEUE = "kueue.x-k8s.io/queue-name"


class WireWorkload(msgspec.Struct):
    """Any of them."""

    metadata: OwnedMeta
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class WorkloadRecord(msgspec.Struct, frozen=True):
    """One of them as we keep it."""

    kind: str
    namespace: str
    name: str
    uid: str
    api_version: str
    managed: bool
    queued: bool  # by Kueue, which suspends and resumes it
    annotations: dict[str, str]  # only our own
    owner: str  # uid of what made it; empty: a person did
    pods: int  # that ask for GPUs
    suspended: bool
    complete: bool
    failure: str  # empty: it has not failed
    progress: float | None  # 0 to 1, where it says so itself
    deleting: bool
    groups: int = 1  # gangs that its pods fall into
    called: str = ""  # what its API calls its kind, where Stint calls it otherwise
    one_by_one: str = ""  # why some of its pods are made only when others run, and what helps
    wrong: str = ""  # why Stint does nothing with it, and what to do

    @property
    def api_kind(self) -> str:
        """As owner references and events have it."""
        return self.called or self.kind


def reducer(kind: Kind) -> Callable[[WireWorkload], tuple[str, str, WorkloadRecord]]:
    """For `Informer`."""

    def reduce(workload: WireWorkload) -> tuple[str, str, WorkloadRecord]:
        meta = workload.metadata
        try:
            record = _read(kind, workload)
        except Exception as error:  # a CRD of others need not say what its fields look like
            log.exception("%s %s/%s cannot be read", kind.kind, meta.namespace, meta.name)
            wrong = f"Stint cannot read its spec or status ({error!r:.200}); write it as its API has it"
            record = _unread(kind, meta, wrong)
        return meta.uid, meta.resource_version, record

    return reduce


def _read(kind: Kind, workload: WireWorkload) -> WorkloadRecord:
    meta, status = workload.metadata, workload.status
    ended = kind.ended(status)
    owner = meta.maker
    return WorkloadRecord(
        kind=kind.kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        api_version=f"{kind.group}/{kind.version}",
        managed=meta.labels.get(MANAGED) == "true" and not kind.refused,
        queued=QUEUE in meta.labels,
        annotations={k: v for k, v in meta.annotations.items() if k.startswith("stint.dev/")},
        owner=owner.uid if owner else "",
        pods=min(max(sum(count for count, pod in kind.pods(workload.spec) if asks_for_gpus(pod)), 0), MOST_PODS),
        suspended=kind.is_suspended(workload.spec),
        complete=ended.complete,
        failure=ended.failure,
        progress=_progress(status),
        deleting=meta.deletion_timestamp is not None,
        groups=kind.groups(workload.spec),
        called=kind.called,
        one_by_one=kind.one_by_one(workload.spec, asks_for_gpus),
        wrong=_wrong(kind, meta.labels.get(MANAGED, "")),
    )


def _unread(kind: Kind, meta: OwnedMeta, wrong: str) -> WorkloadRecord:
    """One that nothing is known of but where it is: its owner is told."""
    return WorkloadRecord(
        kind=kind.kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        api_version=f"{kind.group}/{kind.version}",
        managed=False,
        queued=QUEUE in meta.labels,
        annotations={},
        owner="",
        pods=0,
        suspended=False,
        complete=False,
        failure="",
        progress=None,
        deleting=meta.deletion_timestamp is not None,
        called=kind.called,
        wrong=wrong,
    )


def _wrong(kind: Kind, label: str) -> str:
    if label in ("", "false"):
        return ""
    if label != "true":
        return f"label {MANAGED} is {label!r}; write true to have its pods placed, or remove the label"
    return kind.refused


def asks_for_gpus(pod: Any) -> bool:
    """Whether a pod made of this spec is one that Stint places: what the chart's admission policy asks, too."""
    return any(_gpus(container) for container in at(pod, "containers") or ())


def gpus_of(pod: Any) -> int:
    """The whole GPUs that a pod made of this spec asks for."""
    first = [(_gpus(c), at(c, "restartPolicy") == "Always") for c in at(pod, "initContainers") or ()]
    return as_resources(pod_requests(map(_gpus, at(pod, "containers") or ()), first)).gpus


def _gpus(container: Any) -> dict[str, float]:
    both = {**(at(container, "resources", "requests") or {}), **(at(container, "resources", "limits") or {})}
    found = amounts({name: str(amount) for name, amount in both.items() if name in registry.RESOURCES})
    return {name: amount for name, amount in found.items() if amount > 0}


def _progress(status: Object) -> float | None:
    """As TrainJob has it, where the cluster has that feature on."""
    percent = at(status, "trainerStatus", "progressPercentage")
    return min(max(percent / 100, 0.0), 1.0) if isinstance(percent, int | float) else None
