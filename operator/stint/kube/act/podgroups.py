"""PodGroups, where the cluster serves them and people have asked for them: a gang is then bound whole by its scheduler.

Nothing depends on them. Kubernetes 1.37 has them as a beta that is off by default, earlier versions as alphas of other
shapes; so what is served is asked at start and again now and then, and gangs go on without where it is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp

from stint.kube.client.api import Api, ApiError
from stint.kube.client.informer import Informer
from stint.kube.records import JOB_LABEL, PodGroupRecord
from stint.kube.reduce import reduce_pod_group
from stint.kube.wire import WirePodGroup

log = logging.getLogger(__name__)

VERSION_PATH = "/apis/scheduling.k8s.io/v1beta1"
ASK_EVERY_S = 60.0
ASK_AGAIN_S = 1.0  # where there was no answer
_NOT_FOR_US = (403, 404)  # discovery may be forbidden, too


class PodGroups:
    """Whether there are any, and those that are ours."""

    def __init__(
        self,
        api: Api,
        *,
        wanted: bool,
        on_known: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is asked before `run` is called, and nothing at all unless they are `wanted`.

        `on_known` is called when `behind` has become False.
        """
        self.wanted = wanted
        self.served: bool | None = None if wanted else False  # None: not known yet
        self.informer: Informer[WirePodGroup, PodGroupRecord] = Informer(
            api,
            f"{VERSION_PATH}/podgroups",
            WirePodGroup,
            reduce_pod_group,
            params={"labelSelector": JOB_LABEL},
            on_sync=on_known,
        )
        self._on_known = on_known
        self._forbidden = False
        self._api = api

    @property
    def usable(self) -> bool:
        """Whether a gang gets one now."""
        return bool(self.served) and self.informer.synced.is_set()

    @property
    def behind(self) -> bool:
        """Whether it is still to be found out which gangs have one.

        Not where we may not know: gangs then go on without, and the missing right is told as all are.
        """
        return self.served is None or (self.served and not self.informer.synced.is_set() and not self._forbidden)

    async def run(self) -> None:
        """Ask what is served, and follow what is ours while it is, until cancelled."""
        if not self.wanted:
            await asyncio.Event().wait()
        following: asyncio.Task[None] | None = None
        try:
            while True:
                await self._ask()
                if self.served and following is None:
                    following = asyncio.create_task(self.informer.run())
                elif following is not None and not self.served:
                    following.cancel()
                    following = None
                pause = ASK_AGAIN_S if self.served is None else ASK_EVERY_S
                if following is None:
                    await asyncio.sleep(pause)
                    continue
                done, _ = await asyncio.wait({following}, timeout=pause)
                if done:
                    await following  # it ends only by a mistake of ours, and whoever awaits us hears of it
        finally:
            if following is not None:
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following

    async def _ask(self) -> None:
        """By discovery. Without an answer, what was known stays."""
        try:
            version: Any = await self._api.get(VERSION_PATH)
            served = any(r.get("name") == "podgroups" for r in version.get("resources", ()))
            if served and not self.informer.synced.is_set():
                self._forbidden = await self._is_forbidden()
        except ApiError as error:
            if error.status not in _NOT_FOR_US:
                log.warning("whether pod groups are served could not be asked: %s", error)
                return
            served = False
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("whether pod groups are served could not be asked: %s", error or type(error).__name__)
            return
        if served == self.served:
            return
        self.served = served
        if served:
            log.info("pod groups are served: gangs that are placed from now on get one")
        else:
            log.warning(
                "--pod-groups: this cluster does not serve podgroups of scheduling.k8s.io/v1beta1 (Kubernetes 1.37 "
                "with the feature gate GenericWorkload does); gangs go on without, and it is asked again every %.0f s",
                ASK_EVERY_S,
            )
            self._on_known()

    async def _is_forbidden(self) -> bool:
        try:
            await self._api.get(self.informer.path, {"limit": "1"})
        except ApiError as error:
            if error.status == 403:
                return True
            raise
        return False
