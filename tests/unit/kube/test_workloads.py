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
        ("RayCluster", {"headGroupSpec": NO_GPUS, "workerGroupSpecs": [{"replicas": 0, "minReplicas": 2, **PODS}]}, 2),
        ("RayCluster", {"headGroupSpec": NO_GPUS, "workerGroupSpecs": [{"minReplicas": 3, **PODS}]}, 3),
        ("RayCluster", {"headGroupSpec": NO_GPUS, "workerGroupSpecs": [{"replicas": 9, "maxReplicas": 4, **PODS}]}, 4),
        ("RayCluster", {"headGroupSpec": NO_GPUS, "workerGroupSpecs": [{"replicas": 5, "minReplicas": 2, **PODS}]}, 5),
        ("TrainJob", {"trainer": {"numNodes": 8}}, 0),
        ("TFJob", {"tfReplicaSpecs": {"Chief": PODS, "PS": NO_GPUS, "Worker": {"replicas": 3, **PODS}}}, 4),
        ("XGBoostJob", {"xgbReplicaSpecs": {"Master": PODS, "Worker": {"replicas": 2, **PODS}}}, 3),
        ("PaddleJob", {"paddleReplicaSpecs": {"Worker": {"replicas": 2, **PODS}}}, 2),
        ("JAXJob", {"jaxReplicaSpecs": {"Worker": {"replicas": 4, **PODS}}}, 4),
        ("MPIJob", {"mpiReplicaSpecs": {"Launcher": {"replicas": 1, **NO_GPUS}, "Worker": {"replicas": 2, **PODS}}}, 2),
        ("MPIJob", {"mpiReplicaSpecs": {"Launcher": PODS, "Worker": {"replicas": 2, **PODS}}}, 3),
        ("MPIJob", {"mpiReplicaSpecs": {"Launcher": NO_GPUS, "Worker": PODS}}, 0),
        (
            "LeaderWorkerSet",
            {"replicas": 5, "leaderWorkerTemplate": {"size": 4, "workerTemplate": PODS["template"]}},
            4,
        ),
        (
            "LeaderWorkerSet",
            {
                "leaderWorkerTemplate": {
                    "size": 4,
                    "leaderTemplate": NO_GPUS["template"],
                    "workerTemplate": PODS["template"],
                }
            },
            3,
        ),
        ("LeaderWorkerSet", {"leaderWorkerTemplate": {"workerTemplate": PODS["template"]}}, 1),
        ("LeaderWorkerSet", {"leaderWorkerTemplate": "x"}, 0),
        (
            "VolcanoJob",
            {"tasks": [{"name": "ps", **NO_GPUS}, {"name": "w", "replicas": 3, **PODS}, {"name": "x", **PODS}]},
            4,
        ),
        ("VolcanoJob", {}, 0),
        ("StatefulSet", {"replicas": 3, **PODS}, 3),
        ("StatefulSet", PODS, 1),
        ("Deployment", {"replicas": 3, **PODS}, 0),
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
        ("MPIJob", {"conditions": [{"type": "Succeeded", "status": "True"}]}, True, ""),
        ("VolcanoJob", {"state": {"phase": "Completed"}}, True, ""),
        ("VolcanoJob", {"state": {"phase": "Failed", "message": "oom"}}, False, "Failed: oom"),
        ("VolcanoJob", {"state": {"phase": "Running"}}, False, ""),
        ("LeaderWorkerSet", {"conditions": [{"type": "Available", "status": "True"}]}, False, ""),
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
        ("TFJob", {"spec": {"runPolicy": {"suspend": True}}}),
        ("MPIJob", {"spec": {"runPolicy": {"suspend": True}}}),
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


ORDERED = {"replicas": 2, **PODS}
VOLCANO = [{"name": "a", **PODS}, {"name": "b", "dependsOn": {"name": ["a"]}, **PODS}]
LWS = {"size": 2, "workerTemplate": PODS["template"]}


@pytest.mark.parametrize(
    ("kind", "spec", "remedy"),
    [
        ("StatefulSet", ORDERED, "spec.podManagementPolicy: Parallel"),
        ("StatefulSet", {**ORDERED, "podManagementPolicy": "Parallel"}, ""),
        ("StatefulSet", {**ORDERED, "replicas": 1}, ""),
        ("LeaderWorkerSet", {"startupPolicy": "LeaderReady", "leaderWorkerTemplate": LWS}, "LeaderCreated"),
        ("LeaderWorkerSet", {"leaderWorkerTemplate": LWS}, ""),
        (
            "LeaderWorkerSet",
            {"startupPolicy": "LeaderReady", "leaderWorkerTemplate": {**LWS, "leaderTemplate": NO_GPUS["template"]}},
            "",
        ),
        (
            "MPIJob",
            {"launcherCreationPolicy": "WaitForWorkersReady", "mpiReplicaSpecs": {"Launcher": PODS, "Worker": PODS}},
            "AtStartup",
        ),
        (
            "MPIJob",
            {"launcherCreationPolicy": "WaitForWorkersReady", "mpiReplicaSpecs": {"Launcher": NO_GPUS, "Worker": PODS}},
            "",
        ),
        ("VolcanoJob", {"tasks": VOLCANO}, "leave dependsOn out"),
        ("VolcanoJob", {"tasks": [{"name": "a", **NO_GPUS}, VOLCANO[1]]}, ""),
        ("Job", {"parallelism": 2, **PODS}, ""),
    ],
)
def test_what_makes_its_pods_one_after_the_other_is_known_with_a_remedy(kind, spec, remedy):
    found = workload(kind, spec=spec).one_by_one
    assert (remedy in found) if remedy else (found == "")


@pytest.mark.parametrize(
    ("kind", "label", "wrong"),
    [
        ("Job", "true", ""),
        ("Job", "false", ""),
        ("Job", "yes", "write true to have its pods placed"),
        ("Deployment", "true", "Stint does not place Deployments"),
        ("DaemonSet", "true", "Stint does not place DaemonSets"),
    ],
)
def test_what_its_owner_is_told(kind, label, wrong):
    found = workload(kind, spec={}, labels={"stint.dev/managed": label})
    assert (wrong in found.wrong) if wrong else (found.wrong == "")
    assert found.managed == (label == "true" and kind == "Job")
