"""kopf may end as it likes: it is started again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kubernetes.client import Configuration

from stint.controllers import kopf_watch
from stint.controllers.kopf_watch import KopfWatch
from stint.kube.client.api import Connection


class Ending(KopfWatch):
    """Its kopf ends at once, in this way."""

    def __init__(self, end: BaseException | None) -> None:
        self.lives = 0
        self._end = end
        told: dict[str, Any] = {"on_event": lambda *_: None, "on_gap": lambda: None, "identity": "me"}
        connection = Connection("https://nowhere", None, None, None, True, Configuration())
        super().__init__(connection, group="g", version="v", plurals=(), **told)

    async def _watch(self, ours: asyncio.AbstractEventLoop) -> None:
        del ours
        self.lives += 1
        if self._end is not None:
            raise self._end


@pytest.mark.parametrize("end", [None, RuntimeError("500"), asyncio.CancelledError()], ids=repr)
async def test_however_kopf_ends_it_is_started_again(monkeypatch, end):
    monkeypatch.setattr(kopf_watch, "AGAIN_S", (0.0,))
    watch = Ending(end)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(10):
        while watch.lives < 3:
            assert not running.done()
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
