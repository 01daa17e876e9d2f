"""Pods of no gang that matter to gangs: those that keep a gang off their node, or draw it there. Few of thousands.

Most selectors ask for one value of a label. They are looked up by that, so that each pod is compared with few of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from stint.kube.records import NodeRecord, PodRecord
from stint.model.cluster import HOSTNAME
from stint.model.constraints import Labels, Neighbour, PodConstraints, PodTerm, Requirement
from stint.model.job import Job, JobId
from stint.placement import fit

_Selector = tuple[Requirement, ...]


def neighbours_of(
    pods: Iterable[PodRecord], nodes: Iterable[NodeRecord], jobs: Mapping[JobId, Job], members: Mapping[str, JobId]
) -> tuple[Neighbour, ...]:
    """Sorted, so that the same pods give the same situation.

    Args:
        members: whose worker each pod is, by its uid.
    """
    of_kinds = [kind.constraints for j in jobs.values() for kind in j.kinds]
    looking = [c for c in of_kinds if _looks(c)]
    selectors = _Selectors(looking)
    ours = _Ours(of_kinds)
    ports = any(c.host_ports for c in looking)
    by_name = {n.name: n for n in nodes}
    keys = {t.topology_key for c in looking for t in (*c.affinity, *c.anti_affinity)}
    keys |= {s.topology_key for c in looking for s in c.spread}
    keys |= {p.pods.topology_key for c in looking for p in c.preferred if p.pods is not None}
    found = []
    for pod in pods:
        if not (pod.anti_affinity or looking) or not pod.where or _of_a_gang(pod, jobs, members):
            continue
        guards = tuple(t for t in pod.anti_affinity if ours.means_one(t))
        near = selectors.pick(pod.namespace, pod.labels)
        if not (guards or near or (ports and pod.host_ports)) or pod.where not in by_name:
            continue
        on = by_name[pod.where].labels
        mine = keys | {t.topology_key for t in guards}
        found.append(
            Neighbour(
                node=pod.where,
                domains=tuple(sorted({HOSTNAME: pod.where, **{k: on[k] for k in mine if k in on}}.items())),
                namespace=pod.namespace,
                labels=pod.labels if near else (),
                anti_affinity=guards,
                host_ports=pod.host_ports if ports else (),
            )
        )
    return tuple(sorted(found, key=lambda n: (n.node, n.namespace, n.labels)))


def _looks(c: PodConstraints) -> bool:
    return bool(c.affinity or c.anti_affinity or c.spread or c.host_ports or any(p.pods for p in c.preferred))


def _of_a_gang(pod: PodRecord, jobs: Mapping[JobId, Job], members: Mapping[str, JobId]) -> bool:
    """Gangs that have a placement are looked at as gangs."""
    job = jobs.get(members.get(pod.uid, JobId("")))
    return job is not None and job.assignment is not None


def _exact(selector: _Selector) -> Sequence[tuple[str, str]]:
    """Labels, one of which every pod has that is picked; empty: that is not said."""
    first = next((r for r in selector if r.operator == "In"), None)
    return () if first is None else [(first.key, value) for value in first.values]


class _Selectors:
    """What jobs look for beside them."""

    def __init__(self, looking: Iterable[PodConstraints]) -> None:
        self._by_label: dict[tuple[str, str], list[tuple[tuple[str, ...] | None, _Selector]]] = defaultdict(list)
        self._others: list[tuple[tuple[str, ...] | None, _Selector]] = []
        self._known: dict[tuple[str, Labels], bool] = {}
        for one in dict.fromkeys(pair for c in looking for pair in self._of(c)):
            exact = _exact(one[1])
            for label in exact:
                self._by_label[label].append(one)
            if not exact:
                self._others.append(one)

    @staticmethod
    def _of(c: PodConstraints) -> Iterator[tuple[tuple[str, ...] | None, _Selector]]:
        for term in (*c.affinity, *c.anti_affinity, *(p.pods for p in c.preferred if p.pods is not None)):
            yield term.namespaces, term.selector
        for s in c.spread:
            if s.selector is not None:
                yield (c.namespace,), s.selector

    def pick(self, namespace: str, labels: Labels) -> bool:
        """Whether one of them picks such a pod."""
        if not (self._by_label or self._others):
            return False
        key = namespace, labels
        if key not in self._known:
            some = [*self._others, *(one for label in labels for one in self._by_label.get(label, ()))]
            has = dict(labels)
            self._known[key] = any((ns is None or namespace in ns) and fit.selects(sel, has) for ns, sel in some)
        return self._known[key]


class _Ours:
    """The workers of all jobs, as pods of others see them."""

    def __init__(self, jobs: Sequence[PodConstraints]) -> None:
        self._jobs = jobs
        self._by_label: dict[tuple[str, str], list[PodConstraints]] = {}
        self._known: dict[PodTerm, bool] = {}

    def means_one(self, term: PodTerm) -> bool:
        """Whether a term speaks of one of them."""
        if term not in self._known:
            self._known[term] = any(
                (term.namespaces is None or c.namespace in term.namespaces)
                and fit.selects(term.selector, dict(c.labels))
                for c in self._candidates(term)
            )
        return self._known[term]

    def _candidates(self, term: PodTerm) -> Iterable[PodConstraints]:
        exact = _exact(term.selector)
        if not exact:
            return self._jobs
        if not self._by_label:
            by_label = defaultdict(list)
            for c in self._jobs:
                for label in c.labels:
                    by_label[label].append(c)
            self._by_label = by_label
        return [c for label in exact for c in self._by_label.get(label, ())]
