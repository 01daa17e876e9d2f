"""From caches to one frozen Situation. Reads, decides nothing, writes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from stint.api.gpupool import GPUPool
from stint.api.ledger import Ledger
from stint.api.parse.job import Known, to_job
from stint.api.parse.pricebook import Books, read_books
from stint.api.parse.template import Pods, Surroundings
from stint.api.pricebook import PriceBook
from stint.api.trainingjob import TrainingJob
from stint.api.trainingjob_status import Progress, Status
from stint.capacity.adapter import Member
from stint.catalogue.catalogue import Catalogue
from stint.errors import InvalidInputError, Mistake
from stint.estimate.calibration import with_speeds
from stint.kube.observe import blame, identity
from stint.kube.observe.bought import BoughtNodes, paid_shares
from stint.kube.observe.gang import Gang
from stint.kube.observe.gangs import Looked, Looking, grace_of, look_at_gangs
from stint.kube.observe.idleness import Idleness, look_idle
from stint.kube.observe.inventory import Inventory, NodeIssue, take_inventory
from stint.kube.observe.memory import Memory
from stint.kube.observe.neighbours import neighbours_of
from stint.kube.observe.new_nodes import learn
from stint.kube.observe.nodes import look_at_nodes
from stint.kube.observe.own_models import with_own_models
from stint.kube.observe.ownership import members_of
from stint.kube.observe.progress import Told, progress, tell
from stint.kube.observe.purchases import Look, Purchases, any_known, look_at_purchases, with_no_new
from stint.kube.observe.volumes import claims_of
from stint.kube.records import (
    DaemonSetRecord,
    JobRecord,
    LimitRangeRecord,
    NodeRecord,
    PodRecord,
    RuntimeClassRecord,
    StorageClassRecord,
    VolumeClaimRecord,
    VolumeRecord,
)
from stint.kube.workloads import WorkloadRecord
from stint.lifecycle import idle as idle_rules
from stint.lifecycle.admitted import otherwise
from stint.lifecycle.limits import exceeded, within
from stint.lifecycle.retries import gives_up
from stint.model.cluster import Node
from stint.model.gang import Admitted, GangFacts, GangState, Idle
from stint.model.job import ENDED, Job, JobId, NodeName, OnIdle, Phase, job_id
from stint.model.limits import NamespaceLimits
from stint.model.market import EgressRate, Offering, PoolName
from stint.model.measured import Measured, Speed
from stint.model.resources import Resources
from stint.model.situation import Rates, Settings, Situation

ORPHAN = "orphan"  # the finalizer of `kubectl delete --cascade=orphan`
_ADMITTED_LASTS = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What one job has spent."""

    ledger: Ledger
    through: datetime | None  # until when it is booked
    settled_usd: float  # that far
    usd: float  # at this moment
    pressing: bool = False  # what was booked last may not be known any more if it is not written down


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything known about one TrainingJob."""

    resource: TrainingJob
    created: datetime  # on the deciding clock
    gang: Gang
    job: Job | None  # None: it has ended, or its spec is unusable
    last: Job | None = None  # the same, also where it has just ended
    invalid: InvalidInputError | None = None
    phase: Phase | None = None  # where the cluster alone tells it: ended, invalid
    spending: Spending
    progress: Progress = field(default_factory=Progress)
    told: Told = field(default_factory=Told)  # what it says of its progress
    facts: GangFacts | None = None  # of its gang, for `decide`; None: it has ended, or its spec is unusable
    idle: Idleness = field(default_factory=Idleness)
    idle_held: bool = False  # taken back as idle, and not edited since
    capped: tuple[str, ...] = ()  # what of its spec counts less than it says, by its namespace's limits

    @property
    def spent_usd(self) -> float:
        """At this moment, in USD."""
        return self.spending.usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A situation, and what the writers need to know besides."""

    situation: Situation
    seen: Mapping[JobId, Seen]
    inventory: Inventory
    members: Mapping[PoolName, tuple[Member, ...]] = field(default_factory=dict)  # every node of each GPUPool
    books: Books = field(default_factory=Books)
    nodes: Mapping[NodeName, Node] = field(default_factory=dict)  # those of the situation, by name
    purchases: Mapping[PoolName, Purchases] = field(default_factory=dict)  # what became of what was ordered
    suspects: tuple[NodeIssue, ...] = ()  # nodes on which nothing is placed, as several jobs could not start there

    @property
    def paid_shares(self) -> Mapping[NodeName, float]:
        """Which part of each unused node is paid for by the jobs that it was bought for."""
        bought = {pool: p.bought for pool, p in self.purchases.items()}
        alive = (s.resource.metadata.uid for s in self.seen.values() if s.phase not in ENDED)
        return paid_shares(bought, alive)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caches:
    """What the informers and the stores hold at one moment."""

    trainingjobs: Sequence[TrainingJob]
    gpu_pools: Sequence[GPUPool]
    price_books: Sequence[PriceBook]
    nodes: Sequence[NodeRecord]
    pods: Sequence[PodRecord]
    jobs: Sequence[JobRecord]
    workloads: Sequence[WorkloadRecord] = ()  # of others, that are labelled for Stint
    daemon_sets: Sequence[DaemonSetRecord] = ()
    runtime_classes: Sequence[RuntimeClassRecord] = ()
    limit_ranges: Sequence[LimitRangeRecord] = ()
    volume_claims: Sequence[VolumeClaimRecord] | None = None  # None: they may not be looked at
    volumes: Sequence[VolumeRecord] = ()
    storage_classes: Sequence[StorageClassRecord] = ()
    plan_key: bytes | None = (
        None  # by which our plans are signed; None: everything that says it is a plan counts as one
    )


def observe(
    caches: Caches,
    catalogue: Catalogue,
    settings: Settings,
    *,
    now: datetime,
    created: Mapping[str, datetime],
    empty_since: Mapping[str, datetime],
    memory: Memory | None = None,
    notes: tuple[str, ...] = (),
    measured: Measured | None = None,
    limits: NamespaceLimits | None = None,
) -> Observation:
    """Pure: the same caches at the same time give the same observation.

    Args:
        created: when each TrainingJob was submitted on the deciding clock, by uid.
        empty_since: since when each node has had no GPU pod, by name.
        memory: what earlier observations leave to this one; None: there were none.
        measured: what Prometheus and earlier runs say; None: nothing.
        limits: what each namespace may ask for; None: as much as by default.
    """
    limits = limits or NamespaceLimits()
    measured, memory = measured or Measured(), memory or Memory()
    books = read_books(caches.price_books)
    catalogue = with_own_models(books.on_top_of(catalogue), caches.nodes, caches.gpu_pools)
    unready = {n.name: since for n in caches.nodes if (since := memory.since(n, now)) is not None}
    gangs = look_at_gangs(
        caches.trainingjobs,
        caches.jobs,
        caches.pods,
        caches.workloads,
        caches.nodes,
        look=Looking(unready=unready, settings=settings, now=now, key=caches.plan_key),
    )
    inventory = take_inventory(
        caches.nodes,
        caches.gpu_pools,
        catalogue,
        today=now.date(),
        limits=books.freshness,
        now=now,
        last_known=identity.last_known(
            (each.gang for each in gangs.values()), caches.nodes, memory.machines, catalogue
        ),
    )
    inventory = learn(inventory, caches.nodes, caches.gpu_pools, caches.daemon_sets)
    surroundings = _surroundings(caches)
    seen = {}
    for resource in caches.trainingjobs:
        key = job_id(resource.metadata.namespace, resource.metadata.name)
        around = surroundings(resource.metadata.namespace)
        alone = _see_alone(resource, gangs[key], catalogue, created[resource.metadata.uid], now, measured, around)
        seen[key] = _with_times(_limited(alone, limits), settings, memory, now)
    there = {key: s.job for key, s in seen.items() if s.job is not None}
    members = members_of({key: each.pods for key, each in gangs.items()})
    neighbours = neighbours_of(caches.pods, caches.nodes, there, members)
    found = look_at_nodes(
        caches.nodes,
        caches.pods,
        caches.gpu_pools,
        inventory,
        there,
        members,
        now=now,
        empty_since=empty_since,
        unready_since=unready,
        keys=frozenset(t.topology_key for n in neighbours for t in n.anti_affinity),
    )
    suspects = blame.all_suspects(caches.trainingjobs, now, pace=settings.pace)
    if suspects:
        found = replace(found, nodes=tuple(replace(n, suspect=n.name in suspects) for n in found.nodes))
    for key, each in seen.items():
        if each.job is not None and each.job.avoid:
            out = blame.refusals(each.job, each.resource, found.nodes, now)
            seen[key] = replace(each, job=replace(each.job, refusals=out))
    purchases = _with_purchases(seen, found.nodes, caches, inventory, memory, settings, now)
    jobs = tuple(s.job for _, s in sorted(seen.items()) if s.job is not None)
    return Observation(
        situation=Situation(
            now=now,
            jobs=jobs,
            gangs=tuple(s.facts for _, s in sorted(seen.items()) if s.facts is not None and _matters(s.facts)),
            nodes=found.nodes,
            neighbours=neighbours,
            offerings=tuple(inventory.offerings[o] for o in sorted(inventory.offerings)),
            pools=tuple(inventory.pools[p] for p in sorted(inventory.pools)),
            rates=rates_of(jobs, inventory.offerings.values(), catalogue),
            settings=settings,
            notes=notes,
        ),
        seen=seen,
        inventory=inventory,
        members=found.members,
        purchases=purchases,
        books=books,
        nodes={n.name: n for n in found.nodes},
        suspects=tuple(
            NodeIssue(about=f"node {r.name}", reason="SuspectNode", message=suspects[NodeName(r.name)].message, node=r)
            for r in caches.nodes
            if r.name in suspects
        ),
    )


def _with_purchases(
    seen: dict[JobId, Seen],
    nodes: Sequence[Node],
    caches: Caches,
    inventory: Inventory,
    memory: Memory,
    settings: Settings,
    now: datetime,
) -> Mapping[PoolName, Purchases]:
    """What became of what was ordered; jobs in `seen` are told what is not ordered for them."""
    if not any(map(any_known, caches.gpu_pools)):
        return {}
    jobs = {key: s.job for key, s in seen.items() if s.job is not None}
    look = Look(
        now=now,
        pace=settings.pace,
        inventory=inventory,
        nodes={n.name: n for n in nodes},
        records={NodeName(n.name): n for n in caches.nodes},
        created=memory.created,
        jobs=jobs,
        resources={key: s.resource for key, s in seen.items()},
        running={key for key, s in seen.items() if s.progress.running_since is not None and s.gang.plan is not None},
    )
    purchases = look_at_purchases(caches.gpu_pools, look)
    for key, job in with_no_new(jobs, purchases, look).items():
        if job.no_new:
            seen[key] = replace(seen[key], job=job)
    return purchases


def since_empty(caches: Caches, before: Mapping[str, datetime], *, now: datetime) -> dict[str, datetime]:
    """Since when each ready node has had no pod with devices, by name: as it was, or from now on."""
    busy = {p.where for p in caches.pods if p.takes_devices}
    empty = (n.name for n in caches.nodes if n.ready and n.name not in busy)
    return {name: before.get(name, now) for name in empty}


def with_spending(
    observation: Observation, spending: Mapping[JobId, Spending], bought: BoughtNodes | None = None
) -> Observation:
    """The same observation with what jobs have spent until now, instead of what their statuses say.

    Args:
        bought: the nodes that were bought for jobs, with the ends of those that gangs are on or that are gone.
    """
    purchases = dict(observation.purchases)
    for pool, groups in (bought or {}).items():
        purchases[pool] = replace(purchases[pool], bought=groups)
    seen = dict(observation.seen)
    for key, spent in spending.items():
        old = seen[key]
        job = None if old.job is None else replace(old.job, spent_usd=spent.usd)
        seen[key] = replace(old, spending=spent, job=job)
    jobs = tuple(s.job for _, s in sorted(seen.items()) if s.job is not None)
    situation = replace(observation.situation, jobs=jobs)
    return replace(observation, situation=situation, seen=seen, purchases=purchases)


def with_what_was_seen(memory: Memory, observation: Observation, caches: Caches) -> Memory:
    """What the next observation may need: what the nodes are that gangs hold, and since when pods are refused."""
    now = observation.situation.now
    refused = {p.uid: memory.refused_since.get(p.uid, now) for s in observation.seen.values() for p in s.gang.refused()}
    held = {n for s in observation.seen.values() if s.job and s.job.assignment for n in s.job.assignment.nodes}
    machines = identity.seen(observation.inventory, caches.nodes, held)
    return replace(memory, machines=machines, refused_since=refused)


def _surroundings(caches: Caches) -> Callable[[str], Surroundings]:
    """What a namespace and the cluster add to pods, by namespace."""
    known = caches.volume_claims is not None
    claims = claims_of(caches.volume_claims or (), caches.volumes, caches.storage_classes)
    overheads = {r.name: dict(r.overhead) for r in caches.runtime_classes}
    defaults: dict[str, dict[str, float]] = defaultdict(dict)
    for limits in sorted(caches.limit_ranges, key=lambda r: r.name, reverse=True):
        defaults[limits.namespace] |= dict(limits.requests)

    def of(namespace: str) -> Surroundings:
        return Surroundings(
            claims=claims.get(namespace, {}) if known else None,
            overheads=overheads,
            container_requests=defaults.get(namespace, {}),
        )

    return of


def _see_alone(
    resource: TrainingJob,
    looked: Looked,
    catalogue: Catalogue,
    created: datetime,
    now: datetime,
    measured: Measured,
    around: Surroundings,
) -> Seen:
    """What fails in a way that was not foreseen is still no reason to let everybody wait."""
    try:
        if looked.error is not None:
            raise looked.error
        seen = _see(resource, looked.gang, catalogue, created, now, measured, around)
        if looked.in_the_way and seen.job is not None:
            seen = replace(seen, job=replace(seen.job, lacking=looked.in_the_way))
        return seen
    except Exception as error:
        remedy = "Stint cannot read it, which is a mistake of Stint's; please report it with this TrainingJob"
        about = f"TrainingJob {resource.metadata.namespace}/{resource.metadata.name}"
        unread = InvalidInputError(about, [Mistake("spec", repr(error)[:500], remedy)])
        return Seen(
            resource=resource,
            created=created,
            gang=looked.gang,
            job=None,
            invalid=unread,
            phase=Phase.INVALID,
            spending=_as_told(resource.status),
            progress=resource.status.progress,
        )


def _see(
    resource: TrainingJob,
    gang: Gang,
    catalogue: Catalogue,
    created: datetime,
    now: datetime,
    measured: Measured,
    around: Surroundings,
) -> Seen:
    """One TrainingJob: what it is, where it stands, what it had cost when that was last told."""
    status = resource.status
    told_back = gang.plan is not None and status.taken_back is not None and gang.plan.since <= status.taken_back
    if told_back and gang.state in (GangState.PLACED, GangState.FAILED):
        # The operator ended between telling that the gang was taken back and doing it.
        gang = replace(gang, state=GangState.TAKEN_BACK)
    seen = Seen(
        resource=resource,
        created=created,
        gang=gang,
        job=None,
        spending=_as_told(status),
        progress=status.progress,
    )
    ended = Phase(status.phase) if status.phase in ENDED else None
    if ended and status.ledger.closed:
        return replace(seen, phase=ended)
    known = Known(
        assignment=gang.assignment(),
        units_done=status.progress.units_done,
        moved_at=status.moved,
        moved_for=status.moved_for,
        spent_usd=seen.spent_usd,
        not_before=_not_before(gang, status.not_before, now),
        avoid=blame.avoided(resource, now),
        pods=_their_pods(gang, resource.spec.workers),
        around=around,
        admitted=_as_admitted(resource, gang, now),
    )
    try:
        job = to_job(resource, catalogue, known, created=created)
    except InvalidInputError as error:
        return replace(seen, phase=ended) if ended else replace(seen, invalid=error, phase=Phase.INVALID)
    if leaves(resource, gang):
        job = replace(job, suspended=True)
    if job.assignment is not None and gang.plan is not None and gang.plan.per_worker is not None:
        job = replace(job, per_worker=gang.plan.per_worker, roles=gang.plan.roles)
    seen = replace(seen, last=job, phase=ended)
    if ended:
        return seen
    if gang.state is GangState.SUCCEEDED:
        done = Progress(units_done=job.work.units, estimate=job.work.units)
        return replace(seen, phase=Phase.SUCCEEDED, progress=done)
    spent = gang.plan is not None and gives_up(gang.plan.attempt, resource.spec.retries)
    if gang.state is GangState.FAILED and (spent or gang.theirs) and not (gang.disrupted or gang.rejections):
        return replace(seen, phase=Phase.FAILED)
    if measured.use_speeds:
        job = with_speeds(job, measured.speeds.get(job.id) or _last_used(status))
    told = tell(resource, gang, measured)
    done = progress(job, gang, status.progress, told, now)
    used, holds = measured.usage.get(job.id), _held_gpus(gang, job)
    idle = look_idle(gang, status, done, used, now, holds=holds)
    held = status.idle_held > 0 and status.idle_held == resource.metadata.generation
    if held and resource.spec.idle_policy.action is OnIdle.STOP and gang.state in (GangState.ABSENT, GangState.PARKED):
        return replace(seen, phase=Phase.FAILED, idle_held=True)
    job = replace(
        job,
        work=replace(job.work, units_done=done.estimate),
        suspended=job.suspended or held,
    )
    facts = _facts(resource, gang, job, done, idle, held=held)
    shown = Idleness(idle.since, idle_rules.due(facts, now), idle_rules.cost_usd(facts, now)) if idle else Idleness()
    return replace(seen, job=job, progress=done, told=told, facts=facts, idle=shown, idle_held=held)


def _limited(seen: Seen, limits: NamespaceLimits) -> Seen:
    """With no more say against others than its namespace has."""
    mine = limits.of(seen.resource.metadata.namespace)
    if seen.job is None:
        return seen
    return replace(seen, job=within(seen.job, mine), capped=exceeded(seen.job, mine))


def _with_times(seen: Seen, settings: Settings, memory: Memory, now: datetime) -> Seen:
    """With what goes by the operator's settings, and by what earlier observations saw."""
    if seen.facts is None:
        return seen
    refused = [memory.refused_since.get(p.uid, now) for p in seen.gang.refused()]
    facts = replace(
        seen.facts,
        node_grace=grace_of(seen.resource, settings),
        refused_since=min(refused, default=None),
    )
    return replace(seen, facts=facts)


def _as_admitted(resource: TrainingJob, gang: Gang, now: datetime) -> Admitted | None:
    """What its pods were seen to ask for, as long as its spec is the same.

    While it waits that is forgotten after an hour: whatever changed its pods may have been mended, and none of them
    is there to tell.
    """
    told = resource.status.admitted
    if told is not None and gang.plan is None and told.since is not None and told.since.tzinfo is not None:
        told = told if now - told.since < _ADMITTED_LASTS else None
    if told is None or told.generation != resource.metadata.generation or resource.spec.steers is not None:
        return None
    gpus = resource.spec.gpu.per_worker
    extended = tuple(sorted(told.resources.items()))
    requests = Resources(gpus=gpus, cpu=told.cpu, memory_gib=told.memory_gib, pods=1, extended=extended)
    return Admitted(requests=requests, node_selector=tuple(sorted(told.node_selector.items())))


def _admitted(gang: Gang, job: Job) -> Admitted | None:
    """What its pods ask for beyond what was planned, as long as none of them is let go."""
    if gang.theirs is not None or not gang.pods or not all(p.gang is not None and p.gang.gated for p in gang.pods):
        return None
    pod = gang.pods[0]
    assert pod.gang is not None
    requests = replace(pod.requests, gpus=job.per_worker.gpus, pods=job.per_worker.pods)
    return otherwise(job, requests, dict(pod.gang.node_selector))


def _facts(
    resource: TrainingJob, gang: Gang, job: Job, progress: Progress, idle: Idle | None, *, held: bool
) -> GangFacts:
    """What `decide` may know of a gang, without a verdict."""
    spec, status, plan = resource.spec, resource.status, gang.plan
    return GangFacts(
        job=job.id,
        state=gang.state,
        made_by=gang.theirs.what if gang.theirs else "",
        had_place=status.phase in (Phase.STARTING, Phase.RUNNING),
        nodes=tuple(NodeName(n) for n in plan.nodes) if plan else (),
        since=plan.since if plan else None,
        attempt=plan.attempt if plan else 0,
        failed_starts=status.rollbacks,
        pods=len(gang.pods) + len(gang.lost),
        ready=gang.ready_workers,
        done=max(gang.done, gang.job.succeeded if gang.job else 0),
        running_since=progress.running_since,
        failure=gang.failure,
        disruption=gang.disrupted,
        gone=gang.gone,
        admitted=_admitted(gang, job),
        admitted_before=status.admitted is not None and status.admitted.generation == resource.metadata.generation,
        unschedulable=tuple(p.gang.index for p in gang.stuck() if p.gang),
        refusal=next((p.gang.refusal for p in gang.stuck() if p.gang and p.gang.refusal), ""),
        rejections=gang.rejections,
        ignored=len(gang.ignored_by_schedulers()),
        placement_timeout=timedelta(seconds=spec.placement_timeout_seconds),
        suspend=spec.suspend or leaves(resource, gang),
        deleting=leaves(resource, gang),
        idle=idle,
        on_idle=spec.idle_policy.action,
        idle_after=timedelta(minutes=spec.idle_policy.after_minutes),
        idle_held=held,
    )


def _held_gpus(gang: Gang, job: Job) -> int:
    """Of the pods that are there."""
    if not job.roles:
        return job.per_worker.gpus * len(gang.pods)
    each = job.by_rank(len(gang.plan.nodes) if gang.plan is not None else job.workers)
    return sum(each[p.gang.index].gpus for p in gang.pods if p.gang and 0 <= p.gang.index < len(each))


def leaves(resource: TrainingJob, gang: Gang) -> bool:
    """Whether it is being deleted, so that it gets no place and gives back the one that it has.

    Its pods go on where they are to outlive it: as orphans, or as somebody else's who made them.
    """
    meta = resource.metadata
    outlive = ORPHAN in meta.finalizers or gang.theirs is not None
    return meta.deletion_timestamp is not None and not (outlive and gang.state is GangState.PLACED)


def _matters(facts: GangFacts) -> bool:
    """Of a job that waits and never had a placement there is nothing to judge."""
    return facts.state is not GangState.ABSENT or facts.had_place


def _last_used(status: Status) -> dict[str, Speed]:
    """The speeds that decisions went by last, for who has no book: the command line, an operator that starts."""
    return {
        c.gpu_model: Speed(units_per_second=c.measured, spread=c.spread, runs=c.runs, trusted=True)
        for c in status.calibration
        if c.used
    }


def _as_told(status: Status) -> Spending:
    return Spending(
        ledger=status.ledger,
        through=status.spent_through,
        settled_usd=status.spent_exactly,
        usd=status.spent_exactly,
    )


def _their_pods(gang: Gang, size: int) -> Pods | None:
    """What is known of pods that somebody else makes; None: they are ours.

    Of a gang with a place that is what it was placed with, whatever has come beside it since.
    """
    theirs, plan = gang.theirs, gang.plan
    if theirs is None:
        return None
    if gang.state is GangState.PLACED and plan is not None and plan.per_worker is not None:
        theirs = replace(theirs, per_worker=plan.per_worker, roles=plan.roles)
    elif sum(r.replicas for r in theirs.roles) >= (len(plan.nodes) if gang.assignment() and plan else size):
        theirs = replace(theirs, roles=())  # more pods than there should be, which is told
    return Pods(
        per_worker=theirs.per_worker,
        node_selector=dict(theirs.node_selector),
        tolerations=theirs.tolerations,
        constraints=theirs.constraints,
        claims=theirs.claims,
        roles=theirs.roles,
        lacking=theirs.lacking if gang.state is GangState.ABSENT else "",
    )


def _not_before(gang: Gang, backing_off: datetime | None, now: datetime) -> datetime | None:
    """While pods of an earlier place are leaving, a job does not compete for a new one."""
    if gang.state in (GangState.LEAVING, GangState.FAILED, GangState.TAKEN_BACK):
        return max(backing_off or now, now + timedelta(seconds=1))
    return backing_off


def rates_of(jobs: Iterable[Job], offerings: Iterable[Offering], catalogue: Catalogue) -> Rates:
    """The rates that these jobs on these offerings can meet."""
    jobs = tuple(jobs)
    homes = {(j.data.provider, j.data.region) for j in jobs if j.data.gib and j.data.provider}
    places = {(o.provider, o.region) for o in offerings}
    egress = [
        EgressRate(from_provider=a[0], from_region=a[1], to_provider=b[0], to_region=b[1], usd_per_gb=figure)
        for a in sorted(homes)
        for b in sorted(places)
        if a != b and (figure := catalogue.egress_usd_per_gb(*a, *b)) is not None
    ]
    names = sorted({name for j in jobs for name in j.licences})
    licences = {n: f for n in names if (f := catalogue.licence_usd_per_gpu_hour(n)) is not None}
    return Rates(
        egress=tuple(egress),
        licence_usd_per_gpu_hour=licences,
        labour_usd_per_job_hour=catalogue.labour_usd_per_job_hour(),
        carbon_usd_per_tonne=catalogue.carbon_usd_per_tonne(),
    )
