"""Pods beside pods: inter-pod affinity and anti-affinity, topology spread, host ports. Capacity is no matter here.

Of pods that are there (`Situation.neighbours`, and gangs that have a placement) follows which nodes a job may use. Of
the job itself follows how its own workers share nodes: `Together`.

Where Stint differs from kube-scheduler: a spread counts the nodes of the offering that a gang is placed on, not those
of the whole cluster, as all workers of a gang are on one offering.

Source: kubernetes/kubernetes pkg/scheduler/framework/plugins/{interpodaffinity,podtopologyspread,nodeports}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from stint.model.cluster import HOSTNAME, ZONE, Node
from stint.model.constraints import HostPort, PodConstraints, PodTerm, Spread
from stint.model.job import Job, JobId, NodeName
from stint.model.market import Offering
from stint.model.plan import Reason
from stint.model.situation import Situation
from stint.placement import fit

_NOWHERE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A pod that is there or promised a node."""

    node: str
    domains: Mapping[str, str]  # labels of its node
    namespace: str
    labels: Mapping[str, str]
    anti_affinity: tuple[PodTerm, ...] = ()
    host_ports: tuple[HostPort, ...] = ()
    job: JobId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadOver:
    """A spread constraint on the nodes of a problem."""

    domain: Int[np.ndarray, " node"]  # -1: in none
    have: Int[np.ndarray, " domain"]  # pods that count already
    max_skew: int
    min_domains: int
    own: bool  # whether the gang's own workers count


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """How the workers of one gang share nodes."""

    apart: tuple[Int[np.ndarray, " node"], ...] = ()  # domains, each of which may hold one worker; -1: in none
    spreads: tuple[SpreadOver, ...] = ()

    def arrange(
        self,
        nodes: Int[np.ndarray, " own"],
        admits: Bool[np.ndarray, " own"],
        room: Int[np.ndarray, " own"],
        workers: int,
    ) -> Int[np.ndarray, " own"] | None:
        """How many workers each node gets, all of the gang together; None: they cannot be arranged so.

        Args:
            nodes: of one offering, as the problem counts them.
            admits: which of them it may use; a spread looks at those, whether there is room on them or not.
            room: workers that each could hold.
        """
        left, given = room.astype(np.int64), np.zeros(len(nodes), dtype=np.int64)
        apart = [domain[nodes] for domain in self.apart]
        levels = [(s, s.domain[nodes], s.have.copy()) for s in self.spreads]
        for _, domain, _ in levels:
            left[domain < 0] = 0
        for _ in range(workers):
            some = left.nonzero()[0]
            if not len(some):
                return None
            if levels:
                order: list[Int[np.ndarray, " some"]] = [some, -left[some], -(given[some] > 0).astype(np.int64)]
                order += [level[domain[some]] for s, domain, level in reversed(levels) if s.own]
                best = int(some[np.lexsort(order)[0]])
            else:
                best = int(some[left[some].argmax()])
            left[best] -= 1
            given[best] += 1
            for domain in apart:
                if domain[best] >= 0:
                    left[domain == domain[best]] = 0
            for s, domain, level in levels:
                if s.own:
                    level[domain[best]] += 1
        counted = admits | (given > 0)
        broken = any(self._skewed(s, np.where(counted, d, _NOWHERE), level, given) for s, d, level in levels)
        return None if broken else given

    @staticmethod
    def _skewed(
        s: SpreadOver,
        domain: Int[np.ndarray, " own"],
        level: Int[np.ndarray, " domain"],
        given: Int[np.ndarray, " own"],
    ) -> bool:
        eligible = np.unique(domain[domain >= 0])
        if not len(eligible):
            return True
        # To kube-scheduler a pod that is pinned to a node has one domain: fewer than minDomains, whatever there is.
        least = int(level[eligible].min()) if s.min_domains == 1 else 0
        used = np.unique(domain[given > 0])
        return bool((level[used] - least > s.max_skew).any())

    def broken(self, own: Int[np.ndarray, " own"], fresh: Bool[np.ndarray, " own"], chosen: Sequence[int]) -> str:
        """What a choice of nodes (by rank) breaks; empty: nothing.

        Args:
            own: the nodes of the offering that admit the job.
            fresh: which of them are still to be bought: those are no domain unless it is on them.
        """
        count = Counter(chosen)
        for domain in self.apart:
            each = Counter(int(domain[n]) for n in chosen if domain[n] >= 0)
            if each and max(each.values()) > 1:
                return "two workers share a domain of their anti-affinity or a host port"
        for s in self.spreads:
            domain, level = np.where(np.isin(own, chosen) | ~fresh, s.domain[own], _NOWHERE), s.have.copy()
            if s.own:
                for n, k in count.items():
                    level[s.domain[n]] += k
            given = np.array([count.get(int(n), 0) for n in own], dtype=np.int64)
            if any(s.domain[n] < 0 for n in chosen) or self._skewed(s, domain, level, given):
                return f"its workers are spread with a skew of more than {s.max_skew}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the pods that are there mean for one job."""

    shut: Mapping[tuple[str, str], str]  # domains that are closed to it, each with the reason
    shut_keys: tuple[str, ...]  # the labels that those are domains of
    wanted: tuple[tuple[str, frozenset[str] | None], ...]  # by affinity term: key and domains; None: any that has one
    ports: Mapping[str, int]  # nodes where a host port of its is in use
    spread_keys: tuple[str, ...]

    def refuses(self, node: Node) -> tuple[Reason, str] | None:
        """Why a node does not do for any worker of the job; None: it does."""
        labels = labels_with_host(node)
        for key in self.shut_keys:
            if (key, labels.get(key, "")) in self.shut and key in labels:
                return Reason.BESIDE_OTHERS, self.shut[key, labels[key]]
        for key, values in self.wanted:
            if key not in labels:
                return Reason.BESIDE_OTHERS, f"lacks the label {key}, which its podAffinity names"
            if values is not None and labels[key] not in values:
                return Reason.BESIDE_OTHERS, f"no pod that its podAffinity asks for is in its {key}"
        if node.name in self.ports:
            return Reason.BESIDE_OTHERS, f"host port {self.ports[node.name]} is in use"
        for key in self.spread_keys:
            if key not in labels:
                return Reason.BESIDE_OTHERS, f"lacks the label {key}, over which its workers are spread"
        return None

    def refuses_new(self, offering: Offering) -> tuple[Reason, str] | None:
        """Why a node that is bought now does not do for any worker: nothing is on it, and only its labels are known."""
        labels = {ZONE: offering.zone, **offering.labels}
        for key, value in labels.items():
            if key != HOSTNAME and (key, value) in self.shut:
                return Reason.BESIDE_OTHERS, f"a new node does not do: {self.shut[key, value]}"
        for key, values in self.wanted:
            if values is not None and (key == HOSTNAME or labels.get(key) not in values):
                return Reason.BESIDE_OTHERS, f"no pod that its podAffinity asks for is in the {key} of a new node"
        return None


class Neighbourhood:
    """All pods that are there, ready to be asked about."""

    def __init__(self, situation: Situation) -> None:
        nodes = {n.name: n for n in situation.nodes}
        self._alike: dict[tuple[str, tuple[tuple[str, str], ...]], list[Beside]] = {}  # by namespace and labels
        self._guards: list[Beside] = []
        self._with_ports: list[Beside] = []
        for pod in _there(situation, nodes):
            self._put(pod)

    def _put(self, pod: Beside) -> None:
        self._alike.setdefault((pod.namespace, tuple(sorted(pod.labels.items()))), []).append(pod)
        if pod.anti_affinity:
            self._guards.append(pod)
        if pod.host_ports:
            self._with_ports.append(pod)

    def copy(self) -> Neighbourhood:
        """To which more may be added."""
        new = copy(self)
        new._alike = {key: list(pods) for key, pods in self._alike.items()}
        new._guards, new._with_ports = list(self._guards), list(self._with_ports)
        return new

    @classmethod
    def empty(cls) -> Neighbourhood:
        """Without a pod, to which some may be added."""
        new = cls.__new__(cls)
        new._alike, new._guards, new._with_ports = {}, [], []
        return new

    def matters_to(self, job: Job) -> bool:
        """Whether pods that are there may keep a job off a node."""
        return bool(self._guards) or looks_around(job)

    def view(self, job: Job) -> View:
        """Of one job. Its own workers, which leave before it gets another place, count for nothing."""
        c = job.constraints
        own = dict(c.labels)
        shut: dict[tuple[str, str], str] = {}
        for p in self._guards:
            for term in p.anti_affinity if p.job != job.id else ():
                if (value := p.domains.get(term.topology_key)) is not None and _meant(term, c.namespace, own):
                    text = f"a pod on {p.node} keeps its pods out of this {term.topology_key} (podAntiAffinity)"
                    shut.setdefault((term.topology_key, value), text)
        for term in c.anti_affinity:
            for p in self._meant(term, job):
                if (value := p.domains.get(term.topology_key)) is not None:
                    text = f"a pod on {p.node} is of those that its podAntiAffinity stays away from"
                    shut.setdefault((term.topology_key, value), text)
        ports = {
            p.node: port for p in self._with_ports if p.job != job.id and (port := _clash(c.host_ports, p.host_ports))
        }
        return View(
            shut=shut,
            shut_keys=tuple(dict.fromkeys(key for key, _ in shut)),
            wanted=self._wanted(job),
            ports=ports if c.host_ports else {},
            spread_keys=tuple(dict.fromkeys(s.topology_key for s in c.spread)),
        )

    def _meant(self, term: PodTerm, job: Job) -> Iterator[Beside]:
        """Pods that a term speaks of, but for the job's own."""
        for (namespace, labels), pods in self._alike.items():
            if _meant(term, namespace, dict(labels)):
                yield from (p for p in pods if p.job != job.id)

    def _wanted(self, job: Job) -> tuple[tuple[str, frozenset[str] | None], ...]:
        c = job.constraints
        if not c.affinity:
            return ()
        first, *others = c.affinity
        near = self._meant(first, job)
        beside = [p for p in near if all(_meant(t, p.namespace, p.labels) for t in others)]
        if not beside and len(own_terms(c, c.affinity)) == len(c.affinity):
            return tuple((t.topology_key, None) for t in c.affinity)  # the first of those that want to be together
        return tuple(
            (t.topology_key, frozenset(p.domains[t.topology_key] for p in beside if t.topology_key in p.domains))
            for t in c.affinity
        )

    def likings(self, job: Job, nodes: Sequence[Node]) -> list[float]:
        """By node, the weights of a job's preferences that it meets, less those that it goes against."""
        total = [0.0] * len(nodes)
        labels = [labels_with_host(n) for n in nodes]
        for p in job.constraints.preferred:
            if p.pods is None:
                for i, node in enumerate(nodes):
                    total[i] += p.weight * fit.any_term((p.term,), node.name, labels[i])
                continue
            key = p.pods.topology_key
            near = Counter(o.domains.get(key) for o in self._meant(p.pods, job))
            for i in range(len(nodes)):
                total[i] += p.weight * near[labels[i][key]] if key in labels[i] else 0.0
        return total

    def counted(self, job: Job, s: Spread) -> Counter[str]:
        """How many pods count for a spread constraint already, by domain."""
        found: Counter[str] = Counter()
        if s.selector is None:
            return found
        term = PodTerm(topology_key=s.topology_key, selector=s.selector, namespaces=(job.constraints.namespace,))
        for p in self._meant(term, job):
            if (value := p.domains.get(s.topology_key)) is not None:
                found[value] += 1
        return found

    def add(self, job: Job, nodes: Sequence[Node]) -> None:
        """Count the pods of a gang as there, by rank, one on each of these."""
        for node, seat in zip(nodes, job.seats(len(nodes)), strict=True):
            self._put(_pod(seat, node))


def labels_with_host(node: Node) -> Mapping[str, str]:
    """Its labels, of which the host name is never left out."""
    return {HOSTNAME: node.name, **node.labels}


def _there(situation: Situation, nodes: Mapping[NodeName, Node]) -> Iterator[Beside]:
    for n in situation.neighbours:
        yield Beside(
            node=n.node,
            domains=dict(n.domains),
            namespace=n.namespace,
            labels=dict(n.labels),
            anti_affinity=n.anti_affinity,
            host_ports=n.host_ports,
        )
    matters = any(looks_around(j) for j in situation.jobs)
    for job in situation.jobs if matters else ():
        names = job.assignment.nodes if job.assignment is not None else ()
        for name, seat in zip(names, job.seats(len(names)), strict=True):
            if name in nodes:
                yield _pod(seat, nodes[name])


def _pod(job: Job, node: Node) -> Beside:
    c = job.constraints
    return Beside(
        node=node.name,
        domains=labels_with_host(node),
        namespace=c.namespace,
        labels=dict(c.labels),
        anti_affinity=c.anti_affinity,
        host_ports=c.host_ports,
        job=job.id,
    )


def looks_around(job: Job) -> bool:
    """Whether a job's place depends on the pods beside it, or theirs on its."""
    each = (job.constraints, *(role.constraints for role in job.roles))
    return any(c.affinity or c.anti_affinity or c.spread or c.host_ports for c in each)


def _meant(term: PodTerm, namespace: str, labels: Mapping[str, str]) -> bool:
    return (term.namespaces is None or namespace in term.namespaces) and fit.selects(term.selector, labels)


def _clash(some: Sequence[HostPort], others: Sequence[HostPort]) -> int:
    for a in some:
        for b in others:
            if (a.port, a.protocol) == (b.port, b.protocol) and (a.ip == b.ip or "" in (a.ip, b.ip)):
                return a.port
    return 0


def own_terms(constraints: PodConstraints, terms: Iterable[PodTerm]) -> list[PodTerm]:
    """Those that speak of the gang's own workers."""
    labels = dict(constraints.labels)
    return [t for t in terms if _meant(t, constraints.namespace, labels)]


def most_per_node(job: Job) -> int | None:
    """The most workers of a job on one node, whatever else is there; None: as many as fit."""
    c = job.constraints
    if c.host_ports or own_terms(c, c.anti_affinity):
        return 1
    own = dict(c.labels)
    if any(s.topology_key == HOSTNAME and s.selector is not None and fit.selects(s.selector, own) for s in c.spread):
        return 1  # at the least one: how many more, the other nodes say
    return None


def together(job: Job, neighbourhood: Neighbourhood, values: Mapping[str, Sequence[str]]) -> Together | None:
    """How the workers of a job share nodes; None: nothing is said of that.

    Args:
        values: by key, the value of that label on each node of the problem; empty: it has none.
    """
    c = job.constraints
    keys = [t.topology_key for t in own_terms(c, c.anti_affinity)]
    keys += [HOSTNAME] if c.host_ports else []
    own = dict(c.labels)
    spreads = []
    for s in c.spread:
        domain, number = _numbered(values[s.topology_key])
        have = np.zeros(len(number), dtype=np.int64)
        for value, count in neighbourhood.counted(job, s).items():
            if value in number:
                have[number[value]] = count
        spreads.append(
            SpreadOver(
                domain=domain,
                have=have,
                max_skew=s.max_skew,
                min_domains=s.min_domains,
                own=s.selector is not None and fit.selects(s.selector, own),
            )
        )
    if not keys and not spreads:
        return None
    apart = tuple(_numbered(values[key])[0] for key in dict.fromkeys(keys))
    return Together(apart=apart, spreads=tuple(spreads))


def _numbered(values: Sequence[str]) -> tuple[Int[np.ndarray, " node"], dict[str, int]]:
    number = {value: i for i, value in enumerate(dict.fromkeys(v for v in values if v))}
    return np.array([number.get(v, _NOWHERE) for v in values], dtype=np.int64), number
