"""kubectl apply a TrainingJob, see it placed, pay for it, see it end. On a real API server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse

import pytest

from hack import gen_dashboard
from hack.cluster import ROOT, Operator, eventually, get
from stint.api import snapshot
from stint.cli.main import main
from stint.decide import decide

pytestmark = pytest.mark.e2e


def test_a_gang_is_placed_whole_runs_and_ends_with_dollars_in_its_status(world):
    first, second = world.node("a", gpus=8), world.node("b", gpus=8)
    world.apply(world.job(workers=4, gpus=4, within="24h", budget={"usd": 100}))
    status = world.until("Running")
    assert (status["gpus"], status["workers"], status["readyWorkers"]) == (16, 4, 4)
    assert status["nodes"] == {first: "0-1", second: "2-3"}
    assert float(status["usdPerHour"]) == pytest.approx(2 * 27.4472, rel=0.02)  # two whole p4de
    assert float(status["estimatedUsd"]) == pytest.approx(55.5, rel=0.05)  # one hour, checkpoints and start-up
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert [conditions[c] for c in ("Admitted", "Priced", "Placed", "Running", "AtRisk")] == ["True"] * 4 + ["False"]
    assert status["slack"].startswith("22h")
    pods = world.pods()
    assert [p["spec"]["nodeName"] for p in pods] == [first, first, second, second]
    env = {e["name"]: e.get("value") for e in pods[3]["spec"]["containers"][0]["env"]}
    assert env["MASTER_ADDR"] == "job-0.stint-workers"
    assert (env["PET_NNODES"], env["WORLD_SIZE"]) == ("4", "16")
    assert "USD/h" in world.event("Placed")
    assert "USD to finish" in world.event("Placed")
    for pod in pods:
        world.kubectl("annotate", "pod", pod["metadata"]["name"], "sim.stint.dev/run-for=2s")
    world.until("Succeeded")
    done = world.paid()
    assert done["spentUsd"] == done["estimatedUsd"]
    assert 0 < done["spentExactly"] < 2
    assert "finished for" in done["message"]


def test_each_pod_is_patched_once(world):
    world.node("a")
    world.apply(world.job(workers=8, gpus=1))
    world.until("Running")
    names = {p["metadata"]["name"] for p in world.pods()}
    audit = world.cluster.provider.audit_log.read_text().splitlines()
    patches = [
        e["objectRef"]["name"]
        for e in map(json.loads, audit)
        if e["verb"] == "patch"
        and e["objectRef"].get("resource") == "pods"
        and not e["objectRef"].get("subresource")
        and e["user"]["username"].endswith(":stint")
    ]
    assert sorted(n for n in patches if n in names) == sorted(names)


def test_a_pool_grows_for_the_whole_gang_and_gives_its_nodes_back(world):
    pool = world.pool("spot", most=3)
    world.apply(world.job(workers=2, gpus=4, annotations={"sim.stint.dev/run-for": "2s"}))
    seen = world.until("Provisioning", reason="NodesOnTheWay")
    assert "2 more g6e.12xlarge ordered" in seen["message"]
    assert "USD/h each" in seen["message"]
    running = world.until("Running")
    assert running["pool"] == pool
    assert len(running["nodes"]) == 2
    world.until("Succeeded")
    eventually(
        lambda: json.loads(world.kubectl("get", "gp", pool, "-o", "json"))["status"]["nodes"] == 0,
        what="the nodes to be given back",
    )


def test_a_pool_that_is_only_advised_changes_nothing_and_says_what_would_help(world):
    pool = world.pool("spot", most=4, mode="Advise")
    world.apply(world.job(workers=2, gpus=4))
    held = world.until("Queued", reason="AdviceOnly")
    assert "2 more g6e.12xlarge nodes in pool" in held["message"]
    assert "USD/h" in held["message"]
    advice = eventually(
        lambda: json.loads(world.kubectl("get", "gp", pool, "-o", "json"))["status"].get("recommendation"),
        what="a recommendation",
    )
    assert advice["nodes"] == 2
    assert world.cluster.get("nodes", "-l", f"test={world.name}")["items"] == []


def test_a_gang_that_does_not_fit_waits_whole_and_says_what_it_needs(world):
    world.node("a", gpus=4)
    world.apply(world.job(workers=3, gpus=2))
    held = world.until("Queued", reason="NotEnoughGpus")
    assert "needs 6 A100-80GB, 4 free" in held["message"]
    assert world.pods() == []
    world.node("b", gpus=4)
    world.until("Running")


def test_suspending_gives_the_nodes_back_and_resuming_takes_them_again(world):
    world.node("a")
    world.apply(world.job())
    world.until("Running")
    world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    world.until("Suspended")
    eventually(lambda: world.pods() == [], timeout=90, what="the pods to go")
    world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    world.until("Running")


def test_a_failed_worker_restarts_the_gang_and_too_many_failures_end_it(world):
    world.node("a")
    failing = {"sim.stint.dev/run-for": "300ms", "sim.stint.dev/exit-code": "3"}
    world.apply(world.job(retries=1, annotations=failing))
    ended = world.until("Failed", timeout=60)
    assert ended["retries"] == 1
    assert "gave up after 1 retries" in ended["message"]
    assert world.event("WorkerFailed")


def test_a_gang_whose_spot_node_is_taken_starts_again_elsewhere(world):
    first, _ = world.node("a"), world.node("b")
    world.apply(world.job(workers=2, gpus=4))
    running = world.until("Running")
    assert set(running["nodes"]) == {first}
    world.cluster.kubectl("annotate", "node", first, "sim.stint.dev/interrupt-at=2026-01-01T00:00:00Z")
    eventually(lambda: first not in world.status().get("nodes", {first: ""}), what="the gang to leave")
    again = world.until("Running")
    assert set(again["nodes"]) == {f"{world.name}-b"}
    conditions = {c["type"]: c for c in again["conditions"]}
    assert conditions["Interrupted"]["reason"] == "RunsAgain"
    assert world.event("NodeInterrupted")


def test_a_gang_whose_node_is_gone_does_not_wait_for_the_garbage_collector(world):
    first, _ = world.node("a"), world.node("b")
    world.apply(world.job(workers=2, gpus=4))
    world.until("Running")
    world.cluster.kubectl("delete", "node", first)
    eventually(
        lambda: (s := world.status()).get("phase") == "Running" and set(s["nodes"]) == {f"{world.name}-b"},
        timeout=15,
        what="the gang to run on the other node",
    )


def test_a_gang_that_does_not_start_in_time_is_taken_back_whole(world):
    world.node("a")
    world.apply(world.job(placementTimeoutSeconds=5, annotations={"sim.stint.dev/start-after": "10m"}))
    world.until("Starting")
    back = world.until("Queued", reason="DidNotStart")
    assert "0 of 2 workers ran" in back["message"]
    assert back["rollbacks"] == 1
    eventually(lambda: world.pods() == [], timeout=90, what="the pods to go")


def test_a_quota_that_refuses_the_pods_is_told_and_half_a_gang_is_not_released(world):
    world.node("a")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": world.name},
        "spec": {"hard": {"requests.nvidia.com/gpu": "4"}},
    }
    world.apply(quota, world.job(workers=2, gpus=4, placementTimeoutSeconds=5))
    back = world.until("Queued", reason="DidNotStart")
    assert "0 of 2 workers ran" in back["message"]


def test_a_job_that_the_api_server_refuses_says_so_and_backs_off(world):
    world.node("a")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-jobs", "namespace": world.name},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    world.apply(quota)
    eventually(
        lambda: "hard" in json.loads(world.kubectl("get", "quota", "no-jobs", "-o", "json"))["status"], what="quota"
    )
    world.apply(world.job())
    told = world.until("Queued", reason="Refused")
    assert "exceeded quota: no-jobs" in told["message"]
    assert (told["rollbacks"], "notBefore" in told) == (1, True)
    world.kubectl("delete", "quota", "no-jobs")
    world.until("Running")


def test_deleting_the_job_deletes_everything_of_it(world):
    world.node("a")
    world.apply(world.job())
    world.until("Running")
    world.kubectl("delete", "tj", "job")
    for kind in ("pods", "jobs"):
        eventually(lambda kind=kind: not json.loads(world.kubectl("get", kind, "-o", "json"))["items"], what=kind)
    services = json.loads(world.kubectl("get", "services", "-o", "json"))["items"]
    assert [s["metadata"]["name"] for s in services] == ["stint-workers"]  # the namespace's, for its next gang


def test_idle_gpus_are_measured_and_shown(world):
    world.node("a")
    world.apply(world.job(annotations={"sim.stint.dev/gpu-util": "0"}))
    world.until("Running")
    usage = eventually(lambda: world.status().get("usage"), timeout=60, what="utilisation")
    assert usage["idleGpus"] == 8
    assert usage["gpuRatio"] == 0
    assert usage["watts"] > 0


def test_stored_decisions_replay_to_the_same_bytes(world, shared_operator: Operator, tmp_path):
    world.node("a")
    world.apply(world.job())
    world.until("Running")
    files = shared_operator.decisions(tmp_path)
    assert files
    for file in files[-20:]:
        record = snapshot.decode(file.read_bytes(), name=file.name)
        again = decide(record.situation)
        assert snapshot.encode(record.situation, again) == file.read_bytes(), file.name
    assert main(["replay", str(files[0].parent)]) == 0  # all of them


def test_metrics_and_probes_answer(world, shared_operator: Operator):
    assert "stint_leader 1.0" in shared_operator.metrics()
    assert shared_operator.healthy()


def test_every_panel_of_the_dashboard_can_be_asked_of_the_real_prometheus(world, prometheus: str):
    world.node("a")
    world.apply(world.job(within="24h"))
    world.until("Running")

    def panels_with_data() -> int:
        found = 0
        for panel in gen_dashboard.panels():
            for target in panel.get("targets", ()):
                query = urllib.parse.quote(gen_dashboard.over(target["expr"], 600))
                answer = json.loads(get(f"{prometheus}/api/v1/query?query={query}") or "{}")
                assert answer.get("status") == "success", (panel["title"], answer)
                found += bool(answer["data"]["result"])
        return found

    eventually(lambda: panels_with_data() >= 15, timeout=60, what="15 panels with data", every=1)


def test_an_operator_that_is_killed_goes_on_where_it_was(world, shared_operator: Operator):
    """SIGKILL while jobs are placed, run and wait; then nothing is lost, doubled or half-placed."""
    for node in ("a", "b"):
        world.node(node)
    world.apply(*(world.job(f"job-{i}", workers=2, gpus=2) for i in range(6)))
    eventually(lambda: any(world.pods(f"job-{i}") for i in range(6)), what="the first pods", every=0.01)
    shared_operator.crash()
    placed = [world.until("Running", f"job-{i}", timeout=60) for i in range(4)]
    assert sum(len(world.pods(f"job-{i}")) for i in range(4)) == 8
    held = [world.status(f"job-{i}") for i in (4, 5)]
    assert {s["phase"] for s in held} == {"Queued"}
    ranks = [(node, r) for s in placed for node, r in s["nodes"].items()]
    assert len(ranks) == 4
    pods = [p for i in range(6) for p in world.pods(f"job-{i}")]
    names = [(p["metadata"]["labels"]["stint.dev/trainingjob"], p["spec"].get("nodeName")) for p in pods]
    assert None not in [node for _, node in names]


def test_a_gang_that_is_preempted_goes_elsewhere_whole_and_it_costs_no_retry(world):
    """The scheduler takes one worker's place for a pod that matters more; the other would wait for it for ever."""
    world.node("a", gpus=4)
    world.node("b", gpus=4)
    world.apply(world.job(workers=2, gpus=2))
    before = world.until("Running")["nodes"]
    (node,) = before
    spare = ({f"{world.name}-a", f"{world.name}-b"} - {node}).pop()
    urgent = {"metadata": {"name": f"{world.name}-urgent"}, "value": 1000, "preemptionPolicy": "PreemptLowerPriority"}
    world.cluster.apply([{"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", **urgent}])
    spec = {
        "priorityClassName": f"{world.name}-urgent",
        "nodeSelector": {"kubernetes.io/hostname": node},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "2"}}}],
    }
    world.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "urgent", "namespace": world.name}, "spec": spec}
    )
    after = eventually(
        lambda: s["nodes"] if (s := world.status())["phase"] == "Running" and s["nodes"] != before else {},
        timeout=60,
        what="the gang to run elsewhere",
    )
    assert list(after) == [spare]
    assert world.status().get("retries", 0) == 0
    assert "the whole gang was requeued" in world.event("Disrupted")
    world.cluster.kubectl("delete", "priorityclass", f"{world.name}-urgent")


def test_a_gang_one_of_whose_pods_is_deleted_starts_again_whole(world):
    """Its Job would put a single worker in place, among others that wait for the one that is gone."""
    world.node("a")
    world.apply(world.job(workers=4, gpus=1))
    world.until("Running")
    before = {p["metadata"]["uid"] for p in world.pods()}
    world.kubectl("delete", "pod", world.pods()[2]["metadata"]["name"], "--wait=false")

    def whole_and_new() -> bool:
        uids = {p["metadata"]["uid"] for p in world.pods()}
        return world.status()["phase"] == "Running" and len(uids) == 4 and not uids & before

    eventually(whole_and_new, what="a new gang")
    assert "worker 2 on" in world.event("Disrupted")
    assert world.status().get("retries", 0) == 0


def test_anything_with_a_scale_can_be_a_pool(world):
    """The target is a Deployment here; what matters is that its scale is written, once, to an absolute number."""
    pods = {"metadata": {"labels": {"app": "nodes"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    selector = {"matchLabels": {"app": "nodes"}}
    meta = {"name": "nodes", "namespace": world.name}
    spec = {"replicas": 0, "selector": selector, "template": pods}
    world.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
    target = {"apiVersion": "apps/v1", "resource": "deployments", "namespace": world.name, "name": "nodes"}
    pool = world.pool("asg", most=5, scaler={"adapter": "Scale", "mode": "Act", "target": target}, coldStartSeconds=60)
    world.apply(world.job(workers=3, gpus=4))
    world.until("Provisioning")

    def replicas() -> int:
        wanted: int = json.loads(world.kubectl("get", "deployment", "nodes", "-o", "json"))["spec"]["replicas"]
        return wanted

    eventually(lambda: replicas() == 3, what="three replicas")

    def told() -> tuple[int, str]:
        status = json.loads(world.kubectl("get", "gp", pool, "-o", "json"))["status"]
        return status["wantedNodes"], status["nodesText"]

    eventually(lambda: told() == (3, "3/5"), what="the pool to count what was ordered")
    assert "arrive in about" in eventually(
        lambda: s["message"] if "arrive" in (s := world.status())["message"] else "", what="to wait for its nodes"
    )
    assert replicas() == 3


def explained(world, name: str) -> str:
    command = [sys.executable, "-m", "stint.cli.main", "explain", name, "-n", world.name]
    env = {**os.environ, "KUBECONFIG": str(world.cluster.kubeconfig), "PYTHONPATH": str(ROOT / "operator")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_explain_tells_of_an_invalid_job_what_is_wrong_and_of_an_ended_one_what_it_cost(world):
    world.node("a")
    odd = world.job("odd", work={"units": 3600, "unitsPerSecond": {"A100-80G": 1.0}})
    world.apply(odd, world.job("quick", workers=1, annotations={"sim.stint.dev/run-for": "1s"}))
    world.until("Invalid", "odd")
    assert "odd is Invalid (InvalidSpec)" in explained(world, "odd")
    assert "did you mean" in explained(world, "odd")
    world.paid("quick")
    assert "quick is Succeeded (Finished); 0.0" in explained(world, "quick")
    assert "nobody is no job" in explained(world, "nobody")


def test_explain_tells_of_a_running_job_why_it_is_there(world):
    world.node("a")
    world.node(
        "dear",
        labels={"node.kubernetes.io/instance-type": "p5.48xlarge", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    )
    world.apply(world.job())
    world.until("Running")
    told = explained(world, "job")
    assert f"{world.name}/job runs on {world.name}-inferred/p4de.24xlarge" in told
    assert "NoSpeedForModel" in told


def test_jobs_can_be_selected_by_queue_and_phase(world):
    world.node("a")
    world.apply(world.job("one", workers=1, queue="night"), world.job("two", workers=1))
    world.until("Running", "one")

    def names(selector: str) -> str:
        return world.kubectl("get", "tj", "--field-selector", selector, "-o", "name")

    assert names("spec.queue=night") == "trainingjob.stint.dev/one\n"
    world.until("Running", "two")
    assert names("status.phase=Running").count("trainingjob") == 2


def test_a_standby_is_ready_does_nothing_and_takes_over_when_the_leader_goes(world, shared_operator: Operator):
    world.node("a")
    shared_operator.hand_over()
    world.apply(world.job())
    world.until("Running")
