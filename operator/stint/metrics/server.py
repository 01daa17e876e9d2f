"""The two ports: metrics for Prometheus; probes for the kubelet, which say what is wrong in words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

Check = Callable[[], str | None]  # None: fine; otherwise what is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Named checks. A failing liveness check asks for a restart, a failing readiness check for patience."""

    live: Mapping[str, Check] = field(default_factory=dict)
    ready: Mapping[str, Check] = field(default_factory=dict)


@dataclass(slots=True)
class Serving:
    """What listens, and where."""

    metrics_port: int
    health_port: int
    _runners: list[web.AppRunner]

    async def stop(self) -> None:
        """Close both."""
        for runner in self._runners:
            await runner.cleanup()


async def serve(
    render: Callable[[], bytes], checks: Checks, *, metrics_port: int, health_port: int, host: str = "0.0.0.0"
) -> Serving:
    """Listen. Port 0 takes a free one, and the answer says which.

    Raises:
        OSError: a port is taken; then neither is listened on.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def probe(named: Mapping[str, Check]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            found = {name: _wrong(check) for name, check in named.items()}
            lines = [f"{name}: {wrong or 'ok'}" for name, wrong in found.items()]
            return web.Response(text="\n".join(lines) + "\n", status=503 if any(found.values()) else 200)

        return answer

    first, second = web.Application(), web.Application()
    first.router.add_get("/metrics", metrics)
    second.router.add_get("/healthz", probe(checks.live))
    second.router.add_get("/readyz", probe(checks.ready))
    runners = [web.AppRunner(app, access_log=None) for app in (first, second)]
    try:
        for runner, port in zip(runners, (metrics_port, health_port), strict=True):
            await runner.setup()
            await web.TCPSite(runner, host, port).start()
    except OSError:
        for runner in runners:
            await runner.cleanup()
        raise
    metrics_at, health_at = (runner.addresses[0][1] for runner in runners)
    return Serving(metrics_at, health_at, runners)


def _wrong(check: Check) -> str | None:
    """A check that breaks has failed, and must not hide what the others say."""
    try:
        return check()
    except Exception as error:
        return repr(error)
