"""What a node that is bought now will be like: as nodes of its offering are, or were; else as its pool describes it.

In this order: nodes of the offering that are there, nodes of the same machine in the same pool, what was seen of them
before (`status.newNodes` of the pool), the description. The pods of DaemonSets that will run on it are taken off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from stint.api.gpupool import GPUPool, NewNode
from stint.kube.observe.inventory import CSI_ZONES, REGION, STATE_PREFIX, Inventory, passing
from stint.kube.records import DaemonSetRecord, NodeRecord
from stint.model.cluster import HOSTNAME, ZONE
from stint.model.job import NodeName
from stint.model.market import Offering, PoolName, Taint
from stint.model.offering import OfferingId
from stint.model.resources import Resources
from stint.placement import fit

_MOST_LABELS = 64
_OWN_OF_A_NODE = frozenset({HOSTNAME, "node.kubernetes.io/instance-id"})
_OF_A_PLACE = frozenset({ZONE, REGION, "topology.k8s.aws/zone-id", *CSI_ZONES.values()})
_LONGEST = 63


def seen_of(offering: Offering, nodes: Sequence[NodeRecord]) -> NewNode | None:
    """What nodes of an offering have in common, all of their GPUs in order; None: there is none."""
    whole = [n for n in nodes if n.ready and n.allocatable.gpus >= offering.per_node.gpus]
    if not whole:
        return None
    labels = set(_lasting(whole[0].labels))
    taints = [t for t in whole[0].taints if not passing(t) and not t.key.startswith(STATE_PREFIX)]
    least = whole[0].allocatable
    for other in whole[1:]:
        labels &= set(_lasting(other.labels))
        taints = [t for t in taints if t in other.taints]
        least = _less(least, other.allocatable)
    return NewNode(
        offering=offering.id,
        nodes=len(whole),
        cpu=least.cpu,
        memory_gib=round(least.memory_gib, 3),
        pods=least.pods,
        resources=dict(least.extended[:_MOST_LABELS]),
        labels=dict(sorted(labels)[:_MOST_LABELS]),
        taints=_texts(taints[:_MOST_LABELS]),
    )


def _texts(taints: Iterable[Taint]) -> list[str]:
    return [f"{t.key}={t.value}:{t.effect}" for t in taints]


def _lasting(labels: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    return ((k, v) for k, v in labels.items() if k not in _OWN_OF_A_NODE and len(v) <= _LONGEST)


def _less(some: Resources, others: Resources) -> Resources:
    amounts = dict(others.extended)
    return Resources(
        gpus=min(some.gpus, others.gpus),
        cpu=min(some.cpu, others.cpu),
        memory_gib=min(some.memory_gib, others.memory_gib),
        pods=min(some.pods, others.pods),
        extended=tuple((name, min(amount, amounts[name])) for name, amount in some.extended if name in amounts),
    )


def learn(
    inventory: Inventory,
    nodes: Iterable[NodeRecord],
    gpu_pools: Iterable[GPUPool],
    daemon_sets: Sequence[DaemonSetRecord],
) -> Inventory:
    """The inventory with offerings that say what their next node will be like."""
    by_offering: dict[OfferingId, list[NodeRecord]] = defaultdict(list)
    for node in nodes:
        named = NodeName(node.name)
        # One that does not say what it is at the moment says nothing of others.
        if named not in inventory.kept and (key := inventory.offering_of.get(named)) is not None:
            by_offering[key].append(node)
    offerings = dict(inventory.offerings)
    new_nodes: dict[PoolName, tuple[NewNode, ...]] = {}
    for pool in gpu_pools:
        name = PoolName(pool.metadata.name)
        old = {n.offering: n for n in pool.status.new_nodes}
        described = [inventory.offerings[key] for key in inventory.described.get(name, ())]
        known: dict[OfferingId, NewNode] = {}
        for offering in described:
            before, seen = old.get(offering.id), seen_of(offering, by_offering[offering.id])
            if before is not None and before.generation != pool.metadata.generation:
                before = None  # its pool was edited since: what was seen may be no more
            if seen is not None and seen.nodes == 1:  # its taints may be meant for it alone, or pass
                rule = before.taints if before is not None else _texts(offering.taints)
                seen = msgspec.structs.replace(seen, taints=[t for t in seen.taints if t in rule])
            if seen is not None:
                seen = msgspec.structs.replace(seen, generation=pool.metadata.generation)
            if (found := seen or before) is not None:
                known[offering.id] = found
        new_nodes[name] = tuple(known.values())
        for offering in described:
            alike = (known[o.id] for o in described if o.instance_type == offering.instance_type and o.id in known)
            own = known.get(offering.id)
            offerings[offering.id] = _as_seen(offering, own or next(alike, None), elsewhere=own is None)
    left = {key: _beside_daemons(o, daemon_sets) for key, o in offerings.items()}
    return replace(inventory, offerings=left, new_nodes=new_nodes)


def _as_seen(offering: Offering, seen: NewNode | None, *, elsewhere: bool) -> Offering:
    if seen is None:
        return offering
    room = Resources(
        gpus=offering.per_node.gpus,
        cpu=seen.cpu,
        memory_gib=seen.memory_gib,
        pods=seen.pods,
        extended=tuple(sorted(seen.resources.items())),
    )
    labels = {k: v for k, v in seen.labels.items() if not (elsewhere and (k in _OF_A_PLACE or k in offering.labels))}
    return replace(
        offering,
        room_on_new=room,
        labels={**offering.labels, **labels},
        taints=tuple(_taint(text) for text in seen.taints),
    )


def _taint(text: str) -> Taint:
    key, _, rest = text.partition("=")
    value, _, effect = rest.rpartition(":")
    return Taint(key=key, value=value, effect=effect)


def _beside_daemons(offering: Offering, daemon_sets: Sequence[DaemonSetRecord]) -> Offering:
    """What is left for gangs when the DaemonSets' pods are there."""
    if not offering.orderable:
        return offering
    mine = [d.requests for d in daemon_sets if _runs_there(d, offering)]
    if not mine:
        return offering
    whole = offering.new_node
    total = Resources()
    # One that does not fit beside the smaller ones will not run there, so that it takes nothing.
    for asked in sorted(mine, key=lambda r: (r.share_of(whole), r.as_row())):
        if fit.workers_per_node(total + asked, whole):
            total += asked
    return replace(offering, room_on_new=whole.less(total))


def _runs_there(daemons: DaemonSetRecord, offering: Offering) -> bool:
    return (
        fit.selector_misses(dict(daemons.node_selector), offering.labels) is None
        and (daemons.node_affinity is None or fit.any_term(daemons.node_affinity, "", offering.labels))
        and fit.untolerated(daemons.tolerations, offering.taints) is None
    )
