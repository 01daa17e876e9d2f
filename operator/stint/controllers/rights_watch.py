"""Asks at start what the operator may do, and again while something is missing, or when a request was forbidden."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from stint.kube import rbac
from stint.kube.client.api import Api, ApiError

log = logging.getLogger(__name__)

ASK_AGAIN_S = 60.0
EVERY_S = 5.0  # a look at our own counters; questions are asked only where there is reason to


@dataclass(kw_only=True)
class RightsWatch:
    """What is missing."""

    api: Api
    namespace: str
    needed: Callable[[], tuple[rbac.Right, ...]]
    on_change: Callable[[], None]
    missing: list[rbac.Right] = field(default_factory=list)

    def hindrance(self) -> str:
        """What is missing, in words; empty: nothing."""
        return rbac.told(self.missing) if self.missing else ""

    async def run(self) -> None:
        """Until cancelled."""
        asked: tuple[rbac.Right, ...] = ()
        forbidden, at = 0, float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            needed = self.needed()
            refusals = sum(n for (_, status), n in self.api.requests.items() if status == 403)
            again = refusals != forbidden and loop.time() - at > ASK_AGAIN_S  # quotas refuse with 403, too
            if self.missing or needed != asked or again:
                at = loop.time()
                try:
                    found = await rbac.missing(self.api, needed, namespace=self.namespace)
                    asked, forbidden = needed, refusals
                    self._note(found)
                except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                    log.warning("our rights could not be checked: %s", error or type(error).__name__)
            await asyncio.sleep(EVERY_S)

    def _note(self, found: list[rbac.Right]) -> None:
        if found == self.missing:
            return
        self.missing = found
        if found:
            log.error("%s", rbac.told(found))
        else:
            log.info("all rights are granted now")
        self.on_change()
