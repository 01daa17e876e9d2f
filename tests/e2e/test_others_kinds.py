"""Kinds of others that the suite has no real CRD of: minimal CRDs, and pods as their controllers make them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster import eventually
from tests.e2e import others
from tests.e2e.conftest import World
from tests.e2e.test_steering import asks, gated, nodes_of, pods_of, says

pytestmark = pytest.mark.e2e


@pytest.fixture
def steered(world: World) -> Iterator[World]:
    """A corner whose namespace is labelled; what is made in it goes before the cluster's next test."""
    world.cluster.kubectl("label", "namespace", world.name, "stint.dev/managed=true")
    yield world
    kinds = "leaderworkersets,mpijobs,jobs.batch.volcano.sh,statefulsets,deployments"
    world.kubectl("delete", kinds, "--all", "--wait=false")
    world.kubectl("delete", "pods", "--all", "--wait=false", "--grace-period=0", "--force")


def _made(world: World, api: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = {
        "name": "train",
        "namespace": world.name,
        "labels": {"stint.dev/managed": "true"},
        "annotations": {"stint.dev/spec": others.SPEC},
    }
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}


def leaderworkerset(world: World) -> dict[str, Any]:
    """Two groups of a leader without GPUs and two workers with two each."""
    template = {
        "size": 3,
        "leaderTemplate": others.template(world, 0),
        "workerTemplate": others.template(world, 2),
    }
    spec = {"replicas": 2, "leaderWorkerTemplate": template, "startupPolicy": "LeaderCreated"}
    return _made(world, "leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", spec)


def mpijob(world: World) -> dict[str, Any]:
    """A launcher without GPUs, and two workers with four each."""
    replicas = {
        "Launcher": {"replicas": 1, "template": others.template(world, 0)},
        "Worker": {"replicas": 2, "template": others.template(world, 4)},
    }
    return _made(world, "kubeflow.org/v2beta1", "MPIJob", {"slotsPerWorker": 4, "mpiReplicaSpecs": replicas})


def volcanojob(world: World) -> dict[str, Any]:
    """A master and two workers with two GPUs each."""
    tasks = [
        {"name": name, "replicas": n, "template": others.template(world, 2)}
        for name, n in (("master", 1), ("worker", 2))
    ]
    return _made(world, "batch.volcano.sh/v1alpha1", "Job", {"minAvailable": 3, "tasks": tasks})


def _apps(world: World, kind: str, **spec: Any) -> dict[str, Any]:
    template = others.template(world, 2)
    template["metadata"]["labels"] = {"app": "train"}
    template["spec"]["restartPolicy"] = "Always"
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "train"}}, "template": template, **spec}
    return _made(world, "apps/v1", kind, spec)


def statefulset(world: World, **spec: Any) -> dict[str, Any]:
    """Two pods with two GPUs each. Its controller is there."""
    return _apps(world, "StatefulSet", serviceName="train", **spec)


# What their controllers do ----------------------------------------------------------------------------------------


def _pods_of_leaderworkerset(thing: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    template = thing["spec"]["leaderWorkerTemplate"]
    for group in range(thing["spec"]["replicas"]):
        for index in range(template["size"]):
            labels = {
                "leaderworkerset.sigs.k8s.io/name": "train",
                "leaderworkerset.sigs.k8s.io/group-index": str(group),
                "leaderworkerset.sigs.k8s.io/group-key": f"key{group}",
                "leaderworkerset.sigs.k8s.io/worker-index": str(index),
            }
            leads = index == 0
            name = f"train-{group}" if leads else f"train-{group}-{index}"
            yield name, template["leaderTemplate" if leads else "workerTemplate"], labels


def _pods_of_mpijob(thing: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    for role, replica in thing["spec"]["mpiReplicaSpecs"].items():
        for index in range(replica["replicas"]):
            labels = {
                "training.kubeflow.org/operator-name": "mpi-operator",
                "training.kubeflow.org/job-name": "train",
                "training.kubeflow.org/job-role": role.lower(),
                "training.kubeflow.org/replica-index": str(index),
            }
            yield f"train-{role.lower()}-{index}", replica["template"], labels


def _pods_of_volcanojob(thing: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    for task in thing["spec"]["tasks"]:
        for index in range(task["replicas"]):
            labels = {
                "volcano.sh/job-name": "train",
                "volcano.sh/job-namespace": thing["metadata"]["namespace"],
                "volcano.sh/task-spec": task["name"],
                "volcano.sh/task-index": str(index),
            }
            yield f"train-{task['name']}-{index}", task["template"], labels


def control(world: World, what: str, pods: Any) -> None:
    """One pass of a kind's controller, which makes all pods."""
    thing = json.loads(world.kubectl("get", what, "train", "-o", "json"))
    meta = thing["metadata"]
    owner = {"apiVersion": thing["apiVersion"], "kind": thing["kind"], "name": meta["name"], "uid": meta["uid"]}
    for name, template, labels in pods(thing):
        told = template.get("metadata") or {}
        made = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": world.name,
                "labels": {**told.get("labels", {}), **labels},
                "annotations": told.get("annotations", {}),
                "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": False}],
            },
            "spec": template["spec"],
        }
        world.kubectl("create", "-f", "-", stdin=json.dumps(made))


KINDS: dict[str, tuple[Any, str, Any, dict[str, tuple[int, int]]]] = {
    "LeaderWorkerSet": (
        leaderworkerset,
        "leaderworkersets",
        _pods_of_leaderworkerset,
        {"leaderworkerset-train-0": (2, 4), "leaderworkerset-train-1": (2, 4)},
    ),
    "MPIJob": (mpijob, "mpijobs", _pods_of_mpijob, {"mpijob-train": (2, 8)}),
    "VolcanoJob": (volcanojob, "jobs.batch.volcano.sh", _pods_of_volcanojob, {"volcanojob-train": (3, 6)}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_others_is_placed_whole(steered: World, kind: str):
    make, plural, pods, expected = KINDS[kind]
    node = steered.node("a")
    steered.apply(make(steered))
    control(steered, plural, pods)
    for name, (workers, gpus) in expected.items():
        status = steered.until("Running", name)
        assert (status["workers"], status["gpus"], set(status["nodes"])) == (workers, gpus, {node})
        found = steered.kubectl("get", "pods", "-l", status["selector"], "-o", "name").count("pod/")
        assert found >= workers, "its selector finds its pods"
    assert not any(gated(p) for p in pods_of(steered))


def test_a_statefulset_that_makes_its_pods_at_once_is_placed(steered: World):
    node = steered.node("a")
    steered.apply(statefulset(steered, podManagementPolicy="Parallel"))
    status = steered.until("Running", "statefulset-train")
    assert (status["workers"], status["gpus"], set(status["nodes"])) == (2, 4, {node})
    assert steered.kubectl("get", "pods", "-l", status["selector"], "-o", "name").count("pod/") == 2


def test_a_statefulset_that_makes_them_one_by_one_is_told_which_field_to_change(steered: World):
    steered.node("a")
    steered.apply(statefulset(steered))
    eventually(
        lambda: "podManagementPolicy: Parallel" in says(steered, "StatefulSet", "train", "NotSteered"),
        what="its owner to be told",
        timeout=5,
    )


def test_a_deployment_is_refused_by_name_and_its_pods_run(steered: World):
    node = steered.node("a")
    deployment = _apps(steered, "Deployment")
    deployment["spec"]["template"]["metadata"]["labels"]["stint.dev/managed"] = "true"
    steered.apply(deployment)
    eventually(
        lambda: "Stint does not place Deployments" in says(steered, "Deployment", "train", "NotSteered"),
        what="its owner to be told",
        timeout=5,
    )
    eventually(lambda: nodes_of(steered) == {node}, what="its pods to be scheduled as ever")
    pod = pods_of(steered)[0]["metadata"]
    assert pod["ownerReferences"][0]["kind"] == "ReplicaSet"
    told = [says(steered, "Pod", p["metadata"]["name"], "NotSteered") for p in pods_of(steered)]
    assert any("it belongs to Deployment train" in text for text in told)
    assert steered.kubectl("get", "tj") == ""


def test_a_pod_that_nothing_explains_is_told_at_once_and_can_be_opened(steered: World):
    node = steered.node("a")
    made = others.template(steered, 2)
    meta = {**made["metadata"], "name": "lone", "namespace": steered.name, "labels": {"stint.dev/managed": "true"}}
    steered.apply({"apiVersion": "v1", "kind": "Pod", **made, "metadata": meta})
    assert all(gated(p) for p in pods_of(steered) if asks(p))
    eventually(
        lambda: "nothing says which group it belongs to" in says(steered, "Pod", "lone", "NotSteered"),
        what="its owner to be told",
        timeout=5,
    )
    steered.kubectl("annotate", "pod", "lone", "stint.dev/release=now")
    eventually(lambda: nodes_of(steered) == {node}, what="it to be scheduled")
