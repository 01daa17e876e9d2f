"""Who leads: a Lease that is renewed, taken over when its holder falls silent, and let go at the end.

The times are client-go's: a lease lasts 15 s, is renewed every 2 s, and a leader that could not renew for 10 s
stops at once, so that two never act. A candidate measures silence on its own clock, from when it last saw the lease
change; clocks of other machines are never compared.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp

from stint.kube.client import Api, ApiError

log = logging.getLogger(__name__)

LASTS_S = 15
RENEW_EVERY_S = 2.0
GIVE_UP_AFTER_S = 10.0


class LeadershipLostError(Exception):
    """We led and do no longer: the process must end before it writes anything else."""


class Leadership:
    """One candidate."""

    def __init__(self, api: Api, *, namespace: str, name: str, identity: str) -> None:
        self.held = asyncio.Event()
        self.identity = identity
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._name = name
        self._seen: tuple[str, float] = ("", 0.0)  # resourceVersion, and when we first saw it

    async def run(self) -> None:
        """Campaign, lead, and raise when leadership is lost.

        Raises:
            LeadershipLostError: renewals failed for too long or somebody else took over.
        """
        renewed = 0.0
        while True:
            try:
                mine = await asyncio.wait_for(self._try(), timeout=RENEW_EVERY_S * 2)
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("lease %s: %s", self._name, error or type(error).__name__)
                mine = None
            if mine:
                renewed = time.monotonic()
                if not self.held.is_set():
                    log.info("leading as %s", self.identity)
                    self.held.set()
            elif self.held.is_set() and (mine is False or time.monotonic() - renewed > GIVE_UP_AFTER_S):
                self.held.clear()
                raise LeadershipLostError(self._name)
            await asyncio.sleep(RENEW_EVERY_S)

    async def release(self) -> None:
        """Let go, so that a standby need not wait out the lease."""
        if self.held.is_set():
            self.held.clear()
            lease = await self._api.find(self._path)
            if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._api.raw("PUT", self._path, body=lease)

    async def _try(self) -> bool:
        """True: ours, renewed or taken. False: somebody else's."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LASTS_S,
            "renewTime": now,
        }
        lease = await self._api.find(self._path)
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
        if holder != self.identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(lease["spec"].get("leaseTransitions") or 0) + 1}
        lease["spec"] |= spec
        return await self._write("PUT", self._path, lease)

    async def _write(self, verb: str, path: str, body: object) -> bool:
        """False where another candidate was quicker; the resourceVersion in the body decides."""
        try:
            await self._api.raw(verb, path, body=body)
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        return True
