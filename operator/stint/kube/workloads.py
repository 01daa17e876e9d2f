"""What others make pods with: Job, JobSet, PyTorchJob, TrainJob, RayCluster and RayJob, as far as steering needs them.

One table says where each kind is served, what it is called when it has ended, where it is suspended, and where its pod
templates lie, so that the size of a group is known before all of its pods are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from stint.accelerators import registry
from stint.api.pod_requests import pod_requests
from stint.api.quantity import amounts, as_resources
from stint.kube.records import OwnedMeta
from stint.kube.steered import MANAGED

RESUME = "stint.dev/resume"  # Stint has suspended it, to take its gang back, and resumes it
QUEUE = "kueue.x-k8s.io/queue-name"
_ANY = Mapping[str, Any]
Templates = Callable[[_ANY], Iterator[tuple[int, _ANY]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of workload."""

    kind: str
    group: str
    version: str
    plural: str
    templates: Templates  # of its spec: how many pods are made of which pod spec
    complete: str = ""  # the condition that says that it has ended well
    failed: str = ""
    suspend: tuple[str, ...] = ()  # the path of the field that deletes its pods and brings them back

    def path(self, namespace: str = "", name: str = "") -> str:
        """Where the API server has it."""
        where = f"/namespaces/{namespace}" if namespace else ""
        return f"/apis/{self.group}/{self.version}{where}/{self.plural}" + (f"/{name}" if name else "")

    def suspended(self, value: bool) -> dict[str, Any]:
        """As a merge patch."""
        patch: Any = value
        for key in reversed(self.suspend):
            patch = {key: patch}
        made: dict[str, Any] = patch
        return made


def _of(thing: Any, *path: str) -> Any:
    for key in path:
        thing = thing.get(key) if isinstance(thing, dict) else None
    return thing


def _count(value: Any, default: int = 1) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _job(spec: _ANY) -> Iterator[tuple[int, _ANY]]:
    parallelism = _count(spec.get("parallelism"))
    yield min(parallelism, _count(spec.get("completions"), parallelism)), _of(spec, "template", "spec")


def _jobset(spec: _ANY) -> Iterator[tuple[int, _ANY]]:
    for each in spec.get("replicatedJobs") or ():
        for count, pod in _job(_of(each, "template", "spec") or {}):
            yield _count(each.get("replicas")) * count, pod


def _pytorchjob(spec: _ANY) -> Iterator[tuple[int, _ANY]]:
    for each in (spec.get("pytorchReplicaSpecs") or {}).values():
        yield _count(each.get("replicas")), _of(each, "template", "spec")


def _raycluster(spec: _ANY) -> Iterator[tuple[int, _ANY]]:
    yield 1, _of(spec, "headGroupSpec", "template", "spec")
    for each in spec.get("workerGroupSpecs") or ():
        if not each.get("suspend"):
            hosts = _count(each.get("numOfHosts"))
            yield _count(each.get("replicas"), 0) * hosts, _of(each, "template", "spec")


def _none(_: _ANY) -> Iterator[tuple[int, _ANY]]:
    """It makes its pods by way of another kind."""
    return iter(())


KINDS: Mapping[str, Kind] = {
    k.kind: k
    for k in (
        Kind(
            kind="Job",
            group="batch",
            version="v1",
            plural="jobs",
            templates=_job,
            complete="Complete",
            failed="Failed",
            suspend=("spec", "suspend"),
        ),
        Kind(
            kind="JobSet",
            group="jobset.x-k8s.io",
            version="v1alpha2",
            plural="jobsets",
            templates=_jobset,
            complete="Completed",
            failed="Failed",
            suspend=("spec", "suspend"),
        ),
        Kind(
            kind="PyTorchJob",
            group="kubeflow.org",
            version="v1",
            plural="pytorchjobs",
            templates=_pytorchjob,
            complete="Succeeded",
            failed="Failed",
            suspend=("spec", "runPolicy", "suspend"),
        ),
        Kind(
            kind="TrainJob",
            group="trainer.kubeflow.org",
            version="v1alpha1",
            plural="trainjobs",
            templates=_none,
            complete="Complete",
            failed="Failed",
            suspend=("spec", "suspend"),
        ),
        # Ray's own suspend ends the head and with it all that it knows; pods that go one by one it survives.
        Kind(kind="RayCluster", group="ray.io", version="v1", plural="rayclusters", templates=_raycluster),
        Kind(kind="RayJob", group="ray.io", version="v1", plural="rayjobs", templates=_none),
    )
}


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


def reducer(kind: Kind) -> Callable[[WireWorkload], tuple[str, str, WorkloadRecord]]:
    """For `Informer`."""

    def reduce(workload: WireWorkload) -> tuple[str, str, WorkloadRecord]:
        meta, status = workload.metadata, workload.status
        conditions = {c.get("type"): c for c in status.get("conditions") or () if c.get("status") == "True"}
        failed = conditions.get(kind.failed)
        failure = "" if failed is None else f"{failed.get('reason', '')}: {failed.get('message', '')}".strip(": ")
        complete = kind.complete in conditions
        if kind.kind == "RayJob":
            complete = status.get("jobDeploymentStatus") == "Complete"
            failure = str(status.get("message") or "Failed") if status.get("jobDeploymentStatus") == "Failed" else ""
        owner = meta.maker
        record = WorkloadRecord(
            kind=kind.kind,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            api_version=f"{kind.group}/{kind.version}",
            managed=meta.labels.get(MANAGED) == "true",
            queued=QUEUE in meta.labels,
            annotations={k: v for k, v in meta.annotations.items() if k.startswith("stint.dev/")},
            owner=owner.uid if owner else "",
            pods=sum(count for count, pod in kind.templates(workload.spec) if asks_for_gpus(pod)),
            suspended=_of({"spec": workload.spec}, *kind.suspend) is True if kind.suspend else False,
            complete=complete,
            failure=failure or ("Failed" if failed is not None else ""),
            progress=_progress(status),
            deleting=meta.deletion_timestamp is not None,
        )
        return meta.uid, meta.resource_version, record

    return reduce


def asks_for_gpus(pod: Any) -> bool:
    """Whether a pod made of this spec is one that Stint places: what the chart's admission policy asks, too."""
    return any(_gpus(container) for container in _of(pod, "containers") or ())


def gpus_of(pod: Any) -> int:
    """The whole GPUs that a pod made of this spec asks for."""
    first = [(_gpus(c), _of(c, "restartPolicy") == "Always") for c in _of(pod, "initContainers") or ()]
    return as_resources(pod_requests(map(_gpus, _of(pod, "containers") or ()), first)).gpus


def _gpus(container: Any) -> dict[str, float]:
    both = {**(_of(container, "resources", "requests") or {}), **(_of(container, "resources", "limits") or {})}
    found = amounts({name: str(amount) for name, amount in both.items() if name in registry.RESOURCES})
    return {name: amount for name, amount in found.items() if amount > 0}


def _progress(status: _ANY) -> float | None:
    """As TrainJob has it, where the cluster has that feature on."""
    percent = _of(status, "trainerStatus", "progressPercentage")
    return min(max(percent / 100, 0.0), 1.0) if isinstance(percent, int | float) else None
