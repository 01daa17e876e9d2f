"""Utilisation as a Prometheus server tells it, in every spelling of the labels, and as it fails to."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hack.cluster import certificates
from stint.feeds.breaker import Circuit
from stint.feeds.prometheus import KEPT_S, MOST_SELECTORS, SPELLINGS, Prometheus, queries, series
from stint.feeds.promql import Access, PrometheusUnavailableError, Server
from stint.model.cluster import Utilisation
from stint.model.job import job_id
from stint.model.measured import Aggregate, Selector, Wanted

RENAMED, OLD, HONOURED = SPELLINGS
LLAMA = job_id("team", "llama")
PODS = {("team", "llama-0-x"): LLAMA, ("team", "llama-1-y"): LLAMA}
STEPS = Wanted(Selector("train_steps"))
EXPORTER = {"namespace": "monitoring", "pod": "dcgm-exporter-8f2"}
FINE = {
    "busy": ("0.9", "0.7"),
    "gpus": ("4", "4"),
    "watts": ("2800.5", "2700"),
    "tensor": ("0.5", "0.3"),
    "memory": ("60", "62.5"),
}


@dataclass
class FakeServer:
    """Answers as Prometheus 3 does: vectors by pod, under the labels that its scrape configuration leaves."""

    labels: tuple[str, str] = RENAMED
    stats: dict[str, dict[tuple[str, str], str]] = field(default_factory=dict)
    steps: list[tuple[dict[str, str], str]] = field(default_factory=list)
    asked: list[web.BaseRequest] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    answer: Callable[[str], web.Response | None] = lambda _: None
    date: str | None = None
    url: str = ""

    def tell(self, **stats: tuple[str | None, str | None]) -> None:
        """Of the two pods of llama; None: no series."""
        for stat, values in stats.items():
            self.stats[stat] = {pod: v for pod, v in zip(PODS, values, strict=True) if v is not None}

    @property
    def queries(self) -> list[str]:
        return [form["query"] for form in self.forms]

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        form = {k: str(v) for k, v in (await request.post()).items()}
        self.asked.append(request)
        self.forms.append(form)
        query = form["query"]
        if (told := self.answer(query)) is not None:
            return told
        own = EXPORTER if self.labels == RENAMED else {}
        if query.startswith("count by"):
            pods = next(iter(self.stats.values()), {})
            return self.vector([(own | dict(zip(self.labels, p, strict=True)), "1") for p in pods] + [(own, "2")])
        asked = re.findall(r'"stat", "(\w+)"', query)
        if "train_steps" in query:
            return self.vector([(own | {"stat": "0"} | labels, v) for labels, v in self.steps])
        rows = [
            ({"stat": stat} | dict(zip(self.labels, pod, strict=True)), value)
            for stat in asked
            for pod, value in self.stats.get(stat, {}).items()
            if f"by ({','.join(self.labels)})" in query
        ]
        return self.vector(rows)

    def vector(self, samples: list[tuple[dict[str, str], str]]) -> web.Response:
        result = [{"metric": labels, "value": [1795432000.123, value]} for labels, value in samples]
        data = {"resultType": "vector", "result": result}
        headers = {"Date": self.date} if self.date else {}
        body = {"status": "success", "data": data, "warnings": self.warnings}
        return web.json_response(body, headers=headers)


async def serving(fake: FakeServer, context: ssl.SSLContext | None = None) -> web.ServerRunner:
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = fake
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    fake.url = f"http{'s' if context else ''}://127.0.0.1:{runner.addresses[0][1]}"
    return runner


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    runner = await serving(fake)
    yield fake
    await runner.cleanup()


async def usage(prometheus: Prometheus) -> Utilisation:
    (found,) = (await prometheus.read(PODS)).usage
    return found


class TestUsage:
    @pytest.mark.parametrize("labels", SPELLINGS, ids=["renamed", "old", "honoured"])
    async def test_adds_up_a_gangs_pods_under_every_spelling(self, server: FakeServer, labels):
        server.labels = labels
        server.tell(**FINE, idle=(None, "2"))
        found = await usage(Prometheus.at(server.url))
        assert (found.gpu_ratio, found.watts, found.idle_gpus, found.gpus) == (0.8, 5500.5, 2, 8)
        assert (found.work_ratio, found.memory_gib, found.processless_gpus) == (0.4, 62.5, 0)
        assert found.measured_at is not None

    async def test_never_takes_the_exporters_own_pod_for_the_owner_of_its_gpus(self, server: FakeServer):
        server.tell(**FINE)
        other = job_id("team", "other")
        (found,) = (await Prometheus.at(server.url).read({("team", "other-0"): other})).usage
        assert found == Utilisation(job=other, gpu_ratio=None, watts=None, idle_gpus=None)
        assert not [q for q in server.queries if "avg_over_time" in q]

    async def test_detects_the_spelling_once_and_again_when_it_has_been_changed(self, server: FakeServer):
        server.tell(**FINE)
        prometheus = Prometheus.at(server.url)
        for _ in range(2):
            await usage(prometheus)
        assert len(server.queries) == 1 + 3 + 3
        server.labels = HONOURED
        prometheus.clock = lambda: 1e9  # so long afterwards that nothing is remembered
        assert not (await usage(prometheus)).measured
        assert (await usage(prometheus)).gpu_ratio == 0.8

    async def test_a_spelling_that_is_set_is_not_looked_for(self, server: FakeServer):
        server.labels = HONOURED
        server.tell(**FINE)
        prometheus = Prometheus(Server(Access(url=server.url)), spelling=HONOURED)
        assert (await usage(prometheus)).gpu_ratio == 0.8
        assert len(server.queries) == 3

    async def test_asks_for_the_whole_cluster_at_once_at_a_floored_time_and_with_a_limit(self, server: FakeServer):
        server.tell(**FINE)
        access = Access(url=server.url, timeout_s=4.0, step_s=5.0)
        server.date = format_datetime(datetime.fromtimestamp(1000, UTC), usegmt=True)
        await usage(Prometheus(Server(access, wall_clock=lambda: 1000.0 + 3.7), window="2m"))
        assert all("[2m]" in q and "by (exported_namespace,exported_pod" in q for q in server.queries[-3:])
        assert not [q for q in server.queries if "llama" in q]
        assert {(r.method, r.path) for r in server.asked} == {("POST", "/api/v1/query")}
        assert {(f["time"], f["timeout"]) for f in server.forms} == {("1000.000", "3.2s")}

    async def test_a_clock_of_ours_that_is_wrong_is_put_right_by_the_servers(self, server: FakeServer):
        server.tell(**FINE)
        prometheus = Prometheus(Server(Access(url=server.url), wall_clock=lambda: 1000.0))  # it is 1970
        before = time.time()
        await usage(prometheus)
        await usage(prometheus)
        assert float(server.forms[0]["time"]) == 1000
        assert before - 10 < float(server.forms[-1]["time"]) <= time.time()

    def test_of_two_spellings_one_is_asked_for(self):
        for spelling in SPELLINGS:
            others = {label for s in SPELLINGS if s != spelling for label in s} - set(spelling)
            words = set(re.findall(r"[a-z_]+", " ".join(queries(spelling, "5m"))))
            assert not words & others

    async def test_what_is_not_known_is_none_never_zero(self, server: FakeServer):
        server.tell(busy=("0.9", "0.7"), gpus=("4", "4"))
        found = await usage(Prometheus.at(server.url))
        assert (found.gpu_ratio, found.watts, found.memory_gib, found.processless_gpus) == (0.8, None, None, None)
        assert found.idle_gpus == 0  # of GPUs that are all measured

    async def test_a_sum_that_lacks_a_worker_is_not_known(self, server: FakeServer):
        server.tell(busy=("0.9", None), gpus=("4", None), idle=("1", None), watts=("2800", None), memory=("1", None))
        found = await usage(Prometheus.at(server.url))
        assert (found.gpu_ratio, found.watts, found.idle_gpus, found.gpus, found.memory_gib) == (0.9, *[None] * 4)
        assert found.all_idle is None

    @pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "9223372036854775794", "2147483632"])
    async def test_what_is_no_measurement_is_not_known(self, server: FakeServer, value: str):
        server.tell(gpus=("4", "4"), **dict.fromkeys(("busy", "idle", "watts", "tensor", "memory"), (value, value)))
        found = await usage(Prometheus.at(server.url))
        assert found == Utilisation(job=LLAMA, gpu_ratio=None, watts=None, idle_gpus=None, gpus=8)

    async def test_asks_also_when_nothing_runs_so_that_a_server_that_is_down_is_known_to_be(self, server: FakeServer):
        assert (await Prometheus.at(server.url).read({})).usage == ()
        assert server.queries

    async def test_warnings_are_kept_until_the_next_look(self, server: FakeServer):
        server.tell(**FINE)
        server.warnings = ["metric might not be a counter"]
        prometheus = Prometheus.at(server.url)
        await usage(prometheus)
        assert prometheus.server.warnings == ("metric might not be a counter",)
        server.warnings = []
        await usage(prometheus)
        assert prometheus.server.warnings == ()


class TestGaps:
    async def test_the_last_value_stands_for_a_while_with_its_time_and_is_then_unknown(self, server: FakeServer):
        now = [0.0]
        server.tell(**FINE)
        prometheus = Prometheus.at(server.url)
        prometheus.clock = lambda: now[0]
        first = await usage(prometheus)
        server.stats.clear()
        now[0] = KEPT_S
        assert await usage(prometheus) == first
        now[0] += 0.1
        assert not (await usage(prometheus)).measured

    async def test_a_server_that_fails_leaves_what_was_last_known(self, server: FakeServer):
        now = [0.0]
        server.tell(**FINE)
        prometheus = Prometheus.at(server.url)
        prometheus.clock = lambda: now[0]
        first = await usage(prometheus)
        server.answer = lambda _: web.Response(status=503)
        with pytest.raises(PrometheusUnavailableError):
            await prometheus.read(PODS)
        assert prometheus.remembered({LLAMA}) == (first,)
        assert prometheus.remembered({job_id("team", "other")}) == ()

    async def test_the_breaker_opens_and_says_why_and_closes_when_it_answers_again(self, server: FakeServer):
        now = [0.0]
        server.tell(**FINE)
        prometheus = Prometheus.at(server.url)
        prometheus.clock = lambda: now[0]
        server.answer = lambda _: web.Response(status=503, text="overloaded")
        for _ in range(5):
            with pytest.raises(PrometheusUnavailableError, match="503 overloaded"):
                await prometheus.read(PODS)
        assert len(server.queries) == 3, "not asked while it is open"
        assert prometheus.breaker.state is Circuit.OPEN
        now[0] = 30.0
        server.answer = lambda _: None
        assert (await usage(prometheus)).gpu_ratio == 0.8
        assert prometheus.breaker.state is Circuit.CLOSED


class TestProgress:
    async def told(self, server: FakeServer, wanted: Wanted = STEPS) -> float | None:
        server.tell(**FINE)
        return (await Prometheus.at(server.url).read(PODS, {LLAMA: wanted})).told.get(LLAMA)

    def steps(self, server: FakeServer, *rows: tuple[str, str, str]) -> None:
        server.steps = [({"exported_namespace": n, "exported_pod": p} if n else {}, v) for n, p, v in rows]

    async def test_one_more_query_for_all(self, server: FakeServer):
        self.steps(server, ("team", "llama-0-x", "100"), ("team", "llama-1-y", "120"), ("team", "other", "9000"))
        assert await self.told(server) == 120
        assert len(server.queries) == 1 + 4
        assert 'namespace=~"|team"' in server.queries[-1], "not those of all pods that have such a metric"

    async def test_workers_that_each_count_their_own_add_up(self, server: FakeServer):
        self.steps(server, ("team", "llama-0-x", "100"), ("team", "llama-1-y", "120"))
        assert await self.told(server, Wanted(STEPS.selector, Aggregate.SUM)) == 220

    async def test_labels_choose_what_no_pod_has_but_never_in_another_namespace(self, server: FakeServer):
        named = Wanted(Selector("train_steps", (("run", "a"),)))
        self.steps(server, ("elsewhere", "", "7"))
        assert await self.told(server, named) is None
        self.steps(server, ("team", "", "42"))
        assert await self.told(server, named) == 42
        assert await self.told(server) is None, "without labels only its own pods count"

    async def test_a_figure_is_handed_on_as_it_is(self, server: FakeServer):
        self.steps(server, ("team", "llama-0-x", "NaN"))
        told = await self.told(server)
        assert told is not None
        assert told != told  # NaN: judged by whoever knows the job

    async def test_that_it_cannot_be_asked_takes_nothing_from_the_rest(self, server: FakeServer):
        server.tell(**FINE)
        server.answer = lambda q: web.Response(status=422, text="too many samples") if "train_steps" in q else None
        reading = await Prometheus.at(server.url).read(PODS, {LLAMA: STEPS})
        assert reading.usage[0].gpu_ratio == 0.8
        assert (reading.told, "too many samples" in reading.told_wrong) == ({}, True)

    async def test_there_is_a_limit_to_metrics(self, server: FakeServer):
        server.tell(**FINE)
        many = {job_id("team", f"j{i:03}"): Wanted(Selector(f"train_steps_{i}")) for i in range(MOST_SELECTORS + 5)}
        reading = await Prometheus.at(server.url).read(PODS, many)
        assert len(server.queries) == 1 + 4
        assert server.queries[-1].count("label_replace") == MOST_SELECTORS
        assert f"more than {MOST_SELECTORS}" in reading.told_wrong

    def test_what_people_write_into_labels_stays_in_them(self):
        assert series(Selector("m", (("run", 'a"} or vector(1) #\\'),))) == 'm{run="a\\"} or vector(1) #\\\\"}'


class TestAccess:
    async def test_sends_the_token_as_it_is_now(self, server: FakeServer, tmp_path: Path):
        token = tmp_path / "token"
        prometheus = Prometheus.at(server.url, token_file=token)
        for text in ("first\n", "second\n"):
            token.write_text(text)
            await prometheus.read(PODS)
            assert server.asked[-1].headers["Authorization"] == f"Bearer {text.strip()}"

    async def test_sends_name_and_password_and_tenant(self, server: FakeServer, tmp_path: Path):
        (tmp_path / "password").write_text("s3cret\n")
        access = Access(url=server.url, username="stint", password_file=tmp_path / "password", tenant="ml")
        await Prometheus(Server(access)).read(PODS)
        assert server.asked[-1].headers["Authorization"] == "Basic c3RpbnQ6czNjcmV0"
        assert server.asked[-1].headers["X-Scope-OrgID"] == "ml"

    async def test_trusts_the_ca_it_is_given_and_nobody_else(self, tmp_path: Path):
        certificates.make(tmp_path)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tmp_path / "apiserver.crt", tmp_path / "apiserver.key")
        fake = FakeServer()
        runner = await serving(fake, context)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of the handshake that is broken off
        try:
            await Prometheus.at(fake.url, ca_file=tmp_path / "ca.crt").read(PODS)
            await Prometheus.at(fake.url, insecure=True).read(PODS)
            with pytest.raises(PrometheusUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                await Prometheus.at(fake.url).read(PODS)
        finally:
            await runner.cleanup()


class TestUnavailable:
    async def complaint(self, prometheus: Prometheus) -> str:
        with pytest.raises(PrometheusUnavailableError) as caught:
            await prometheus.read(PODS)
        return str(caught.value)

    async def test_nobody_listens(self):
        assert "http://127.0.0.1:1" in await self.complaint(Prometheus.at("http://127.0.0.1:1"))

    async def test_it_takes_too_long(self, server: FakeServer):
        assert "TimeoutError" in await self.complaint(Prometheus.at(server.url, timeout_s=1e-6))

    async def test_it_says_too_much(self, server: FakeServer):
        server.answer = lambda _: web.Response(text="x" * 5000)
        said = await self.complaint(Prometheus.at(server.url, most_bytes=4096))
        assert "more than 4096 bytes" in said

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
        server.answer = lambda _: web.Response(status=status, text=body)
        assert said in await self.complaint(Prometheus.at(server.url))

    async def test_a_secret_is_not_there(self, server: FakeServer, tmp_path: Path):
        for setting in ("token_file", "ca_file"):
            url = server.url.replace("http:", "https:")
            options: dict[str, Any] = {setting: tmp_path / "none"}
            assert "No such file" in await self.complaint(Prometheus.at(url, **options))
