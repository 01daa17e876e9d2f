"""News of capacity beside the nodes themselves: what the adapters of pools in use want to hear of starts a cycle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from stint.api.gpupool import GPUPool
from stint.capacity.adapter import Watch
from stint.capacity.registry import traits_of
from stint.kube.client.api import Api
from stint.kube.client.informer import Informer
from stint.kube.wire import WireMeta

LOOK_EVERY_S = 5.0


class WireObject(msgspec.Struct):
    """Any object."""

    metadata: WireMeta


def version_of(thing: WireObject) -> tuple[str, str, str]:
    """For `Informer`: that it has changed is all there is to know."""
    return thing.metadata.uid, thing.metadata.resource_version, thing.metadata.resource_version


def wanted(pools: Iterable[GPUPool]) -> frozenset[Watch]:
    """What the adapters of these pools watch."""
    all_traits = (traits_of(p.spec.scaler.adapter) for p in pools if p.spec.scaler is not None)
    return frozenset(w for traits in all_traits if traits is not None for w in traits.watches)


async def watch_capacity(api: Api, pools: Callable[[], Iterable[GPUPool]], on_change: Callable[[], None]) -> None:
    """Until cancelled: follow what is wanted, from when a pool wants it until none does."""
    running: dict[Watch, asyncio.Task[None]] = {}
    try:
        while True:
            want = wanted(pools())
            for watch in want - running.keys():
                informer: Informer[WireObject, str] = Informer(
                    api,
                    watch.path,
                    WireObject,
                    version_of,
                    on_change=lambda _old, _new: on_change(),
                    may_be_absent=True,
                )
                running[watch] = asyncio.create_task(informer.run())
            for watch in running.keys() - want:
                running.pop(watch).cancel()
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        for task in running.values():
            task.cancel()
