"""Which pods of others Stint is to place, and what they belong to: told by what is written on them alone.

What a pod belongs to is said by labels that its controller puts there anyway; `stint.workloads` has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from stint.api.parse.constraints import Written
from stint.model.constraints import UNCONSTRAINED, PodConstraints
from stint.model.job import Toleration
from stint.workloads.job import INDEX_ANNOTATION as INDEX_ANNOTATION
from stint.workloads.job import JOB_NAME_LABEL as JOB_NAME_LABEL
from stint.workloads.kind import Belonging
from stint.workloads.label import MANAGED as MANAGED
from stint.workloads.registry import belongings

GATE = "stint.dev/placement"
# What people write on what they have Stint place for them, beside `MANAGED`.
GROUP_LABEL = "stint.dev/group"
GROUP_SIZE = "stint.dev/group-size"
RELEASE = "stint.dev/release"
SPEC_ANNOTATION = "stint.dev/spec"
RANK = "stint.dev/rank"  # what Stint writes on a pod of theirs when it lets it go
GROUP = "Group"  # the kind of a group of plain pods
_LONGEST_NAME = 58  # as the CRD has it
_GROUPED = Belonging(label=GROUP_LABEL, order=())


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
    constraints: PodConstraints = UNCONSTRAINED
    claims: tuple[str, ...] = ()  # PersistentVolumeClaims that it mounts


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
    written: Written | None = None,
) -> Steered | None:
    """What there is to know of a pod that asks for GPUs; None: Stint has nothing to do with it.

    Args:
        maker: the kind of what made it; empty: nobody did.
        node_selector, tolerations: of its spec, as JSON.
        written: its constraints; None: they could not be read.
    """
    if labels.get(MANAGED) != "true" or (GATE not in gates and RANK not in annotations):
        return None  # not asked to; or there before there was a gate, or let go without a place
    if labels.get(GROUP_LABEL):
        kind, belonging = GROUP, _GROUPED
    else:
        found = next((k for k in belongings() if k.belonging is not None and labels.get(k.belonging.label)), None)
        if found is None or found.belonging is None:
            return None
        kind, belonging = found.kind, found.belonging
    order = [labels.get(key) or annotations.get(key, "") for key in belonging.order]
    selector = msgspec.json.decode(node_selector, type=dict[str, str] | None) or {}
    return Steered(
        kind=maker if belonging.of_a_family and maker else kind,
        group=labels[belonging.label],
        order=(*((_number(text), text) for text in order), (0, name)),
        size=_number(annotations.get(GROUP_SIZE, "")),
        spec=annotations.get(SPEC_ANNOTATION, ""),
        at_once=annotations.get(RELEASE) == "now",
        others_gates=tuple(g for g in gates if g != GATE),
        node_selector=tuple(sorted(selector.items())),
        tolerations=tolerations_in(tolerations),
        constraints=_as_written(written) if written else UNCONSTRAINED,
        claims=written.claims if written else (),
    )


def tolerations_in(written: msgspec.Raw) -> tuple[Toleration, ...]:
    """As JSON has them."""
    found = msgspec.json.decode(written, type=list[_WireToleration] | None) or []
    return tuple(Toleration(key=t.key, operator=t.operator or "Equal", value=t.value, effect=t.effect) for t in found)


def _as_written(written: Written) -> PodConstraints:
    """Without the node that Stint pins a pod to when it lets it go, which its maker knows nothing of."""
    terms = written.constraints.node_affinity
    if terms is None or not any(r.field for term in terms for r in term):
        return written.constraints
    rest = [tuple(r for r in term if not r.field) for term in terms]
    return replace(written.constraints, node_affinity=tuple(t for t in rest if t) or None)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def selector(kind: str, name: str) -> str:
    """By which the pods of something of somebody else's are found."""
    if kind == GROUP:
        return f"{GROUP_LABEL}={name}"
    known = {k.kind: k.belonging for k in belongings() if k.belonging is not None}
    family = next(b for b in known.values() if b.of_a_family)
    return f"{known.get(kind, family).label}={name}"


def steered_name(kind: str, name: str) -> str:
    """What the TrainingJob is called that stands for something of somebody else's: `pytorchjob-mnist`."""
    full = f"{kind}-{name}".lower()
    plain = full.replace(".", "-").replace("_", "-").rstrip("-")
    if plain == full and len(full) <= _LONGEST_NAME:
        return full
    return f"{plain[: _LONGEST_NAME - 9].rstrip('-')}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"
