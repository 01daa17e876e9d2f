"""What became of the nodes that Stint ordered, and what is not ordered again because of it. Pure.

What is known is kept in the status of each GPUPool, so that an operator that is killed at any instant goes by it after
its restart: `orders` that have not shown yet whether they help, nodes that were `bought` and stand unused, nodes that
were `refused` by the job they were bought for, and offerings whose orders were `late`. All times are on the deciding
clock.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec

from stint.api.gpupool import MOST_REFUSED, Bought, GPUPool, LateOrder, NodeOrder, RefusedNode
from stint.api.trainingjob import TrainingJob
from stint.capacity.adapter import ORDERED_AT
from stint.capacity.registry import traits_of
from stint.kube.observe.bought import Orders, with_those_that_came
from stint.kube.observe.inventory import Inventory
from stint.kube.observe.nodes import GIVEN_UP_AFTER
from stint.kube.records import NodeRecord
from stint.lifecycle.retries import MOST_ORDER_BACKOFF_S, SETTLE_S, next_order
from stint.model.cluster import Node
from stint.model.job import Job, JobId, NodeName, NoNew, WhyNoNew, split_job_id
from stint.model.market import Offering, PoolName
from stint.model.offering import OfferingId
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.placement import fit

_CUT_S = 1.0  # on the wall: the API server cuts the time of creation to whole seconds
_ANNOUNCED_S = 15.0  # on the wall: until then a node that is an object as soon as it is ordered is there
_LEAST_PATIENCE_S = 5.0  # on the wall, however short a cold start is
_TOLD_LATE_S = 60.0  # on the wall: devices and labels may be told of so long after a node is ready
_START_S = 60.0  # on the wall: a job that may start on a ready node has done so by then
_MOST_TEXT = 1024
_STARTED_WRONG = frozenset({Reason.DID_NOT_START.value, Reason.NODE_REJECTED.value})
_SLOW_WORDS = (" CPU cores", " GiB of memory", " pods")  # what a node tells of at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchases:
    """Of one pool."""

    orders: tuple[NodeOrder, ...] = ()
    bought: tuple[Bought, ...] = ()
    refused: tuple[RefusedNode, ...] = ()
    late: tuple[LateOrder, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is looked at: the same for all pools."""

    now: datetime
    pace: float
    inventory: Inventory
    nodes: Mapping[NodeName, Node]
    records: Mapping[NodeName, NodeRecord]
    created: Mapping[str, datetime]  # by node
    jobs: Mapping[JobId, Job]
    resources: Mapping[JobId, TrainingJob]
    running: Set[JobId] = field(default_factory=frozenset)  # every worker runs

    def wall(self, seconds: float) -> timedelta:
        """So many seconds on the wall."""
        return timedelta(seconds=seconds * self.pace)


def look_at_purchases(pools: Iterable[GPUPool], look: Look) -> Mapping[PoolName, Purchases]:
    """What is known now of each pool's orders, from what was known and what is there."""
    return {PoolName(p.metadata.name): _of_pool(p, look) for p in pools}


def with_no_new(jobs: Mapping[JobId, Job], purchases: Mapping[PoolName, Purchases], look: Look) -> dict[JobId, Job]:
    """The jobs with the offerings of which nothing is ordered for them now."""
    late = tuple(
        NoNew(offering=OfferingId(o.offering), why=WhyNoNew.DID_NOT_COME, message=_until(o.message, o.until))
        for _, p in sorted(purchases.items())
        for o in p.late
        if o.until > look.now
    )
    refused = [r for _, p in sorted(purchases.items()) for r in p.refused if r.until > look.now]
    refused = [r for r in refused if r.shape == _shape(look.inventory.offerings.get(OfferingId(r.offering)))]
    coming: dict[JobId, NodeOrder] = {}
    for _, p in sorted(purchases.items()):
        for order in p.orders:
            coming |= {JobId(j): order for j in order.jobs}
    found = {}
    for key, job in jobs.items():
        resource = look.resources[key]
        bars = {n.offering: n for n in late}
        for each in refused:
            if _concerns(each, job, resource):
                offering = OfferingId(each.offering)
                what = (
                    "its job"
                    if each.job == key
                    else f"{_named(each.job, beside=key)}, which needs no more than this one,"
                )
                text = _until(f"a node that was bought did not help {what}: {each.message}", each.until)
                bars[offering] = NoNew(offering=offering, why=WhyNoNew.DID_NOT_HELP, message=text)
        if (ordered := coming.get(key)) is not None:
            noun = "node" if ordered.nodes == 1 else "nodes"
            text = (
                f"{ordered.nodes} {noun} of {ordered.offering} ordered at {ordered.at:%H:%M:%S} UTC for it; no "
                "more are ordered for it until they have shown whether they help"
            )
            bars[OfferingId("")] = NoNew(offering=OfferingId(""), why=WhyNoNew.ON_ORDER, message=text)
        found[key] = replace(job, no_new=tuple(bars[o] for o in sorted(bars))) if bars else job
    return found


def _until(message: str, until: datetime) -> str:
    return f"{message}; none is ordered again before {until:%H:%M:%S} UTC"


def _of_pool(pool: GPUPool, look: Look) -> Purchases:
    status, name = pool.status, PoolName(pool.metadata.name)
    if not any_known(pool):
        return Purchases()
    memory = look.wall(MOST_ORDER_BACKOFF_S)  # for so long after a back-off the next one is longer
    known = _Known(
        refused=[r for r in status.refused if r.until + memory > look.now],
        late={o.offering: o for o in status.late if o.until + memory > look.now},
    )
    there = {n for n in look.inventory.members.get(name, ()) if n in look.records}
    taken = {n for order in status.orders for n in order.came}
    left = []
    strays = _appeared(there - taken, look)
    for order in sorted(status.orders, key=lambda o: o.at):
        order, strays = _with_those_that_came(order, strays, look)
        left.append(order)
    orders = []
    for each in left:
        after = _judged(pool, each, known, strays, look)
        if after is not None:
            orders.append(after)
    found = Orders(
        seen=left,
        open=orders,
        strays=strays,
        records=look.records,
        created=look.created,
        offering_of=look.inventory.offering_of,
    )
    bought = with_those_that_came(status.bought, found, now=look.now, memory=memory)
    last = sorted(known.refused, key=lambda r: r.until)[-MOST_REFUSED:]
    late = sorted(known.late.values(), key=lambda o: o.until)[-16:]
    return Purchases(orders=tuple(orders), bought=bought, refused=tuple(last), late=tuple(late))


def any_known(pool: GPUPool) -> bool:
    """Whether anything of a pool's purchases is remembered."""
    status = pool.status
    return bool(status.orders or status.bought or status.refused or status.late)


@dataclass(slots=True)
class _Known:
    """Of one pool, added to while its orders are judged."""

    refused: list[RefusedNode]
    late: dict[str, LateOrder]

    def did_not_come(self, order: NodeOrder, message: str, look: Look) -> None:
        old = self.late.get(order.offering)
        times = 1 + (old.times if old is not None else 0)
        until = next_order(look.now, times, pace=look.pace)
        self.late[order.offering] = LateOrder(
            offering=order.offering, message=message[:_MOST_TEXT], since=look.now, until=until, times=times
        )

    def did_not_help(self, order: NodeOrder, job: Job, message: str, look: Look) -> None:
        needs, generation = _most(job), look.resources[job.id].metadata.generation
        new = RefusedNode(
            offering=order.offering,
            job=job.id,
            generation=generation,
            gpus=needs.gpus,
            cpu=needs.cpu,
            memory_gib=needs.memory_gib,
            resources=dict(needs.extended[:64]),
            demands=_demands(job),
            shape=_shape(look.inventory.offerings.get(OfferingId(order.offering))),
            message=message[:_MOST_TEXT],
            since=look.now,
            until=look.now,
        )
        alike = [r for r in self.refused if _need(r) == _need(new)]
        if any(r.since == look.now for r in alike):
            return  # several jobs that are alike have found out the same: that counts once
        times = 1 + max((r.times for r in alike), default=0)
        until = next_order(look.now, times, pace=look.pace)
        self.refused = [r for r in self.refused if r not in alike]
        self.refused.append(msgspec.structs.replace(new, times=times, until=until))


def _need(refused: RefusedNode) -> tuple[object, ...]:
    r = refused
    return (r.offering, r.gpus, r.cpu, r.memory_gib, sorted(r.resources.items()), r.demands)


def _appeared(names: Set[NodeName], look: Look) -> dict[NodeName, datetime]:
    """Since when nodes are there, as far as that is known."""
    found = {}
    for name in sorted(names):
        text = look.records[name].annotations.get(ORDERED_AT)
        try:
            when = datetime.fromisoformat(text) if text else None
        except ValueError:
            when = None
        if when is None and (created := look.created.get(name)) is not None:
            when = created + look.wall(_CUT_S)
        if when is not None and when.tzinfo is not None:
            found[name] = when
    return found


def _with_those_that_came(
    order: NodeOrder, strays: dict[NodeName, datetime], look: Look
) -> tuple[NodeOrder, dict[NodeName, datetime]]:
    """The order with the nodes that came of it since, and those that are left for other orders."""
    lacking = order.nodes - len(order.came)
    mine = [n for n, when in strays.items() if when >= order.at and look.inventory.offering_of.get(n) == order.offering]
    mine = sorted(mine, key=lambda n: strays[n])[: max(lacking, 0)]
    came = [*order.came, *mine]
    return msgspec.structs.replace(order, came=came), {n: w for n, w in strays.items() if n not in mine}


def _judged(
    pool: GPUPool, order: NodeOrder, known: _Known, strays: Mapping[NodeName, datetime], look: Look
) -> NodeOrder | None:
    """The order with the jobs that still wait for what it brings; None: all of it is known."""
    waiting = [JobId(j) for j in order.jobs if JobId(j) in look.jobs and JobId(j) not in look.running]
    came = [look.nodes[NodeName(n)] for n in order.came if NodeName(n) in look.nodes]
    came = [n for n in came if not n.interrupted]
    ready = [n for n in came if n.ready]
    left, why = [], order.why
    for key in waiting:
        if len(ready) >= order.nodes and _is_over(pool, look.jobs[key], order, ready, look):
            continue
        verdict, final = _verdict(pool, look.jobs[key], order, ready, len(came) < order.nodes, look)
        if final:
            known.did_not_help(order, look.jobs[key], verdict, look)
        else:
            left.append(key)
            why = verdict or why
    gone = bool(order.came) and not came
    if gone and len(order.came) >= order.nodes:
        for key in left:
            if why:
                known.did_not_help(order, look.jobs[key], why, look)
        if left and not why:
            known.did_not_come(order, f"nodes of {order.offering} came and were gone before a job ran there", look)
        return None
    if len(ready) < order.nodes and (late := _late(pool, order, len(ready), strays, look)):
        known.did_not_come(order, late, look)
        return None
    if len(ready) >= order.nodes:
        known.late.pop(order.offering, None)
        if not left:
            return None
    return msgspec.structs.replace(order, jobs=[str(j) for j in left], why=why[:_MOST_TEXT])


def _late(pool: GPUPool, order: NodeOrder, ready: int, strays: Mapping[NodeName, datetime], look: Look) -> str:
    """What is wrong with an order that is not there; empty: it may still come."""
    took = look.now - order.at
    others = [
        n
        for n, when in strays.items()
        if when >= order.at and n in look.nodes and look.nodes[n].ready and look.nodes[n].bought
    ]
    if others and not order.came:
        other = look.nodes[others[0]].offering
        return f"{order.nodes} of {order.offering} ordered, and node {others[0]} came as {other}"
    traits = traits_of(pool.spec.scaler.adapter if pool.spec.scaler else None)
    patience = max(timedelta(seconds=pool.spec.cold_start_seconds * GIVEN_UP_AFTER), look.wall(_LEAST_PATIENCE_S))
    unannounced = traits is not None and traits.announces_nodes and len(order.came) < order.nodes
    if took <= patience and not (unannounced and took > look.wall(_ANNOUNCED_S)):
        return ""
    seconds = took.total_seconds() / look.pace
    return f"{order.nodes} of {order.offering} ordered, and {ready} ready after {seconds:.0f} s"


def _verdict(
    pool: GPUPool, job: Job, order: NodeOrder, ready: Sequence[Node], some_coming: bool, look: Look
) -> tuple[str, bool]:
    """Why no node of an order that is ready helps the job, and whether that is certain by now. Empty: it may help."""
    resource = look.resources[job.id]
    for blamed in resource.status.blamed:
        told_in_utc = blamed.since.tzinfo is not None
        if blamed.node in order.came and told_in_utc and blamed.since >= order.at and blamed.reason in _STARTED_WRONG:
            told = resource.status.message if resource.status.reason == blamed.reason else ""
            return told or f"it could not start on node {blamed.node} ({blamed.said or blamed.reason})", True
    if job.assignment is not None or not ready:
        return "", False
    give_back = timedelta(seconds=pool.spec.give_back_after_seconds)
    verdicts: list[tuple[str, bool]] = []
    for node in ready:
        text, at_once = _why_not(job, node)
        if not text:
            verdicts = []
            break
        since = node.empty_since or look.now
        patience = min(look.wall(SETTLE_S), give_back / 2) if at_once else look.wall(_TOLD_LATE_S)
        verdicts.append((text, look.now - since >= patience))
    if verdicts:
        return verdicts[0][0], all(settled for _, settled in verdicts)
    competes = not job.suspended and not job.lacking and (job.not_before is None or job.not_before <= look.now)
    empty = [n.empty_since for n in ready if n.empty_since is not None]
    if some_coming or not competes or len(empty) < len(ready):
        return "", False
    if look.now - max(empty) < look.wall(_START_S):
        return "", False
    told = resource.status.message if resource.status.message else "nothing says why"
    return f"it did not start on node {ready[0].name} within {_START_S:.0f} s: {told}", True


def _is_over(pool: GPUPool, job: Job, order: NodeOrder, ready: Sequence[Node], look: Look) -> bool:
    """Whether an order that is there has nothing more to show: others have its nodes, or the job had its time."""
    if job.assignment is not None:
        return False
    for node in ready:
        free = _left(node.allocatable, node.used)
        if node.used.gpus and fit.workers_per_node(job.per_worker, free) == 0:
            return True
    if any(n.empty_since is not None for n in ready):
        return False
    time = max(timedelta(seconds=pool.spec.cold_start_seconds * GIVEN_UP_AFTER), look.wall(_TOLD_LATE_S))
    return look.now - order.at > time + look.wall(_START_S)


def _why_not(job: Job, node: Node) -> tuple[str, bool]:
    """What keeps a job off a node that nobody else's gang has, and whether the node tells so at once."""
    if (no := fit.node_refuses(replace(job, avoid=()), node)) is not None:
        return f"node {node.name} {no[1]}", False
    if fit.workers_per_node(job.per_worker, node.allocatable) == 0:
        text = fit.exceeds(job.per_worker, node.allocatable, "node").replace("a node has", f"node {node.name} has")
        return text, any(f"{word}," in text for word in _SLOW_WORDS)
    free = _left(node.allocatable, node.used)
    if node.used.gpus == 0 and fit.workers_per_node(job.per_worker, free) == 0:
        text = fit.exceeds(job.per_worker, free, "node").replace("a node has", f"node {node.name} has")
        return f"{text} left beside the pods that run there", True
    return "", False


def _left(whole: Resources, used: Resources) -> Resources:
    names = [name for name, _ in whole.extended]
    rest = [max(0.0, a - b) for a, b in zip(whole.row(names), used.row(names), strict=True)]
    return Resources(
        gpus=int(rest[0]),
        cpu=rest[1],
        memory_gib=rest[2],
        pods=int(rest[3]),
        extended=tuple(zip(names, rest[4:], strict=True)),
    )


def _concerns(refused: RefusedNode, job: Job, resource: TrainingJob) -> bool:
    """Whether a job needs at least as much of a node as the one that was refused, and demands the same."""
    if refused.job == job.id and refused.generation != resource.metadata.generation:
        return False
    needs = _most(job)
    amounts = dict(needs.extended)
    return (
        refused.demands == _demands(job)
        and needs.gpus >= refused.gpus
        and needs.cpu >= refused.cpu
        and needs.memory_gib >= refused.memory_gib
        and all(amounts.get(name, 0.0) >= amount for name, amount in refused.resources.items())
    )


def _most(job: Job) -> Resources:
    """What its pods ask of a node at the most."""
    each = [kind.per_worker for kind in job.kinds]
    return functools.reduce(lambda most, needs: most.at_least(needs), each)


def _named(job: str, *, beside: JobId) -> str:
    """A job in a message about another one: what other namespaces run is not told."""
    same = split_job_id(JobId(job))[0] == split_job_id(beside)[0]
    return f"job {job}" if same else "another namespace's job"


def _demands(job: Job) -> str:
    """What a job demands of nodes beside their size."""
    c = job.constraints
    beside = (c.affinity, c.anti_affinity, c.spread, c.unmodelled, job.topology)
    of_nodes = (job.tolerations, c.node_affinity, c.volumes, c.host_ports, *job.roles)
    return _digest((sorted(job.node_selector.items()), *of_nodes, *beside))


def _shape(offering: Offering | None) -> str:
    """What is known of a new node of an offering: described, or as seen.

    Its labels are left out: some of them tell the time of day, and others come a minute after the node.
    """
    if offering is None:
        return ""
    o, room = offering, offering.new_node
    names = [name for name, _ in room.extended]
    # What a status keeps is rounded, and reads as other types of number.
    amounts = [f"{amount:.2f}" for amount in room.row(names)]
    return _digest((amounts, names, o.taints, o.gpu_model))


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
