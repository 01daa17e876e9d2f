"""What the chart's admission policies do, for clusters that have none: an AdmissionReview in, its answer out. Pure.

Pods that are labelled and ask for GPUs get our scheduling gate; workloads that are labelled hand the label down to the
templates that their pods are made from. Which objects get here at all is told by the webhook's own selectors.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from stint.kube.steered import GATE, RELEASE
from stint.kube.workloads import asks_for_gpus
from stint.workloads.label import Ops
from stint.workloads.registry import KINDS


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


def _patch(kind: str, operation: str, thing: dict[str, Any]) -> Ops:
    if kind == "Pod":
        return _gated(thing) if operation == "CREATE" else []
    found = KINDS.get(kind)
    rule = found.hands_down if found is not None else None
    return rule.ops(operation, thing) if rule is not None and operation in rule.operations else []


def _gated(pod: dict[str, Any]) -> Ops:
    meta, spec = pod["metadata"], pod["spec"]
    gates = spec.get("schedulingGates") or []
    at_once = (meta.get("annotations") or {}).get(RELEASE) == "now"
    if spec.get("nodeName") or at_once or any(g["name"] == GATE for g in gates) or not asks_for_gpus(spec):
        return []
    return [{"op": "add", "path": "/spec/schedulingGates", "value": [*gates, {"name": GATE}]}]
