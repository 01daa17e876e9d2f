from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from stint.kube.act.gating import answer
from stint.kube.steered import GATE

LABEL = {"stint.dev/managed": "true"}
GPU_POD = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}


def review(kind: str, thing: dict[str, Any], operation: str = "CREATE") -> dict[str, Any]:
    request = {"uid": "u", "kind": {"kind": kind}, "operation": operation, "object": thing}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def patch(kind: str, thing: dict[str, Any], operation: str = "CREATE") -> list[dict[str, Any]]:
    response = answer(review(kind, thing, operation))["response"]
    assert (response["uid"], response["allowed"]) == ("u", True)
    return msgspec.json.decode(base64.b64decode(response["patch"])) if "patch" in response else []


def pod(meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": meta or {}, "spec": {**GPU_POD, **spec}}


def test_a_pod_that_asks_for_gpus_is_gated_beside_the_gates_of_others():
    (op,) = patch("Pod", pod(schedulingGates=[{"name": "other"}]))
    assert op == {"op": "add", "path": "/spec/schedulingGates", "value": [{"name": "other"}, {"name": GATE}]}
    assert patch("Pod", pod())[0]["value"] == [{"name": GATE}]


@pytest.mark.parametrize(
    "thing",
    [
        pod(schedulingGates=[{"name": GATE}]),
        pod(nodeName="n1"),
        pod({"annotations": {"stint.dev/release": "now"}}),
        {"metadata": {}, "spec": {"containers": [{"resources": {"limits": {"cpu": "1"}}}]}},
        pod({"ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": True}]}),
        pod({"ownerReferences": [{"kind": "DaemonSet", "name": "d", "controller": True}]}),
    ],
    ids=["gated already", "bound", "to go at once", "without GPUs", "a Deployment's", "a DaemonSet's"],
)
def test_other_pods_are_left_alone(thing):
    assert patch("Pod", thing) == []


@pytest.mark.parametrize(
    ("kind", "spec", "paths"),
    [
        ("Job", {"template": {}}, ["/spec/template/metadata"]),
        ("Job", {"template": {"metadata": {}}}, ["/spec/template/metadata/labels"]),
        (
            "Job",
            {"template": {"metadata": {"labels": {"a": "b"}}}},
            ["/spec/template/metadata/labels/stint.dev~1managed"],
        ),
        ("Job", {"template": {"metadata": {"labels": {"stint.dev/managed": "false"}}}}, []),
        ("StatefulSet", {"template": {}}, ["/spec/template/metadata"]),
        (
            "MPIJob",
            {"mpiReplicaSpecs": {"Worker": {"template": {}}}},
            ["/spec/mpiReplicaSpecs/Worker/template/metadata"],
        ),
        (
            "LeaderWorkerSet",
            {"leaderWorkerTemplate": {"workerTemplate": {}}},
            ["/spec/leaderWorkerTemplate/workerTemplate/metadata"],
        ),
        (
            "LeaderWorkerSet",
            {"leaderWorkerTemplate": {"workerTemplate": {}, "leaderTemplate": {}}},
            [
                "/spec/leaderWorkerTemplate/workerTemplate/metadata",
                "/spec/leaderWorkerTemplate/leaderTemplate/metadata",
            ],
        ),
        ("Deployment", {"template": {}}, []),
        (
            "JobSet",
            {"replicatedJobs": [{"template": {}}, {"template": {}}]},
            ["/spec/replicatedJobs/0/template/metadata", "/spec/replicatedJobs/1/template/metadata"],
        ),
        (
            "PyTorchJob",
            {"pytorchReplicaSpecs": {"Worker": {"template": {}}}},
            ["/spec/pytorchReplicaSpecs/Worker/template/metadata"],
        ),
        (
            "RayCluster",
            {"headGroupSpec": {"template": {}}, "workerGroupSpecs": [{"template": {}}]},
            ["/spec/headGroupSpec/template/metadata", "/spec/workerGroupSpecs/0/template/metadata"],
        ),
        ("RayCluster", {"headGroupSpec": {"template": {}}}, ["/spec/headGroupSpec/template/metadata"]),
        ("TrainJob", {}, ["/spec/runtimePatches"]),
        ("TrainJob", {"runtimePatches": [{"manager": "x"}]}, ["/spec/runtimePatches/-"]),
        ("TrainJob", {"runtimePatches": [{"manager": "stint.dev/steering"}]}, []),
    ],
)
def test_the_label_is_handed_down_to_templates(kind, spec, paths):
    assert [op["path"] for op in patch(kind, {"spec": spec})] == paths


@pytest.mark.parametrize(("suspend", "ops"), [(True, 1), (False, 0)])
def test_a_jobset_is_labelled_again_only_while_its_jobs_may_change(suspend, ops):
    spec = {"suspend": suspend, "replicatedJobs": [{"template": {}}]}
    assert len(patch("JobSet", {"spec": spec}, "UPDATE")) == ops


def test_updates_of_anything_else_are_left_alone():
    assert patch("Job", {"spec": {"template": {}}}, "UPDATE") == []
    assert patch("Pod", pod(), "UPDATE") == []
    assert patch("TrainJob", {"spec": {}}, "UPDATE") == []


@pytest.mark.parametrize("nonsense", [{}, {"request": None}, {"request": {"kind": "Pod"}}, {"request": {"kind": {}}}])
def test_what_is_no_review_is_refused(nonsense):
    with pytest.raises((KeyError, TypeError)):
        answer(nonsense)


def test_a_group_that_somebody_names_is_gated_whatever_makes_its_pods():
    made = [{"kind": "ReplicaSet", "name": "web-1", "controller": True}]
    assert patch("Pod", pod({"labels": {"stint.dev/group": "g"}, "ownerReferences": made}))


def test_jobs_of_two_apis_are_told_apart_by_their_groups():
    def patched(group: str, spec: dict[str, Any]) -> bool:
        asked = review("Job", {"spec": spec})
        asked["request"]["kind"]["group"] = group
        return "patch" in answer(asked)["response"]

    tasks = {"tasks": [{"template": {}}]}
    assert patched("batch.volcano.sh", tasks)
    assert patched("batch", {"template": {}})
    assert not patched("example.com", {"template": {}})
