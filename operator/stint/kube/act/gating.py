"""What the chart's admission policies do, for clusters that have none: an AdmissionReview in, its answer out. Pure.

Pods that are labelled and ask for GPUs get our scheduling gate; workloads that are labelled hand the label down to the
templates that their pods are made from. Which objects get here at all is told by the webhook's own selectors.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from stint.kube.steered import GATE, GROUP_LABEL, RELEASE
from stint.kube.workloads import asks_for_gpus
from stint.workloads.label import Ops
from stint.workloads.registry import by_api, refused


def answer(review: dict[str, Any]) -> dict[str, Any]:
    """The AdmissionReview to send back. Everything is allowed; what has to wait is patched.

    Raises:
        KeyError, TypeError: it is no AdmissionReview.
    """
    request = review["request"]
    kind, thing = request["kind"]["kind"], request["object"]
    patch = _patch(request["kind"].get("group"), kind, request.get("operation", ""), thing)
    response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    if patch:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(msgspec.json.encode(patch)).decode()}
    return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}


def _patch(group: str | None, kind: str, operation: str, thing: dict[str, Any]) -> Ops:
    if kind == "Pod":
        return _gated(thing) if operation == "CREATE" else []
    found = by_api(group, kind)
    rule = found.hands_down if found is not None else None
    return rule.ops(operation, thing) if rule is not None and operation in rule.operations else []


def _gated(pod: dict[str, Any]) -> Ops:
    meta, spec = pod["metadata"], pod["spec"]
    gates = spec.get("schedulingGates") or []
    at_once = (meta.get("annotations") or {}).get(RELEASE) == "now"
    if spec.get("nodeName") or at_once or any(g["name"] == GATE for g in gates) or not asks_for_gpus(spec):
        return []
    if _is_refused(meta):
        return []
    return [{"op": "add", "path": "/spec/schedulingGates", "value": [*gates, {"name": GATE}]}]


def _is_refused(meta: dict[str, Any]) -> bool:
    """Whether it belongs to a kind that Stint does not place: it would wait for ever."""
    if GROUP_LABEL in (meta.get("labels") or {}):
        return False
    makers = refused()
    return any(o.get("controller") and o.get("kind") in makers for o in meta.get("ownerReferences") or ())
