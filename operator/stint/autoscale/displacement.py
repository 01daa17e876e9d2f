"""A running gang that may be taken back, what that costs, and the situation as it will be then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from stint.estimate.runtime import SECONDS_PER_HOUR, hours_between, units_per_hour
from stint.model.cluster import Node
from stint.model.job import Binding, Job, JobId, held_by_node, split_job_id
from stint.model.market import Offering
from stint.model.offering import OfferingId
from stint.model.plan import Stay
from stint.model.resources import Resources
from stint.model.situation import Situation

SETTLED_AFTER = timedelta(hours=1)  # since a job got its place, or was moved


@dataclass(frozen=True, slots=True)
class Displacement:
    """A running job that may be moved, and what staying and pausing cost it."""

    job: Job
    place: Binding
    stay_hours: float  # until it is done, where it is
    stay_usd: float  # J until then
    pause_usd: float  # J of standing still until it is back where it was
    again: Job  # as it would wait


def moves_left(situation: Situation) -> int:
    """How many more gangs may be taken back within the hour."""
    hour_ago = situation.now - timedelta(hours=1)
    lately = sum(j.moved_at is not None and j.moved_at > hour_ago for j in situation.jobs)
    return situation.settings.moves_per_hour - lately


def evictions_across_left(situation: Situation) -> int:
    """How many more gangs may make room for a job of another namespace within the hour."""
    hour_ago = situation.now - timedelta(hours=1)
    lately = sum(
        j.moved_at is not None and j.moved_at > hour_ago and bool(j.moved_for) and are_apart(j.id, JobId(j.moved_for))
        for j in situation.jobs
    )
    return situation.settings.evictions_across_namespaces_per_hour - lately


def are_apart(one: JobId, other: JobId) -> bool:
    """Whether two jobs are of two namespaces."""
    return split_job_id(one)[0] != split_job_id(other)[0]


def displacements_of(
    situation: Situation, stays: Sequence[Stay], *, settled_after: timedelta = SETTLED_AFTER
) -> list[Displacement]:
    """The gangs that write checkpoints, have run for so long, and were not moved within the hour."""
    by_job = {s.job: s for s in stays}
    offerings = {o.id: o for o in situation.offerings}
    found = (_displacement(situation, j, by_job.get(j.id), offerings, settled_after) for j in situation.jobs)
    return [m for m in found if m is not None]


def _displacement(
    situation: Situation,
    job: Job,
    stay: Stay | None,
    offerings: Mapping[OfferingId, Offering],
    settled_after: timedelta,
) -> Displacement | None:
    place, now = job.assignment, situation.now
    if place is None or stay is None or stay.finish is None or not place.running or job.checkpoint.every is None:
        return None
    if now - place.since < settled_after or (job.moved_at is not None and now - job.moved_at < SETTLED_AFTER):
        return None
    if place.offering not in offerings:
        return None
    model = offerings[place.offering].gpu_model
    hours, wanted = hours_between(now, stay.finish), job.objective
    hourly = wanted.performance * wanted.usd_per_hour
    lost_hours = hours_between(place.since, now) % (job.checkpoint.every.total_seconds() / SECONDS_PER_HOUR)
    lost_units = lost_hours * units_per_hour(job, model, len(place.nodes))
    restart_s = max(situation.settings.start_seconds, job.checkpoint.restart.total_seconds())
    pause = lost_hours + restart_s / SECONDS_PER_HOUR
    kept = max(0.0, job.work.units_done - lost_units)
    again = replace(job, assignment=None, work=replace(job.work, units_done=kept))
    return Displacement(
        job=job,
        place=place,
        stay_hours=hours,
        stay_usd=hourly * hours + wanted.cost * stay.cost_to_finish_usd,
        pause_usd=pause * (hourly + wanted.cost * stay.usd_per_hour),
        again=again,
    )


def tried(situation: Situation, again: Sequence[Job]) -> Situation:
    """As it will be when these jobs have been taken back: they wait, and what they held is free."""
    waiting = {j.id: j for j in again}
    freed = held_by_node(j for j in situation.jobs if j.id in waiting)
    nodes = tuple(_without(n, freed[n.name]) if n.name in freed else n for n in situation.nodes)
    jobs = tuple(waiting.get(j.id, j) for j in situation.jobs)
    settings = replace(situation.settings, moves_per_hour=0)
    gangs = tuple(g for g in situation.gangs if g.job not in waiting)  # they have left by then
    return replace(situation, jobs=jobs, gangs=gangs, nodes=nodes, settings=settings, before=None)


def _without(node: Node, some: Resources) -> Node:
    used = node.used
    less = Resources(
        gpus=max(0, used.gpus - some.gpus),
        cpu=max(0.0, used.cpu - some.cpu),
        memory_gib=max(0.0, used.memory_gib - some.memory_gib),
        pods=max(0, used.pods - some.pods),
    )
    return replace(node, used=less)
