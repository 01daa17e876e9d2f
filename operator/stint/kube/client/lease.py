"""Who leads: a Lease that is renewed, taken over when its holder falls silent, and let go at the end.

A lease lasts 10 s and is renewed every 3 s. A leader that could not renew for 6 s writes nothing any more, and a write
of its own is given up after 3 s: so that the last one has ended before a standby may begin (see `certain`, which is
asked before each write). A candidate measures silence on its own clock, from when it last saw the lease change;
clocks of other machines are never compared.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec

from stint.kube.client.api import WRITE_TIMEOUT_S, Api, ApiError
from stint.kube.client.events import About

log = logging.getLogger(__name__)

LASTS_S = 10
RENEW_EVERY_S = 3.0
GIVE_UP_AFTER_S = 6.0
_AGAIN_AFTER_S = 0.5  # after a renewal that failed
assert GIVE_UP_AFTER_S + WRITE_TIMEOUT_S < LASTS_S


class Leadership:
    """One candidate."""

    def __init__(
        self,
        api: Api,
        *,
        namespace: str,
        name: str,
        identity: str,
        on_gain: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_gain` is called when the lease has become ours: there is work that nobody did meanwhile."""
        self.held = asyncio.Event()
        self.led_before_until: datetime | None = None  # when whoever led before us renewed for the last time
        self.identity = identity
        self._api = api
        self._namespace = namespace
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._name = name
        self._on_gain = on_gain
        self._lease: dict[str, Any] | None = None  # as we wrote it last: it can be renewed without being read
        self._seen: tuple[str, float] = ("", 0.0)  # resourceVersion, and when we first saw it
        self._renewed = float("-inf")  # when the request was sent that renewed it last

    def about(self) -> About:
        """The Lease, for events that are about the operator as a whole."""
        uid = self._lease["metadata"]["uid"] if self._lease is not None else ""
        return About("coordination.k8s.io/v1", "Lease", self._namespace, self._name, uid)

    def certain(self) -> bool:
        """Whether nobody else can lead yet.

        A process that was stopped or starved for long finds out here, before it has heard of anything.
        """
        return self.held.is_set() and time.monotonic() - self._renewed < GIVE_UP_AFTER_S

    async def run(self) -> None:
        """Campaign and lead, until cancelled. Who has lost the lease is a candidate again."""
        while True:
            asked = time.monotonic()
            try:
                mine = await asyncio.wait_for(self._try(), timeout=WRITE_TIMEOUT_S)
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("lease %s: %s", self._name, error or type(error).__name__)
                mine = None
            if mine:
                self._renewed = asked
            if mine and not self.held.is_set():
                log.info("leading as %s", self.identity)
                self.held.set()
                self._on_gain()
            elif self.held.is_set() and not mine and (mine is False or not self.certain()):
                log.warning("leads no longer: %s", "somebody else does" if mine is False else "the lease ran out")
                self.held.clear()
            await asyncio.sleep(self._pause(mine))

    def _pause(self, mine: bool | None) -> float:
        if mine is None:
            return _AGAIN_AFTER_S
        if mine:
            return RENEW_EVERY_S
        # Another's lease may run out before we would look again.
        left = LASTS_S - (time.monotonic() - self._seen[1])
        return min(RENEW_EVERY_S, max(left + 0.01, 0.1))

    async def release(self) -> None:
        """Let go, so that a standby need not wait out the lease."""
        if self.held.is_set() and self._lease is not None:
            self.held.clear()
            self._lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            with suppress(ApiError):  # somebody else's by now
                await self._write("PUT", self._path, self._lease)

    async def _try(self) -> bool:
        """True: ours, renewed or taken. False: somebody else's."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LASTS_S,
            "renewTime": now,
        }
        if self._lease is not None:
            self._lease["spec"] |= spec
            if await self._write("PUT", self._path, self._lease):
                return True
        lease = await self._api.find(self._path, fenced=False)
        if lease is None:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name},
                "spec": {**spec, "acquireTime": now, "leaseTransitions": 0},
            }
            return await self._write("POST", self._collection, body)
        holder = lease["spec"].get("holderIdentity") or ""
        version = lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = (version, time.monotonic())
        if holder not in ("", self.identity):
            lasts = float(lease["spec"].get("leaseDurationSeconds") or LASTS_S)
            if time.monotonic() - self._seen[1] < lasts:
                return False
        if not self.held.is_set():
            self.led_before_until = _time(lease["spec"].get("renewTime"))
        if holder != self.identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(lease["spec"].get("leaseTransitions") or 0) + 1}
        lease["spec"] |= spec
        return await self._write("PUT", self._path, lease)

    async def _write(self, verb: str, path: str, body: object) -> bool:
        """False where another candidate was quicker; the resourceVersion in the body decides."""
        self._lease = None
        try:
            self._lease = msgspec.json.decode(await self._api.raw(verb, path, body=body, fenced=False))
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True


def _time(text: str | None) -> datetime | None:
    """As a lease has it; None where it is none."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
