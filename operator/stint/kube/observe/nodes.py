"""Nodes as decisions see them: what is used of each, when those that are not ready are expected, which may go.

A node is busy where a pod with devices is bound or about to be, or a gang is placed. Pods that have devices by claims
(Dynamic Resource Allocation) make their node full: which devices and how many, no request tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from stint.api.gpupool import GPUPool
from stint.capacity.adapter import BOUGHT_BY, ORDERED_AT, Member
from stint.capacity.registry import traits_of
from stint.kube.observe.inventory import LEAVING_TAINTS, UNREADY_TAINTS, Inventory, allocatable, passing
from stint.kube.records import NodeRecord, PodRecord
from stint.model.cluster import HOSTNAME, INTERRUPTED_TAINTS, ZONE, Node
from stint.model.constraints import node_keys
from stint.model.job import Job, JobId, NodeName
from stint.model.market import Offering, PoolName
from stint.model.resources import Resources

_STILL_COMING = 0.1  # of a cold start: what a node that is late is expected to take yet
GIVEN_UP_AFTER = 3.0  # cold starts after which an ordered node no longer counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """All nodes that belong to an offering, and each GPUPool's, also those that belong to none."""

    nodes: tuple[Node, ...]
    members: Mapping[PoolName, tuple[Member, ...]]


def look_at_nodes(
    records: Iterable[NodeRecord],
    pods: Sequence[PodRecord],
    gpu_pools: Sequence[GPUPool],
    inventory: Inventory,
    jobs: Mapping[JobId, Job],
    members: Mapping[str, JobId],
    *,
    now: datetime,
    empty_since: Mapping[str, datetime],
    unready_since: Mapping[str, datetime],
    keys: frozenset[str] = frozenset(),
) -> Nodes:
    """Nodes with what is used of them: bound pods, and every worker of a placed gang whether it is there yet or not.

    The pods of DaemonSets are not used but not allocatable: a worker that does not fit beside them never will.

    What is bound counts by what is bound: where a gang's workers have more of a node than its plan says, that counts.

    Args:
        members: whose worker each pod is, by its uid.
        keys: labels of nodes that matter, beside those that jobs name.
    """
    claimed: set[str] = set()
    used: dict[str, Resources] = defaultdict(Resources)
    daemons: dict[str, Resources] = defaultdict(Resources)  # what no gang can ever have
    bound: dict[tuple[JobId, str], Resources] = defaultdict(Resources)  # what workers of gangs have
    parts: dict[str, int] = defaultdict(int)  # of GPUs, by pods that ask for parts as such
    placed = {key: (job, job.assignment.nodes) for key, job in jobs.items() if job.assignment is not None}
    busy: set[str] = {pod.where for pod in pods if pod.takes_devices}
    for pod in pods:
        where = pod.where
        owner = members.get(pod.uid)
        mine = placed.get(owner) if owner is not None else None
        if where and pod.daemon and not pod.takes_devices:
            daemons[where] += pod.requests
        elif where and mine is None:
            used[where] += pod.requests
            parts[where] += pod.slices
        elif where and owner is not None:
            bound[owner, where] += replace(pod.requests, gpus=pod.requests.gpus + pod.slices)
        if pod.claims and where:
            claimed.add(where)
        elif pod.claims and mine is not None and not pod.over:
            claimed.update(mine[1])  # the nodes that it was given and is not bound to yet
    planned: dict[tuple[JobId, str], Resources] = defaultdict(Resources)
    for owner, (job, names) in placed.items():
        busy.update(names)
        for name, held in job.on_nodes(names).items():
            planned[owner, name] += held
    for at in sorted(planned.keys() | bound.keys()):
        used[at[1]] += planned[at].at_least(bound[at])
    kinds = [kind for job in jobs.values() for kind in job.kinds]
    selected = {key for kind in kinds for key in kind.node_selector}
    selected |= {key for kind in kinds for key in node_keys(kind.constraints)} | keys
    within = {job.topology.key for job in jobs.values() if job.topology}
    pools = {p.metadata.name: p for p in gpu_pools}
    records = tuple(records)
    nodes = []
    for record in records:
        offering_id = inventory.offering_of.get(NodeName(record.name))
        if offering_id is None:
            continue
        offering = inventory.offerings[offering_id]
        taken = used[record.name] + Resources(gpus=parts[record.name] if offering.slices else 0)
        node = _node(record, offering, pools.get(offering.pool), taken, selected | within, empty_since, now)
        unidentified = node.name in inventory.kept
        node = replace(
            node,
            allocatable=node.allocatable.less(daemons[record.name]),
            unready_since=unready_since.get(record.name),
            unidentified=unidentified,
        )
        nodes.append(_all_taken(node) if record.name in claimed else node)
    by_pool = _members(records, inventory, busy)
    for pool in gpu_pools:
        # Which zone a node will be in is known beforehand; which host or rack, is not.
        nodes += _ordered(pool, inventory, by_pool, (selected | (within & {ZONE})) - {HOSTNAME}, now)
    return Nodes(nodes=tuple(_removable_together(nodes, pools, inventory, by_pool)), members=by_pool)


def _members(records: Sequence[NodeRecord], inventory: Inventory, busy: Set[str]) -> dict[PoolName, tuple[Member, ...]]:
    by_name = {NodeName(r.name): r for r in records}
    return {
        pool: tuple(
            Member(
                name=name,
                busy=name in busy,
                interrupted=by_name[name].deleting
                or any(t.key in INTERRUPTED_TAINTS | LEAVING_TAINTS for t in by_name[name].taints),
            )
            for name in sorted(names)
        )
        for pool, names in inventory.members.items()
    }


def _all_taken(node: Node) -> Node:
    """A node with claimed devices: no GPU of it counts as free, and it is neither empty nor to be removed."""
    gpus = max(node.used.gpus, node.allocatable.gpus)
    return replace(node, used=replace(node.used, gpus=gpus), empty_since=None, removable=False)


def _node(
    record: NodeRecord,
    offering: Offering,
    pool: GPUPool | None,
    used: Resources,
    selected: set[str],
    empty_since: Mapping[str, datetime],
    now: datetime,
) -> Node:
    taints = {t.key for t in record.taints}
    has = allocatable(record, offering.slices)
    # Before a node is ready its device plugin has not told what there is; a ready one that has no GPU has none for now.
    unknown = not has.gpus and not (record.ready and not taints & UNREADY_TAINTS)
    coming = _coming(record, pool, now) if not record.ready or taints & UNREADY_TAINTS else None
    return Node(
        name=NodeName(record.name),
        offering=offering.id,
        allocatable=offering.per_node if unknown else has,
        used=used,
        ready=record.ready and not taints & UNREADY_TAINTS,
        schedulable=not record.unschedulable and not taints & LEAVING_TAINTS and not record.deleting,
        interrupted=bool(taints & INTERRUPTED_TAINTS),
        ready_at=coming,
        empty_since=empty_since.get(record.name) if used.gpus == 0 else None,
        removable=BOUGHT_BY in record.annotations,
        bought=BOUGHT_BY in record.annotations or _resized(pool),
        labels={k: v for k, v in record.labels.items() if k in selected},
        taints=tuple(t for t in record.taints if not passing(t)),
    )


def _resized(pool: GPUPool | None) -> bool:
    """Whether the pool's nodes count as bought, where nothing on a node tells which ones were."""
    scaler = pool.spec.scaler if pool is not None else None
    traits = traits_of(scaler.adapter if scaler else None)
    asked = pool is not None and pool.status.wanted_nodes is not None
    return traits is not None and traits.chooses_nodes and asked


def _coming(record: NodeRecord, pool: GPUPool | None, now: datetime) -> datetime | None:
    """When a node that is not ready is expected: None for one that was ready before, or never will be."""
    text = record.annotations.get(ORDERED_AT)
    if text is None or pool is None:
        return None
    try:
        ordered = datetime.fromisoformat(text)
    except ValueError:
        return None  # Stint did not write it
    return _expected(ordered, pool.spec.cold_start_seconds, now)


def _expected(ordered: datetime, cold_start_s: float, now: datetime) -> datetime | None:
    if ordered.tzinfo is None:
        return None
    ordered = min(ordered, now)  # no order is made in the future
    if now > ordered + timedelta(seconds=cold_start_s * GIVEN_UP_AFTER):
        return None
    earliest = now + timedelta(seconds=cold_start_s * _STILL_COMING)
    return max(ordered + timedelta(seconds=cold_start_s), earliest)


def _ordered(
    pool: GPUPool,
    inventory: Inventory,
    members: Mapping[PoolName, Sequence[Member]],
    selected: Set[str],
    now: datetime,
) -> list[Node]:
    """Nodes that were ordered and have no Node object yet: they will be as the pool describes them."""
    status, name = pool.status, PoolName(pool.metadata.name)
    traits = traits_of(pool.spec.scaler.adapter if pool.spec.scaler else None)
    described = inventory.described[name]
    if traits is None or traits.announces_nodes or len(described) != 1:
        return []
    lacking = (status.wanted_nodes or 0) - sum(not m.interrupted for m in members[name])
    expected = _expected(status.ordered_at, pool.spec.cold_start_seconds, now) if status.ordered_at else None
    if lacking <= 0 or expected is None:
        return []
    offering = inventory.offerings[described[0]]
    return [
        Node(
            name=NodeName(f"{name}/ordered-{i}"),
            offering=offering.id,
            allocatable=offering.new_node,
            ready=False,
            ready_at=expected,
            bought=True,
            labels={k: v for k, v in offering.labels.items() if k in selected},
            taints=offering.taints,
        )
        for i in range(lacking)
    ]


def _removable_together(
    nodes: Collection[Node],
    pools: Mapping[str, GPUPool],
    inventory: Inventory,
    members: Mapping[PoolName, Sequence[Member]],
) -> list[Node]:
    """Where the adapter's target chooses which nodes go, nodes may go only while all of the pool are empty."""
    busy = {pool for pool, of_it in members.items() if any(m.busy for m in of_it)}
    busy |= {inventory.offerings[n.offering].pool for n in nodes if n.used.gpus or n.ready_at is not None}

    def seen_together(node: Node) -> Node:
        name = inventory.offerings[node.offering].pool
        scaler = pools[name].spec.scaler if name in pools else None
        traits = traits_of(scaler.adapter if scaler else None)
        return replace(node, removable=name not in busy) if traits is not None and traits.chooses_nodes else node

    return [seen_together(n) for n in nodes]
