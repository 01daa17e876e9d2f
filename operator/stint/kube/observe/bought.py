"""Nodes that were bought for jobs and stand unused: who pays for them, since when and until when. Pure.

A job pays from when a node exists until a gang is on it, whosever that is, or the node is gone; from then on the
gang's workers pay for what they take, and the rest is nobody's, as with any node. A node is remembered by its uid in
the status of its GPUPool until everybody's books have its whole time: whoever leads next goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from stint.api.gpupool import MOST_BOUGHT, Bought, NodeOrder, UnusedNode
from stint.kube.records import NodeRecord
from stint.ledger.book import Held
from stint.model.job import NodeName
from stint.model.market import Offering, PoolName
from stint.model.offering import OfferingId

_Key = tuple[str, datetime]
BoughtNodes = Mapping[PoolName, tuple[Bought, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Of one pool."""

    seen: Sequence[NodeOrder]  # those that were open, with the nodes that came
    open: Sequence[NodeOrder]  # those of them that still are
    strays: Mapping[NodeName, datetime]  # nodes that came of none of them, and when
    records: Mapping[NodeName, NodeRecord]
    created: Mapping[str, datetime]  # by node
    offering_of: Mapping[NodeName, OfferingId]


def with_those_that_came(
    kept: Sequence[Bought], orders: Orders, *, now: datetime, memory: timedelta
) -> tuple[Bought, ...]:
    """What is remembered of a pool, with the nodes that have come since.

    Args:
        memory: for so long after its order a node that comes late counts as coming of it.
    """
    groups = {_key(b): b for b in kept}
    known = {n.uid for b in kept for n in b.nodes}

    def add(group: Bought, names: Iterable[str]) -> Bought:
        records = (orders.records.get(NodeName(n)) for n in names)
        new = [r for r in records if r is not None and r.uid not in known]
        known.update(r.uid for r in new)
        nodes = [UnusedNode(name=r.name, uid=r.uid, since=orders.created.get(r.name, now)) for r in new]
        return msgspec.structs.replace(group, nodes=[*group.nodes, *nodes])

    for order in orders.seen:
        if order.payers:
            group = groups.get(_key(order)) or Bought(offering=order.offering, at=order.at, payers=order.payers)
            group = msgspec.structs.replace(group, missing=max(0, order.nodes - len(order.came)))
            groups[_key(order)] = add(group, order.came)
    going_on = {_key(o) for o in orders.open}
    strays = {n: when for n, when in orders.strays.items() if (r := orders.records.get(n)) and r.uid not in known}
    for key, group in groups.items():
        if key in going_on or not group.missing:
            continue
        if now - group.at > memory:
            groups[key] = msgspec.structs.replace(group, missing=0)
            continue
        late = [n for n, when in strays.items() if when >= group.at and orders.offering_of.get(n) == group.offering]
        late = sorted(late, key=lambda n: (strays[n], n))[: group.missing]
        strays = {n: when for n, when in strays.items() if n not in late}
        groups[key] = add(msgspec.structs.replace(group, missing=group.missing - len(late)), late)
    # Of an order that is open, a node that is forgotten would be taken for one that has just come.
    ordered = sorted(groups.values(), key=lambda b: (_key(b) in going_on, b.at))
    return tuple(b for b in ordered if b.nodes or _key(b) in going_on or b.missing)[-MOST_BOUGHT:]


def ended(
    group: Bought, *, begun: Mapping[str, Sequence[datetime]], gone: Mapping[str, datetime], there: Mapping[str, str]
) -> Bought:
    """The same, with the end of what has ended.

    Args:
        begun: by node, since when workers of gangs are, or were, on it.
        gone: when nodes have gone, by uid, or were known to be unused no more.
        there: uids of the nodes that are there, by name.
    """
    nodes = []
    for node in group.nodes:
        if node.until is None:
            over = [at for at in begun.get(node.name, ()) if at >= node.since]
            if node.uid in gone:
                over.append(max(gone[node.uid], node.since))
            elif not over and there.get(node.name) != node.uid:
                continue  # it went while nobody looked: nobody knows when
            node = msgspec.structs.replace(node, until=min(over, default=None))
        nodes.append(node)
    return msgspec.structs.replace(group, nodes=nodes)


def without_what_is_booked(
    bought: Iterable[Bought], orders: Iterable[NodeOrder], told: Mapping[str, datetime | None]
) -> tuple[Bought, ...]:
    """The same without nodes whose whole time everybody's status has.

    Args:
        told: until when the status of a job that may still pay speaks for itself, by uid; None: it does not yet.
    """
    going_on, kept = {_key(o) for o in orders}, []
    for group in bought:
        if _key(group) in going_on:
            kept.append(group)
            continue
        owing = [told[p.uid] for p in group.payers if p.uid in told]
        nodes = [n for n in group.nodes if any(_before(at, n.until) for at in owing)]
        if owing and (nodes or group.missing):
            kept.append(msgspec.structs.replace(group, nodes=nodes))
    return tuple(kept)


def _before(at: datetime | None, end: datetime | None) -> bool:
    return at is None or end is None or at < end


def _key(order: NodeOrder | Bought) -> _Key:
    return order.offering, order.at


def held_by(bought: BoughtNodes, offering: Callable[[str], Offering | None]) -> dict[str, list[Held]]:
    """What each job holds of nodes that were bought for it, by its uid."""
    found: dict[str, list[Held]] = {}
    for groups in bought.values():
        for group in groups:
            what = offering(group.offering)
            if what is None:
                continue
            gpus = what.whole_gpus(what.per_node.gpus)
            for payer in group.payers:
                found.setdefault(payer.uid, []).extend(
                    Held(offering=what.id, share=payer.share, gpus=payer.share * gpus, start=node.since, end=node.until)
                    for node in group.nodes
                )
    return found


def paid_shares(bought: BoughtNodes, payers: Iterable[str]) -> dict[NodeName, float]:
    """Which part of each unused node jobs pay for at this moment.

    Args:
        payers: uids of the jobs that have not ended.
    """
    alive = frozenset(payers)
    return {
        NodeName(node.name): sum(p.share for p in group.payers if p.uid in alive)
        for groups in bought.values()
        for group in groups
        for node in group.nodes
        if node.until is None
    }
