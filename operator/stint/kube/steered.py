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
from stint.workloads.kind import Belonging, Maker
from stint.workloads.label import MANAGED as MANAGED
from stint.workloads.registry import KINDS, belonging_of, placed, told_by

GATE = "stint.dev/placement"
# What people write on what they have Stint place for them, beside `MANAGED`.
GROUP_LABEL = "stint.dev/group"
GROUP_SIZE = "stint.dev/group-size"
RELEASE = "stint.dev/release"
SPEC_ANNOTATION = "stint.dev/spec"
RANK = "stint.dev/rank"  # what Stint writes on a pod of theirs when it lets it go
GROUP = "Group"  # the kind of a group of plain pods
_LONGEST_NAME = 58  # as the CRD has it
_LONGEST_QUOTE = 40  # of what somebody has written, in a message
_GROUPED = Belonging(label=GROUP_LABEL)
_OPEN = f"to start it at once and anywhere, annotate it with {RELEASE}=now"


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
    in_all: int = 0  # pods of its group as its controller says, whether they ask for GPUs or not; 0: it does not say
    wrong: str = ""  # what is written on it of its group's size that cannot be used
    odd: str = ""  # what is written on it that does nothing


class Unplaced(msgspec.Struct, frozen=True):
    """A pod that is labelled for Stint, or waits behind its gate, and that Stint cannot place."""

    namespace: str
    name: str
    gated: bool
    at_once: bool  # somebody wants it let go without a place
    kind: str  # of what it belongs to, where that is a kind that Stint refuses; empty: nobody knows
    group: str
    maker: Maker | None
    why: str  # and what to do


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
    maker: Maker | None,
    gates: Sequence[str],
    node_selector: msgspec.Raw,
    tolerations: msgspec.Raw,
    written: Written | None = None,
) -> Steered | None:
    """What there is to know of a pod that asks for GPUs; None: Stint does not place it.

    Args:
        maker: what made it; None: a person did.
        node_selector, tolerations: of its spec, as JSON.
        written: its constraints; None: they could not be read.
    """
    if labels.get(MANAGED) != "true" or (GATE not in gates and RANK not in annotations):
        return None  # not asked to; or there before there was a gate, or let go without a place
    found = (GROUP, _GROUPED) if labels.get(GROUP_LABEL) else told_by(labels, maker)
    if found is None or (found[0] in KINDS and KINDS[found[0]].refused):
        return None
    kind, belonging = found
    order = [labels.get(key) or annotations.get(key, "") for key in belonging.order]
    selector = msgspec.json.decode(node_selector, type=dict[str, str] | None) or {}
    return Steered(
        kind=kind,
        group=belonging.group(labels, maker),
        order=(*((_number(text), text) for text in order), (0, name)),
        size=_number(annotations.get(GROUP_SIZE, "")),
        spec=annotations.get(SPEC_ANNOTATION, ""),
        at_once=annotations.get(RELEASE) == "now",
        others_gates=tuple(g for g in gates if g != GATE),
        node_selector=tuple(sorted(selector.items())),
        tolerations=tolerations_in(tolerations),
        constraints=_as_written(written) if written else UNCONSTRAINED,
        claims=written.claims if written else (),
        in_all=_number(annotations.get(belonging.size, "")) if belonging.size else 0,
        wrong=_wrong_size(annotations),
        odd=_odd_release(annotations),
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


def find_unplaced(
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    *,
    namespace: str,
    name: str,
    maker: Maker | None,
    gates: Sequence[str],
    asks_for_gpus: bool,
) -> Unplaced | None:
    """Of a pod that `find` does not know: what its owner is to be told; None: Stint has nothing to do with it."""
    gated, managed = GATE in gates, labels.get(MANAGED, "")
    kind = group = why = ""
    found = told_by(labels, maker)
    if found is not None and found[0] in KINDS and KINDS[found[0]].refused:
        kind, group = found[0], found[1].group(labels, maker)
    if not gated and (managed in ("", "false") or not asks_for_gpus or RANK in annotations):
        return None
    if managed not in ("", "true"):
        why = f"label {MANAGED} is {_quote(managed)}; write true to have it placed, or remove the label"
    elif kind:
        why = f"it belongs to {kind} {group}. {KINDS[kind].refused}"
    elif not gated:
        return None  # there before there was a gate, or in a namespace that is not labelled, or let go
    elif not asks_for_gpus:
        why = f"it waits behind the scheduling gate {GATE} and asks for no GPUs; {_OPEN}"
    elif not managed:
        why = f"it waits behind the scheduling gate {GATE} and has no label {MANAGED}=true; give it that label; {_OPEN}"
    else:
        made = f"{maker.kind} {maker.name} makes it" if maker else "nothing makes it"
        why = (
            f"nothing says which group it belongs to: {made}, and Stint knows {', '.join(placed())}. Label it, or the "
            f"pod template, {GROUP_LABEL}: NAME, and annotate it with {GROUP_SIZE} and {SPEC_ANNOTATION}; {_OPEN}"
        )
    at_once = annotations.get(RELEASE) == "now"
    if wrong := _wrong_size(annotations) or _odd_release(annotations):
        why = f"{wrong}. Besides, {why}"
    return Unplaced(namespace, name, gated, at_once, kind, group, maker, why)


def unreadable(namespace: str, name: str, maker: Maker | None, *, gated: bool, error: Exception) -> Unplaced:
    """A pod that cannot be read: that is told on it, and is no other pod's affair."""
    why = f"Stint cannot read it ({error!r:.200}), which is a mistake of Stint's; please report it; {_OPEN}"
    return Unplaced(namespace, name, gated, False, "", "", maker, why)


def outside(namespace: str, name: str, *, at_once: bool) -> Unplaced:
    """A pod that has brought our gate into a namespace in which Stint places nothing."""
    why = (
        f"namespace {namespace} is not labelled {MANAGED}=true, so Stint places nothing in it: have an administrator "
        f"label it, or remove the scheduling gate {GATE}; {_OPEN}"
    )
    return Unplaced(namespace, name, True, at_once, "", "", None, why)


def _wrong_size(annotations: Mapping[str, str]) -> str:
    size = annotations.get(GROUP_SIZE)
    if size is None or _number(size):
        return ""
    return f"annotation {GROUP_SIZE} is {_quote(size)}; write the number of GPU pods of the group, such as 4"


def _odd_release(annotations: Mapping[str, str]) -> str:
    release = annotations.get(RELEASE)
    if release in (None, "now"):
        return ""
    return f"annotation {RELEASE} is {_quote(release)}; write now to have the pod started at once and anywhere"


def _quote(text: str) -> str:
    short = text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}..."
    return repr(short)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def selector(kind: str, name: str, size: int = 1) -> str:
    """By which the pods of something of somebody else's are found.

    Args:
        size: how many there are, for kinds whose pods are found one by one.
    """
    return (_GROUPED if kind == GROUP else belonging_of(kind)).selector(name, size)


def steered_name(kind: str, name: str) -> str:
    """What the TrainingJob is called that stands for something of somebody else's: `pytorchjob-mnist`."""
    full = f"{kind}-{name}".lower()
    plain = full.replace(".", "-").replace("_", "-").rstrip("-")
    if plain == full and len(full) <= _LONGEST_NAME:
        return full
    return f"{plain[: _LONGEST_NAME - 9].rstrip('-')}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"
