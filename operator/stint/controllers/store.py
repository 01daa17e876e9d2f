"""Our own resources as last seen. kopf's events fill it; a regular list mends what events have missed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from stint.api.meta import Meta
from stint.kube.versions import Versions

log = logging.getLogger(__name__)

ResourceT = TypeVar("ResourceT")


class _Head(msgspec.Struct):
    metadata: Meta


class Store(Generic[ResourceT]):
    """One kind, by uid, typed. An object that cannot be read is left out and named in the log."""

    def __init__(self, kind: type[ResourceT]) -> None:
        self.kind = kind
        self.items: dict[str, ResourceT] = {}
        self._versions = Versions()

    def put(self, body: Mapping[str, Any]) -> bool:
        """True if anything changed but what we wrote ourselves into status."""
        head = msgspec.convert(body, _Head).metadata
        if self._versions.stale(head.uid, head.resource_version):
            return False
        try:
            item = msgspec.convert(body, self.kind)
        except msgspec.ValidationError as error:
            log.warning("%s %s/%s cannot be read: %s", self.kind.__name__, head.namespace, head.name, error)
            return False
        old = self.items.get(head.uid)
        self.items[head.uid] = item
        self._versions.learn(head.uid, head.resource_version)
        return old is None or _wish(old) != _wish(item)

    def drop(self, uid: str, version: str) -> bool:
        """True if it was there. `version`: of the news that it is no more; older news of it are not believed."""
        self._versions.end(uid, version)
        return self.items.pop(uid, None) is not None

    def replace_all(self, bodies: list[dict[str, Any]], version: str) -> bool:
        """Take over a whole list, made at `version`; True if anything changed."""
        uids = {b["metadata"]["uid"] for b in bodies}
        gone = [self.drop(uid, version) for uid in self._versions.vanished(uids, version)]
        changed = [self.put(b) for b in bodies]
        return any(gone) or any(changed)


def _wish(item: object) -> tuple[object, object, object]:
    """What people write: spec, and metadata that is not bookkeeping."""
    meta: Meta = item.metadata  # type: ignore[attr-defined]
    return item.spec, meta.annotations, meta.deletion_timestamp  # type: ignore[attr-defined]
