"""A little of the outside world for feeds: an HTTP server that says what a test says, and an API server's objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from stint.feeds.feed import FeedError


@dataclass
class World:
    """What is told when somebody asks."""

    url: str = ""
    status: int = 200
    body: str = ""
    content_type: str = "application/json"
    hangs: bool = False
    objects: Any = None  # of the API server; None: it refuses
    asked: list[web.BaseRequest] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    by_path: dict[str, str] = field(default_factory=dict)

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(request)
        if self.hangs:
            await self.over.wait()
        text = self.by_path.get(request.path, self.body)
        return web.Response(status=self.status, text=text, content_type=self.content_type)

    async def get(self, path: str) -> Any:
        if self.objects is None:
            raise FeedError(f"403 Forbidden: {path}")
        return self.objects


@asynccontextmanager
async def serving() -> AsyncIterator[World]:
    world = World()
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = world
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    world.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield world
    world.over.set()
    async with aiohttp.ClientSession() as last, last.get(world.url) as answer:
        await answer.read()  # whoever connected before it has been let in by now, and can be shown out
    await runner.cleanup()
