"""Utilisation as a Prometheus server tells it, in both spellings of the labels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stint.feeds.prometheus import Prometheus, PrometheusUnavailableError
from stint.model.cluster import Utilisation
from stint.model.job import job_id

RENAMED = ("exported_namespace", "exported_pod")
HONOURED = ("namespace", "pod")
LLAMA = job_id("team", "llama")
PODS = {("team", "llama-0-x"): LLAMA, ("team", "llama-1-y"): LLAMA}


@dataclass
class FakeServer:
    """Answers as Prometheus 3 does: per-pod vectors, under the labels that its scrape configuration leaves."""

    labels: tuple[str, str] = RENAMED
    util: dict[tuple[str, str], str] = field(default_factory=dict)
    watts: dict[tuple[str, str], str] = field(default_factory=dict)
    idle: dict[tuple[str, str], str] = field(default_factory=dict)
    asked: list[web.BaseRequest] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    answer: Callable[[], web.Response] | None = None
    url: str = ""

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        query = str((await request.post())["query"])
        self.asked.append(request)
        self.queries.append(query)
        if self.answer is not None:
            return self.answer()
        if self.labels == RENAMED and not any(label in query for label in RENAMED):
            # What plain `pod` is unless labels are honoured: the exporter's own.
            return vector([({"namespace": "monitoring", "pod": "dcgm-exporter-8f2"}, "97.5")])
        if self.labels == HONOURED and any(label in query for label in RENAMED):
            return vector([])
        values = self.util
        if query.startswith("sum") and "POWER_USAGE" in query:
            values = self.watts
        elif query.startswith("sum"):
            values = self.idle
        return vector([(dict(zip(self.labels, pod, strict=True)), value) for pod, value in values.items()])


def vector(samples: list[tuple[dict[str, str], str]]) -> web.Response:
    result = [{"metric": labels, "value": [1795432000.123, value]} for labels, value in samples]
    return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = fake
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


def told(utils: Any, watts: Any, idle: Any) -> dict[str, dict[tuple[str, str], str]]:
    """Answers for the two pods of llama; None: no series."""
    parts = {}
    for name, values in (("util", utils), ("watts", watts), ("idle", idle)):
        parts[name] = {pod: v for pod, v in zip(PODS, values, strict=True) if v is not None}
    return parts


class TestUsage:
    @pytest.mark.parametrize("labels", [RENAMED, HONOURED], ids=["renamed", "honoured"])
    async def test_adds_up_a_gangs_pods_under_either_spelling(self, server: FakeServer, labels):
        server.labels = labels
        vars(server).update(told(("0.9", "0.7"), ("2800.5", "2700"), ("0", "2")))
        found = await Prometheus(server.url).usage(PODS)
        assert found == (Utilisation(job=LLAMA, gpu_ratio=(0.9 + 0.7) / 2, watts=5500.5, idle_gpus=2),)

    async def test_never_takes_the_exporters_own_pod_for_the_owner_of_its_gpus(self, server: FakeServer):
        server.labels = RENAMED
        found = await Prometheus(server.url).usage({("team", "other-0"): job_id("team", "other")})
        assert found == (Utilisation(job=job_id("team", "other"), gpu_ratio=None, watts=None, idle_gpus=None),)
        assert not [q for q in server.queries if "avg_over_time" in q]

    async def test_detects_the_spelling_once(self, server: FakeServer):
        vars(server).update(told(("0.9", "0.7"), ("1", "1"), ("0", "0")))
        prometheus = Prometheus(server.url)
        await prometheus.usage(PODS)
        first = len(server.queries)
        await prometheus.usage(PODS)
        assert len(server.queries) - first == 3

    async def test_asks_for_the_whole_cluster_at_once_over_the_window(self, server: FakeServer):
        vars(server).update(told(("0.9", "0.7"), ("1", "1"), ("0", "0")))
        await Prometheus(server.url, window="2m").usage(PODS)
        last = server.queries[-3:]
        assert all("[2m]" in q and "by (exported_namespace,exported_pod)" in q for q in last)
        assert not [q for q in server.queries if "llama" in q]
        assert {request.method for request in server.asked} == {"POST"}
        assert {request.path for request in server.asked} == {"/api/v1/query"}

    async def test_what_is_not_known_is_none_never_zero(self, server: FakeServer):
        vars(server).update(told(("0.9", "0.7"), (None, None), (None, None)))
        (found,) = await Prometheus(server.url).usage(PODS)
        assert (found.gpu_ratio, found.watts, found.idle_gpus) == (pytest.approx(0.8), None, None)

    async def test_a_sum_that_lacks_a_worker_is_not_known(self, server: FakeServer):
        vars(server).update(told(("0.9", None), ("2800", None), ("1", None)))
        (found,) = await Prometheus(server.url).usage(PODS)
        assert (found.gpu_ratio, found.watts, found.idle_gpus) == (0.9, None, None)

    @pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
    async def test_what_is_no_number_is_not_known(self, server: FakeServer, value: str):
        vars(server).update(told((value, value), (value, value), (value, value)))
        (found,) = await Prometheus(server.url).usage(PODS)
        assert (found.gpu_ratio, found.watts, found.idle_gpus) == (None, None, None)

    async def test_asks_also_when_nothing_runs_so_that_a_server_that_is_down_is_known_to_be(self, server: FakeServer):
        assert await Prometheus(server.url).usage({}) == ()
        assert server.queries

    async def test_sends_the_token_as_it_is_now(self, server: FakeServer, tmp_path: Path):
        token = tmp_path / "token"
        prometheus = Prometheus(server.url, token_file=token)
        for text in ("first\n", "second\n"):
            token.write_text(text)
            await prometheus.usage(PODS)
            assert server.asked[-1].headers["Authorization"] == f"Bearer {text.strip()}"


class TestUnavailable:
    async def complaint(self, prometheus: Prometheus) -> str:
        with pytest.raises(PrometheusUnavailableError) as caught:
            await prometheus.usage(PODS)
        return str(caught.value)

    async def test_nobody_listens(self):
        assert "http://127.0.0.1:1" in await self.complaint(Prometheus("http://127.0.0.1:1"))

    async def test_it_takes_too_long(self, server: FakeServer):
        assert "TimeoutError" in await self.complaint(Prometheus(server.url, timeout_s=1e-6))

    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (401, "Unauthorized", "401 Unauthorized"),
            (503, "Service Unavailable", "503 Service Unavailable"),
            (400, '{"status":"error","errorType":"bad_data","error":"unknown function"}', "unknown function"),
            (200, '{"status":"error","errorType":"timeout","error":"query timed out"}', "query timed out"),
            (200, "<html>please log in</html>", "malformed"),
            (
                200,
                '{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}',
                "'x'",
            ),
        ],
    )
    async def test_it_answers_something_else(self, server: FakeServer, status: int, body: str, said: str):
        server.answer = lambda: web.Response(status=status, text=body)
        prometheus = Prometheus(server.url, _labels=RENAMED)
        assert said in await self.complaint(prometheus)

    async def test_the_token_is_not_there(self, server: FakeServer, tmp_path: Path):
        assert "No such file" in await self.complaint(Prometheus(server.url, token_file=tmp_path / "none"))
