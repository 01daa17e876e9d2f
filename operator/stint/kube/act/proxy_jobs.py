"""The TrainingJob that stands for a group of somebody else's pods, made from what he has written on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from stint.api import yaml_text
from stint.api.trainingjob import Spec
from stint.kube.act.manifests import GROUP_VERSION, MANAGED_BY
from stint.kube.observe.groups import Group
from stint.kube.steered import SPEC_ANNOTATION
from stint.model.job import JobId, split_job_id

MADE_FROM = "stint.dev/made-from"  # a fingerprint of what a stand-in was made from: what people edit in it stays
MOST_OWNERS = 100
MOST_TEXT = 16_384  # of an annotation
MOST_LEVELS = 16  # of an annotation: no field of a TrainingJob's spec that it may say is half as deep
# Whoever makes the pods decides about these.
_THEIRS = frozenset({"workers", "elastic", "template", "podTemplate", "steers", "retries"})
_FIELDS = frozenset(f.encode_name for f in msgspec.structs.fields(Spec)) - _THEIRS
_EXAMPLE = "work: {units: 90000, unitsPerSecond: {H100-SXM: 2.0, A100-80GB: 1.0}}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is none, and what helps."""

    text: str


def manifest(group: Group, job: JobId) -> dict[str, Any] | Refusal:
    """The TrainingJob for a group; pure."""
    if group.wrong:
        return Refusal(group.wrong)
    if group.size == 0:
        return Refusal(group.sizeless)
    fragment = _fragment(group)
    if isinstance(fragment, Refusal):
        return fragment
    gpus = max(p.requests.gpus for p in group.pods)
    spec = {
        **fragment,
        "workers": group.size,
        "gpu": {**fragment.get("gpu", {}), "perWorker": gpus},
        "steers": {"kind": group.kind, "name": group.name},
    }
    namespace, name = split_job_id(job)
    fingerprint = hashlib.sha256(msgspec.json.encode(spec, order="sorted")).hexdigest()[:16]
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "TrainingJob",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY: "stint"},
            "annotations": {MADE_FROM: fingerprint},
            "ownerReferences": _owners(group),
        },
        "spec": spec,
    }


def _fragment(group: Group) -> dict[str, Any] | Refusal:
    """What people say of the work, as in a TrainingJob's spec: on what they made, or else on the pods."""
    said = [w.annotations.get(SPEC_ANNOTATION, "") for w in reversed(group.chain)] + [s.spec for s in group.steered()]
    text = next((t for t in said if t), "")
    if not text:
        return Refusal(
            f"nobody says how much work {group.what} is and how fast it goes on what, so finishing has no price: "
            f"annotate it with {SPEC_ANNOTATION}, as in a TrainingJob's spec: {_EXAMPLE}"
        )
    try:
        found = yaml_text.read(text, most_text=MOST_TEXT, most_levels=MOST_LEVELS)
    except yaml_text.YamlTextError as error:
        return Refusal(f"annotation {SPEC_ANNOTATION} cannot be read: {error}; an example is {_EXAMPLE}")
    if not isinstance(found, dict):
        return Refusal(f"annotation {SPEC_ANNOTATION} must be a mapping, as {_EXAMPLE}")
    if unknown := sorted(set(found) - _FIELDS):
        known = ", ".join(sorted(_FIELDS))
        return Refusal(f"annotation {SPEC_ANNOTATION} may not say {', '.join(unknown)}; it may say {known}")
    if not isinstance(found.get("gpu", {}), dict):
        return Refusal(f"annotation {SPEC_ANNOTATION}: gpu must be a mapping, as gpu: {{models: [H100-SXM]}}")
    return found


def _owners(group: Group) -> list[dict[str, Any]]:
    """With whose end it ends: what a person made; of plain pods, the last of them."""
    if group.chain:
        top = group.chain[-1]
        return [{"apiVersion": top.api_version, "kind": top.api_kind, "name": top.name, "uid": top.uid}]
    return [
        {"apiVersion": "v1", "kind": "Pod", "name": p.gang.name, "uid": p.uid}
        for p in group.pods[:MOST_OWNERS]
        if p.gang is not None
    ]
