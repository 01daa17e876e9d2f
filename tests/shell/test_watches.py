"""The trigger, rights and our own resources, hour by hour in milliseconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest

from stint.controllers.own_resources import RELIST_EVERY_S, UNWATCHED_S, OwnResources
from stint.controllers.rights_watch import ASK_AGAIN_S, RightsWatch
from stint.controllers.trigger import PATIENCE_S, QUIET_S, Trigger
from stint.kube import rbac
from tests.shell.conftest import Server

pytestmark = pytest.mark.looptime


class TestTrigger:
    async def test_changes_that_follow_at_once_are_one_cycle(self):
        trigger, loop = Trigger(), asyncio.get_running_loop()

        async def burst() -> None:
            for _ in range(10):
                trigger.fire()
                await asyncio.sleep(QUIET_S / 2)

        task = asyncio.create_task(burst())
        await trigger.fired()
        assert task.done()
        assert loop.time() <= 10 * QUIET_S
        assert not trigger.event.is_set()

    async def test_changes_without_end_wait_no_longer_than_a_second(self):
        trigger = Trigger()

        async def storm() -> None:
            while True:
                trigger.fire()
                await asyncio.sleep(QUIET_S / 2)

        task = asyncio.create_task(storm())
        await trigger.fired()
        assert asyncio.get_running_loop().time() <= PATIENCE_S + 2 * QUIET_S
        task.cancel()

    async def test_without_any_change_a_cycle_begins_after_the_tick(self):
        await Trigger().fired(7.0)
        assert asyncio.get_running_loop().time() == pytest.approx(7.0)


class TestRights:
    def watch(self, server: Server, changes: list[str]) -> RightsWatch:
        needed = rbac.needed((), steering=False, pod_groups=False)
        return RightsWatch(
            api=server.api, namespace="stint-system", needed=lambda: needed, on_change=lambda: changes.append("!")
        )

    async def test_what_is_granted_is_asked_once(self, server: Server, monkeypatch: pytest.MonkeyPatch):
        asked: list[float] = []

        async def missing(*_: object, **__: object) -> list[rbac.Right]:
            asked.append(asyncio.get_running_loop().time())
            return []

        monkeypatch.setattr(rbac, "missing", missing)
        await self.run(self.watch(server, []), 3600)
        assert len(asked) == 1

    async def test_after_a_refusal_it_is_asked_again_but_not_every_time(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ):
        asked: list[float] = []

        async def missing(*_: object, **__: object) -> list[rbac.Right]:
            asked.append(asyncio.get_running_loop().time())
            return []

        monkeypatch.setattr(rbac, "missing", missing)

        async def refused_all_the_time() -> None:
            while True:
                server.api.requests["PATCH", 403] = server.api.requests.get(("PATCH", 403), 0) + 1
                await asyncio.sleep(1)

        task = asyncio.create_task(refused_all_the_time())
        await self.run(self.watch(server, []), 600)
        task.cancel()
        gaps = [b - a for a, b in pairwise(asked)]
        assert len(asked) > 5
        assert min(gaps) >= ASK_AGAIN_S

    async def test_what_is_missing_is_asked_until_it_is_there(self, server: Server, monkeypatch: pytest.MonkeyPatch):
        right = rbac.needed((), steering=False, pod_groups=False)[0]
        answers = iter([[right], [right], []])
        changes: list[str] = []

        async def missing(*_: object, **__: object) -> list[rbac.Right]:
            return next(answers, [])

        monkeypatch.setattr(rbac, "missing", missing)
        watch = self.watch(server, changes)
        await self.run(watch, 60)
        assert watch.hindrance() == ""
        assert len(changes) == 2, "missing, and granted"

    async def run(self, watch: RightsWatch, seconds: float) -> None:
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TestOwnResources:
    @pytest.mark.parametrize(("watched", "every_s"), [(True, RELIST_EVERY_S), (False, UNWATCHED_S)])
    async def test_they_are_listed_now_and_then_and_often_while_kopf_does_not_watch(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, watched: bool, every_s: float
    ):
        changes: list[str] = []
        own = OwnResources(server.api, identity="test", on_change=lambda: changes.append("!"))
        own.kopf.working = watched
        page = {"items": [], "metadata": {"resourceVersion": "1"}}
        listed: Counter[str] = Counter()

        async def pages(path: str, **_: object):  # type: ignore[no-untyped-def]
            listed[path] += 1
            for _ in ():
                yield page

        monkeypatch.setattr(server.api, "pages", pages)
        task = asyncio.create_task(own.keep_listed())
        await asyncio.sleep(10 * every_s + 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert set(listed.values()) == {11}
        assert own.listed
        assert changes == ["!"], "the first list lets cycles begin"

    async def test_a_gap_of_a_watch_is_mended_at_once(self, server: Server, monkeypatch: pytest.MonkeyPatch):
        own = OwnResources(server.api, identity="test", on_change=lambda: None)
        own.kopf.working = True
        times: list[float] = []

        async def pages(path: str, **_: object):  # type: ignore[no-untyped-def]
            times.append(asyncio.get_running_loop().time())
            for _ in ():
                yield

        monkeypatch.setattr(server.api, "pages", pages)
        task = asyncio.create_task(own.keep_listed())
        await asyncio.sleep(5)
        own.relist()
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(times) == 6, "three kinds, twice"
        assert times[-1] == pytest.approx(5.3, abs=0.1)
