"""What-if and quotes on a live cluster: nothing is changed, and a quote is what the job then gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster import ROOT, eventually
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e


def stint(world: World, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stint.cli.main", *arguments, "--kubeconfig", str(world.cluster.kubeconfig)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    return subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, check=False)


def quoted(world: World, job: dict[str, Any]) -> dict[str, Any]:
    done = stint(world, "quote", "-f", "-", "-o", "json", stdin=yaml.safe_dump(job))
    assert done.returncode == 0, done.stdout + done.stderr
    (quote,) = json.loads(done.stdout)["quotes"]
    return dict(quote)


def test_a_quote_is_what_the_job_then_gets(world: World):
    node = world.node("a")
    job = world.job(workers=2, gpus=4)
    quote = eventually(lambda: quoted(world, job), what="a quote with the node there")
    chosen = quote["part"]["chosen"]
    assert quote["part"]["nodes"] == [node, node]
    assert world.kubectl("get", "tj", "-o", "name") == ""
    world.apply(job)
    status = world.until("Running")
    assert status["offering"] == chosen["offering"]
    assert float(status["usdPerHour"]) == pytest.approx(chosen["usd_per_hour"], rel=0.01)


def test_what_the_api_server_would_refuse_is_told_in_its_words(world: World):
    job = world.job()
    job["spec"]["workers"] = -1
    job["spec"]["wrokers"] = 1
    done = stint(world, "quote", "-f", "-", stdin=yaml.safe_dump(job))
    assert done.returncode == 2, done.stdout
    assert "spec.workers" in done.stderr
    del job["spec"]["wrokers"]
    job["spec"]["workers"] = 1
    job["spec"]["unknownField"] = 1
    done = stint(world, "quote", "-f", "-", stdin=yaml.safe_dump(job))
    assert done.returncode == 2, done.stdout
    assert 'unknown field "spec.unknownField"' in done.stderr


def written(world: World) -> list[tuple[Any, ...]]:
    """What jobs are, and by whom; the operator may write a status at any time, and no other command may."""
    items = json.loads(world.kubectl("get", "tj", "-o", "json", "--show-managed-fields"))["items"]
    metas = [j["metadata"] for j in items]
    managers = [sorted({(f["manager"], f.get("subresource", "")) for f in m.get("managedFields", ())}) for m in metas]
    found = zip(items, metas, managers, strict=True)
    return [(j["spec"], m["generation"], m.get("annotations"), m.get("labels"), who) for j, m, who in found]


def test_a_pool_that_is_not_there_yet_would_let_a_held_job_start(world: World, tmp_path: Path):
    job = world.job(workers=1, gpus=8)
    job["spec"]["template"]["spec"]["nodeSelector"] = {"stint.dev/pool": world.name}
    world.apply(job)
    world.until("Queued")
    before = eventually(lambda: written(world), what="the job")
    done = stint(world, "plan", "--add-pool", f"{world.name}=aws/p4de.24xlarge:1@us-east-1a:reserved", "-o", "json")
    assert done.returncode in (0, 3), done.stderr
    told = json.loads(done.stdout)
    (mine,) = [j for j in told["jobs"] if j["job"].startswith(f"{world.name}/")]
    assert mine["before"]["decision"] == "hold"
    assert (mine["after"]["decision"], mine["after"]["where"].split("/")[0]) == ("place", world.name)
    assert written(world) == before
    assert world.cluster.get("nodes", "-l", f"stint.dev/pool={world.name}")["items"] == []


def test_what_the_jobs_of_a_cluster_would_have_cost(world: World):
    world.node("a")
    brief = {"sim.stint.dev/run-for": "1s"}
    job = world.job(workers=1, gpus=4, annotations=brief)
    pod = {"metadata": {"annotations": brief}, "spec": dict(job["spec"]["template"]["spec"], restartPolicy="Never")}
    asks = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    pod["spec"]["containers"] = [{**pod["spec"]["containers"][0], **asks}]
    pod["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    plain = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "plain", "namespace": world.name},
        "spec": {"parallelism": 2, "completions": 2, "template": pod},
    }
    runs = {**plain, "metadata": {"name": "runs", "namespace": world.name}}
    runs["spec"] = {**plain["spec"], "suspend": True}
    world.apply(job, plain, runs)
    world.until("Succeeded")
    eventually(
        lambda: json.loads(world.kubectl("get", "job", "plain", "-o", "json"))["status"]["completionTime"],
        timeout=60,
        what="the plain Job to end",
    )
    done = stint(world, "simulate", "--from-cluster", "--policy", "fifo", "-o", "json")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    placed = {e["job"]: e["text"] for e in told["log"] if e["what"] == "place" and e["job"].startswith(world.name)}
    assert len(placed) == 2, placed
    assert f"{world.name}/job" in placed
    assert any("/job-plain-" in name for name in placed), placed
    assert "Jobs that have not ended" in done.stderr
