"""Running gangs go on for less on a cheaper node, and make room for a deadline; on a clock that runs fast."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.bench.scale import job
from hack.cluster import Cluster, eventually, running_cluster
from hack.fleet import a100

pytestmark = pytest.mark.e2e

PACE = 600.0  # an hour in six seconds
DEAR = {"karpenter.sh/capacity-type": "on-demand"}
CHEAP = {"karpenter.sh/capacity-type": "spot"}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path / "cluster") as cluster:
        cluster.install_chart()
        yield cluster


def _status(cluster: Cluster, name: str = "mover") -> dict:
    return json.loads(cluster.kubectl("get", "tj", name, "-o", "json")).get("status", {})


def test_a_running_gang_moves_to_a_cheaper_node_and_is_told_why(alone: Cluster):
    alone.start_operator("--moves-per-hour=6", f"--pace={PACE}")
    alone.apply([a100("dear", labels=DEAR)])
    made = job("mover", workers=2, gpus=4)
    made["spec"]["checkpoint"] = {"everyMinutes": 30, "takesSeconds": 5, "restartSeconds": 60}
    made["spec"]["work"]["units"] = 360_000  # a hundred hours, ten minutes of ours
    alone.apply([made])
    eventually(lambda: _status(alone).get("phase") == "Running", timeout=60, what="the gang to run")
    assert "on-demand" in _status(alone)["offering"]

    alone.apply([a100("cheap", labels=CHEAP)])
    eventually(lambda: _status(alone).get("moved"), timeout=90, what="the gang to be taken back")
    eventually(
        lambda: _status(alone)["phase"] == "Running" and "spot" in _status(alone)["offering"],
        timeout=90,
        what="the gang to run on the cheaper node",
    )
    told = _status(alone)
    assert set(told["nodes"]) == {"cheap"}
    assert told["progress"]["unitsDone"] > 0  # up to its last checkpoint
    assert told["retries"] == 0
    assert told["rollbacks"] == 0
    (interrupted,) = [c for c in told["conditions"] if c["type"] == "Interrupted"]
    assert "which is free: saves" in interrupted["message"]


def test_a_gang_that_can_wait_makes_room_for_one_that_would_miss_its_deadline(alone: Cluster):
    alone.start_operator("--moves-per-hour=6", f"--pace={PACE}")
    alone.apply([a100("only")])
    patient = job("patient", workers=2, gpus=4)
    patient["spec"]["checkpoint"] = {"everyMinutes": 0.1, "takesSeconds": 1, "restartSeconds": 60}
    patient["spec"]["work"]["units"] = 360_000  # a hundred hours
    alone.apply([patient])
    eventually(lambda: _status(alone, "patient").get("phase") == "Running", timeout=60, what="the first gang to run")

    urgent = job("urgent", workers=1, gpus=8)
    urgent["spec"] |= {"within": "12h", "budget": {"usd": 10_000}}
    urgent["spec"]["work"]["units"] = 7_200  # two hours
    urgent["spec"]["template"]["metadata"] = {"annotations": {"sim.stint.dev/run-for": "5s"}}
    alone.apply([urgent])
    eventually(lambda: _status(alone, "patient").get("moved"), timeout=60, what="the first gang to be taken back")
    eventually(lambda: _status(alone, "urgent").get("phase") == "Succeeded", timeout=90, what="the urgent one to end")
    assert "default/urgent, which would otherwise miss its deadline" in alone.kubectl("get", "events", "-A")
    eventually(lambda: _status(alone, "patient")["phase"] == "Running", timeout=90, what="the first one to go on")
    told = _status(alone, "patient")
    assert (told["retries"], told["rollbacks"]) == (0, 0)
    assert told["progress"]["unitsDone"] > 0
