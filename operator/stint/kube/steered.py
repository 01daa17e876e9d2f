"""Which pods of others Stint is to place, and what they belong to: told by what is written on them alone.

What a pod belongs to is said by labels that its controller puts there anyway. Those used here are of JobSet
(`jobset_types.go`), Kubeflow's training-operator (`common_types.go`), KubeRay (`constant.go`) and the Job controller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from stint.model.job import Toleration

GATE = "stint.dev/placement"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
# What people write on what they have Stint place for them.
MANAGED = "stint.dev/managed"
GROUP_LABEL = "stint.dev/group"
GROUP_SIZE = "stint.dev/group-size"
RELEASE = "stint.dev/release"
SPEC_ANNOTATION = "stint.dev/spec"
RANK = "stint.dev/rank"  # what Stint writes on a pod of theirs when it lets it go
GROUP = "Group"  # the kind of a group of plain pods
_LONGEST_NAME = 58  # as the CRD has it

# Kind, the label with its name, and the labels or annotations that order its pods. A Job's own label is on the pods of
# all that work through Jobs, so it comes last.
_BELONGING: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (GROUP, GROUP_LABEL, ()),
    (
        "JobSet",
        "jobset.sigs.k8s.io/jobset-name",
        ("jobset.sigs.k8s.io/job-global-index", INDEX_ANNOTATION),
    ),
    (
        "PyTorchJob",
        "training.kubeflow.org/job-name",
        ("training.kubeflow.org/replica-type", "training.kubeflow.org/replica-index"),
    ),
    ("RayCluster", "ray.io/cluster", ("ray.io/group",)),
    ("Job", JOB_NAME_LABEL, (INDEX_ANNOTATION,)),
)


class Steered(msgspec.Struct, frozen=True):
    """A pod that somebody else makes and that Stint places."""

    kind: str  # of what it belongs to: Job, JobSet, PyTorchJob, ...; Group: a group of plain pods
    group: str  # and its name
    order: tuple[tuple[int, str], ...]  # pods are ranked by it
    size: int  # what it says of its group's; 0: nothing
    spec: str  # its annotation with a TrainingJob's fields
    at_once: bool  # somebody wants it let go without a place
    others_gates: tuple[str, ...]
    node_selector: tuple[tuple[str, str], ...]
    tolerations: tuple[Toleration, ...]


class _WireToleration(msgspec.Struct):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


def find(
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    *,
    name: str,
    maker: str,
    gates: Sequence[str],
    node_selector: msgspec.Raw,
    tolerations: msgspec.Raw,
) -> Steered | None:
    """What there is to know of a pod that asks for GPUs; None: Stint has nothing to do with it.

    Args:
        maker: the kind of what made it; empty: nobody did.
        node_selector, tolerations: of its spec, as JSON.
    """
    if labels.get(MANAGED) != "true" or (GATE not in gates and RANK not in annotations):
        return None  # not asked to; or there before there was a gate, or let go without a place
    found = next((b for b in _BELONGING if labels.get(b[1])), None)
    if found is None:
        return None
    kind, label, ordering = found
    order = [labels.get(key) or annotations.get(key, "") for key in ordering]
    selector = msgspec.json.decode(node_selector, type=dict[str, str] | None) or {}
    tolerated = msgspec.json.decode(tolerations, type=list[_WireToleration] | None) or []
    return Steered(
        kind=maker if kind == "PyTorchJob" and maker else kind,  # MPIJob, XGBoostJob, ... have the same labels
        group=labels[label],
        order=(*((_number(text), text) for text in order), (0, name)),
        size=_number(annotations.get(GROUP_SIZE, "")),
        spec=annotations.get(SPEC_ANNOTATION, ""),
        at_once=annotations.get(RELEASE) == "now",
        others_gates=tuple(g for g in gates if g != GATE),
        node_selector=tuple(sorted(selector.items())),
        tolerations=tuple(
            Toleration(key=t.key, operator=t.operator or "Equal", value=t.value, effect=t.effect) for t in tolerated
        ),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def selector(kind: str, name: str) -> str:
    """By which the pods of something of somebody else's are found."""
    label = next((label for known, label, _ in _BELONGING if known == kind), _BELONGING[2][1])
    return f"{label}={name}"


def steered_name(kind: str, name: str) -> str:
    """What the TrainingJob is called that stands for something of somebody else's: `pytorchjob-mnist`."""
    full = f"{kind}-{name}".lower()
    plain = full.replace(".", "-").replace("_", "-").rstrip("-")
    if plain == full and len(full) <= _LONGEST_NAME:
        return full
    return f"{plain[: _LONGEST_NAME - 9].rstrip('-')}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"
