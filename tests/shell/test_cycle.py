"""Order and faults of a cycle's writes; what is decided is for tests/unit/lifecycle."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from stint.controllers.clock import Clock
from stint.controllers.cycle import MOST_PAUSE_S
from stint.kube.client.api import ApiError
from stint.testing.builders import NOW
from tests.shell.conftest import Server, Shell
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_plan, a_record, a_resource

pytestmark = pytest.mark.looptime

AGO = timedelta(minutes=30)
STATUS, PARK, DISCARD = "PATCH trainingjobs/unet/status", "PATCH jobs/unet", "DELETE jobs/unet"


def running(shell: Shell, **changes: Any) -> Shell:
    """Its two workers have run for half an hour."""
    began = datetime.now(UTC) - AGO
    shell.clock = Clock(start=began)
    shell.cycle.clock = shell.clock
    plan = a_plan(since=began)
    shell.jobs = [a_batch_job(plan, **changes)]
    shell.pods = [a_gang_pod(i, node="n1", phase="Running", gated=False) for i in range(2)]
    told = {
        "phase": "Running",
        "reason": "Running",
        "offering": plan.offering,
        "gpuModel": plan.gpu_model,
        "workers": 2,
        "progress": {"runningSince": began.isoformat()},
    }
    shell.resource = a_resource(told)
    return shell


async def test_a_gang_that_runs_is_left_alone(shell: Shell, server: Server):
    running(shell)
    await shell.cycle.once()
    assert set(server.job_writes()) <= {STATUS}
    assert server.status()["phase"] == "Running"


async def test_a_node_that_is_not_ready_for_a_moment_ends_no_gang_that_runs(shell: Shell, server: Server):
    running(shell)
    await shell.cycle.once()
    shell.nodes = [a_record(ready=False, ready_since=datetime.now(UTC))]
    await shell.cycle.once()
    assert set(server.job_writes()) <= {STATUS}
    told = {c["type"]: c for c in server.status()["conditions"]}
    assert told["NodesReady"]["reason"] == "NodeNotReady"
    assert "the gang keeps its placement until" in told["NodesReady"]["message"]
    assert [r.body["reason"] for r in server.asked if "/events" in r.path].count("NodeNotReady") == 1
    shell.read_back()
    shell.nodes = [a_record(created=NOW)]
    await shell.cycle.once()
    assert {c["type"]: c["status"] for c in server.status()["conditions"]}["NodesReady"] == "True"


class TestRequeue:
    async def lose_its_node(self, shell: Shell) -> None:
        shell.nodes = [a_record(ready=False, ready_since=datetime.now(UTC) - timedelta(minutes=2))]
        await shell.cycle.once()

    async def test_the_status_is_written_before_the_job_is_touched(self, shell: Shell, server: Server):
        running(shell)
        await self.lose_its_node(shell)
        assert server.job_writes() == [STATUS, DISCARD], "it lost a pod, so its Job would wait before it makes another"
        status = server.status()
        assert (status["phase"], status["reason"]) == ("Queued", "NodeLost")
        assert "requeued from the last checkpoint" in status["message"]

    async def test_nothing_is_touched_where_the_status_cannot_be_written(self, shell: Shell, server: Server):
        running(shell)
        server.refuses = lambda r: 403 if r.what == STATUS else None
        await self.lose_its_node(shell)
        assert set(server.job_writes()) == {STATUS}

    async def test_after_a_crash_between_the_two_writes_the_next_cycle_goes_on(self, shell: Shell, server: Server):
        running(shell)
        server.refuses = lambda r: 403 if r.what == DISCARD else None
        await self.lose_its_node(shell)
        shell.read_back()
        server.refuses = lambda _: None
        server.asked.clear()
        again = Shell(server, shell.resource, shell.nodes, shell.pods, shell.jobs, clock=shell.clock)
        await again.cycle.once()
        assert server.job_writes()[0] == DISCARD, "the Job follows what the status says"

    async def test_a_suspended_job_is_told_so(self, shell: Shell, server: Server):
        running(shell)
        shell.resource = msgspec.structs.replace(
            shell.resource, spec=msgspec.structs.replace(shell.resource.spec, suspend=True)
        )
        await shell.cycle.once()
        assert (server.status()["phase"], server.status()["reason"]) == ("Suspended", "Suspended")
        assert server.job_writes() == [STATUS, PARK]
        parked = next(r for r in server.asked if r.what == PARK)
        assert parked.body["spec"] == {"suspend": True}

    async def test_a_failed_worker_uses_a_retry_and_its_job_makes_room_for_a_new_one(
        self, shell: Shell, server: Server
    ):
        running(shell, failed_message="exit code 1")
        await shell.cycle.once()
        assert server.status()["retries"] == 1
        assert DISCARD in server.job_writes(), "its pods would come back only after a pause"

    async def test_while_no_solver_has_a_plan_a_lost_gang_is_requeued_all_the_same(self, shell: Shell, server: Server):
        from stint.controllers.planner_client import Verdict, as_it_is

        async def none(situation: Any) -> Verdict:
            plan = as_it_is(situation, "no solver had a plan")
            return Verdict(situation=situation, plan=plan, made=plan)

        running(shell)
        shell.planner.plan = none  # type: ignore[method-assign]
        await self.lose_its_node(shell)
        assert server.status()["reason"] == "NodeLost"


def starting(shell: Shell, *pods: Any, **job: Any) -> Shell:
    """Placed on n1 a moment ago; n2 is free."""
    plan = a_plan(since=shell.clock.now())
    shell.jobs = [a_batch_job(plan, **job)]
    shell.pods = list(pods)
    shell.nodes = [a_record(n, created=NOW) for n in ("n1", "n2")]
    told = {
        "phase": "Starting",
        "reason": "Placed",
        "offering": plan.offering,
        "gpuModel": plan.gpu_model,
        "workers": 2,
    }
    shell.resource = a_resource(told)
    return shell


RUNS = a_gang_pod(0, node="n1", phase="Running", gated=False)


class TestNodesThatRefuse:
    async def test_a_worker_that_its_kubelet_rejects_uses_no_retry_and_the_gang_goes_elsewhere(
        self, shell: Shell, server: Server
    ):
        sick = a_gang_pod(
            1,
            node="n1",
            phase="Failed",
            gated=False,
            rejected="UnexpectedAdmissionError",
            rejection="no device",
            run="j",
        )
        starting(shell, RUNS, sick, failed_message="BackoffLimitExceeded: Job has reached the specified backoff limit")
        await shell.cycle.once()
        assert server.job_writes() == [STATUS, DISCARD], "a Job that is resumed would show the same pod again"
        status = server.status()
        assert (status["phase"], status["reason"], status.get("retries", 0)) == ("Queued", "NodeRejected", 0)
        assert "node n1 rejected worker 1 (UnexpectedAdmissionError: no device)" in status["message"]
        assert [(b["node"], b["said"]) for b in status["blamed"]] == [("n1", "UnexpectedAdmissionError")]
        shell.read_back()
        shell.jobs, shell.pods = [], []
        after_the_pause = msgspec.structs.replace(shell.resource.status, not_before=shell.clock.now())
        shell.resource = msgspec.structs.replace(shell.resource, status=after_the_pause)
        server.asked.clear()
        await shell.cycle.once()
        (placed,) = [r.body for r in server.asked if r.what == "POST jobs"]
        assert '"nodes":["n2","n2"]' in placed["metadata"]["annotations"]["stint.dev/plan"]

    async def test_what_kube_scheduler_has_no_room_for_is_requeued_after_some_seconds(
        self, shell: Shell, server: Server
    ):
        says = "0/2 nodes are available: 1 Insufficient cpu."
        stuck = a_gang_pod(1, gated=False, unschedulable=True, refusal=says)
        starting(shell, RUNS, stuck)
        await shell.cycle.once()
        assert DISCARD not in server.job_writes()
        assert PARK not in server.job_writes()
        assert shell.cycle._memory.refused_since.keys() == {stuck.uid}
        ago = {stuck.uid: shell.clock.now() - timedelta(seconds=6)}
        shell.cycle._memory = replace(shell.cycle._memory, refused_since=ago)
        await shell.cycle.once()
        assert server.job_writes()[-2:] == [STATUS, PARK]
        status = server.status()
        assert (status["phase"], status["reason"], status["avoid"]) == ("Queued", "DidNotStart", ["n1"])
        assert says in status["message"]
        assert says in {c["type"]: c for c in status["conditions"]}["Placed"]["message"]
        (note,) = [r.body["note"] for r in server.asked if "/events" in r.path and r.body["reason"] == "DidNotStart"]
        assert says in note

    async def test_a_moments_refusal_ends_nothing(self, shell: Shell, server: Server):
        stuck = a_gang_pod(1, gated=False, unschedulable=True, refusal="0/2 nodes are available")
        starting(shell, RUNS, stuck)
        await shell.cycle.once()
        shell.pods = [RUNS, a_gang_pod(1, node="n1", phase="Running", gated=False)]
        await shell.cycle.once()
        assert set(server.job_writes()) <= {STATUS}


async def test_a_job_that_the_api_server_refuses_is_told_so_and_backs_off(shell: Shell, server: Server):
    server.refuses = lambda r: 422 if r.verb == "POST" and r.path.endswith("/jobs") else None
    await shell.cycle.once()
    status = server.status()
    assert (status["phase"], status["reason"], status["rollbacks"]) == ("Queued", "Refused", 1)
    assert status["notBefore"]


async def test_a_placement_is_one_write_and_told_a_second_later(shell: Shell, server: Server):
    await shell.cycle.once()
    assert [w for w in server.writes() if "jobs" in w] == ["POST jobs"], "most gangs run within a second"
    await asyncio.sleep(2)
    shell.jobs = [a_batch_job(a_plan(since=shell.clock.now()))]
    shell.pods = [a_gang_pod(i) for i in range(2)]
    await shell.cycle.once()
    assert server.status()["phase"] == "Starting"
    assert sorted(w for w in server.writes() if "pods" in w) == ["PATCH pods/unet-0-x", "PATCH pods/unet-1-x"]


class TestRun:
    async def runs_for(self, shell: Shell, seconds: float) -> list[float]:
        """When each cycle began, on the loop's clock."""
        began: list[float] = []
        once = shell.cycle.once
        loop = asyncio.get_running_loop()

        async def noted() -> None:
            began.append(loop.time())
            await once()

        shell.cycle.once = noted  # type: ignore[method-assign]
        shell.trigger.fire()
        task = asyncio.create_task(shell.cycle.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return began

    async def test_a_cycle_that_breaks_off_is_tried_again_after_a_pause_that_grows(self, shell: Shell):
        shell.planner.error = ApiError(500, "InternalError", "etcd is away")
        began = await self.runs_for(shell, 60)
        pauses = [round(b - a, 1) for a, b in pairwise(began)]
        assert pauses[:5] == pytest.approx([0.1, 0.5, 1.0, 2.0, 5.0], abs=0.15)
        assert max(pauses) <= 5.2

    async def test_a_server_that_asks_for_more_time_gets_it_within_limits(self, shell: Shell):
        shell.planner.error = ApiError(429, "TooManyRequests", "later", retry_after_s=3600)
        began = await self.runs_for(shell, 3 * MOST_PAUSE_S)
        assert len(began) in (3, 4)

    async def test_what_nobody_foresaw_is_counted_and_ends_nothing(self, shell: Shell):
        shell.planner.error = ZeroDivisionError("a mistake of ours")
        assert len(await self.runs_for(shell, 10)) > 3
        assert b"stint_unforeseen_errors_total" in shell.metrics.render()

    async def test_who_does_not_lead_does_nothing(self, shell: Shell, server: Server):
        shell.may_act = False
        assert await self.runs_for(shell, 600) == []
        assert server.asked == []

    async def test_with_nothing_to_wait_for_it_looks_once_a_minute(self, shell: Shell):
        running(shell)
        began = await self.runs_for(shell, 3600)
        assert 55 <= len(began) <= 65
