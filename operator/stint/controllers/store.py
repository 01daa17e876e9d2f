"""Our own resources as last seen. kopf's events fill it; a regular list mends what events have missed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from stint.api.meta import Meta
from stint.controllers.room import Room
from stint.kube.client.versions import Versions
from stint.model.job import ENDED, Phase

log = logging.getLogger(__name__)

ResourceT = TypeVar("ResourceT")
BodyT = TypeVar("BodyT")


class _Head(msgspec.Struct):
    metadata: Meta


class _Phase(msgspec.Struct):
    phase: str = ""


class _Parts(msgspec.Struct):
    spec: msgspec.Raw = msgspec.Raw(b"")
    status: _Phase = msgspec.field(default_factory=_Phase)


_PARTS = msgspec.json.Decoder(_Parts)


class Store(Generic[ResourceT]):
    """One kind, by uid, typed. An object that cannot be read is left out and named in the log."""

    def __init__(self, kind: type[ResourceT], room: Room | None = None) -> None:
        """`room`: how much of it each namespace may have; None: there is no limit."""
        self.kind = kind
        self._room = room
        self.items: dict[str, ResourceT] = {}
        self.unread: dict[str, tuple[Meta, str]] = {}  # by uid: what cannot be read, and why
        self._versions = Versions()
        self._heads = msgspec.json.Decoder(_Head)
        self._whole = msgspec.json.Decoder(kind)

    def put(self, body: Mapping[str, Any]) -> bool:
        """True if anything changed but what we wrote ourselves into status."""
        return self._put(msgspec.convert(body, _Head).metadata, body, self._convert)

    def _convert(self, body: Mapping[str, Any]) -> ResourceT:
        return msgspec.convert(body, self.kind)

    def _put(self, head: Meta, body: BodyT, read: Callable[[BodyT], ResourceT]) -> bool:
        if self._versions.stale(head.uid, head.resource_version):
            return False
        if self._room is not None and (why := self._no_room(self._room, head, body)):
            log.warning("%s %s/%s is not read: %s", self.kind.__name__, head.namespace, head.name, why)
            self.unread[head.uid] = (_brief(head), why)
            return False
        try:
            item = read(body)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            log.warning("%s %s/%s cannot be read: %s", self.kind.__name__, head.namespace, head.name, error)
            self.unread[head.uid] = (_brief(head), f"{str(error)[:300]}; correct that field")
            return False
        self.unread.pop(head.uid, None)
        old = self.items.get(head.uid)
        self.items[head.uid] = item
        self._versions.learn(head.uid, head.resource_version)
        return old is None or _wish(old) != _wish(item)

    def _no_room(self, room: Room, head: Meta, body: object) -> str:
        size, phase = _weigh(body)
        ended, runs = phase in ENDED, phase in (Phase.STARTING, Phase.RUNNING)
        if why := room.refusal(head.uid, head.namespace, size, ended=ended, runs=runs):
            return why
        room.take(head.uid, head.namespace, size, ended=ended)
        return ""

    def drop(self, uid: str, version: str) -> bool:
        """True if it was there. `version`: of the news that it is no more; older news of it are not believed."""
        self._versions.end(uid, version)
        self.unread.pop(uid, None)
        if self._room is not None:
            self._room.leave(uid)
        return self.items.pop(uid, None) is not None

    def put_page(self, page: Iterable[msgspec.Raw]) -> tuple[set[str], bool]:
        """Take in a page of a list, as JSON; its uids, and whether anything changed.

        Lists come often and hold little news: of what is known already no more is decoded than its metadata.
        """
        uids, changed = set(), False
        for body in page:
            head = self._heads.decode(body).metadata
            uids.add(head.uid)
            changed |= self._put(head, body, self._whole.decode)
        return uids, changed

    def keep_only(self, uids: Collection[str], version: str) -> bool:
        """Drop what a list made at `version` has not; True if there was any such."""
        self.unread = {uid: what for uid, what in self.unread.items() if uid in uids}
        gone = [self.drop(uid, version) for uid in self._versions.vanished(uids, version)]
        return any(gone)


def _weigh(body: object) -> tuple[int, str]:
    """The bytes of its spec as JSON, and its phase."""
    text = body if isinstance(body, msgspec.Raw) else msgspec.json.encode(body)
    parts = _PARTS.decode(text)
    return len(bytes(parts.spec)), parts.status.phase


def _brief(head: Meta) -> Meta:
    """Without what people write, which may be long."""
    return Meta(name=head.name, namespace=head.namespace, uid=head.uid, generation=head.generation)


def _wish(item: object) -> tuple[object, object, object]:
    """What people write: spec, and metadata that is not bookkeeping."""
    meta: Meta = item.metadata  # type: ignore[attr-defined]
    return item.spec, meta.annotations, meta.deletion_timestamp  # type: ignore[attr-defined]
