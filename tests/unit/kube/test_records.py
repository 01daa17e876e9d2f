from __future__ import annotations

import msgspec
import pytest

from stint.kube.client.versions import newer
from stint.kube.reduce import reduce_job, reduce_node, reduce_pod
from stint.kube.wire import WireJob, WireNode, WirePod
from stint.model.resources import Resources
from tests.unit.kube.theirs import let_go

GPU = {"nvidia.com/gpu": "2", "cpu": "4", "memory": "8Gi"}


def requests(**spec: object):
    full = {"containers": [{"resources": {"requests": GPU}}], **spec}
    pod = msgspec.convert(
        {"metadata": {"name": "p", "uid": "u"}, "spec": full, "status": {"phase": "Running"}}, WirePod
    )
    return reduce_pod(pod)[2].requests


def test_containers_add_up():
    found = requests(containers=[{"resources": {"requests": GPU}}, {"resources": {"requests": {"cpu": "500m"}}}])
    assert (found.gpus, found.cpu, found.memory_gib, found.pods) == (2, 4.5, 8.0, 1)


def test_init_containers_count_only_where_they_are_larger():
    first = {"resources": {"requests": {"cpu": "16", "memory": "1Gi"}}}
    found = requests(initContainers=[first])
    assert (found.gpus, found.cpu, found.memory_gib) == (2, 16.0, 8.0)


def test_sidecars_and_overhead_come_on_top():
    sidecar = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    found = requests(initContainers=[sidecar], overhead={"cpu": "250m"})
    assert found.cpu == 5.25


@pytest.mark.parametrize(
    ("version", "known", "is_newer"), [("10", "9", True), ("9", "10", False), ("x", "y", True), ("x", "x", False)]
)
def test_resource_versions_are_numbers(version, known, is_newer):
    assert newer(version, known) is is_newer


def test_a_sidecar_counts_beside_the_containers_and_not_beside_the_init_containers():
    first = {"resources": {"requests": {"cpu": "4500m"}}}
    sidecar = {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}
    assert requests(initContainers=[first, sidecar]).cpu == 5.0


def test_pods_that_ask_for_nothing_still_are_pods():
    found = requests(containers=[{}])
    assert found == Resources(pods=1)


def _node(**changes: object):
    body = {
        "metadata": {"name": "n", "uid": "u", "annotations": {"stint.dev/bought-by": "x", "other": "y"}},
        "spec": {"providerID": "aws:///a/i", "taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": {"cpu": "95690m", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    return reduce_node(msgspec.convert({**body, **changes}, WireNode))[2]


def test_a_node_is_kept_with_what_matters_only():
    node = _node()
    assert node.ready
    assert node.annotations == {"stint.dev/bought-by": "x"}
    assert node.allocatable == Resources(gpus=8, cpu=95.69, memory_gib=1024.0, pods=110)
    assert (node.provider_id, node.taints[0].key) == ("aws:///a/i", "k")


@pytest.mark.parametrize("conditions", [[], [{"type": "Ready", "status": "Unknown"}]])
def test_a_node_that_does_not_say_that_it_is_ready_is_not(conditions):
    assert not _node(status={"conditions": conditions}).ready


def test_a_pod_of_a_gang_is_known_by_its_label_and_its_index():
    meta = {
        "name": "unet-3-x",
        "uid": "u",
        "namespace": "team",
        "labels": {"stint.dev/trainingjob": "unet", "batch.kubernetes.io/job-name": "unet"},
        "annotations": {"batch.kubernetes.io/job-completion-index": "3"},
    }
    spec = {"schedulingGates": [{"name": "stint.dev/placement"}], "affinity": {"nodeAffinity": {}}}
    text = msgspec.json.encode({"metadata": meta, "spec": spec})
    pod = reduce_pod(msgspec.json.decode(text, type=WirePod))[2]
    assert pod.gang is not None
    assert (pod.gang.job, pod.gang.index, pod.gang.gated, pod.gang.scheduled) == ("unet", 3, True, False)
    assert msgspec.json.decode(pod.gang.affinity) == {"nodeAffinity": {}}


def test_a_job_that_failed_says_why_and_when():
    ended = "2026-11-23T11:00:00Z"
    failed = {"type": "Failed", "status": "True", "reason": "Backoff", "message": "x", "lastTransitionTime": ended}
    body = {"metadata": {"name": "unet", "uid": "u"}, "status": {"conditions": [failed]}}
    job = reduce_job(msgspec.convert(body, WireJob))[2]
    assert (job.failed_message, job.complete) == ("Backoff: x", False)
    assert job.ended is not None
    assert job.ended.hour == 11
    retracted = {"metadata": body["metadata"], "status": {"conditions": [{**failed, "status": "False"}]}}
    assert reduce_job(msgspec.convert(retracted, WireJob))[2].failed_message is None


@pytest.mark.parametrize(
    ("labels", "index"),
    [({}, "0"), ({"batch.kubernetes.io/job-name": "mine"}, "0")]
    + [({"batch.kubernetes.io/job-name": "unet"}, index) for index in ("", "banana", "-1", "1.5")],
)
def test_a_pod_that_only_has_our_label_is_somebody_elses(labels, index):
    meta = {
        "name": "p",
        "uid": "u",
        "namespace": "team",
        "labels": {"stint.dev/trainingjob": "unet", **labels},
        "annotations": {"batch.kubernetes.io/job-completion-index": index},
    }
    pod = msgspec.convert({"metadata": meta, "spec": {"containers": []}, "status": {}}, WirePod)
    assert reduce_pod(pod)[2].gang is None


@pytest.mark.parametrize(
    ("message", "for_its_group"),
    [
        ("0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) didn't satisfy plugin(s).", False),
        ("minCount (4) cannot be satisfied: 1 scheduled, 2 remaining", True),
        ("pod group is unschedulable, minCount (4) cannot be satisfied: 1 scheduled, 2 remaining, pod group ...", True),
    ],
)
def test_a_worker_that_is_refused_for_the_sake_of_another_of_its_pod_group_is_told_apart(message, for_its_group):
    """The messages are those of kube-scheduler 1.37."""
    labels = {"stint.dev/trainingjob": "unet", "batch.kubernetes.io/job-name": "unet"}
    meta = {"name": "p", "uid": "u", "labels": labels}
    meta["annotations"] = {"batch.kubernetes.io/job-completion-index": "0"}
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    pod = {"metadata": meta, "spec": {"priorityClassName": "urgent"}, "status": {"conditions": [condition]}}
    gang = reduce_pod(msgspec.convert(pod, WirePod))[2].gang
    assert gang is not None
    assert (gang.unschedulable, gang.for_its_group, gang.priority_class) == (True, for_its_group, "urgent")


@pytest.mark.parametrize(
    ("phase", "meta", "ended"),
    [
        ("Running", {}, False),
        ("Failed", {}, True),
        ("Running", {"deletionTimestamp": "2026-11-26T10:00:00Z"}, True),
    ],
    ids=["it is started again", "it is not", "it is leaving"],
)
def test_a_worker_whose_container_has_ended_has_its_gpus_until_it_has(phase, meta, ended):
    labels = {"stint.dev/trainingjob": "unet", "batch.kubernetes.io/job-name": "unet"}
    annotations = {"batch.kubernetes.io/job-completion-index": "0"}
    over = {"terminated": {"startedAt": "2026-11-26T09:00:00Z", "finishedAt": "2026-11-26T09:30:00Z"}}
    body = {
        "metadata": {"name": "p", "uid": "u", "labels": labels, "annotations": annotations, **meta},
        "spec": {"nodeName": "n1"},
        "status": {"phase": phase, "containerStatuses": [{"state": over}]},
    }
    gang = reduce_pod(msgspec.convert(body, WirePod))[2].gang
    assert gang is not None
    assert (gang.times.end is not None) is ended


def test_pods_of_a_jobset_are_one_gang_though_several_jobs_make_them():
    def run(job: str, attempt: str) -> str:
        labels = {"jobset.sigs.k8s.io/jobset-name": "big", "jobset.sigs.k8s.io/restart-attempt": attempt}
        gang = let_go(job, 0, labels=labels, owner=("Job", job)).gang
        assert gang is not None
        return gang.run

    assert run("big-a-0", "0") == run("big-b-0", "0") != run("big-a-0", "1")
    alone = let_go("p", 0, owner=("Job", "train")).gang
    assert alone is not None
    assert alone.run == "uid-train"
