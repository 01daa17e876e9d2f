from __future__ import annotations

import pytest

from stint.workloads.registry import KINDS
from tests.unit.kube.theirs import POD_SPEC, workload

PODS = {"template": {"spec": POD_SPEC}}
NO_GPUS = {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": 1}}}]}}}


@pytest.mark.parametrize(
    ("kind", "spec", "pods"),
    [
        ("Job", {"parallelism": 4, "completions": 4, **PODS}, 4),
        ("Job", {"parallelism": 4, "completions": 3, **PODS}, 3),
        ("Job", PODS, 1),
        ("Job", {"parallelism": 4, **NO_GPUS}, 0),
        (
            "JobSet",
            {
                "replicatedJobs": [
                    {"name": "lead", "replicas": 1, "template": {"spec": NO_GPUS}},
                    {"name": "node", "replicas": 2, "template": {"spec": {"parallelism": 3, "completions": 3, **PODS}}},
                ]
            },
            6,
        ),
        ("PyTorchJob", {"pytorchReplicaSpecs": {"Master": PODS, "Worker": {"replicas": 7, **PODS}}}, 8),
        (
            "RayCluster",
            {"headGroupSpec": NO_GPUS, "workerGroupSpecs": [{"replicas": 2, "numOfHosts": 4, **PODS}, PODS]},
            8,
        ),
        ("RayCluster", {"headGroupSpec": PODS, "workerGroupSpecs": [{"replicas": 2, "suspend": True, **PODS}]}, 1),
        ("TrainJob", {"trainer": {"numNodes": 8}}, 0),
        ("Job", {"template": None}, 0),
        ("JobSet", {}, 0),
    ],
)
def test_how_many_pods_ask_for_gpus(kind, spec, pods):
    assert workload(kind, spec=spec).pods == pods


@pytest.mark.parametrize(
    ("kind", "status", "complete", "failure"),
    [
        ("Job", {"conditions": [{"type": "Complete", "status": "True"}]}, True, ""),
        ("Job", {"conditions": [{"type": "Complete", "status": "False"}]}, False, ""),
        (
            "Job",
            {"conditions": [{"type": "Failed", "status": "True", "reason": "Late", "message": "so"}]},
            False,
            "Late: so",
        ),
        ("JobSet", {"conditions": [{"type": "Completed", "status": "True"}]}, True, ""),
        ("PyTorchJob", {"conditions": [{"type": "Succeeded", "status": "True"}]}, True, ""),
        ("PyTorchJob", {"conditions": [{"type": "Failed", "status": "True"}]}, False, "Failed"),
        ("TrainJob", {"conditions": [{"type": "Complete", "status": "True"}]}, True, ""),
        ("RayJob", {"jobDeploymentStatus": "Complete"}, True, ""),
        ("RayJob", {"jobDeploymentStatus": "Failed", "message": "oom"}, False, "oom"),
        ("RayJob", {"jobDeploymentStatus": "Running"}, False, ""),
        ("RayCluster", {"state": "ready"}, False, ""),
    ],
)
def test_how_each_kind_says_that_it_has_ended(kind, status, complete, failure):
    record = workload(kind, spec={}, status=status)
    assert (record.complete, record.failure) == (complete, failure)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("Job", {"spec": {"suspend": True}}),
        ("JobSet", {"spec": {"suspend": True}}),
        ("TrainJob", {"spec": {"suspend": True}}),
        ("PyTorchJob", {"spec": {"runPolicy": {"suspend": True}}}),
    ],
)
def test_where_each_kind_is_suspended(kind, field):
    assert KINDS[kind].suspended(True) == field
    assert workload(kind, spec=field["spec"]).suspended
    assert not workload(kind, spec={}).suspended


@pytest.mark.parametrize(
    ("status", "progress"),
    [
        ({"trainerStatus": {"progressPercentage": 60}}, 0.6),
        ({"trainerStatus": {"progressPercentage": 400}}, 1.0),
        ({"trainerStatus": {}}, None),
        ({"trainerStatus": "soon"}, None),
        ({}, None),
    ],
)
def test_the_progress_that_a_trainjob_tells(status, progress):
    assert workload("TrainJob", spec={}, status=status).progress == progress


def test_where_the_api_server_has_them():
    assert KINDS["PyTorchJob"].path("team", "mnist") == "/apis/kubeflow.org/v1/namespaces/team/pytorchjobs/mnist"
    assert KINDS["JobSet"].path() == "/apis/jobset.x-k8s.io/v1alpha2/jobsets"
