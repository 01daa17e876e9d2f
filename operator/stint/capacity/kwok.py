"""Fake nodes, kept alive by KWOK: what tests, demos and trials buy instead of machines."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from typing import Any

from stint.accelerators import registry
from stint.capacity.adapter import BOUGHT_BY, ORDERED_AT, Change, Client, Order, Outcome, Target, Traits
from stint.errors import ApiError
from stint.model.cluster import HOSTNAME, INTERRUPTED_TAINTS
from stint.model.market import Offering
from stint.model.right import Right, rights

KWOK_NODE = "kwok.x-k8s.io/node"
_POOL = "stint.dev/pool"
_NODES = "/api/v1/nodes"


class KwokAdapter:
    """Creates and deletes Node objects. Their names are numbered, so that the same order makes the same nodes."""

    traits = Traits(
        name="Kwok",
        about="fake nodes",
        chooses_nodes=False,
        announces_nodes=True,
        one_offering=False,
        needs_target=False,
        granted="Only with `pools.kwok.enabled=true`, for pools of fake nodes",
    )

    def rights(self, target: Target | None) -> Sequence[Right]:
        """See `CapacityAdapter`. Stint may list nodes anyway."""
        del target
        return rights("create delete", "", "nodes", "pools with the Kwok adapter grow and shrink")

    async def carry_out(self, order: Order, client: Client) -> Outcome:
        """See `CapacityAdapter`."""
        spared: list[str] = []
        try:
            for change in order.changes:
                spared += [name for name in change.going if name in order.busy]
                await (_shrink if change.going else _grow)(change, order, client)
        except ApiError as error:
            return Outcome(refused=str(error))
        return Outcome(note=f"{', '.join(spared)} stays: pods run there" if spared else "")


async def _shrink(change: Change, order: Order, client: Client) -> None:
    await asyncio.gather(*(client.delete(f"{_NODES}/{name}") for name in change.going if name not in order.busy))


async def _grow(change: Change, order: Order, client: Client) -> None:
    listed = await client.get(_NODES, {"labelSelector": f"{_POOL}={order.pool}"})
    stem = _stem(change.offering)
    taken = {n["metadata"]["name"] for n in listed["items"]}
    staying = {n["metadata"]["name"] for n in listed["items"] if not _interrupted(n)}
    mine = {name for name in staying if name.startswith(f"{stem}-")}
    # Of the same offering, not made here: as counted when it was ordered, so that asking twice orders once.
    ours_then = sum(m.name.startswith(f"{stem}-") and not m.interrupted for m in order.members)
    others = change.from_nodes - ours_then
    wanted = max(0, change.to_nodes - max(others, 0) - len(mine))
    free = (f"{stem}-{i}" for i in range(10_000) if f"{stem}-{i}" not in taken)
    for name in [next(free) for _ in range(wanted)]:
        try:
            await client.create(_NODES, _node(name, order, change.offering))
        except ApiError as error:
            if error.status != 409:
                raise


def _node(name: str, order: Order, o: Offering) -> dict[str, Any]:
    vendor = registry.on_node(o.labels, (t.key for t in o.taints))
    described = registry.labels_of(vendor)
    amounts = {
        "cpu": str(round(o.per_node.cpu, 3)),
        "memory": f"{int(o.per_node.memory_gib * 1024)}Mi",
        "pods": str(o.per_node.pods),
        vendor.resource: str(o.per_node.gpus),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                **o.labels,
                _POOL: order.pool,
                HOSTNAME: name,
                described.count: str(o.per_node.gpus),
                described.memory_mib: str(int(o.gpu_memory_gib * 1024)),
            },
            "annotations": {
                KWOK_NODE: "fake",
                ORDERED_AT: order.now.isoformat(),
                BOUGHT_BY: "stint",
                "sim.stint.dev/ready-after": f"{order.cold_start_seconds / order.pace:.1f}s",
            },
        },
        "spec": {"taints": [{"key": t.key, "value": t.value, "effect": t.effect} for t in o.taints]},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def _interrupted(node: dict[str, Any]) -> bool:
    return any(t["key"] in INTERRUPTED_TAINTS for t in node["spec"].get("taints", ()))


def _stem(offering: Offering) -> str:
    """A node name that tells what it is; what is cut off is made up for by a few hexadecimal digits."""
    text = re.sub(r"[^a-z0-9]+", "-", offering.id.lower()).strip("-")
    return f"{text[:40].strip('-')}-{hashlib.sha256(offering.id.encode()).hexdigest()[:4]}"
