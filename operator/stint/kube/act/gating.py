"""What the chart's admission policies do, for clusters that have none: an AdmissionReview in, its answer out. Pure.

Pods that are labelled and ask for GPUs get our scheduling gate; workloads that are labelled hand the label down to the
templates that their pods are made from. Which objects get here at all is told by the webhook's own selectors.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import msgspec

from stint.kube.steered import GATE, MANAGED, RELEASE
from stint.kube.workloads import asks_for_gpus

_PATCHED_BY = "stint.dev/steering"  # a TrainJob's runtime patches are keyed by who made them
_Ops = list[dict[str, Any]]


def answer(review: dict[str, Any]) -> dict[str, Any]:
    """The AdmissionReview to send back. Everything is allowed; what has to wait is patched.

    Raises:
        KeyError, TypeError: it is no AdmissionReview.
    """
    request = review["request"]
    patch = _patch(request["kind"]["kind"], request.get("operation", ""), request["object"])
    response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    if patch:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(msgspec.json.encode(patch)).decode()}
    return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}


def _patch(kind: str, operation: str, thing: dict[str, Any]) -> _Ops:
    if kind == "Pod":
        return _gated(thing) if operation == "CREATE" else []
    if kind == "TrainJob":
        return _runtime_patch(thing) if operation == "CREATE" else []
    if operation == "UPDATE" and not (kind == "JobSet" and thing["spec"].get("suspend")):
        return []
    return [op for path, template in _templates(kind, thing["spec"]) for op in _labelled(path, template)]


def _gated(pod: dict[str, Any]) -> _Ops:
    meta, spec = pod["metadata"], pod["spec"]
    gates = spec.get("schedulingGates") or []
    at_once = (meta.get("annotations") or {}).get(RELEASE) == "now"
    if spec.get("nodeName") or at_once or any(g["name"] == GATE for g in gates) or not asks_for_gpus(spec):
        return []
    return [{"op": "add", "path": "/spec/schedulingGates", "value": [*gates, {"name": GATE}]}]


def _templates(kind: str, spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if kind == "Job":
        yield "/spec/template", spec["template"]
    elif kind == "JobSet":
        for i, each in enumerate(spec.get("replicatedJobs") or ()):
            yield f"/spec/replicatedJobs/{i}/template", each["template"]
    elif kind == "PyTorchJob":
        for name, each in spec["pytorchReplicaSpecs"].items():
            yield f"/spec/pytorchReplicaSpecs/{name}/template", each["template"]
    elif kind == "RayCluster":
        yield "/spec/headGroupSpec/template", spec["headGroupSpec"]["template"]
        for i, each in enumerate(spec.get("workerGroupSpecs") or ()):
            yield f"/spec/workerGroupSpecs/{i}/template", each["template"]


def _labelled(path: str, template: dict[str, Any]) -> _Ops:
    meta = template.get("metadata")
    if meta is None:
        return [{"op": "add", "path": f"{path}/metadata", "value": {"labels": {MANAGED: "true"}}}]
    if meta.get("labels") is None:
        return [{"op": "add", "path": f"{path}/metadata/labels", "value": {MANAGED: "true"}}]
    if MANAGED in meta["labels"]:
        return []
    return [{"op": "add", "path": f"{path}/metadata/labels/{MANAGED.replace('/', '~1')}", "value": "true"}]


def _runtime_patch(trainjob: dict[str, Any]) -> _Ops:
    there = trainjob["spec"].get("runtimePatches")
    if there is not None and any(p.get("manager") == _PATCHED_BY for p in there):
        return []
    ours = {
        "manager": _PATCHED_BY,
        "trainingRuntimeSpec": {"template": {"metadata": {"labels": {MANAGED: "true"}}}},
    }
    if there is None:
        return [{"op": "add", "path": "/spec/runtimePatches", "value": [ours]}]
    return [{"op": "add", "path": "/spec/runtimePatches/-", "value": ours}]
