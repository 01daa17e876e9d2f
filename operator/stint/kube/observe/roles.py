"""Pods of one gang that somebody else makes, as roles: those that ask for the same, on the same terms.

The first is that of the largest pods, which count as the workers; the others are what is unlike them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from stint.kube.plan_note import PlanNote
from stint.kube.records import PodRecord
from stint.kube.steered import Steered
from stint.model.constraints import UNCONSTRAINED, PodConstraints, PodTerm
from stint.model.job import Role
from stint.model.resources import Resources
from stint.placement import fit

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
    return _without_one_another([_part(some, label) for some in largest_first])


def unlike_ranks(pods: Sequence[PodRecord], free: Sequence[int], plan: PlanNote) -> Iterator[tuple[int, PodRecord]]:
    """Which of the free ranks each pod gets: one of a role that it is of, else the tightest that was planned for as
    much; a pod that asks for more than any gets none."""
    needs = plan.by_rank()
    roles = [None] * (len(plan.nodes) - sum(r.replicas for r in plan.roles))
    of_rank = [*roles, *(r for r in plan.roles for _ in range(r.replicas))]
    left, rest = list(free), []
    for pod in pods:
        mine = next((r for r in plan.roles if r.per_pod == pod.requests and _of_role(r) == _terms(pod)), None)
        fits = (r for r in left if needs[r] == pod.requests and of_rank[r] is mine)
        rank = next(fits, None)
        if rank is None:
            rest.append(pod)
            continue
        left.remove(rank)
        yield rank, pod
    for pod in sorted(rest, key=lambda p: tuple(-amount for amount in p.requests.as_row())):
        enough = [r for r in left if needs[r].at_least(pod.requests) == needs[r]]
        if enough:
            rank = min(enough, key=lambda r: (needs[r].as_row(), r))
            left.remove(rank)
            yield rank, pod


def _of_role(role: Role) -> tuple[object, ...]:
    return role.node_selector, role.tolerations, role.constraints.node_affinity


def _grouped(pods: Sequence[PodRecord], key: Callable[[PodRecord], object]) -> list[list[PodRecord]]:
    found: dict[object, list[PodRecord]] = {}
    for pod in pods:
        found.setdefault(key(pod), []).append(pod)
    return list(found.values())


def _terms(pod: PodRecord) -> tuple[object, ...]:
    said = pod.gang.steered if pod.gang else None
    return (said.node_selector, said.tolerations, said.constraints.node_affinity) if said else ()


def _without_one_another(parts: Sequence[Part]) -> tuple[Part, ...]:
    """What unlike pods of one gang demand of one another is not modelled, and told: none of them is there before."""
    if len(parts) == 1:
        return tuple(parts)
    labels = [dict(p.role.constraints.labels) for p in parts]
    found = []
    for i, part in enumerate(parts):
        c = part.role.constraints

        def means_another(term: PodTerm, i: int = i, c: PodConstraints = c) -> bool:
            near = term.namespaces is None or c.namespace in term.namespaces
            return near and any(fit.selects(term.selector, o) for k, o in enumerate(labels) if k != i)

        affinity = tuple(t for t in c.affinity if not means_another(t))
        anti = tuple(t for t in c.anti_affinity if not means_another(t))
        own = i > 0 and bool(c.affinity or c.anti_affinity or c.spread or c.host_ports)
        if own or len(affinity) < len(c.affinity) or len(anti) < len(c.anti_affinity):
            text = f"what pods of role {part.role.name} demand of others of their gang"
            c = replace(c, affinity=affinity, anti_affinity=anti, unmodelled=(*c.unmodelled, text))
        found.append(replace(part, role=replace(part.role, constraints=c)))
    return tuple(found)


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
