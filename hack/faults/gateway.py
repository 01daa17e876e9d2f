"""A gateway between the operator and the API server: it forwards, and where told to it kills, lies, drops or dawdles.

The operator is given a kubeconfig that names the gateway; everything it asks and writes passes here. What happens to a
request is up to one function at a time, `Gateway.meddle`, which tests and the kill harness set.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from hack.cluster import kubeconfigs

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length", "upgrade"})
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    verb: str
    path: str
    query: Mapping[str, str]
    agent: str
    body: bytes

    @property
    def watch(self) -> bool:
        """Whether it asks for a stream."""
        return self.query.get("watch") in ("1", "true", "True")

    @property
    def writes(self) -> bool:
        """Whether it changes something; Leases and questions about rights do not count."""
        return self.verb in WRITES and "/leases" not in self.path and "/selfsubjectaccessreviews" not in self.path


@dataclass(slots=True)
class Answer:
    """What the client gets."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class CutError(Exception):
    """The connection is closed without an answer."""


Forward = Callable[[], Awaitable[Answer]]
Meddle = Callable[[Asked, Forward], Awaitable[Answer]]
Rewrite = Callable[[Asked, bytes], Iterable[bytes]]


async def leave_alone(_: Asked, forward: Forward) -> Answer:
    """No meddling."""
    return await forward()


def keep(_: Asked, line: bytes) -> Iterable[bytes]:
    """No rewriting."""
    return (line,)


def refusal(status: int, reason: str, message: str, *, retry_after_s: int | None = None) -> Answer:
    """As the API server says no."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
    headers = {"Content-Type": "application/json"} | ({"Retry-After": str(retry_after_s)} if retry_after_s else {})
    return Answer(status, msgspec.json.encode({**body, "message": message}), headers)


class Gateway:
    """Runs in a thread of its own, so that plain tests can use it.

    Args:
        server: the API server's address.
        ca: the file of its certificate authority.
    """

    @classmethod
    def before(cls, kubeconfig: Path) -> Gateway:
        """In front of the cluster of a kubeconfig."""
        cluster = kubeconfigs.cluster_of(kubeconfig)
        return cls(cluster["server"], cluster["certificate-authority"])

    def kubeconfig(self, target: Path, account: Path) -> Path:
        """Write one that leads through the gateway, for the user of another; returns its path."""
        kubeconfigs.write(target, {"server": self.url}, {"token": kubeconfigs.token_of(account)})
        return target

    def __init__(self, server: str, ca: str) -> None:
        self.meddle: Meddle = leave_alone
        self.rewrite: Rewrite = keep  # each line of each watch
        self.asked: list[Asked] = []
        self.url = ""
        self._server = server
        self._tls = ssl.create_default_context(cafile=ca)
        self._streams: dict[asyncio.Task[Any], str] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway", daemon=True)

    def __enter__(self) -> Gateway:
        """Listens from here on."""
        self._thread.start()
        self._submit(self._start()).result(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        """Everything closed."""
        self._submit(self._stop()).result(timeout=20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def watched(self) -> set[str]:
        """The paths of all streams that are open now."""
        return {path for stream, path in self._streams.copy().items() if not stream.done()}

    def cut_watches(self) -> int:
        """Close every stream that is open now; returns how many."""

        async def cut() -> int:
            streams = [s for s in self._streams if not s.done()]
            for stream in streams:
                stream.cancel()
            return len(streams)

        closed: int = self._submit(cut()).result(timeout=10)
        return closed

    def _submit(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        application = web.Application(client_max_size=16 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"

    async def _stop(self) -> None:
        for stream in self._streams:
            stream.cancel()
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(
            verb=request.method,
            path=request.path,
            query=dict(request.query),
            agent=request.headers.get("User-Agent", ""),
            body=await request.read(),
        )
        self.asked.append(asked)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        streamed: list[web.StreamResponse] = []

        async def forward() -> Answer:
            async with self._session.request(
                request.method, self._server + request.path_qs, data=asked.body or None, headers=headers
            ) as upstream:
                kept = {k: v for k, v in upstream.headers.items() if k.lower() not in _HOP_BY_HOP}
                if not asked.watch or upstream.status != 200:
                    return Answer(upstream.status, await upstream.read(), kept)
                streamed.append(await self._stream(request, asked, upstream, kept))
                return Answer(200)

        try:
            answer = await self.meddle(asked, forward)
        except (CutError, aiohttp.ClientError):
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=502)
        if streamed:
            return streamed[0]
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))

    async def _stream(
        self, request: web.Request, asked: Asked, upstream: aiohttp.ClientResponse, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers=dict(headers))
        await response.prepare(request)
        pump = asyncio.ensure_future(self._pump(asked, upstream, response))
        self._streams[pump] = asked.path
        try:
            await asyncio.wait([pump])
        finally:
            pump.cancel()
            self._streams.pop(pump, None)
        if request.transport is not None and (pump.cancelled() or pump.exception() is not None):
            request.transport.close()
        return response

    async def _pump(self, asked: Asked, upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        rest = b""
        async for chunk in upstream.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                for told in self.rewrite(asked, line):
                    await response.write(told + b"\n")
        await response.write_eof()
