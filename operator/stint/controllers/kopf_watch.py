"""kopf watches our own resources, in a thread of its own, and is started again where it gives up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import kopf

from stint.kube.client.api import Connection

log = logging.getLogger(__name__)

AGAIN_S = (0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_S = 60.0  # it has worked for so long: its next failure is a new story
_EXIT_S = 1.0

# What happened to an object ("ADDED", ..., None: it was listed), the object, and its kind's plural.
OnEvent = Callable[[str | None, dict[str, Any], str], None]


class KopfWatch:
    """Calls `on_event` in the loop that `run` is awaited in.

    kopf has a thread and a loop of its own, because on ending it cancels every task of its loop that is younger
    than itself; and it ends at a watch that is answered 500.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        group: str,
        version: str,
        plurals: Iterable[str],
        identity: str,
        on_event: OnEvent,
        on_gap: Callable[[], None],
    ) -> None:
        """Nothing is watched before `run` is called; `on_gap` is called when `working` has ended."""
        self.working = False
        self._connection = connection
        self._group, self._version, self._plurals = group, version, tuple(plurals)
        self._identity = identity
        self._on_event = on_event
        self._on_gap = on_gap
        self._ended = False
        self._stop: Callable[[], object] = lambda: None

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = time.monotonic()
                try:
                    await asyncio.to_thread(lambda: asyncio.run(self._watch(loop)))
                    why = "it ended"
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) is None or task.cancelling():
                        raise
                    why = "it cancelled itself"  # and not us: that is no reason to end
                except Exception as error:
                    why = str(error) or type(error).__name__
                self.working = False
                self._on_gap()
                failures = 0 if time.monotonic() - began > STEADY_S else failures
                pause = AGAIN_S[min(failures, len(AGAIN_S) - 1)]
                failures += 1
                log.warning("kopf gave up: %s; started again in %.1f s", why, pause)
                self._connection.renew()
                await asyncio.sleep(pause)
        finally:
            self._ended = True
            self._stop()

    async def _watch(self, ours: asyncio.AbstractEventLoop) -> None:
        """One life of kopf, in its thread."""
        kopfs = asyncio.get_running_loop()
        # An event of its loop, not of threads: the loop would wait for the thread that kopf has wait for one of those.
        stop = asyncio.Event()
        self._stop = lambda: kopfs.is_closed() or kopfs.call_soon_threadsafe(stop.set)
        if self._ended:
            return
        await kopf.operator(
            registry=self._registry(ours),
            settings=_settings(),
            clusterwide=True,
            standalone=True,
            # By itself kopf asks for the name of our user, who has none in a container. Its type is private.
            identity=self._identity,  # type: ignore[arg-type]
            stop_flag=stop,
        )

    def _registry(self, ours: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        connection = self._connection

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            return kopf.ConnectionInfo(
                server=connection.server,
                ca_path=connection.ca_path,
                insecure=not connection.verify,
                token=connection.token(),
                certificate_path=connection.certificate_path,
                private_key_path=connection.private_key_path,
            )

        @kopf.on.startup(registry=registry)
        async def start(**_: Any) -> None:
            self.working = True

        for plural in self._plurals:

            @kopf.on.event(self._group, self._version, plural, registry=registry, param=plural)
            async def on_event(*, event: Any, param: Any = None, **_: Any) -> None:
                ours.call_soon_threadsafe(self._on_event, event["type"], dict(event["object"]), param)

        return registry


def _settings() -> kopf.OperatorSettings:
    """No finalizers, no annotations, no events, no peering: kopf only watches."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = [1, 1, 2, 3, 5, 8]
    settings.execution.max_workers = 4
    settings.queueing.exit_timeout = _EXIT_S
    # It would kill not its thread but the process, by SIGKILL.
    settings.process.ultimate_exiting_timeout = None
    return settings
