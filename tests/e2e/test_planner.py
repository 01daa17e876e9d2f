"""The process that decides dies and hangs under an operator that runs: jobs are placed all the same."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster import NAMESPACE, Cluster, eventually, running_cluster
from hack.cluster.operators import ProcessOperator
from hack.processes import children, started_at
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A control plane of its own, with a node for every test."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.install_chart()
        cluster.kubectl("create", "namespace", "planner")
        world = World(cluster, "planner")
        eventually(lambda: world.kubectl("get", "serviceaccount", "default"), what="the namespace's ServiceAccount")
        for name in "abcd":
            world.node(name)
        yield world


@pytest.fixture(scope="module")
def operator(lone: World) -> ProcessOperator:
    return lone.cluster.start_operator("--plan-timeout=3")


def fallbacks(operator: ProcessOperator) -> dict[tuple[str, str], float]:
    found = re.findall(
        r'^stint_plan_fallbacks_total{reason="(.*)",step="(.*)"} (.*)$', operator.metrics(), re.MULTILINE
    )
    return {(step, reason): float(count) for reason, step, count in found if float(count)}


def told(cluster: Cluster) -> list[str]:
    """What events say about the operator itself."""
    listed = json.loads(cluster.kubectl("get", "events.events.k8s.io", "-n", NAMESPACE, "-o", "json"))["items"]
    mine: list[dict[str, Any]] = [e for e in listed if e["reason"] == "FellBack"]
    assert all((e["regarding"]["kind"], e["regarding"]["name"]) == ("Lease", "stint") for e in mine)
    return [e["note"] for e in mine]


def test_a_process_that_was_killed_is_replaced(lone: World, operator: ProcessOperator):
    lone.apply(lone.job("before-a-kill"))
    lone.until("Running", "before-a-kill")  # so it was not killed while it started
    assert not fallbacks(operator)
    (worker,) = children(operator.process.pid)
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: started_at(worker) is None, what="it to die")
    lone.apply(lone.job("after-a-kill"))
    lone.until("Running", "after-a-kill")
    (other,) = children(operator.process.pid)
    assert other != worker
    assert set(fallbacks(operator)) <= {("greedy", "died")}  # or it was noticed before anybody asked it


def test_one_that_hangs_is_killed_and_greedy_decides(lone: World, operator: ProcessOperator):
    (worker,) = children(operator.process.pid)
    os.kill(worker, signal.SIGSTOP)
    lone.apply(lone.job("while-it-hangs"))
    lone.until("Running", "while-it-hangs")
    assert started_at(worker) is None
    assert fallbacks(operator)["greedy", "overran"] == 1
    assert operator.healthy()
    (note,) = [n for n in told(lone.cluster) if "had no answer within 3 s" in n]
    assert note.endswith("; greedy decides instead")


def test_it_ends_with_an_operator_that_is_killed(lone: World, operator: ProcessOperator):
    (worker,) = children(operator.process.pid)
    os.kill(worker, signal.SIGSTOP)  # it cannot see that nobody will ask any more
    operator.process.signal(signal.SIGKILL)
    eventually(lambda: started_at(worker) is None, what="it to end with its parent")
    operator.crash()
    lone.apply(lone.job("afterwards"))
    lone.until("Running", "afterwards")
