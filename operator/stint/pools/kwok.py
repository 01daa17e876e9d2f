"""Fake nodes, kept alive by KWOK: what tests, demos and trials buy instead of machines."""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import datetime
from typing import Any

from stint.api.gpupool import GPUPool
from stint.kube.client.api import Api, ApiError
from stint.kube.observe.inventory import INTERRUPTED_TAINTS, KWOK_NODE
from stint.kube.observe.snapshot import BOUGHT_BY, ORDERED_AT
from stint.model.market import Offering
from stint.model.plan import Resize


class KwokAdapter:
    """Creates and deletes Node objects. Their names are numbered, so that the same order makes the same nodes."""

    def __init__(self, api: Api, *, seconds_per_second: float = 1.0) -> None:
        """`seconds_per_second`: how much faster than the wall clock the deciding clock runs."""
        self._api = api
        self._pace = seconds_per_second

    async def resize(self, pool: GPUPool, offering: Offering, resize: Resize, *, now: datetime) -> None:
        """See `PoolAdapter`."""
        if resize.give_back:
            await asyncio.gather(*(self._api.delete(f"/api/v1/nodes/{name}") for name in resize.give_back))
            return
        listed = await self._api.get("/api/v1/nodes", {"labelSelector": f"stint.dev/pool={pool.metadata.name}"})
        stem = _stem(offering)
        taken = {n["metadata"]["name"] for n in listed["items"]}
        staying = {n["metadata"]["name"] for n in listed["items"] if not _interrupted(n)}
        mine = {name for name in staying if name.startswith(f"{stem}-")}
        others = resize.from_nodes - len(mine)  # of the same offering, not made here
        wanted = max(0, resize.to_nodes - max(others, 0) - len(mine))
        free = (f"{stem}-{i}" for i in range(10_000) if f"{stem}-{i}" not in taken)
        for name in [next(free) for _ in range(wanted)]:
            await self._order(name, pool, offering, now)

    async def _order(self, name: str, pool: GPUPool, offering: Offering, now: datetime) -> None:
        try:
            await self._api.create("/api/v1/nodes", self._node(name, pool, offering, now))
        except ApiError as error:
            if error.status != 409:
                raise

    def _node(self, name: str, pool: GPUPool, offering: Offering, now: datetime) -> dict[str, Any]:
        o = offering
        amounts = {
            "cpu": str(round(o.per_node.cpu, 3)),
            "memory": f"{int(o.per_node.memory_gib * 1024)}Mi",
            "pods": str(o.per_node.pods),
            "nvidia.com/gpu": str(o.per_node.gpus),
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    **o.labels,
                    "stint.dev/pool": pool.metadata.name,
                    "kubernetes.io/hostname": name,
                    "nvidia.com/gpu.count": str(o.per_node.gpus),
                    "nvidia.com/gpu.memory": str(int(o.gpu_memory_gib * 1024)),
                },
                "annotations": {
                    KWOK_NODE: "fake",
                    ORDERED_AT: now.isoformat(),
                    BOUGHT_BY: "stint",
                    "sim.stint.dev/ready-after": f"{pool.spec.cold_start_seconds / self._pace:.1f}s",
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
