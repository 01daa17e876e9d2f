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

from stint.kube.client import Api, ApiError

log = logging.getLogger(__name__)

WireT = TypeVar("WireT")
RecordT = TypeVar("RecordT")

PAGE = 500
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, Generic[WireT]):
    metadata: _ListMeta
    items: list[WireT]


class _Bare(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _BookmarkMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMeta


class _Failure(msgspec.Struct):
    code: int = 0
    message: str = ""


class GoneError(Exception):
    """The server no longer remembers where we were: list again."""


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
    ) -> None:
        """`reduce` returns (uid, resourceVersion, record); `on_change` gets (old, new), either of them None."""
        self.path = path
        self.records: dict[str, RecordT] = {}
        self.synced = asyncio.Event()
        self.last_heard = 0.0  # monotonic seconds
        self._api = api
        self._params = dict(params or {})
        self._reduce = reduce
        self._on_change = on_change
        self._versions: dict[str, str] = {}
        self._page = msgspec.json.Decoder(_Page[wire])  # type: ignore[valid-type]
        self._object = msgspec.json.Decoder(wire)
        self._event = msgspec.json.Decoder(_Bare)
        self._version = ""

    async def run(self) -> None:
        """Follow the server until cancelled; every failure is waited out and tried again."""
        failures = 0
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                failures = 0
            except GoneError:
                self._version = ""
            except (ApiError, aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
                if isinstance(error, ApiError) and error.status == 410:
                    self._version = ""
                    continue
                pause = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)] * random.uniform(0.8, 1.2)
                failures += 1
                log.warning("watch of %s: %s; again in %.1f s", self.path, error or type(error).__name__, pause)
                await asyncio.sleep(pause)

    async def _list(self) -> None:
        seen: set[str] = set()
        token = ""
        while True:
            params = {**self._params, "limit": str(PAGE)} | ({"continue": token} if token else {})
            page = self._page.decode(await self._api.raw("GET", self.path, params=params))
            for item in page.items:
                seen.add(self._store(item))
            token = page.metadata.continue_
            if not token:
                self._version = page.metadata.resource_version
                break
        for uid in [uid for uid in self.records if uid not in seen]:
            self._drop(uid)
        self.last_heard = time.monotonic()
        self.synced.set()

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
                raise ApiError(response.status, response.reason or "", (await response.text())[:300])
            async for line in _lines(response):
                self.last_heard = time.monotonic()
                self._heed(line)

    def _heed(self, line: bytes) -> None:
        event = self._event.decode(line)
        if event.type == "ERROR":
            failure = msgspec.json.decode(event.object, type=_Failure)
            if failure.code == 410:
                raise GoneError
            raise ApiError(failure.code, "watch", failure.message)
        if event.type == "BOOKMARK":
            self._version = msgspec.json.decode(event.object, type=_Bookmark).metadata.resource_version
            return
        item = self._object.decode(event.object)
        uid, version, _ = self._reduce(item)
        if event.type == "DELETED":
            self._drop(uid)
        else:
            self._store(item)
        self._version = version

    def absorb(self, payload: bytes) -> None:
        """Take in the answer to a write of ours, so that the next look at the cache does not come too early."""
        self._store(self._object.decode(payload))

    def _store(self, item: WireT) -> str:
        uid, version, record = self._reduce(item)
        known = self._versions.get(uid)
        if known is not None and not newer(version, known):
            return uid  # told again, or overtaken by `absorb`
        old = self.records.get(uid)
        self.records[uid] = record
        self._versions[uid] = version
        self._on_change(old, record)
        return uid

    def _drop(self, uid: str) -> None:
        old = self.records.pop(uid, None)
        self._versions.pop(uid, None)
        if old is not None:
            self._on_change(old, None)

    def __iter__(self) -> Iterator[RecordT]:
        """The records there are."""
        return iter(self.records.values())


def newer(version: str, known: str) -> bool:
    """Resource versions are numbers that grow, as Kubernetes 1.35 made official; any other are only told apart."""
    if version.isdigit() and known.isdigit():
        return int(version) > int(known)
    return version != known


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole lines of any length; aiohttp's own reader gives up at 128 KiB."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
