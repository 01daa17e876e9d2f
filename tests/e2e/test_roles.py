"""Gangs of unlike pods that others make: each gets what it asks for, the whole is let go at once, and is charged so.

In each test exactly as many GPUs are free as the gang asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster import eventually
from tests.e2e import others
from tests.e2e.conftest import World
from tests.e2e.test_others_kinds import control, leaderworkerset
from tests.e2e.test_steering import asks, gated, pods_of

pytestmark = pytest.mark.e2e

NODE_USD_PER_HOUR = 27.4472  # of a whole p4de, as in test_steering


@pytest.fixture
def steered(world: World) -> Iterator[World]:
    """A corner whose namespace is labelled; what is made in it goes before the cluster's next test."""
    world.cluster.kubectl("label", "namespace", world.name, "stint.dev/managed=true")
    yield world
    world.kubectl("delete", "pytorchjobs,rayclusters,jobsets,jobs,leaderworkersets", "--all", "--wait=false")
    world.kubectl("delete", "pods", "--all", "--wait=false", "--grace-period=0", "--force")


def room_for(world: World, *gpus: int) -> list[str]:
    """Nodes of eight GPUs with so many free, the others held by gangs of ours."""
    names = []
    for i, free in enumerate(gpus):
        names.append(world.node(f"n{i}", labels={"part": f"n{i}"}))
        if free < 8:
            fill = world.job(f"fill{i}", workers=1, gpu={"perWorker": 8 - free})
            fill["spec"]["template"]["spec"]["nodeSelector"] = {"test": world.name, "part": f"n{i}"}
            world.apply(fill)
            world.until("Running", f"fill{i}")
    return names


def where(world: World) -> dict[str, str]:
    found = {p["metadata"]["name"]: p for p in pods_of(world) if asks(p)}
    return {n: p["spec"].get("nodeName", "") for n, p in found.items() if not n.startswith("fill")}


def runs_as_planned(world: World, name: str, gpus: int) -> dict[str, Any]:
    status = world.until("Running", name)
    assert status["gpus"] == gpus
    assert float(status["usdPerHour"]) == pytest.approx(NODE_USD_PER_HOUR * gpus / 8, rel=0.02)
    assert not any(gated(p) for p in pods_of(world))
    return status


def member(world: World, name: str, gpus: int, size: int) -> dict[str, Any]:
    made = others.template(world, gpus)
    meta = {
        "name": name,
        "namespace": world.name,
        "labels": {**others.MANAGED, "stint.dev/group": "rl"},
        "annotations": {"stint.dev/group-size": str(size), "stint.dev/spec": others.SPEC},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": made["spec"]}


def test_a_large_and_a_small_pod_of_one_group_need_no_more_than_both_together(steered: World):
    big, rest = room_for(steered, 8, 1)
    steered.apply(member(steered, "rollout", 1, 2))
    waiting = steered.until("Queued", "group-rl", reason="Incomplete")
    assert "1 of the 2 GPU pods" in waiting["message"]
    steered.apply(member(steered, "trainer", 8, 2))
    runs_as_planned(steered, "group-rl", 9)
    assert where(steered) == {"trainer": big, "rollout": rest}


def test_one_gpu_too_few_holds_all_until_it_is_free(steered: World):
    big, rest = room_for(steered, 8, 1)
    for name, gpus in (("trainer", 8), ("rollout-a", 1), ("rollout-b", 1)):
        steered.apply(member(steered, name, gpus, 3))
    held = steered.until("Queued", "group-rl", reason="NotEnoughGpus")
    assert "has room in about" in held["message"]
    assert all(gated(p) for p in pods_of(steered) if not p["metadata"]["name"].startswith("fill"))
    steered.kubectl("delete", "tj", "fill1")
    runs_as_planned(steered, "group-rl", 10)
    assert where(steered) == {"trainer": big, "rollout-a": rest, "rollout-b": rest}


def test_a_master_that_is_smaller_than_the_workers(steered: World):
    big, rest = room_for(steered, 8, 2)
    job = others.pytorchjob(steered)
    job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]["resources"] = {
        "limits": {"nvidia.com/gpu": "4"}
    }
    steered.apply(job)
    others.control(steered, "PyTorchJob", "train")
    runs_as_planned(steered, "pytorchjob-train", 10)
    assert where(steered) == {"train-worker-0": big, "train-worker-1": big, "train-master-0": rest}


def test_a_ray_head_with_a_gpu_and_a_group_of_small_workers(steered: World):
    big, rest = room_for(steered, 8, 3)
    cluster = others.raycluster(steered)
    head = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    head["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    (group,) = cluster["spec"]["workerGroupSpecs"]
    group |= {"replicas": 1, "template": others.template(steered, 8)}
    small = {**group, "groupName": "actors", "replicas": 2, "template": others.template(steered, 1)}
    cluster["spec"]["workerGroupSpecs"].append(small)
    steered.apply(cluster)
    others.control(steered, "RayCluster", "train")
    runs_as_planned(steered, "raycluster-train", 11)
    found = where(steered)
    assert found.pop("train-gpus-worker-0") == big
    assert set(found.values()) == {rest}


def test_the_replicated_jobs_of_a_jobset_and_a_pod_that_comes_again(steered: World):
    big, rest = room_for(steered, 8, 1)
    jobset = others.jobset(steered)
    lead, node = jobset["spec"]["replicatedJobs"]
    lead["template"]["spec"]["template"] = others.template(steered, 1)
    node |= {"replicas": 1}
    node["template"]["spec"] |= {"parallelism": 1, "completions": 1, "template": others.template(steered, 8)}
    steered.apply(jobset)
    others.control(steered, "JobSet", "train")
    status = runs_as_planned(steered, "jobset-train", 9)
    assert status["nodes"] == {big: "0", rest: "1"}


def test_a_leader_that_is_smaller_than_its_workers(steered: World):
    big, rest = room_for(steered, 8, 1)
    made = leaderworkerset(steered)
    made["spec"]["replicas"] = 1
    made["spec"]["leaderWorkerTemplate"]["leaderTemplate"] = others.template(steered, 1)
    made["spec"]["leaderWorkerTemplate"]["workerTemplate"] = others.template(steered, 4)
    steered.apply(made)

    def pods(thing: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
        template = thing["spec"]["leaderWorkerTemplate"]
        for index in range(template["size"]):
            labels = {
                "leaderworkerset.sigs.k8s.io/name": "train",
                "leaderworkerset.sigs.k8s.io/group-index": "0",
                "leaderworkerset.sigs.k8s.io/worker-index": str(index),
            }
            yield f"train-{index}", template["leaderTemplate" if index == 0 else "workerTemplate"], labels

    control(steered, "leaderworkersets", pods)
    runs_as_planned(steered, "leaderworkerset-train-0", 9)
    eventually(
        lambda: where(steered) == {"train-0": rest, "train-1": big, "train-2": big}, what="each to be where it fits"
    )
