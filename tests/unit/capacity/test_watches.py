"""What the adapters of pools in use watch is followed while they are, and news of it start a cycle."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.capacity import registry
from stint.controllers import capacity_watch
from stint.kube.client.api import Api
from tests.unit.capacity.test_a_new_adapter import NoteAdapter, noting
from tests.unit.capacity.test_orders import a_pool


class Served(Api):
    """Lists one object, whose version is the number of lists before; no watch ever tells of anything."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def raw(self, verb: str, path: str, **_: object) -> bytes:
        assert verb == "GET"
        self.asked.append(path)
        meta = {"uid": "u", "name": "m", "resourceVersion": "1"}
        return msgspec.json.encode({"metadata": {"resourceVersion": "1"}, "items": [{"metadata": meta}]})

    def watch(self, path: str, params: object) -> object:
        raise TimeoutError(f"{path} {params}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
async def test_a_watch_lasts_as_long_as_a_pool_wants_it(monkeypatch):
    monkeypatch.setitem(registry.ADAPTERS, "Note", NoteAdapter())
    monkeypatch.setattr(capacity_watch, "LOOK_EVERY_S", 0.01)
    pools: list[GPUPool] = [a_pool("us-east-1a")]
    api, fired = Served(), asyncio.Event()
    watching = asyncio.create_task(capacity_watch.watch_capacity(api, lambda: pools, fired.set))
    await asyncio.sleep(0.05)
    assert api.asked == [], "no adapter in use watches anything"
    pools.append(noting(a_pool("us-east-1a")))
    await asyncio.wait_for(fired.wait(), 2)
    assert set(api.asked) == {"/apis/infra.example.com/v1/machines"}
    pools.pop()
    await asyncio.sleep(0.05)
    before = asyncio.all_tasks()
    assert len(before) == 2, "this test and the task that looks after watches"
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
