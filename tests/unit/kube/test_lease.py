"""A leader writes only while nobody else can lead."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.kube.client import lease as leases
from stint.kube.client.api import Api, ApiError
from stint.kube.client.lease import GIVE_UP_AFTER_S, LASTS_S, Leadership


class FakeApi(Api):
    """One Lease, with optimistic concurrency."""

    def __init__(self) -> None:  # opens no session
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.asked: list[str] = []

    async def find(self, path: str, *, fenced: bool = True) -> Any:
        assert path.endswith("/stint")
        self.asked.append("GET")
        assert not fenced
        return msgspec.json.decode(msgspec.json.encode(self.lease))

    async def raw(self, verb: str, path: str, *, body: Any, fenced: bool) -> bytes:  # type: ignore[override]
        assert "/leases" in path
        self.asked.append(verb)
        assert not fenced, "its own renewal would wait for itself"
        if verb == "PUT" and (self.lease is None or body["metadata"]["resourceVersion"] != str(self.version)):
            raise ApiError(409, "Conflict", "")
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return msgspec.json.encode(self.lease)


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    return now


def candidate(api: FakeApi, name: str) -> Leadership:
    return Leadership(api, namespace="stint-system", name="stint", identity=name)


@pytest.mark.usefixtures("clock")
async def test_a_renewal_is_one_request():
    api = FakeApi()
    first = candidate(api, "first")
    assert await first._try()
    api.asked.clear()
    assert await first._try()
    assert await first._try()
    assert api.asked == ["PUT", "PUT"]


async def test_another_one_waits_until_the_lease_has_run_out_on_its_own_clock(clock):
    api = FakeApi()
    first, second = candidate(api, "first"), candidate(api, "second")
    assert await first._try()
    assert not await second._try()
    clock[0] += LASTS_S - 0.1
    assert not await second._try()
    clock[0] += 0.2
    assert await second._try()
    assert not await first._try()


async def test_it_is_certain_only_while_the_last_renewal_is_young(clock):
    api = FakeApi()
    first = candidate(api, "first")
    assert not first.certain()
    assert await first._try()
    first.held.set()
    first._renewed = clock[0]
    assert first.certain()
    clock[0] += GIVE_UP_AFTER_S  # as if the process had been stopped: nobody told it anything meanwhile
    assert not first.certain()


@pytest.mark.usefixtures("clock")
async def test_who_lets_go_leaves_nothing_to_wait_for():
    api = FakeApi()
    first, second = candidate(api, "first"), candidate(api, "second")
    assert await first._try()
    first.held.set()
    await first.release()
    assert await second._try()
