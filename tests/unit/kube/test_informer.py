"""The cache believes neither old news nor the answers of writes that came too late."""

from __future__ import annotations

import asyncio

import msgspec

from stint.kube.client.api import Api, ApiError
from stint.kube.client.informer import Informer


class Thing(msgspec.Struct):
    uid: str
    version: str
    value: int


def an_informer(**more) -> Informer[Thing, int]:
    def reduce(thing: Thing) -> tuple[str, str, int]:
        if thing.value < 0:
            raise ValueError("poison")
        return thing.uid, thing.version, thing.value

    api = more.pop("api", None) or Pages([], "0")
    return Informer(api, "/things", Thing, reduce, **more)


def told(kind: str, uid: str, version: str, value: int = 0) -> bytes:
    meta = {"uid": uid, "resourceVersion": version}
    return msgspec.json.encode(
        {"type": kind, "object": {"metadata": meta, "uid": uid, "version": version, "value": value}}
    )


def answer(uid: str, version: str, value: int) -> bytes:
    return msgspec.json.encode({"uid": uid, "version": version, "value": value})


def test_the_answer_to_a_write_counts_until_the_watch_knows_better():
    cache = an_informer()
    cache._on_event(told("ADDED", "a", "5", 1))
    cache.absorb(answer("a", "7", 2))
    cache._on_event(told("MODIFIED", "a", "6", 9))
    assert cache.records == {"a": 2}
    cache._on_event(told("MODIFIED", "a", "8", 3))
    assert cache.records == {"a": 3}


def test_an_answer_after_the_news_of_the_end_brings_nothing_back():
    cache = an_informer()
    cache._on_event(told("ADDED", "a", "5", 1))
    cache._on_event(told("DELETED", "a", "8"))
    cache.absorb(answer("a", "7", 2))
    cache._on_event(told("MODIFIED", "a", "6", 1))
    assert cache.records == {}


def test_an_object_that_cannot_be_read_hides_no_other(caplog):
    cache = an_informer()
    cache._on_event(told("ADDED", "bad", "5", -1))
    cache._on_event(told("ADDED", "good", "6", 1))
    assert cache.records == {"good": 1}
    assert "left out" in caplog.text


class Pages(Api):
    """An API server that has one list; something is written while it answers."""

    def __init__(self, listed: list[dict[str, object]], version: str) -> None:  # opens no session
        self._listed, self._version = listed, version
        self.cache: Informer[Thing, int] | None = None

    async def raw(self, verb: str, path: str, params: object) -> bytes:  # type: ignore[override]
        assert (verb, path, params) == ("GET", "/things", {"limit": "500"})
        assert self.cache is not None
        self.cache.absorb(answer("new", "12", 7))
        return msgspec.json.encode({"metadata": {"resourceVersion": self._version}, "items": self._listed})


async def test_a_list_drops_what_vanished_and_keeps_what_came_while_it_was_read():
    gaps: list[str] = []
    api = Pages([{"uid": "stays", "version": "9", "value": 2}], "10")
    cache = api.cache = an_informer(api=api, on_gap=lambda: gaps.append("gap"))
    cache._on_event(told("ADDED", "vanished", "5", 1))
    cache._on_event(told("ADDED", "stays", "6", 1))
    await cache._list()
    assert cache.records == {"stays": 2, "new": 7}
    assert gaps == []
    await cache._list()
    assert gaps == ["gap"]


async def test_an_object_of_another_shape_hides_no_other_in_a_list_or_in_the_news(caplog):
    api = Pages([{"uid": "bad", "version": "8", "value": None}, {"uid": "good", "version": "9", "value": 2}], "10")
    cache = api.cache = an_informer(api=api)
    await cache._list()
    assert cache.records == {"good": 2, "new": 7}
    odd = {"metadata": {"uid": "odd", "resourceVersion": "13"}, "uid": "odd", "version": "13", "value": "many"}
    cache._on_event(msgspec.json.encode({"type": "ADDED", "object": odd}))
    cache._on_event(told("ADDED", "later", "14", 1))
    assert cache.records == {"good": 2, "new": 7, "later": 1}
    assert caplog.text.count("left out") == 2


class Refuses(Api):
    """An API server that does not let us list."""

    def __init__(self) -> None:  # opens no session
        pass

    async def raw(self, verb: str, path: str, params: object) -> bytes:  # type: ignore[override]
        raise ApiError(403, "Forbidden", f"{verb} {path} {params} is not allowed")


async def test_a_kind_that_may_be_refused_is_gone_on_without():
    cache = an_informer(api=Refuses(), may_be_refused=True)
    running = asyncio.create_task(cache.run())
    await asyncio.wait_for(cache.synced.wait(), timeout=5)
    assert cache.refused
    assert list(cache) == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
