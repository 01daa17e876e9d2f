"""Pods of no gang that matter to gangs: those that keep a gang off their node, or draw it there. Few of thousands."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from stint.kube.records import NodeRecord, PodRecord
from stint.model.cluster import HOSTNAME
from stint.model.constraints import Labels, Neighbour, PodConstraints, PodTerm, Requirement
from stint.model.job import Job, JobId, job_id
from stint.placement import fit


def neighbours_of(
    pods: Iterable[PodRecord], nodes: Iterable[NodeRecord], jobs: Mapping[JobId, Job]
) -> tuple[Neighbour, ...]:
    """Sorted, so that the same pods give the same situation."""
    looking = [j.constraints for j in jobs.values() if _looks(j.constraints)]
    labels = {j.constraints.labels: dict(j.constraints.labels) for j in jobs.values()}
    selectors = list(_selectors(looking))
    ports = any(c.host_ports for c in looking)
    by_name = {n.name: n for n in nodes}
    keys = {key for key, _, _ in selectors} | {HOSTNAME}
    found = []
    for pod in pods:
        if not pod.where or pod.where not in by_name or _of_a_gang(pod, jobs):
            continue
        guards = tuple(t for t in pod.anti_affinity if _means_somebody(t, jobs.values(), labels))
        has = dict(pod.labels) if selectors else {}
        near = any((ns is None or pod.namespace in ns) and fit.selects(sel, has) for _, ns, sel in selectors)
        if not (guards or near or (ports and pod.host_ports)):
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
    return bool(c.affinity or c.anti_affinity or c.spread or c.host_ports)


def _of_a_gang(pod: PodRecord, jobs: Mapping[JobId, Job]) -> bool:
    """Gangs that have a placement are looked at as gangs."""
    if pod.gang is None:
        return False
    job = jobs.get(job_id(pod.gang.namespace, pod.gang.job))
    return job is not None and job.assignment is not None


def _selectors(
    looking: Iterable[PodConstraints],
) -> Iterable[tuple[str, tuple[str, ...] | None, tuple[Requirement, ...]]]:
    for c in looking:
        for term in (*c.affinity, *c.anti_affinity):
            yield term.topology_key, term.namespaces, term.selector
        for s in c.spread:
            if s.selector is not None:
                yield s.topology_key, (c.namespace,), s.selector


def _means_somebody(term: PodTerm, jobs: Collection[Job], labels: Mapping[Labels, dict[str, str]]) -> bool:
    return any(
        (term.namespaces is None or j.constraints.namespace in term.namespaces)
        and fit.selects(term.selector, labels[j.constraints.labels])
        for j in jobs
    )
