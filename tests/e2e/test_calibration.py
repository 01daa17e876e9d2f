"""A speed that was stated too high is found out, kept in the operator's namespace, and known after a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hack.bench.scale import job
from hack.cluster import Cluster, eventually, running_cluster
from hack.fleet import a100

pytestmark = pytest.mark.e2e

PACE = 600  # ten minutes a second


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.install_chart()
        cluster.apply([a100("a")])
        yield cluster


def status(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get("tj", "slow").get("status", {})
    return found


def measured(cluster: Cluster) -> dict[str, Any]:
    (found,) = status(cluster)["calibration"]
    made: dict[str, Any] = found
    return made


def book(cluster: Cluster) -> list[dict[str, Any]]:
    text = cluster.get("configmap", "stint-calibration", "-n", "stint-system")["data"]["calibration.json"]
    made: list[dict[str, Any]] = json.loads(text)
    return made


def test_what_a_run_does_decides_is_kept_and_survives_the_operator(quick: Cluster):
    operator = quick.start_operator(f"--pace={PACE}")
    made = job("slow", workers=1, gpus=1)
    made["metadata"]["labels"] = {"stint.dev/family": "nightly"}
    made["spec"]["work"] = {"units": 1e9, "unitsPerSecond": {"A100-80GB": 1000.0}}
    quick.apply([made])
    eventually(lambda: status(quick).get("phase") == "Running", timeout=60, what="it to run")
    before = status(quick)["finish"]

    def tell(units: int) -> bool:
        quick.kubectl("annotate", "tj", "slow", f"stint.dev/units-done={units}", "--overwrite")
        return bool(status(quick).get("calibration"))

    told = iter(range(0, 10**9, 1000))
    eventually(lambda: tell(next(told)), timeout=60, what="its speed to be measured", every=0.5)
    found = measured(quick)
    assert 0 < found["measured"] < 100 < found["stated"]
    assert (found["runs"], found["used"]) == (1, True)
    assert "in this run" in found["text"]
    eventually(lambda: status(quick)["finish"] > before, timeout=30, what="a later finish")
    (entry,) = eventually(lambda: book(quick), timeout=30, what="the ConfigMap")
    assert entry["key"] == ["default", "nightly", made["spec"]["work"].get("unit", "step"), "A100-80GB"]
    operator.crash()
    quick.apply([{**made, "metadata": {**made["metadata"], "name": "next"}, "spec": {**made["spec"], "suspend": True}}])

    def known() -> dict[str, Any] | None:
        seen = quick.get("tj", "next").get("status", {}).get("calibration")
        return seen[0] if seen else None

    other = eventually(known, timeout=60, what="the next of its family to know")
    assert (other["runs"], other["used"]) == (1, False), "a single run of others is not enough to decide by"
