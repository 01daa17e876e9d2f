"""Every TrainingJob's gang as the cluster shows it: whose it is, and whether its plan is ours. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from stint.api.trainingjob import TrainingJob
from stint.kube.observe.gang import Gang, held
from stint.kube.observe.gang import look as look_at
from stint.kube.observe.groups import Group, Workloads, gather, look_group
from stint.kube.observe.ownership import Owned, Ownership, told_in_the_way
from stint.kube.plan_note import PLAN_ANNOTATION, SIGNATURE_ANNOTATION, is_signed, only_what_is_held, read_note
from stint.kube.records import JobRecord, NodeRecord, PodRecord
from stint.kube.workloads import WorkloadRecord
from stint.lifecycle import grace
from stint.model.gang import GangState
from stint.model.job import JobId, job_id
from stint.model.situation import Settings


def _gone(nodes: Iterable[NodeRecord], pods: Iterable[PodRecord]) -> frozenset[str]:
    """Nodes that pods still name and that are no more."""
    there = {n.name for n in nodes}
    return frozenset(p.node for p in pods if p.node and p.node not in there)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What there is of one TrainingJob in the cluster."""

    gang: Gang = field(default_factory=lambda: Gang(state=GangState.ABSENT))
    pods: tuple[PodRecord, ...] = ()  # all that are its, whatever became of them
    in_the_way: str = ""  # what else has its name, and what to do
    error: Exception | None = None  # it cannot be read: its job is told, and no other one is


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """By what all gangs are looked at."""

    unready: Mapping[str, datetime]  # since when nodes are not ready, by name
    settings: Settings
    now: datetime
    key: bytes | None  # by which plans are signed; None: any plan counts as ours


def look_at_gangs(
    resources: Iterable[TrainingJob],
    jobs: Iterable[JobRecord],
    pods: Sequence[PodRecord],
    workloads: Iterable[WorkloadRecord],
    nodes: Iterable[NodeRecord],
    *,
    look: Looking,
) -> dict[JobId, Looked]:
    """Each TrainingJob's. What cannot be read of one is no other one's affair."""
    gone = _gone(nodes, pods)
    ownership, made_by = Ownership(jobs, pods), Workloads(workloads)
    groups = gather(pods, made_by)
    looked: dict[JobId, Looked] = {}
    for resource in resources:
        key = job_id(resource.metadata.namespace, resource.metadata.name)
        blocked = ""
        if resource.spec.steers is not None:
            group = _group(resource, groups.get(key), made_by)
            found, mine = functools.partial(_look_theirs, resource, group, look), group.pods
        else:
            own = ownership.of(resource)
            found, mine = functools.partial(_look_ours, resource, own, look), own.pods
            blocked = told_in_the_way(own.in_the_way) if own.in_the_way is not None else ""
        try:
            gang = found(gone | _past_grace(resource, look))
            if look.unready and not (gang.running or resource.status.progress.running_since is not None):
                gang = found(gone.union(look.unready))  # it does not run yet, so it has nothing to lose
            looked[key] = Looked(gang=gang, pods=mine, in_the_way=blocked)
        except Exception as error:
            looked[key] = Looked(pods=mine, error=error)
    return looked


def _look_ours(resource: TrainingJob, own: Owned, looking: Looking, lost: frozenset[str]) -> Gang:
    job = own.job
    signed = job is None or is_signed(job.plan, job.plan_signature, resource.metadata.uid, looking.key)
    return _as_believed(look_at(job, own.pods, lost_nodes=lost, signed=signed), signed, looking.now)


def _as_believed(gang: Gang, signed: bool, now: datetime) -> Gang:
    return gang if signed or gang.plan is None else replace(gang, plan=only_what_is_held(gang.plan, now))


def grace_of(resource: TrainingJob, settings: Settings) -> timedelta:
    """How long its gang waits for a node that is not ready."""
    own = resource.spec.node_grace_seconds
    return timedelta(seconds=settings.node_grace_seconds if own is None else own)


def _past_grace(resource: TrainingJob, look: Looking) -> frozenset[str]:
    """Nodes that have been not ready for longer than this job waits."""
    wait, pace = grace_of(resource, look.settings), look.settings.pace
    return frozenset(n for n, since in look.unready.items() if grace.is_over(since, look.now, wait, pace=pace))


def _group(resource: TrainingJob, group: Group | None, workloads: Workloads) -> Group:
    steers, meta = resource.spec.steers, resource.metadata
    assert steers is not None
    if group is None or (group.kind, group.name) != (steers.kind, steers.name):
        group = Group(
            job=job_id(meta.namespace, meta.name),
            namespace=meta.namespace,
            kind=steers.kind,
            name=steers.name,
            pods=(),
            chain=workloads.chain(steers.kind, meta.namespace, steers.name),
        )
    return replace(group, known_size=resource.spec.workers)


def _look_theirs(resource: TrainingJob, group: Group, looking: Looking, lost: frozenset[str]) -> Gang:
    meta = resource.metadata
    text, signature = (meta.annotations.get(a, "") for a in (PLAN_ANNOTATION, SIGNATURE_ANNOTATION))
    plan, signed = read_note(text), is_signed(text, signature, meta.uid, looking.key)
    if plan is not None and not signed:
        plan = only_what_is_held(plan, looking.now) if held(plan, group.pods) else None
    gang = look_group(group, plan, taken_back=resource.status.taken_back, lost_nodes=lost)
    return _as_believed(gang, signed, looking.now)
