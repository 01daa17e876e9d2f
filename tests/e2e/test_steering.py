"""Other people's workloads: gated, grouped, priced, placed and taken back like our own. With their real CRDs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster import ROOT, Cluster, eventually
from hack.cluster.audit import own_writes
from tests.e2e import others
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e

GATE = "stint.dev/placement"


@pytest.fixture
def steered(world: World) -> Iterator[World]:
    """A corner whose namespace is labelled; what is made in it goes before the cluster's next test."""
    world.cluster.kubectl("label", "namespace", world.name, "stint.dev/managed=true")
    yield world
    kinds = "jobs,jobsets,pytorchjobs,trainjobs,rayjobs,rayclusters"
    world.kubectl("delete", kinds, "--all", "--wait=false")
    world.kubectl("delete", "pods", "--all", "--wait=false", "--grace-period=0", "--force")


def pods_of(world: World) -> list[dict[str, Any]]:
    listed = json.loads(world.kubectl("get", "pods", "-o", "json"))["items"]
    alive = [p for p in listed if p["status"]["phase"] in ("Pending", "Running")]
    return [p for p in alive if "deletionTimestamp" not in p["metadata"]]


def gated(pod: dict[str, Any]) -> bool:
    return GATE in [g["name"] for g in pod["spec"].get("schedulingGates", [])]


def asks(pod: dict[str, Any]) -> bool:
    return "nvidia.com/gpu" in pod["spec"]["containers"][0].get("resources", {}).get("limits", {})


def nodes_of(world: World) -> set[str]:
    return {p["spec"].get("nodeName", "") for p in pods_of(world) if asks(p)}


def says(world: World, kind: str, name: str, reason: str) -> str:
    """The note of an event about somebody's object."""
    listed = json.loads(world.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
    about = [e for e in listed if (e["regarding"]["kind"], e["regarding"]["name"]) == (kind, name)]
    return next((e["note"] for e in about if e["reason"] == reason), "")


def annotate(world: World, kind: str, name: str, text: str) -> None:
    world.kubectl("annotate", kind, name, f"stint.dev/spec={text}", "--overwrite")


def test_a_job_that_is_labelled_is_priced_placed_runs_and_ends(steered: World):
    node = steered.node("a")
    steered.apply(others.job(steered, said=others.SPEC + "budget: {usd: 100}\nwithin: 24h\n"))
    status = steered.until("Running", "job-train")
    assert (status["gpus"], status["workers"], status["readyWorkers"]) == (8, 2, 2)
    assert float(status["usdPerHour"]) == pytest.approx(27.4472, rel=0.02)  # a whole p4de
    assert status["nodes"] == {node: "0-1"}
    assert status["budgetUsd"] == "100.00"
    assert steered.kubectl("get", "pods", "-l", status["selector"], "-o", "name").count("pod/") == 2
    assert "USD to finish" in steered.event("Placed", "job-train")
    pods = pods_of(steered)
    index = "batch.kubernetes.io/job-completion-index"
    assert [p["metadata"]["annotations"]["stint.dev/rank"] for p in pods] == [
        p["metadata"]["annotations"][index] for p in pods
    ]
    assert nodes_of(steered) == {node}
    for pod in pods:
        steered.kubectl("annotate", "pod", pod["metadata"]["name"], "sim.stint.dev/run-for=2s")
    steered.until("Succeeded", "job-train")
    assert steered.paid("job-train")["spentExactly"] > 0
    steered.kubectl("delete", "job", "train")
    eventually(lambda: "job-train" not in steered.kubectl("get", "tj"), what="the job's TrainingJob to go with it")


def test_what_is_not_labelled_is_left_alone(steered: World):
    steered.node("a")
    job = others.job(steered)
    del job["metadata"]["labels"]
    steered.apply(job)
    eventually(lambda: len(nodes_of(steered)) == 1 and "" not in nodes_of(steered), what="it to be scheduled as ever")
    assert steered.kubectl("get", "tj") == ""


def test_a_label_in_a_namespace_without_one_does_nothing(world: World):
    world.node("a")
    world.apply(others.job(world))
    eventually(lambda: len(nodes_of(world)) == 1 and "" not in nodes_of(world), what="it to be scheduled as ever")
    assert world.kubectl("get", "tj") == ""


KINDS = {
    "PyTorchJob": (others.pytorchjob, "pytorchjob-train", 3, 6),
    "JobSet": (others.jobset, "jobset-train", 4, 8),
    "TrainJob": (others.trainjob, "jobset-train", 4, 8),
    "RayCluster": (others.raycluster, "raycluster-train", 3, 6),
    "RayJob": (others.rayjob, "raycluster-train-x7k2p", 3, 6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_waits_whole_says_what_is_missing_and_then_runs(steered: World, kind: str):
    make, name, workers, gpus = KINDS[kind]
    node = steered.node("a")
    steered.apply(make(steered))
    others.control(steered, kind, "train", leave_out=1)
    waiting = steered.until("Queued", name, reason="Incomplete")
    assert f"of the {workers} GPU pods" in waiting["message"]
    assert all(gated(p) == asks(p) for p in pods_of(steered)), "what asks for no GPU starts at once"
    others.control(steered, kind, "train")
    status = steered.until("Running", name)
    assert (status["workers"], status["gpus"], set(status["nodes"])) == (workers, gpus, {node})
    pods = [p for p in pods_of(steered) if asks(p)]
    assert len(pods) == workers
    assert not any(gated(p) for p in pods)
    ranks = sorted(int(p["metadata"]["annotations"]["stint.dev/rank"]) for p in pods)
    assert ranks == list(range(workers))


def test_the_ranks_of_a_pytorchjob_begin_with_its_master(steered: World):
    steered.node("a")
    steered.apply(others.pytorchjob(steered))
    others.control(steered, "PyTorchJob", "train")
    steered.until("Running", "pytorchjob-train")
    by_rank = sorted(pods_of(steered), key=lambda p: p["metadata"]["annotations"]["stint.dev/rank"])
    assert [p["metadata"]["name"] for p in by_rank] == ["train-master-0", "train-worker-0", "train-worker-1"]


def plain(world: World, name: str, *, size: str = "2", said: str = others.SPEC, **annotations: str) -> dict[str, Any]:
    made = others.template(world, 2)
    noted = {"stint.dev/group-size": size, "stint.dev/spec": said, **annotations}
    labels = {**others.MANAGED, "stint.dev/group": "pair"}
    meta = {"name": name, "namespace": world.name, "labels": labels, "annotations": noted}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": made["spec"]}


def test_plain_pods_form_a_group_by_name(steered: World):
    steered.node("a")
    steered.apply(plain(steered, "one"))
    waiting = steered.until("Queued", "group-pair", reason="Incomplete")
    assert waiting["message"] == "1 of the 2 GPU pods of Group pair are there; they are let go together"
    steered.apply(plain(steered, "two"))
    assert steered.until("Running", "group-pair")["workers"] == 2
    for name in ("one", "two"):
        steered.kubectl("annotate", "pod", name, "sim.stint.dev/run-for=100ms")
    steered.until("Succeeded", "group-pair")


def test_a_job_that_loses_its_node_is_suspended_resumed_and_placed_elsewhere_whole(steered: World):
    node = steered.node("a")
    steered.apply(others.job(steered))
    steered.until("Running", "job-train")
    before = {p["metadata"]["uid"] for p in pods_of(steered)}
    spare = steered.node("b")
    steered.cluster.kubectl("delete", "node", node, "--wait=false")
    eventually(
        lambda: (s := steered.status("job-train"))["phase"] == "Running" and set(s["nodes"]) == {spare},
        timeout=40,
        what="the gang to run on the other node",
    )
    assert not before & {p["metadata"]["uid"] for p in pods_of(steered)}
    assert nodes_of(steered) == {spare}
    job = json.loads(steered.kubectl("get", "job", "train", "-o", "json"))
    assert job["spec"]["suspend"] is False
    assert "stint.dev/resume" not in job["metadata"]["annotations"]
    assert job["status"].get("failed", 0) == 0, "with a backoffLimit of 0, one would end it"
    assert steered.event("NodeLost", "job-train")


@pytest.mark.parametrize("kind", ["PyTorchJob", "TrainJob", "RayCluster"])
def test_others_that_lose_their_node_come_back_elsewhere_whole(steered: World, kind: str):
    make, name, workers, _ = KINDS[kind]
    node = steered.node("a")
    steered.apply(make(steered))
    others.control(steered, kind, "train")
    steered.until("Running", name)
    head = [p["metadata"]["uid"] for p in pods_of(steered) if not asks(p)]
    spare = steered.node("b")
    steered.cluster.kubectl("cordon", node)
    steered.cluster.kubectl("taint", "node", node, "aws-node-termination-handler/spot-itn=1:NoSchedule")

    def elsewhere() -> bool:
        others.control(steered, kind, "train")
        status = steered.status(name)
        return status["phase"] == "Running" and set(status["nodes"]) == {spare} and nodes_of(steered) == {spare}

    eventually(elsewhere, timeout=60, every=0.5, what="the gang to run on the other node")
    assert len([p for p in pods_of(steered) if asks(p)]) == workers
    if kind == "RayCluster":
        assert [p["metadata"]["uid"] for p in pods_of(steered) if not asks(p)] == head, "Ray's head stays"


def test_a_pod_that_its_controller_replaces_follows_the_others_to_its_rank(steered: World):
    node = steered.node("a")
    steered.apply(others.raycluster(steered))
    others.control(steered, "RayCluster", "train")
    steered.until("Running", "raycluster-train")
    steered.kubectl("delete", "pod", "train-gpus-worker-1")
    others.control(steered, "RayCluster", "train")

    def whole() -> bool:
        pods = [p for p in pods_of(steered) if asks(p)]
        return len(pods) == 3 and {p["spec"].get("nodeName") for p in pods} == {node}

    eventually(whole, what="the new worker to run")
    assert steered.status("raycluster-train")["phase"] == "Running"


def test_the_escape_hatch_lets_pods_go_without_a_place(steered: World):
    node = steered.node("a")
    steered.apply(plain(steered, "one"))
    steered.until("Queued", "group-pair")
    steered.kubectl("annotate", "pod", "one", "stint.dev/release=now")
    eventually(lambda: nodes_of(steered) == {node}, what="the pod to be scheduled")
    eventually(lambda: steered.kubectl("get", "tj") == "", what="its TrainingJob to go")
    assert "let go without a place" in says(steered, "Pod", "one", "Released")
    steered.apply(plain(steered, "two", **{"stint.dev/release": "now"}))
    assert not gated(json.loads(steered.kubectl("get", "pod", "two", "-o", "json")))


def test_nobody_but_stint_removes_its_gate(steered: World):
    steered.apply(plain(steered, "one"))
    patch = json.dumps({"spec": {"schedulingGates": [{"$patch": "delete", "name": GATE}]}})
    with pytest.raises(RuntimeError, match=r"only Stint removes its scheduling gate.*stint\.dev/release=now"):
        steered.kubectl("patch", "pod", "one", "-p", patch)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "nobody says how much work Job train is"),
        ("work: [", "is no YAML"),
        ("a sentence", "must be a mapping"),
        ("workers: 3", "may not say workers"),
        ("work: {units: 5}", "unitsPerSecond: Required value"),
        ("work: {units: 5, unitsPerSecond: {A100-80GB: 0}}", "should be greater than 0"),
        ("- " * 8000, "nested more than 16 levels deep"),
        ("gpu: fast\n" + others.SPEC, "gpu must be a mapping"),
    ],
)
def test_what_cannot_be_steered_is_told_on_the_workload_and_goes_on_once_it_is_mended(
    steered: World, said: str, told: str
):
    steered.node("a")
    steered.apply(others.job(steered, said=said))
    eventually(lambda: told in says(steered, "Job", "train", "NotSteered"), what=f"{told!r} to be said of the Job")
    assert all(gated(p) for p in pods_of(steered))
    annotate(steered, "job", "train", others.SPEC)
    steered.until("Running", "job-train")


def test_a_spec_that_only_the_catalogue_finds_wrong_is_told_in_the_trainingjob(steered: World):
    steered.node("a")
    steered.apply(others.job(steered, said="work: {units: 5, unitsPerSecond: {A100-81GB: 1}}"))
    assert "did you mean" in steered.until("Invalid", "job-train")["message"]
    annotate(steered, "job", "train", others.SPEC)
    steered.until("Running", "job-train")


def test_a_budget_that_is_raised_in_the_annotation_is_heeded(steered: World):
    steered.node("a")
    steered.apply(others.job(steered, said=others.SPEC + "budget: {usd: 1}\n"))
    steered.until("Queued", "job-train", reason="OverBudget")
    annotate(steered, "job", "train", others.SPEC + "budget: {usd: 100}\n")
    steered.until("Running", "job-train")


def test_a_name_that_is_taken_is_told(steered: World):
    steered.node("a")
    steered.apply(steered.job("job-train", gpus=1))
    steered.until("Running", "job-train")
    steered.apply(others.job(steered))
    eventually(lambda: "stands for something else" in says(steered, "Job", "train", "NotSteered"), what="it to be told")


def test_suspending_the_trainingjob_takes_their_pods_back_and_resuming_lets_them_go(steered: World):
    steered.node("a")
    steered.apply(others.job(steered))
    steered.until("Running", "job-train")
    steered.kubectl("patch", "tj", "job-train", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    steered.until("Suspended", "job-train")
    eventually(lambda: len(p := pods_of(steered)) == 2 and all(map(gated, p)), what="two new pods behind the gate")
    steered.kubectl("patch", "tj", "job-train", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    steered.until("Running", "job-train")


def test_the_progress_of_a_trainjob_is_its_own(steered: World):
    steered.node("a")
    steered.apply(others.trainjob(steered))
    others.control(steered, "TrainJob", "train")
    steered.until("Running", "jobset-train")
    trainer = {"trainerStatus": {"progressPercentage": 60, "lastUpdatedTime": "2026-11-26T05:00:00Z"}}
    steered.kubectl(
        "patch", "trainjob", "train", "--subresource=status", "--type=merge", "-p", json.dumps({"status": trainer})
    )
    status = eventually(
        lambda: s if (s := steered.status("jobset-train"))["progress"].get("estimate", 0) > 1000 else {},
        what="its progress to be known",
    )
    assert status["progress"]["estimate"] == pytest.approx(2160)  # of 3,600 steps; by the clock it would be a few


def test_kueue_queues_and_stint_places(steered: World):
    """Kueue suspends what has one of its queues, and gates plain pods; Stint waits for it, and never resumes for it."""
    node = steered.node("a")
    job = others.job(steered, suspend=True)
    job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    steered.apply(job)
    pod = plain(steered, "one", size="1")
    pod["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    steered.apply(pod)
    waiting = steered.until("Queued", "group-pair", reason="Incomplete")
    assert "kueue.x-k8s.io/admission" in waiting["message"]
    assert json.loads(steered.kubectl("get", "job", "train", "-o", "json"))["spec"]["suspend"] is True
    # It admits the one, then the other: there is room for one of them.
    steered.kubectl("patch", "job", "train", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    steered.until("Running", "job-train")
    opened = json.dumps({"spec": {"schedulingGates": [{"$patch": "delete", "name": "kueue.x-k8s.io/admission"}]}})
    steered.kubectl("patch", "pod", "one", "-p", opened)
    steered.node("b")
    steered.until("Running", "group-pair")
    before = {p["metadata"]["uid"] for p in pods_of(steered)}
    # What Kueue has resumed is not suspended by Stint, but its pods are deleted.
    steered.cluster.kubectl("taint", "node", node, "aws-node-termination-handler/spot-itn=1:NoSchedule")
    eventually(
        lambda: not before & {p["metadata"]["uid"] for p in pods_of(steered) if p["metadata"]["name"] != "one"},
        what="the job's pods to go",
    )
    log = steered.cluster.provider.audit_log
    assert log is not None
    refs = [(e["verb"], e["objectRef"]) for e in own_writes(log) if e["objectRef"].get("namespace") == steered.name]
    assert [ref for verb, ref in refs if (verb, ref["resource"]) == ("patch", "jobs")] == []


def test_a_trainingjob_that_somebody_writes_himself_stands_for_the_group(steered: World):
    steered.node("a")
    own = steered.job("job-train", workers=2, gpus=4)
    del own["spec"]["template"]
    own["spec"]["steers"] = {"kind": "Job", "name": "train"}
    steered.apply(own)
    waiting = steered.until("Queued", "job-train", reason="Incomplete")
    assert waiting["message"] == "0 of the 2 GPU pods of Job train are there; they are let go together"
    steered.apply(others.job(steered, said=""))
    steered.until("Running", "job-train")
    assert says(steered, "Job", "train", "NotSteered") == ""


def test_the_command_line_explains_it_like_any_other(steered: World, cluster: Cluster):
    steered.apply(others.pytorchjob(steered))
    others.control(steered, "PyTorchJob", "train", leave_out=1)
    steered.until("Queued", "pytorchjob-train", reason="Incomplete")
    command = [sys.executable, "-m", "stint.cli.main", "explain", f"{steered.name}/pytorchjob-train"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(cluster.kubeconfig)}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "Incomplete" in told
    assert "2 of the 3 GPU pods of PyTorchJob train are there" in " ".join(told.split())
