"""The two ports, over real sockets."""

from __future__ import annotations

import aiohttp
import pytest

from stint.metrics.server import Checks, Serving, serve


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


@pytest.fixture
async def wrong() -> dict[str, str | None]:
    return {"watches": None, "cycle": None, "caches": None}


@pytest.fixture
async def serving(wrong):
    checks = Checks(
        live={"watches": lambda: wrong["watches"], "cycle": lambda: wrong["cycle"]},
        ready={"caches": lambda: wrong["caches"]},
    )
    listening = await serve(lambda: b"stint_leader 1.0\n", checks, metrics_port=0, health_port=0, host="127.0.0.1")
    yield listening
    await listening.stop()


async def test_metrics_and_probes_have_ports_of_their_own(serving: Serving):
    assert serving.metrics_port != serving.health_port
    assert await get(serving.metrics_port, "/metrics") == (200, "stint_leader 1.0\n")
    assert (await get(serving.metrics_port, "/healthz"))[0] == 404
    assert (await get(serving.health_port, "/metrics"))[0] == 404


async def test_a_probe_lists_every_check(serving: Serving):
    assert await get(serving.health_port, "/healthz") == (200, "watches: ok\ncycle: ok\n")
    assert await get(serving.health_port, "/readyz") == (200, "caches: ok\n")


async def test_a_probe_fails_when_any_check_does_and_says_what_is_wrong(serving: Serving, wrong):
    wrong["cycle"] = "no cycle has finished for 400 s"
    assert await get(serving.health_port, "/healthz") == (503, "watches: ok\ncycle: no cycle has finished for 400 s\n")
    assert (await get(serving.health_port, "/readyz"))[0] == 200


async def test_a_check_that_breaks_has_failed(serving: Serving, wrong):
    del wrong["caches"]
    status, text = await get(serving.health_port, "/readyz")
    assert status == 503
    assert "KeyError" in text


async def test_a_port_that_is_taken_leaves_nothing_listening(serving: Serving):
    with pytest.raises(OSError):
        await serve(lambda: b"", Checks(), metrics_port=0, health_port=serving.health_port, host="127.0.0.1")


async def test_nothing_listens_once_stopped(serving: Serving):
    await serving.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(serving.metrics_port, "/metrics")
