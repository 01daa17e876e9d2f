"""A cache of one kind of object that follows the API server: list once, then watch.

Wire objects are decoded by msgspec into structs that name only the fields we use, page by page, and reduced at once
to a record of our own. After a gap that the server no longer remembers (410) the new list is compared with the
cache, so that what vanished meanwhile is told as vanished.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Generic, TypeVar

import aiohttp
import msgspec

from stint.kube.client.api import PAGE, Api, ApiError, ListMeta, error_of
from stint.kube.client.versions import Versions

log = logging.getLogger(__name__)

WireT = TypeVar("WireT")
RecordT = TypeVar("RecordT")

_LONGEST_PAUSE_S = 30.0
_ABSENT_S = 30.0  # between two looks whether a kind is served by now
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class _Page(msgspec.Struct, Generic[WireT]):
    metadata: ListMeta
    items: list[WireT]


class _RawPage(msgspec.Struct):
    metadata: ListMeta
    items: list[msgspec.Raw]


class _Bare(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _HeadMeta(msgspec.Struct, rename="camel"):
    uid: str = ""
    resource_version: str = ""


class _Head(msgspec.Struct):
    metadata: _HeadMeta


class _Failure(msgspec.Struct):
    code: int = 0
    message: str = ""


class GoneError(Exception):
    """The server no longer remembers where we were: list again."""

    def __str__(self) -> str:
        """For the log."""
        return "the server no longer remembers where we were"


class Informer(Generic[WireT, RecordT]):
    """One kind's cache. `records` is keyed by uid; read it, never write it."""

    def __init__(
        self,
        api: Api,
        path: str,
        wire: type[WireT],
        reduce: Callable[[WireT], tuple[str, str, RecordT]],
        *,
        params: Mapping[str, str] | None = None,
        on_change: Callable[[RecordT | None, RecordT | None], None] = lambda _old, _new: None,
        on_gap: Callable[[], None] = lambda: None,
        may_be_absent: bool = False,
        may_be_refused: bool = False,
        on_sync: Callable[[], None] = lambda: None,
    ) -> None:
        """Follow `path` from when `run` is called.

        Args:
            reduce: returns (uid, resourceVersion, record).
            on_change: gets (old, new), either of them None. Of what is gone, `old` is as it was in the end.
            on_gap: called when the server had forgotten where we were, so that it was listed anew.
            may_be_absent: the server need not know the kind; until it does, there are none.
            may_be_refused: the operator goes on without the kind where it may not list it; `refused` says so.
            on_sync: called when it has been listed for the first time.
        """
        self.path = path
        self.records: dict[str, RecordT] = {}
        self.synced = asyncio.Event()
        self.last_heard = 0.0  # monotonic seconds
        self._may_be_absent = may_be_absent or may_be_refused
        self._may_be_refused = may_be_refused
        self.refused = False
        self._api = api
        self._params = dict(params or {})
        self._reduce = reduce
        self._on_change = on_change
        self._on_gap = on_gap
        self._on_sync = on_sync
        self._versions = Versions()
        self._page = msgspec.json.Decoder(_Page[wire])  # type: ignore[valid-type]
        self._object = msgspec.json.Decoder(wire)
        self._event = msgspec.json.Decoder(_Bare)
        self._version = ""

    async def run(self) -> None:
        """Follow the server until cancelled; every failure is waited out and tried again."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                failures = 0
            except (GoneError, ApiError, aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
                if isinstance(error, ApiError) and (
                    (self._may_be_absent and error.status == 404) or (self._may_be_refused and error.status == 403)
                ):
                    self.refused = error.status == 403
                    await self._without_kind()
                    continue
                failures = 0 if self.last_heard > began else failures
                pause = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)] * random.uniform(0.8, 1.2)
                failures += 1
                if isinstance(error, GoneError) or (isinstance(error, ApiError) and error.status == 410):
                    self._version = ""
                elif isinstance(error, ApiError) and error.status == 401:
                    self._api.connection.renew()
                elif isinstance(error, ApiError) and error.retry_after_s:
                    pause = max(pause, min(error.retry_after_s, _LONGEST_PAUSE_S))
                log.warning("watch of %s: %s; again in %.1f s", self.path, error or type(error).__name__, pause)
                await asyncio.sleep(pause)

    async def _without_kind(self) -> None:
        """The server does not know the kind (any more): whoever installs it waits a little until it is noticed."""
        self._version = ""
        for uid in list(self.records):
            self._drop(uid, "")
        self.last_heard = time.monotonic()
        self.synced.set()
        await asyncio.sleep(_ABSENT_S)

    async def _list(self) -> None:
        seen: set[str] = set()
        token = ""
        while True:
            params = {**self._params, "limit": str(PAGE)} | ({"continue": token} if token else {})
            page = self._decoded(await self._api.raw("GET", self.path, params=params))
            seen.update(uid for item in page.items if (uid := self._store(item)))
            token = page.metadata.continue_
            if not token:
                self._version = page.metadata.resource_version
                break
        self.refused = False
        for uid in self._versions.vanished(seen, self._version):
            self._drop(uid, self._version)
        self.last_heard = time.monotonic()
        again = self.synced.is_set()
        self.synced.set()
        (self._on_gap if again else self._on_sync)()

    def _decoded(self, payload: bytes) -> _Page[WireT]:
        """A page of objects, without those that have another shape than the kind: they must not hide all others.

        Raises:
            msgspec.DecodeError: it is no list at all.
        """
        try:
            page: _Page[WireT] = self._page.decode(payload)
            return page
        except (msgspec.ValidationError, ValueError, OverflowError, RecursionError):
            rough = msgspec.json.decode(payload, type=_RawPage)
        items = [item for raw in rough.items if (item := self._shaped(raw)) is not None]
        return _Page(metadata=rough.metadata, items=items)

    def _shaped(self, payload: msgspec.Raw) -> WireT | None:
        """None: it cannot be read, which the log says."""
        try:
            item: WireT = self._object.decode(payload)
            return item
        except Exception as error:
            log.warning("an object of %s cannot be read and is left out: %s: %.300s", self.path, error, bytes(payload))
            return None

    async def _watch(self) -> None:
        params = {
            **self._params,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": "300",
        }
        async with self._api.watch(self.path, params) as response:
            if response.status != 200:
                raise error_of(response.status, await response.read(), response.headers.get("Retry-After"))
            async for line in _lines(response):
                self.last_heard = time.monotonic()
                self._on_event(line)

    def _on_event(self, line: bytes) -> None:
        event = self._event.decode(line)
        if event.type == "ERROR":
            failure = msgspec.json.decode(event.object, type=_Failure)
            if failure.code == 410:
                raise GoneError
            raise ApiError(failure.code, "watch", failure.message)
        if event.type == "BOOKMARK":
            self._version = msgspec.json.decode(event.object, type=_Head).metadata.resource_version
            return
        meta = msgspec.json.decode(event.object, type=_Head).metadata
        if event.type == "DELETED":
            self._drop(meta.uid, meta.resource_version, self._last(event.object))
        elif (item := self._shaped(event.object)) is not None:
            self._store(item)
        self._version = meta.resource_version

    def absorb(self, payload: bytes) -> None:
        """Take in the answer to a write of ours, so that the next look at the cache does not come too early."""
        self._store(self._object.decode(payload))

    def _store(self, item: WireT) -> str:
        """Its uid; empty: it cannot be read, and one such object must not hide all others."""
        try:
            uid, version, record = self._reduce(item)
        except Exception:
            log.exception("an object of %s cannot be read and is left out: %.300s", self.path, item)
            return ""
        if self._versions.stale(uid, version):
            return uid
        old = self.records.get(uid)
        self.records[uid] = record
        self._versions.learn(uid, version)
        self._on_change(old, record)
        return uid

    def _last(self, payload: msgspec.Raw) -> RecordT | None:
        """What an object was when it went; None: it cannot be read."""
        try:
            return self._reduce(self._object.decode(payload))[2]
        except Exception:
            log.exception("an object of %s that is gone cannot be read: %.300s", self.path, payload)
            return None

    def _drop(self, uid: str, version: str, last: RecordT | None = None) -> None:
        self._versions.end(uid, version)
        old = self.records.pop(uid, None)
        if old is not None:
            self._on_change(last or old, None)

    def __iter__(self) -> Iterator[RecordT]:
        """The records there are."""
        return iter(self.records.values())


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines of any length; aiohttp's own reader gives up at 128 KiB."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
