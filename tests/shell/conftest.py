"""The operator's shell on an emulated API server, in fast time: an hour of waiting passes in milliseconds.

What is emulated answers every request with what was sent; a test says where it answers otherwise. Whether the real API
server takes what we send is for tests/e2e.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from aiohttp import web
from kmock import RawHandler
from kubernetes.client import Configuration

from stint.api.trainingjob import TrainingJob
from stint.controllers import planner_client
from stint.controllers.bookkeeper import EPOCH, Bookkeeper
from stint.controllers.clock import Clock
from stint.controllers.cycle import Cycle
from stint.controllers.daily_spend import DailySpends
from stint.controllers.planner_client import Verdict
from stint.controllers.pool_writer import PoolWriter
from stint.controllers.status_writer import StatusWriter
from stint.controllers.trigger import Trigger
from stint.decide import decide
from stint.feeds import bundled
from stint.kube.act.apply import Actuator
from stint.kube.act.podgroups import PodGroups
from stint.kube.client.api import Api, Connection
from stint.kube.client.events import Recorder
from stint.kube.client.informer import Informer
from stint.kube.observe.snapshot import Caches
from stint.kube.records import JobRecord, NodeRecord, PodRecord
from stint.kube.reduce import reduce_job, reduce_pod, reduce_service
from stint.kube.wire import WireJob, WirePod, WireService
from stint.metrics.exporter import Metrics
from stint.model.situation import Settings, Situation
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_record, a_resource

CATALOGUE = bundled.load()


@dataclass
class Request:
    verb: str
    path: str
    body: Any

    @property
    def what(self) -> str:
        """PATCH jobs/unet, PATCH trainingjobs/unet/status"""
        kind = re.search(r"/(trainingjobs|jobs|pods|services|events|podgroups)\b.*", self.path)
        return f"{self.verb} {kind[0][1:] if kind else self.path}"


@dataclass
class Server:
    """The emulated API server: what it was asked, and what it refuses."""

    api: Api
    asked: list[Request] = field(default_factory=list)
    refuses: Callable[[Request], int | None] = lambda _: None

    def writes(self) -> list[str]:
        """Everything but events, in order."""
        return [r.what for r in self.asked if r.verb != "GET" and "/events" not in r.path]

    def job_writes(self) -> list[str]:
        """To the TrainingJob's status and to its Job, in order."""
        return [w for w in self.writes() if w.endswith(("trainingjobs/unet/status", " jobs/unet"))]

    def status(self) -> dict[str, Any]:
        """The TrainingJob's, as it was written last."""
        told = [r for r in self.asked if r.path.endswith("/status")]
        return told[-1].body["status"]


@pytest.fixture
def kmock_options() -> dict[str, Any]:
    """A server that keeps no objects: what it knows is what the test says."""
    return {"cls": RawHandler}


@pytest.fixture
async def server(kmock: Any) -> AsyncIterator[Server]:
    url = str(kmock.url).rstrip("/")
    plain = Connection(url, None, None, None, verify=False, configuration=Configuration(host=url))
    async with Api(plain) as api:
        there = Server(api)

        def answer(request: Any) -> Any:
            asked = Request(request.method.value, request.url.path, request.data)
            there.asked.append(asked)
            if (refused := there.refuses(asked)) is not None:
                return web.json_response({"kind": "Status", "message": "no", "code": refused}, status=refused)
            body = asked.body if isinstance(asked.body, dict) else {}
            meta = {"name": "unet", "namespace": "team", "uid": "u", "resourceVersion": "1"}
            return json.dumps(body | {"metadata": meta | body.get("metadata", {})}).encode()

        kmock[re.compile(".*")] << answer
        yield there


class _NoPools(PoolWriter):
    """These tests are not about pools."""

    def __init__(self) -> None: ...

    async def act(self, *_: Any, **__: Any) -> None: ...

    async def tell(self, *_: Any) -> None: ...


class _NoDays(DailySpends):
    """Nor about the books of days."""

    def __init__(self) -> None: ...

    async def begin(self, *_: Any) -> None: ...

    def book_nodes(self, *_: Any) -> None: ...


class Planner(planner_client.Planner):
    """Decides in this very process."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.situations: list[Situation] = []

    async def plan(self, situation: Situation) -> Verdict:
        self.situations.append(situation)
        if self.error is not None:
            raise self.error
        plan = decide(situation)
        return Verdict(situation=situation, plan=plan, made=plan)


@dataclass
class Shell:
    """One cycle, and a cluster that a test sets by hand."""

    server: Server
    resource: TrainingJob = field(default_factory=a_resource)
    nodes: list[NodeRecord] = field(default_factory=lambda: [a_record(created=NOW - timedelta(hours=2))])
    pods: list[PodRecord] = field(default_factory=list)
    jobs: list[JobRecord] = field(default_factory=list)
    clock: Clock = field(default_factory=lambda: Clock(start=NOW))

    def __post_init__(self) -> None:
        self.trigger, self.planner, self.metrics = Trigger(), Planner(), Metrics(version="test")
        self.may_act = True
        api = self.server.api
        actuator = Actuator(
            api,
            Informer(api, "/apis/batch/v1/jobs", WireJob, reduce_job),
            Informer(api, "/api/v1/pods", WirePod, reduce_pod),
            Informer(api, "/api/v1/services", WireService, reduce_service),
            PodGroups(api, wanted=False, on_known=lambda: None),
            lambda _: None,
            key=lambda: b"",
        )
        statuses = StatusWriter(
            api=self.server.api,
            events=Recorder(self.server.api, "test"),
            hindrance=lambda: "",
            booking=lambda: None,
            absorb=lambda _: None,
            more_news=self.trigger.event.is_set,
        )
        books = Bookkeeper(of=self.clock.of, catalogue=CATALOGUE, count=lambda *_: None)
        books.begin(EPOCH)
        self.cycle = Cycle(
            actuator=actuator,
            planner=self.planner,
            pools=_NoPools(),
            statuses=statuses,
            metrics=self.metrics,
            clock=self.clock,
            catalogue=CATALOGUE,
            settings=Settings(solver="greedy"),
            caches=self.caches,
            books=books,
            days=_NoDays(),
            known_until=self.clock.now,
            may_act=lambda: self.may_act,
            notes=lambda: (),
            trigger=self.trigger,
        )

    def caches(self) -> Caches:
        return Caches(
            trainingjobs=[self.resource],
            gpu_pools=[],
            price_books=[],
            nodes=self.nodes,
            pods=self.pods,
            jobs=self.jobs,
        )

    def read_back(self) -> None:
        """The status as it was written last is what the watch brings."""
        status = msgspec.convert(self.server.status(), type(self.resource.status))
        self.resource = msgspec.structs.replace(self.resource, status=status)


@pytest.fixture
def shell(server: Server) -> Shell:
    return Shell(server)
