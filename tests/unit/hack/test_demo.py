"""The demo's story has its interruption, however slow the machine is that tells it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack.demo.workers import TAKEN_AFTER_S, Workers, on_spot

SPOT, OWNED = "l40s-spot-1", "dc1-a100-1"
NODES = [
    {"metadata": {"name": SPOT, "labels": {"stint.dev/capacity-type": "spot"}}},
    {"metadata": {"name": OWNED, "labels": {"stint.dev/capacity-type": "owned"}}},
]


def a_job(name: str, node: str, *, workers: int = 1, phase: str = "Running") -> dict[str, Any]:
    spec = {
        "workers": workers,
        "work": {"units": 3600 * 2400, "unitsPerSecond": {"L40S": 1.0}},
        "checkpoint": {"everyMinutes": 15, "takesSeconds": 0},
    }
    status = {"phase": phase, "gpuModel": "L40S", "nodes": {node: "0"}}
    return {"metadata": {"namespace": "team", "name": name}, "spec": spec, "status": status}


def a_pod(job: str, start: int) -> dict[str, Any]:
    name = f"{job}-{start}"
    meta = {"namespace": "team", "name": name, "uid": f"u-{name}", "labels": {"stint.dev/trainingjob": job}}
    return {"metadata": meta, "status": {"phase": "Running"}}


class Cluster:
    """Lists what it is told to have, and notes what is written."""

    def __init__(self, *jobs: dict[str, Any]) -> None:
        self.jobs = list(jobs)
        self.starts: dict[str, int] = {}
        self.told: list[str] = []
        self.taken: list[str] = []
        self.now = 0.0

    def get(self, kind: str, *_: str) -> dict[str, Any]:
        names = [j["metadata"]["name"] for j in self.jobs]
        pods = [a_pod(name, self.starts.get(name, 1)) for name in names]
        return {"items": {"tj": self.jobs, "nodes": NODES, "pods": pods}[kind]}

    def kubectl(self, *arguments: str) -> str:
        if arguments[0] == "patch":
            assert "sim.stint.dev/interrupt-at" in json.loads(arguments[-1])["metadata"]["annotations"]
            self.taken.append(arguments[2])
        else:
            assert arguments[-1].startswith("sim.stint.dev/run-for=")
            self.told += arguments[arguments.index("pod") + 1 : -1]
        return ""


def workers(cluster: Cluster) -> Workers:
    return Workers(cluster, 2400.0, clock=lambda: cluster.now)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds_a_look", [0.5, 3.0, 20.0])
def test_a_gang_on_spot_cannot_end_before_its_node_is_taken(seconds_a_look):
    cluster = Cluster(a_job("small", SPOT), a_job("owned", OWNED))
    told = workers(cluster)
    while not cluster.taken:
        told.look()
        assert cluster.told == ["owned-1"]
        cluster.now += seconds_a_look
        assert cluster.now < TAKEN_AFTER_S + 3 * seconds_a_look
    assert cluster.taken == [SPOT]
    assert told.taken == f"the provider takes spot node {SPOT} from team/small: its gang goes elsewhere"


def test_one_node_is_taken_and_everybody_else_ends_in_time():
    cluster = Cluster(a_job("large", SPOT, workers=1), a_job("owned", OWNED))
    told = workers(cluster)
    told.look()
    cluster.jobs.append(a_job("small", SPOT))  # it comes later, and so it is not the one
    for cluster.now in (3.0, 6.0, 9.0, 12.0):
        told.look()
    assert cluster.taken == [SPOT]
    assert "team/large" in told.taken
    assert cluster.told == ["owned-1", "small-1"]  # and not those whose node is just going
    cluster.starts["large"] = 2
    told.look()
    assert cluster.told == ["owned-1", "small-1", "large-2"]


def test_a_gang_that_leaves_spot_by_itself_leaves_it_to_another():
    cluster = Cluster(a_job("small", SPOT))
    told = workers(cluster)
    told.look()
    cluster.jobs, cluster.starts = [a_job("small", OWNED), a_job("large", SPOT)], {"small": 2}
    cluster.now = 10.0
    told.look()
    assert cluster.taken == []
    assert cluster.told == ["small-2"]
    cluster.now = 20.0
    told.look()
    assert "team/large" in told.taken


def test_small_gangs_come_first_and_only_those_that_run_on_spot():
    jobs = [a_job("large", SPOT, workers=4), a_job("small", SPOT), a_job("owned", OWNED), a_job("x", SPOT, phase="")]
    keyed = {(j["metadata"]["namespace"], j["metadata"]["name"]): j for j in jobs}
    assert on_spot(keyed, NODES) == {("team", "small"): SPOT, ("team", "large"): SPOT}
    assert next(iter(on_spot(keyed, NODES))) == ("team", "small")
