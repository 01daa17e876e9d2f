"""Nouns with sensible defaults, so that a test names only what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from stint.model.cluster import Node
from stint.model.figure import Confidence, Figure
from stint.model.gang import GangFacts, GangState
from stint.model.job import Binding, Job, NodeName, Work, held_by_node, job_id
from stint.model.market import Offering, Pool, PoolName, offering_id
from stint.model.offering import CapacityType
from stint.model.plan import Plan
from stint.model.resources import Resources
from stint.model.situation import Rates, Settings, Situation

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def a_figure(value: float) -> Figure:
    """A number somebody vouches for."""
    return Figure(value=value, source="test", as_of=date(2026, 11, 1), confidence=Confidence.LIST_PRICE)


def an_offering(
    pool: str = "a100",
    *,
    usd: float | None = 8.0,
    gpus: int = 8,
    model: str = "A100-80GB",
    capacity: CapacityType = CapacityType.ON_DEMAND,
    zone: str = "us-east-1a",
    provider: str = "aws",
    instance_type: str = "p4de.24xlarge",
    memory_gib: float = 80.0,
    interruptions_per_hour: float | None = None,
    **changes: object,
) -> Offering:
    """Nodes of eight A100 at a dollar per GPU-hour."""
    name = PoolName(pool)
    offering = Offering(
        id=offering_id(name, instance_type, zone, capacity),
        pool=name,
        provider=provider,
        region=zone[:-1],
        zone=zone,
        instance_type=instance_type,
        capacity_type=capacity,
        gpu_model=model,
        gpu_memory_gib=memory_gib,
        per_node=Resources(gpus=gpus, cpu=12.0 * gpus, memory_gib=128.0 * gpus, pods=110),
        usd_per_node_hour=None if usd is None else a_figure(usd),
        interruptions_per_hour=None if interruptions_per_hour is None else a_figure(interruptions_per_hour),
        watts_per_node=a_figure(400.0 * gpus),
        g_co2_per_kwh=a_figure(380.0),
        usd_per_storage_gb_month=a_figure(0.08),
    )
    return replace(offering, **changes)  # type: ignore[arg-type]


def a_pool(offering: Offering, *, scaler: str | None = None, most: int = 0, **changes: object) -> Pool:
    """The pool of one offering. With a scaler it can grow to `most` nodes and is not only advised."""
    pool = Pool(
        name=offering.pool,
        offerings=(offering.id,),
        inferred=scaler is None,
        scaler=scaler,
        advise_only=scaler is None,
        max_nodes=most,
    )
    return replace(pool, **changes)  # type: ignore[arg-type]


def a_node(name: str, offering: Offering, *, used_gpus: int = 0, **changes: object) -> Node:
    """A ready node; `used_gpus` of it are taken by somebody."""
    used = Resources(gpus=used_gpus, cpu=4.0 * used_gpus, memory_gib=32.0 * used_gpus, pods=used_gpus)
    node = Node(name=NodeName(name), offering=offering.id, allocatable=offering.per_node, used=used)
    return replace(node, **changes)  # type: ignore[arg-type]


def a_job(
    name: str = "llama",
    *,
    workers: int = 1,
    gpus: int = 8,
    hours: float = 10.0,
    speeds: Mapping[str, float] | None = None,
    deadline_hours: float | None = None,
    **changes: object,
) -> Job:
    """A job that runs `hours` on A100s, whose result an hour sooner is worth a dollar."""
    job = Job(
        id=job_id("team", name),
        uid=f"uid-{name}",
        created=NOW - timedelta(minutes=5),
        workers=workers,
        min_workers=workers,
        max_workers=workers,
        per_worker=Resources(gpus=gpus, cpu=4.0 * gpus, memory_gib=32.0 * gpus, pods=1),
        work=Work(units=hours * 3600.0, units_per_second=dict(speeds or {"A100-80GB": 1.0})),
        deadline=None if deadline_hours is None else NOW + timedelta(hours=deadline_hours),
    )
    return replace(job, **changes)  # type: ignore[arg-type]


def running_on(job: Job, *nodes: Node, offering: Offering, hours_left: float | None = None) -> Job:
    """The job with its place: one worker a node, in the order given."""
    place = Binding(
        offering=offering.id,
        nodes=tuple(n.name for n in nodes),
        since=NOW - timedelta(hours=1),
        released=True,
        running=True,
        finish=None if hours_left is None else NOW + timedelta(hours=hours_left),
    )
    return replace(job, assignment=place)


def a_gang(job: Job, **changes: object) -> GangFacts:
    """What the cluster shows of a gang: placed, and running since it was, where its job has an assignment."""
    place = job.assignment
    size = len(place.nodes) if place else 0
    facts = GangFacts(
        job=job.id,
        state=GangState.PLACED if place else GangState.ABSENT,
        had_place=place is not None,
        nodes=place.nodes if place else (),
        since=place.since if place else None,
        pods=size,
        ready=size if place and place.running else 0,
        running_since=place.since if place and place.running else None,
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def a_situation(
    *,
    jobs: Iterable[Job] = (),
    gangs: Iterable[GangFacts] = (),
    nodes: Iterable[Node] = (),
    offerings: Iterable[Offering],
    pools: Iterable[Pool] | None = None,
    rates: Rates | None = None,
    settings: Settings | None = None,
) -> Situation:
    """A cluster at noon. Without `pools`, every offering is an inferred pool of its own."""
    offerings = tuple(offerings)
    return Situation(
        now=NOW,
        jobs=tuple(jobs),
        gangs=tuple(gangs),
        nodes=tuple(nodes),
        offerings=offerings,
        pools=tuple(a_pool(o) for o in offerings) if pools is None else tuple(pools),
        rates=rates or Rates(),
        settings=settings or Settings(),
    )


def carried_out(situation: Situation, plan: Plan, *, seconds: float = 0.0) -> Situation:
    """The situation a little later, when those who were placed have their places; `before` is what stands then."""
    placed = {p.job: p for p in plan.placements}

    def place(job: Job) -> Job:
        if (p := placed.get(job.id)) is None:
            return job
        there = Binding(offering=p.chosen.offering, nodes=p.nodes, since=situation.now, finish=p.chosen.finish)
        return replace(job, assignment=there)

    jobs = tuple(place(j) for j in situation.jobs)
    taken = held_by_node(j for j in jobs if j.id in placed)
    nodes = tuple(replace(n, used=n.used + taken.get(n.name, Resources())) for n in situation.nodes)
    now = situation.now + timedelta(seconds=seconds)
    return replace(situation, now=now, jobs=jobs, nodes=nodes, before=plan.standing)
