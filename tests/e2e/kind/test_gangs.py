"""What only a kubelet can show of a gang: it meets, trains, saves, is stopped, and goes on elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import eventually
from tests.e2e.kind.conftest import RESTRICTED, Trainer
from tests.golden import books


def _nodes(trainer: Trainer) -> set[str]:
    return {p["spec"]["nodeName"] for p in trainer.world.pods()}


def _runs_elsewhere(trainer: Trainer, before: set[str]) -> None:
    def elsewhere() -> bool:
        status = trainer.world.status()
        return status["phase"] == "Running" and not before & set(status["nodes"])

    eventually(elsewhere, timeout=90, what="the gang to run elsewhere", every=0.5)


def _sleeper(trainer: Trainer, name: str, *, gpus: int, **spec: Any) -> dict[str, Any]:
    """A pod of somebody else."""
    container = {
        "name": "c",
        "image": trainer.image,
        "imagePullPolicy": "Never",
        "command": ["sleep", "600"],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
        "securityContext": RESTRICTED,
    }
    metadata = {"name": name, "namespace": trainer.world.name}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def test_a_gang_meets_trains_together_and_ends(trainer: Trainer):
    world = trainer.world
    world.apply(trainer.job(workers=3, gpus=1, steps=30))
    world.until("Running", timeout=60)
    done = world.until("Succeeded", timeout=60)
    lines = trainer.lines()
    ends = {line["rank"]: line["loss"] for line in lines if line["event"] == "done"}
    assert set(ends) == {0, 1, 2}
    assert len(set(ends.values())) == 1
    first = next(line["loss"] for line in lines if line["event"] == "step")
    assert ends[0] < first / 10
    assert trainer.checkpoint()["step"] == 30
    assert done.get("retries", 0) == 0
    assert trainer.world.paid()["spentExactly"] > 0


def test_a_drained_node_costs_nothing_that_was_saved(trainer: Trainer):
    """Eviction: SIGTERM to one worker; the gang saves together, goes back whole, and resumes on the other node."""
    world = trainer.world
    world.apply(trainer.job(steps=150, checkpoint_every=1000, workers=2, gpus=2))
    world.until("Running", timeout=60)
    lines = eventually(lambda: trainer.reached(10), timeout=60, what="ten steps", every=0.3)
    before = _nodes(trainer)
    assert len(before) == 1
    (node,) = before
    try:
        world.kubectl("drain", node, "--pod-selector=stint.dev/trainingjob=job", "--timeout=60s")
        _runs_elsewhere(trainer, before)
        resumed = eventually(
            lambda: [line for line in trainer.lines() if line["event"] == "resume"], timeout=60, what="to resume"
        )
        assert {line["attempt"] for line in resumed} == {2}
        assert {line["steps_lost"] for line in resumed} == {0}
        assert resumed[0]["step"] >= max(line["step"] for line in lines)
        status = world.status()
        assert status.get("retries", 0) == 0
        assert "the whole gang was requeued" in world.event("Disrupted")
    finally:
        world.kubectl("uncordon", node)
    world.until("Succeeded", timeout=90)


def test_a_preempted_gang_resumes_from_its_checkpoint(trainer: Trainer):
    world = trainer.world
    world.apply(trainer.job(steps=150, checkpoint_every=10))
    world.until("Running", timeout=60)
    eventually(lambda: trainer.reached(12), timeout=60, what="the first checkpoint", every=0.3)
    before = _nodes(trainer)
    (node,) = before
    urgent = f"{world.name}-urgent"
    world.cluster.apply(
        [
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": urgent},
                "value": 1000,
            }
        ]
    )
    chosen = {"kubernetes.io/hostname": node}
    world.apply(_sleeper(trainer, "urgent", gpus=3, priorityClassName=urgent, nodeSelector=chosen))
    try:
        _runs_elsewhere(trainer, before)
        resumed = eventually(
            lambda: [line for line in trainer.lines() if line["event"] == "resume"], timeout=60, what="to resume"
        )
        assert resumed[0]["step"] >= 10
        assert "the whole gang was requeued" in world.event("Disrupted")
        assert world.status().get("retries", 0) == 0
        world.until("Succeeded", timeout=90)
    finally:
        world.cluster.kubectl("delete", "priorityclass", urgent)


def test_a_worker_that_dies_takes_the_gang_back_to_its_checkpoint(trainer: Trainer):
    """SIGKILL, as by the kernel: work since the checkpoint is lost, and the workers' own books say how much."""
    world = trainer.world
    world.apply(trainer.job(steps=120, checkpoint_every=20))
    world.until("Running", timeout=60)
    eventually(lambda: trainer.reached(25), timeout=60, what="the first checkpoint and some more", every=0.3)
    victim = world.pods()[1]
    trainer.kind.kill(victim["spec"]["nodeName"], victim["metadata"]["name"])
    resumed = eventually(
        lambda: [line for line in trainer.lines() if line["event"] == "resume"], timeout=90, what="to resume"
    )
    assert resumed[0]["step"] in (20, 40)
    assert resumed[0]["steps_lost"] > 0
    assert resumed[0]["seconds_lost"] == pytest.approx(resumed[0]["steps_lost"] * 0.1, rel=0.5)
    world.until("Succeeded", timeout=90)
    assert world.status()["retries"] == 1


def test_what_was_spent_is_what_the_workers_can_tell_of(trainer: Trainer):
    """The bill covers all seconds that were useful or lost, and little else: starting, meeting, ending.

    With STINT_RECORD=FILE what happened is written there, as the reference in tests/golden is.
    """
    world = trainer.world
    world.apply(trainer.job(steps=100, checkpoint_every=30))
    placed = world.until("Running", timeout=60)
    lines = eventually(lambda: trainer.reached(40), timeout=60, what="a checkpoint and some more", every=0.3)
    victim = world.pods()[0]
    trainer.kind.kill(victim["spec"]["nodeName"], victim["metadata"]["name"])
    eventually(lambda: world.status().get("retries") == 1, timeout=60, what="the failure to be booked")
    kept = world.until("Running", timeout=90)["progress"]["unitsDone"]
    world.until("Succeeded", timeout=120)
    lines += trainer.lines()
    record = {
        "job": trainer.job(steps=100, checkpoint_every=30)["spec"],
        "usdPerHour": float(placed["usdPerHour"]),
        "spentUsd": world.paid()["spentExactly"],
        "unitsKept": kept,
        "lines": sorted(lines, key=lambda line: line["time"]),
    }
    if os.environ.get("STINT_RECORD"):
        Path(os.environ["STINT_RECORD"]).write_text(json.dumps(record) + "\n")
    books.check(record)


def test_a_gpu_that_the_kubelet_will_not_give_is_told_and_tried_again(trainer: Trainer, request: pytest.FixtureRequest):
    """UnexpectedAdmissionError: the kubelet refuses a pod that the scheduler has bound."""
    world = trainer.world
    plugin = ["-n", "kube-system", "get", "pods", "-l", "app=fake-gpus", "-o", "json"]
    nodes = [p["spec"]["nodeName"] for p in json.loads(world.cluster.kubectl(*plugin))["items"]]
    docker = trainer.kind.docker

    def mend() -> None:
        for node in nodes:
            docker.run("exec", node, "rm", "-f", "/run/fake-gpus/refuse")

    request.addfinalizer(mend)
    for node in nodes:
        docker.run("exec", node, "sh", "-c", "echo the driver has no such GPU > /run/fake-gpus/refuse")
    world.apply(trainer.job(steps=20, retries=1))
    event = eventually(lambda: world.events().get("NodeRejected"), timeout=60, what="the rejection to be told")
    assert "UnexpectedAdmissionError" in (event or "")
    assert world.status().get("retries", 0) == 0, "it is no fault of the worker's"
    listed = json.loads(world.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    told = [e for e in listed if e["reason"] == "UnexpectedAdmissionError"]
    assert any("the driver has no such GPU" in e["note"] for e in told)
    mend()
    edit = '{"spec": {"retries": 2}}'  # which clears the blame of nodes that are in order again
    world.kubectl("patch", "tj", "job", "--type=merge", "-p", edit)
    world.until("Succeeded", timeout=120)


def test_the_kubelet_counts_gpus_and_turns_a_thief_away(trainer: Trainer):
    """A pod that goes round the scheduler finds no GPU left; the gang is not disturbed."""
    world = trainer.world
    world.apply(trainer.job(steps=100, workers=2, gpus=2))
    world.until("Running", timeout=60)
    (node,) = _nodes(trainer)
    world.apply(_sleeper(trainer, "thief", gpus=1, nodeName=node))
    pod = eventually(
        lambda: (
            p if (p := json.loads(world.kubectl("get", "pod", "thief", "-o", "json")))["status"].get("reason") else {}
        ),
        timeout=30,
        what="the kubelet's answer",
    )
    # Which of the two it is depends on who looks first: the kubelet's device manager, or its copy of the scheduler.
    assert pod["status"]["reason"] in ("UnexpectedAdmissionError", "OutOfnvidia.com/gpu")
    assert "nvidia.com/gpu" in pod["status"]["message"]
    world.until("Succeeded", timeout=90)
    assert world.status().get("retries", 0) == 0
