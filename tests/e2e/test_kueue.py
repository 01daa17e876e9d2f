"""Kueue, the real one, beside Stint: Kueue says when a Job may have GPUs, Stint says which."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster import Cluster, eventually, kueue, running_cluster
from hack.cluster.audit import own_writes
from hack.processes import Process
from stint.feeds import bundled
from stint.kube.observe.finished import rows_of
from stint.sim.trace import Models
from stint.sim.workload import SPEEDS
from tests.e2e import others
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("kueue"), name="embedded", audit=True) as cluster:
        cluster.install_chart("steering.enabled=true")
        operator = cluster.start_operator("--steering")
        manager: Process = kueue.start(cluster)
        yield cluster
        assert operator.failed() == ""
        assert manager.alive, manager.tail()


@pytest.fixture
def world(both: Cluster) -> World:
    both.kubectl("create", "namespace", "queued")
    both.kubectl("label", "namespace", "queued", "stint.dev/managed=true")
    here = World(both, "queued")
    eventually(lambda: here.kubectl("get", "serviceaccount", "default"), what="the namespace's ServiceAccount")
    both.apply(kueue.queue("queued", gpus=8))
    return here


def job(world: World, name: str) -> dict[str, Any]:
    made = others.job(world, name, backoffLimit=6)
    made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "gpus"
    return made


def suspended(world: World, name: str) -> bool:
    return bool(json.loads(world.kubectl("get", "job", name, "-o", "json"))["spec"]["suspend"])


def test_kueue_admits_one_after_the_other_and_stint_places_what_is_admitted(world: World):
    first, second = world.node("a"), world.node("b")
    world.apply(job(world, "one"))
    where = world.until("Running", "job-one")["nodes"]
    assert where in ({first: "0-1"}, {second: "0-1"})
    # There is room on the other node, and a quota for eight GPUs in all.
    world.apply(job(world, "two"))
    told = "QuotaReserved"
    eventually(
        lambda: [
            c["message"]
            for w in json.loads(world.kubectl("get", "workloads", "-o", "json"))["items"]
            for c in w.get("status", {}).get("conditions", [])
            if w["metadata"]["name"].startswith("job-two") and (c["type"], c["status"]) == (told, "False")
        ],
        what="Kueue to say that the second job waits",
    )
    assert suspended(world, "two")
    assert "job-two" not in world.kubectl("get", "tj"), "what Kueue has not admitted has no pods to be placed"

    # Its node is lost: Kueue's admission stays, and Stint places it again without suspending it for Kueue.
    (lost,) = where
    (spare,) = {first, second} - {lost}
    world.cluster.kubectl("delete", "node", lost, "--wait=false")
    eventually(
        lambda: (s := world.status("job-one"))["phase"] == "Running" and set(s["nodes"]) == {spare},
        timeout=90,
        what="it to run on the other node",
    )
    assert suspended(world, "two")

    for pod in json.loads(world.kubectl("get", "pods", "-l", "job-name=one", "-o", "json"))["items"]:
        if pod["status"]["phase"] == "Running":
            world.kubectl("annotate", "pod", pod["metadata"]["name"], "sim.stint.dev/run-for=100ms")
    world.until("Succeeded", "job-one")
    assert set(world.until("Running", "job-two", timeout=60)["nodes"]) == {spare}

    # What Kueue remembers of the first is a job that has been, and it is the Job that was counted already.
    jobs, workloads = (json.loads(world.kubectl("get", k, "-o", "json"))["items"] for k in ("jobs", "workloads"))
    models, unused = Models(bundled.load(), SPEEDS), Counter[str]()
    ((_, alone),) = rows_of([], [], workloads, models, unused)
    ((_, counted),) = rows_of(jobs, [], workloads, models, Counter())
    assert (alone.id.split("-")[0], counted.id.split("-")[0]) == ("workload", "job")
    assert alone.gpus == counted.gpus == 8
    assert unused == {"Workloads that have not ended": 1}

    log = world.cluster.provider.audit_log
    assert log is not None
    refs = [(e["verb"], e["objectRef"]) for e in own_writes(log)]
    patched = [ref["name"] for verb, ref in refs if (verb, ref["resource"]) == ("patch", "jobs")]
    assert patched == [], "Stint neither suspends nor resumes what Kueue does"
