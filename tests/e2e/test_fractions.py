"""A part of a GPU is asked for, placed and paid for: nodes labelled as by NVIDIA's plug-ins, on a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from hack.cluster import eventually
from hack.fleet import FOUR_SHARE

pytestmark = pytest.mark.e2e

NODE_USD = 27.4472  # p4de.24xlarge


def asks_for(pod: dict[str, Any]) -> dict[str, str]:
    limits: dict[str, str] = pod["spec"]["containers"][0]["resources"]["limits"]
    return limits


def test_a_quarter_goes_to_shared_gpus_and_whole_ones_to_others(world):
    shared, whole = world.node("a", gpus=32, labels=FOUR_SHARE), world.node("b", gpus=8)
    world.apply(
        world.job("quarter", workers=1, gpu={"fraction": 0.25}), world.job("two", workers=1, gpu={"perWorker": 2})
    )
    quarter, two = world.until("Running", "quarter"), world.until("Running", "two")
    assert (quarter["nodes"], two["nodes"]) == ({shared: "0"}, {whole: "0"})
    assert float(quarter["usdPerHour"]) == pytest.approx(NODE_USD / 32, rel=0.02)
    assert float(two["usdPerHour"]) == pytest.approx(NODE_USD / 4, rel=0.02)
    assert quarter["offering"].split("/")[1] == "p4de.24xlarge:4-shared"
    assert "1 part (4-shared) of A100-80GB" in world.event("Placed", "quarter")
    assert asks_for(world.pods("quarter")[0]) == {"nvidia.com/gpu": "1"}
    world.apply(world.job("half", workers=1, gpu={"fraction": 0.5}))
    assert set(world.until("Running", "half")["nodes"]) == {whole}  # a quarter is not enough for it


def test_a_mig_instance_is_asked_for_by_its_name_and_leaves_with_its_pod(world):
    node = world.node("a", gpus=0, parts={"nvidia.com/mig-1g.10gb": "2"})
    for name in ("one", "other", "third"):
        world.apply(world.job(name, workers=1, gpu={"fraction": 0.14, "memoryGiB": 10}))
    statuses = eventually(
        lambda: _two_run(world), what="two of three jobs to run on the two instances, the third one to wait"
    )
    running = [name for name, phase in statuses.items() if phase == "Running"]
    waiting = next(name for name, phase in statuses.items() if phase == "Queued")
    for name in running:
        (pod,) = world.pods(name)
        assert pod["spec"]["nodeName"] == node
        assert asks_for(pod) == {"nvidia.com/mig-1g.10gb": "1"}
    assert "p4de.24xlarge:1g.10gb/us-east-1a/on-demand has room in about" in world.status(waiting)["message"]
    world.kubectl("delete", "tj", running[0])
    world.until("Running", waiting)


def _two_run(world: Any) -> dict[str, str]:
    phases = {name: world.status(name).get("phase", "") for name in ("one", "other", "third")}
    assert sorted(phases.values()) == ["Queued", "Running", "Running"], phases
    return phases


def test_without_shared_gpus_a_fraction_pays_for_a_whole_one_and_is_told_so(world):
    whole = world.node("a")
    world.apply(world.job(workers=1, gpu={"fraction": 0.25}))
    status = world.until("Running")
    assert set(status["nodes"]) == {whole}
    assert float(status["usdPerHour"]) == pytest.approx(NODE_USD / 8, rel=0.02)
    assert "for the price of whole ones" in world.event("Placed")


def test_a_job_with_whole_gpus_says_why_it_does_not_go_to_shared_ones(world):
    world.node("a", gpus=32, labels=FOUR_SHARE)
    world.apply(world.job(workers=1, gpus=2))
    held = world.until("Queued", reason="SharedGpu")
    assert "4-shared" in held["message"]
