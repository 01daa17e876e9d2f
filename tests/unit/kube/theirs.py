"""Pods and workloads of others as the API server tells of them, reduced as the informers do."""

from __future__ import annotations

from typing import Any

import msgspec

from stint.kube.observe.groups import Group, Workloads, gather
from stint.kube.records import PodRecord
from stint.kube.reduce import reduce_pod
from stint.kube.steered import GATE
from stint.kube.wire import WirePod
from stint.kube.workloads import WireWorkload, WorkloadRecord, reducer
from stint.workloads.registry import KINDS

SPEC = "work: {units: 3600, unitsPerSecond: {A100-80GB: 1.0}}"
POD_SPEC = {"containers": [{"resources": {"requests": {"nvidia.com/gpu": "2"}}}]}


def pod(
    name: str = "p0",
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    gates: tuple[str, ...] = (GATE,),
    owner: tuple[str, ...] | None = None,
    node: str = "",
    phase: str = "Pending",
    deleting: bool = False,
    gpus: int = 2,
    **spec: Any,
) -> PodRecord:
    """By default one that waits in the Job `train`."""
    requests = {"nvidia.com/gpu": str(gpus)} if gpus else {"cpu": "1"}
    meta: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "namespace": "team",
        "labels": {"stint.dev/managed": "true", **(labels or {"batch.kubernetes.io/job-name": "train"})},
        "annotations": annotations or {},
    }
    if owner:
        made = {"kind": owner[0], "name": owner[1], "uid": f"uid-{owner[1]}", "controller": True}
        meta["ownerReferences"] = [{**made, **({"apiVersion": owner[2]} if len(owner) > 2 else {})}]
    if deleting:
        meta["deletionTimestamp"] = "2026-11-01T00:00:00Z"
    body = {
        "metadata": meta,
        "spec": {
            "containers": [{"resources": {"requests": requests}}],
            "schedulingGates": [{"name": g} for g in gates],
            "nodeName": node,
            **spec,
        },
        "status": {"phase": phase},
    }
    return reduce_pod(msgspec.json.decode(msgspec.json.encode(body), type=WirePod))[2]


def let_go(name: str, rank: int, *, node: str = "n1", phase: str = "Running", **more: Any) -> PodRecord:
    """One that has its place."""
    return pod(name, annotations={"stint.dev/rank": str(rank)}, gates=(), node=node, phase=phase, **more)


def workload(kind: str = "Job", name: str = "train", *, owner: str = "", **changes: Any) -> WorkloadRecord:
    """By default a Job of two pods."""
    spec = changes.pop("spec", {"parallelism": 2, "completions": 2, "template": {"spec": POD_SPEC}})
    meta: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "namespace": "team",
        "labels": {"stint.dev/managed": "true", **changes.pop("labels", {})},
        "annotations": {"stint.dev/spec": SPEC, **changes.pop("annotations", {})},
    }
    if owner:
        meta["ownerReferences"] = [{"kind": "x", "name": owner, "uid": f"uid-{owner}", "controller": True}]
    body = {"metadata": meta, "spec": spec, "status": changes.pop("status", {})}
    assert not changes
    return reducer(KINDS[kind])(msgspec.convert(body, WireWorkload))[2]


def group(*pods: PodRecord, workloads: tuple[WorkloadRecord, ...] = ()) -> Group:
    """The only one that these pods form."""
    (found,) = gather(pods, Workloads(workloads)).values()
    return found
