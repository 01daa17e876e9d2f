"""Pods of one gang that somebody else makes, as roles: those that ask for the same, on the same terms.

The first is that of the largest pods, which count as the workers; the others are what is unlike them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stint.kube.records import PodRecord
from stint.kube.steered import Steered
from stint.model.constraints import UNCONSTRAINED, PodConstraints
from stint.model.job import Role
from stint.model.resources import Resources

_MOST_ROLES = 8  # of one gang; of more, pods with as many GPUs count as alike: each as the largest of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A role, and what its pods mount."""

    role: Role
    claims: tuple[str, ...] = ()  # PersistentVolumeClaims


def parts_of(pods: Sequence[PodRecord], label: str) -> tuple[Part, ...]:
    """The largest pods first; nothing where there is no pod.

    Args:
        label: by which what makes them tells them apart; empty: it does not.
    """
    alike = _grouped(pods, lambda p: (p.requests, *_terms(p)))
    if len(alike) > _MOST_ROLES:
        alike = _grouped(pods, lambda p: p.requests.gpus)
    largest_first = sorted(alike, key=lambda some: tuple(-amount for amount in largest(some).as_row()))
    return tuple(_part(some, label) for some in largest_first)


def _grouped(pods: Sequence[PodRecord], key: Callable[[PodRecord], object]) -> list[list[PodRecord]]:
    found: dict[object, list[PodRecord]] = {}
    for pod in pods:
        found.setdefault(key(pod), []).append(pod)
    return list(found.values())


def _terms(pod: PodRecord) -> tuple[object, ...]:
    said = pod.gang.steered if pod.gang else None
    return (said.node_selector, said.tolerations, said.constraints.node_affinity) if said else ()


def _part(pods: Sequence[PodRecord], label: str) -> Part:
    said = [p.gang.steered for p in pods if p.gang and p.gang.steered]
    selector = {key: value for s in said for key, value in s.node_selector}
    each = largest(pods)
    role = Role(
        name=(label and dict(pods[0].labels).get(label)) or f"{each.gpus}-gpu",
        replicas=len(pods),
        per_pod=each,
        node_selector=tuple(sorted(selector.items())),
        tolerations=tuple(t for t in (said[0].tolerations if said else ()) if all(t in s.tolerations for s in said)),
        constraints=_demanded(said),
    )
    claims = tuple(c for c in (said[0].claims if said else ()) if all(c in s.claims for s in said))
    return Part(role=role, claims=claims)


def _demanded(said: Sequence[Steered]) -> PodConstraints:
    """Pods of one role are made from one template, or count as if they were: they differ in labels that rank them."""
    if not said:
        return UNCONSTRAINED
    labels = set(said[0].constraints.labels)
    for other in said[1:]:
        labels &= set(other.constraints.labels)
    own = sorted({c for s in said for c in s.claims if not all(c in other.claims for other in said)})
    named = (f"volumes of single pods ({', '.join(own[:3])})",) if own else ()
    first = said[0].constraints
    return replace(first, labels=tuple(sorted(labels)), unmodelled=(*first.unmodelled, *named))


def largest(pods: Sequence[PodRecord]) -> Resources:
    """The most that one of them asks for of each resource."""
    return Resources(
        gpus=max(p.requests.gpus for p in pods),
        cpu=max(p.requests.cpu for p in pods),
        memory_gib=max(p.requests.memory_gib for p in pods),
        pods=max(p.requests.pods for p in pods),
        extended=tuple(
            (name, max(dict(p.requests.extended).get(name, 0.0) for p in pods))
            for name in sorted({name for p in pods for name, _ in p.requests.extended})
        ),
    )
