"""Events that people see in `kubectl describe`, in events.k8s.io/v1, with money in them.

The same event again is counted on the first one, not written anew; what repeats quickly is written rarely.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from stint.kube.client.api import MERGE, Api, ApiError

log = logging.getLogger(__name__)

_NOTE_LIMIT = 1024
_AGAIN_AFTER_S = 60.0
_REMEMBERED = 5000


@dataclass(frozen=True, slots=True)
class About:
    """What an event is about."""

    api_version: str
    kind: str
    namespace: str  # empty for cluster-wide objects
    name: str
    uid: str


@dataclass(slots=True)
class _Told:
    name: str
    at: float
    count: int = 1


class Recorder:
    """Writes events; failing to is logged, never raised: an event is not worth a decision."""

    def __init__(self, api: Api, instance: str) -> None:
        self._api = api
        self._instance = instance[:128]
        self._told: dict[tuple[str, str, str], _Told] = {}

    async def tell(self, about: About, reason: str, note: str, *, action: str, warning: bool = False) -> None:
        """One thing that happened to one object."""
        key = (about.uid, reason, note)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        namespace = about.namespace or "default"
        collection = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        told = self._told.get(key)
        try:
            if told is not None:
                told.count += 1
                if time.monotonic() - told.at >= _AGAIN_AFTER_S:
                    told.at = time.monotonic()
                    series = {"series": {"count": told.count, "lastObservedTime": now}}
                    await self._api.patch(f"{collection}/{told.name}", series, content_type=MERGE)
                return
            digest = hashlib.sha256(f"{key}{now}".encode()).hexdigest()[:12]
            name = f"{about.name[:200]}.{digest}"
            if len(self._told) >= _REMEMBERED:
                self._told.clear()
            self._told[key] = _Told(name, time.monotonic())
            body = {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace},
                "eventTime": now,
                "reportingController": "stint.dev/operator",
                "reportingInstance": self._instance,
                "action": action,
                "reason": reason,
                "type": "Warning" if warning else "Normal",
                "regarding": {
                    "apiVersion": about.api_version,
                    "kind": about.kind,
                    "name": about.name,
                    "namespace": about.namespace,
                    "uid": about.uid,
                },
                "note": note[:_NOTE_LIMIT],
            }
            await self._api.create(collection, body)
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            self._told.pop(key, None)
            log.warning("event %s about %s: %s", reason, about.name, error)
