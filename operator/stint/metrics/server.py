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
    """Listen. Port 0 takes a free one, and the answer says which."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def probe(named: Mapping[str, Check]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            found = {name: check() for name, check in named.items()}
            lines = [f"{name}: {wrong or 'ok'}" for name, wrong in found.items()]
            return web.Response(text="\n".join(lines) + "\n", status=503 if any(found.values()) else 200)

        return answer

    first, second = web.Application(), web.Application()
    first.router.add_get("/metrics", metrics)
    second.router.add_get("/healthz", probe(checks.live))
    second.router.add_get("/readyz", probe(checks.ready))
    runners, ports = [], []
    for app, port in ((first, metrics_port), (second, health_port)):
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        runners.append(runner)
        ports.append(runner.addresses[0][1])
    return Serving(ports[0], ports[1], runners)
