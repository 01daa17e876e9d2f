"""An API server on a bad day, and operators that are stopped, killed and doubled. All on a control plane of their own.

Between the operator and the API server stands a gateway (see hack/faults): what cannot be had from a real API server
when one wants it, the gateway says in its name. Restarts, compaction and a rotated token are real.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hack.cluster import NAMESPACE, Cluster, eventually, get, running_cluster
from hack.cluster.embedded import Embedded
from hack.faults import gateway as gateways
from hack.faults.chaos import Chaos
from hack.faults.gateway import Answer, Asked, CutError, Forward, Gateway, leave_alone, refusal
from hack.faults.nursery import Nursery, alive
from hack.processes import free_port
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e


@dataclass
class Stage:
    """A cluster, and operators behind a gateway."""

    cluster: Cluster
    gateway: Gateway
    nursery: Nursery
    account: Path
    pids: list[int] = field(default_factory=list)

    def operator(self, identity: str, *more: str, health_port: int = 0) -> int:
        """Start one; returns its process id."""
        kubeconfig = self.gateway.kubeconfig(self.cluster.state / f"{identity}.kubeconfig", self.account)
        flags = [f"--kubeconfig={kubeconfig}", f"--namespace={NAMESPACE}", f"--identity={identity}"]
        flags += [*more, *["--pod-groups"] * self.provider.pod_groups]
        self.pids.append(self.nursery.start(["run", *flags, "--metrics-port=0", f"--health-port={health_port}"]))
        return self.pids[-1]

    def leader(self) -> str:
        lease = json.loads(self.cluster.kubectl("get", "lease", "stint", "-n", NAMESPACE, "-o", "json"))
        return lease["spec"].get("holderIdentity", "")

    def kill_all(self) -> None:
        for pid in self.pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.pids.clear()

    @property
    def provider(self) -> Embedded:
        assert isinstance(self.cluster.provider, Embedded)
        return self.cluster.provider


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    state = tmp_path_factory.mktemp("stage")
    with (
        running_cluster(state, name="embedded", audit=True) as cluster,
        Gateway.before(cluster.kubeconfig) as gateway,
        Nursery(state / "operators.log") as nursery,
    ):
        cluster.install_chart("steering.enabled=true")
        yield Stage(cluster, gateway, nursery, cluster.service_account_kubeconfig())


WATCHES = 7  # nodes, pods, Jobs, Services, and our own three kinds
_numbers = itertools.count()


@pytest.fixture
def corner(stage: Stage) -> Iterator[World]:
    """A namespace with a node, and one operator that leads."""
    name = f"f{next(_numbers)}"
    stage.cluster.kubectl("create", "namespace", name)
    here = World(stage.cluster, name)
    eventually(lambda: here.kubectl("get", "serviceaccount", "default"), what="the namespace's ServiceAccount")
    here.node("a")
    pid = stage.operator("first")
    eventually(lambda: stage.leader() == "first", what="the operator to lead")
    eventually(lambda: len(stage.gateway.watched()) >= WATCHES, what="all its watches to be open")
    yield here
    stage.gateway.meddle, stage.gateway.rewrite = leave_alone, gateways.keep
    assert alive(pid) or pid not in stage.pids, "the operator has ended"
    stage.kill_all()
    here.kubectl("delete", "tj", "--all", "--wait=false")
    stage.cluster.kubectl("delete", "node", f"{name}-a", "--wait=false")
    stage.cluster.kubectl("delete", "namespace", name, "--wait=false")


def answering(answer: Answer, times: int, when: Callable[[Asked], bool]) -> tuple[gateways.Meddle, list[Asked]]:
    """Meddling that gives the same answer the first few times; and to what it has been given."""
    given: list[Asked] = []

    async def meddle(asked: Asked, forward: Forward) -> Answer:
        if len(given) < times and when(asked):
            given.append(asked)
            return answer
        return await forward()

    return meddle, given


def test_a_conflict_and_a_busy_server_are_tried_again_when_they_say(stage: Stage, corner: World):
    busy = refusal(429, "TooManyRequests", "too many requests, please try again later", retry_after_s=1)
    stage.gateway.meddle, given = answering(busy, 4, lambda a: a.writes)
    corner.apply(corner.job("busy", workers=2, gpus=1))
    corner.until("Running", "busy")
    assert len(given) == 4
    conflict = refusal(409, "Conflict", "the object has been modified")
    stage.gateway.meddle, given = answering(conflict, 3, lambda a: a.verb == "PATCH" and "/pods/" in a.path)
    corner.apply(corner.job("conflict", workers=2, gpus=1))
    corner.until("Running", "conflict")
    assert len(given) == 3


def test_a_slow_server_slows_nothing_but_itself(stage: Stage, corner: World):
    async def slow(asked: Asked, forward: Forward) -> Answer:
        await asyncio.sleep(0.4)
        return await forward()

    stage.gateway.meddle = slow
    corner.apply(corner.job(workers=4, gpus=1))
    corner.until("Running")
    assert stage.leader() == "first"


@pytest.mark.parametrize("code", [410, 500])
def test_watches_that_are_refused_are_opened_again_kopfs_too(stage: Stage, corner: World, code: int):
    reason = {410: "Expired", 500: "InternalError"}[code]
    paths: set[str] = set()

    async def refuse_each_once(asked: Asked, forward: Forward) -> Answer:
        if asked.watch and asked.path not in paths:
            paths.add(asked.path)
            return refusal(code, reason, "for a test")
        return await forward()

    stage.gateway.meddle = refuse_each_once
    stage.gateway.cut_watches()

    def each_was() -> bool:
        assert len(paths) >= WATCHES, paths
        return True

    eventually(each_was, what="every watch to be refused once")
    corner.apply(corner.job())
    corner.until("Running")


@pytest.mark.parametrize("code", [410, 500])
def test_watches_that_break_in_the_middle_are_opened_again_kopfs_too(stage: Stage, corner: World, code: int):
    """An ERROR event inside the stream. kopf by itself ends the whole operator at any but 410."""
    broken: set[str] = set()
    status = {
        "kind": "Status",
        "code": code,
        "reason": "Expired" if code == 410 else "InternalError",
        "message": "test",
    }
    error = json.dumps({"type": "ERROR", "object": status}).encode()

    def break_each_once(asked: Asked, line: bytes) -> Iterable[bytes]:
        if asked.path in broken:
            return (line,)
        broken.add(asked.path)
        return (error,)

    stage.gateway.rewrite = break_each_once
    corner.apply(corner.job("one", workers=2, gpus=1))
    corner.until("Running", "one", timeout=60)
    assert any("trainingjobs" in path for path in broken)
    assert any(path.endswith("/pods") for path in broken)
    corner.apply(corner.job("two", workers=2, gpus=1))
    corner.until("Running", "two", timeout=60)


def test_dropped_watches_lose_nothing(stage: Stage, corner: World):
    """Every stream is cut again and again while jobs come, run and end."""
    done = {"sim.stint.dev/run-for": "300ms"}
    for i in range(5):
        corner.apply(corner.job(f"job-{i}", workers=2, gpus=2, annotations=done))
        eventually(stage.gateway.cut_watches, what="watches to cut: after the last time they are opened again")
    for i in range(5):
        corner.until("Succeeded", f"job-{i}", timeout=60)


def test_news_told_twice_and_old_news_after_new_change_nothing(stage: Stage, corner: World):
    before: dict[str, bytes] = {}

    def repeat(asked: Asked, line: bytes) -> Iterable[bytes]:
        old = before.get(asked.path, line)
        before[asked.path] = line
        return (line, old, line)

    stage.gateway.rewrite = repeat
    stage.gateway.cut_watches()
    done = {"sim.stint.dev/run-for": "300ms"}
    corner.apply(*(corner.job(f"job-{i}", workers=2, gpus=2, annotations=done) for i in range(4)))
    for i in range(4):
        corner.until("Succeeded", f"job-{i}", timeout=60)
    corner.apply(corner.job("deleted", workers=2, gpus=1))
    corner.until("Running", "deleted")
    corner.kubectl("delete", "tj", "deleted")
    eventually(lambda: corner.pods("deleted") == [], timeout=90, what="its pods to go")
    corner.apply(corner.job("whole-node", workers=1, gpus=8))
    corner.until("Running", "whole-node")


def test_an_api_server_that_restarts_finds_the_operator_where_it_was(stage: Stage, corner: World):
    corner.apply(corner.job("before", workers=2, gpus=1))
    corner.until("Running", "before")
    stage.provider.restart_api_server()
    corner.apply(corner.job("after", workers=2, gpus=1))
    corner.until("Running", "after", timeout=60)
    assert len(corner.pods("before")) == 2


def test_etcd_that_has_forgotten_where_we_were_is_listed_again(stage: Stage, corner: World):
    """Watches are kept away until the server, restarted, and etcd, compacted, know nothing of their last version."""
    corner.apply(corner.job("before", workers=2, gpus=1))
    corner.until("Running", "before")
    away: list[Asked] = []
    expired: list[Asked] = []

    async def no_watches(asked: Asked, forward: Forward) -> Answer:
        if asked.watch:
            away.append(asked)
            raise CutError
        return await forward()

    async def see_expired(asked: Asked, forward: Forward) -> Answer:
        answer = await forward()
        expired.extend([asked] * (asked.watch and answer.status == 410))
        return answer

    def see_expired_in_stream(asked: Asked, line: bytes) -> Iterable[bytes]:
        expired.extend([asked] * (b'"type":"ERROR"' in line[:40] and b'"code":410' in line))
        return (line,)

    stage.gateway.meddle = no_watches
    stage.gateway.cut_watches()
    eventually(lambda: away, what="watches to be turned away")
    corner.kubectl("delete", "tj", "before")  # its end is news that nobody will ever hear
    eventually(lambda: corner.pods("before") == [], timeout=90, what="its pods to go")
    stage.provider.restart_api_server(stage.provider.compact)
    stage.gateway.meddle, stage.gateway.rewrite = see_expired, see_expired_in_stream
    corner.apply(corner.job("after", workers=1, gpus=8))
    corner.until("Running", "after", timeout=60)
    assert expired, "the server still knew where we were; nothing was tried here"


def test_a_token_that_is_rotated_is_read_again(stage: Stage, corner: World):
    """The ServiceAccount is made anew: the old token is worth nothing from one moment to the next."""
    export = stage.cluster.get("serviceaccount", "stint", "-n", NAMESPACE)
    metadata = {k: v for k, v in export["metadata"].items() if k in ("name", "namespace", "labels", "annotations")}
    stage.cluster.kubectl("delete", "serviceaccount", "stint", "-n", NAMESPACE)
    stage.cluster.apply([{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}])
    refused: list[Asked] = []

    async def see_refusals(asked: Asked, forward: Forward) -> Answer:
        answer = await forward()
        refused.extend([asked] * (answer.status == 401))
        return answer

    stage.gateway.meddle = see_refusals
    eventually(lambda: refused, what="the old token to be refused")
    stage.account = stage.cluster.service_account_kubeconfig()
    stage.gateway.kubeconfig(stage.cluster.state / "first.kubeconfig", stage.account)
    corner.apply(corner.job())
    corner.until("Running", timeout=60)


def test_pod_groups_that_are_asked_for_and_not_served_are_gone_without(stage: Stage, corner: World):
    """As on every cluster before 1.37; the gateway says it for those that do serve them."""
    stage.gateway.meddle, _ = answering(
        refusal(404, "NotFound", "the server could not find the requested resource"),
        1000,
        lambda a: a.path == "/apis/scheduling.k8s.io/v1beta1",
    )
    stage.kill_all()
    stage.operator("without", "--pod-groups")
    corner.apply(corner.job())
    corner.until("Running")
    assert stage.leader() == "without"
    assert stage.nursery.log.read_text().count("gangs go on without") == 1
    assert all("schedulingGroup" not in p["spec"] for p in corner.pods())


def writes_by(stage: Stage) -> dict[str, list[dict[str, object]]]:
    """Successful writes but those of Leases, by which operator sent them, from the audit log, in order."""
    log = stage.cluster.provider.audit_log
    assert log is not None
    found: dict[str, list[dict[str, object]]] = {}
    for event in map(json.loads, log.read_text().splitlines()):
        agent = event.get("userAgent", "")
        written = event["verb"] in ("create", "update", "patch", "delete")
        if written and agent.startswith("stint/") and event["objectRef"].get("resource") != "leases":
            found.setdefault(agent.partition("(")[2].rstrip(")"), []).append(event)
    return found


def test_a_leader_that_was_asleep_writes_nothing_once_another_one_leads(stage: Stage, corner: World):
    """Stopped in the middle of its writes, longer than its lease lasts: what it still meant to write is not sent."""
    first, stopped = stage.pids[-1], []

    async def stop_in_the_middle(asked: Asked, forward: Forward) -> Answer:
        answer = await forward()
        if not stopped and "(first)" in asked.agent and asked.verb == "POST" and asked.path.endswith("/jobs"):
            stopped.append(time.time())
            os.kill(first, signal.SIGSTOP)
        return answer

    stage.operator("second")
    stage.gateway.meddle = stop_in_the_middle
    corner.apply(*(corner.job(f"job-{i}", workers=1, gpus=1) for i in range(20)))
    eventually(lambda: stopped, what="the leader to be stopped")
    eventually(lambda: stage.leader() == "second", timeout=20, what="the other one to lead")
    names = [f"job-{i}" for i in range(20)]
    eventually(
        lambda: sum(corner.status(n).get("phase") == "Running" for n in names) == 8, timeout=60, what="8 jobs to run"
    )
    last_before = len(writes_by(stage)["first"])
    os.kill(first, signal.SIGCONT)
    eventually(
        lambda: "leads no longer" in stage.nursery.log.read_text() or "was not sent" in stage.nursery.log.read_text(),
        what="the sleeper to find out",
    )
    corner.kubectl("delete", "tj", "--all")
    corner.apply(corner.job("afterwards", workers=1, gpus=8))
    corner.until("Running", "afterwards", timeout=60)
    assert len(writes_by(stage)["first"]) == last_before, "the one that had been asleep still wrote"
    released = [e["objectRef"]["name"] for es in writes_by(stage).values() for e in es if patches_pod(e)]  # type: ignore[index]
    ours = [name for name in released if name.startswith(("job-", "afterwards-"))]
    assert len(ours) == len(set(ours)), "a pod was released twice"


def patches_pod(event: dict[str, object]) -> bool:
    ref = event["objectRef"]
    assert isinstance(ref, dict)
    return event["verb"] == "patch" and ref.get("resource") == "pods" and event["responseStatus"]["code"] == 200  # type: ignore[index]


def test_a_standby_takes_over_within_twenty_seconds_of_a_kill(stage: Stage, corner: World):
    first = stage.pids.pop()
    stage.operator("second")
    eventually(lambda: any("(second)" in a.agent for a in stage.gateway.asked), what="the standby to be there")
    os.kill(first, signal.SIGKILL)
    began = time.monotonic()
    corner.apply(corner.job())
    eventually(lambda: stage.leader() == "second", timeout=20, what="the standby to lead")
    corner.until("Running", timeout=20 - (time.monotonic() - began))


def test_killed_forty_times_at_its_writes_it_loses_nothing(stage: Stage):
    harness = Chaos(stage.cluster, stage.gateway, stage.nursery, seed=int(time.time()))
    try:
        report = harness.drive(40)
    finally:
        harness.kill()
        stage.gateway.meddle = leave_alone
    assert report.losses == [], report.row()
    assert report.kills == 40
    assert len(report.cases) >= 5, report.cases


def test_a_right_that_is_missing_is_named_by_the_probe_in_the_log_and_on_the_job(stage: Stage, corner: World):
    stage.kill_all()
    role = stage.cluster.get("clusterrole", "stint")
    poorer = json.loads(json.dumps(role))
    for rule in poorer["rules"]:
        if rule["resources"] == ["pods"]:
            rule["verbs"].remove("patch")
    text = "may not patch pods (needed so that workers are pinned to their nodes and released)"
    try:
        stage.cluster.kubectl("replace", "-f", "-", stdin=json.dumps(poorer))
        port = free_port()
        stage.operator("poor", health_port=port)
        eventually(lambda: text in refusal_of_readiness(port), what="the readiness probe to name it")
        assert text in stage.nursery.log.read_text()
        corner.apply(corner.job())

        def condition() -> dict[str, str]:
            found: dict[str, dict[str, str]] = {c["type"]: c for c in corner.status().get("conditions", [])}
            return found.get("Actionable", {})

        told = eventually(condition, what="the condition")
        assert (told["status"], told["reason"]) == ("False", "MissingRights")
        assert text in told["message"]
    finally:
        stage.cluster.kubectl("replace", "-f", "-", stdin=json.dumps({**role, "metadata": {"name": "stint"}}))
    corner.until("Running", timeout=60)
    eventually(lambda: condition()["status"] == "True", what="the condition to change")
    eventually(lambda: get(f"http://127.0.0.1:{port}/readyz"), what="the probe to succeed")


def refusal_of_readiness(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode()
