"""What a real Prometheus says of GPUs and progress, in all the ways that it is set up, and what follows from it."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from hack.cluster import Cluster, eventually, get
from stint.feeds.prometheus import Prometheus, Reading
from stint.model.job import JobId, job_id
from stint.model.measured import Selector, Wanted
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e

GPU, SHARED_BY_4 = "nvidia.com/gpu", {"nvidia.com/gpu.replicas": "4"}
MIG = "nvidia.com/mig-1g.10gb"
WATTS = {"gpu-watts": "400"}


@pytest.fixture(scope="module")
def servers(cluster: Cluster) -> dict[str, str]:
    """URLs of Prometheus servers that differ in their scrape configuration and in the exporter's spelling."""
    modern = cluster.start_exporter(name="exporter-modern")
    old = cluster.start_exporter("--old-labels", "--host-label=Hostname", "--no-profiling", name="exporter-old")
    return {
        "renamed": cluster.start_prometheus(modern, honor_labels=False, name="prometheus-renamed"),
        "honoured": cluster.start_prometheus(modern, honor_labels=True, name="prometheus-honoured"),
        # The same exporter by two names: every series twice.
        "doubled": cluster.start_prometheus(
            modern, modern.replace("127.0.0.1", "localhost"), name="prometheus-doubled"
        ),
        "old": cluster.start_prometheus(old, honor_labels=False, name="prometheus-old"),
    }


@pytest.fixture
def gpus(world: World) -> Iterator[World]:
    """A corner for bare pods on GPUs."""
    yield world
    world.kubectl("delete", "pods", "--all", "--wait=false", "--grace-period=0", "--force")


def pod(world: World, name: str, node: str, asked: dict[str, str], **annotations: str) -> tuple[str, str]:
    """A pod that runs there at once; returns its key."""
    container = {"name": "c", "image": "x", "resources": {"limits": asked, "requests": asked}}
    spec = {"nodeName": node, "containers": [container], "tolerations": [{"operator": "Exists"}]}
    meta = {"name": name, "namespace": world.name, "annotations": annotations}
    world.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    return world.name, name


def look(url: str, pods: dict[tuple[str, str], JobId], *, window: str = "5s") -> dict[str, Any]:
    """Once everything is known: by job's name."""
    prometheus = Prometheus.at(url, step_s=1.0)
    prometheus.window = window

    def known() -> Reading | None:
        reading = asyncio.run(prometheus.read(pods))
        return reading if all(u.watts is not None and u.memory_gib is not None for u in reading.usage) else None

    found = eventually(known, timeout=40, what=f"{url} to know all of them", every=0.5)
    return {u.job.rpartition("/")[2]: u for u in found.usage}


@pytest.mark.parametrize("setting", ["renamed", "honoured", "doubled", "old"])
def test_the_same_figures_come_from_every_scrape_configuration(gpus: World, servers: dict[str, str], setting: str):
    whole = gpus.node("whole", gpus=2, **WATTS)
    shared = gpus.node("shared", gpus=4, labels=SHARED_BY_4, **WATTS)  # one device
    util = {"sim.stint.dev/gpu-util": "50"}
    one = {GPU: "1"}
    pods = {
        pod(gpus, "busy", whole, one, **util): job_id(gpus.name, "busy"),
        pod(gpus, "bare", whole, one, **{"sim.stint.dev/gpu-process": "false"}): job_id(gpus.name, "bare"),
        **{pod(gpus, f"part-{i}", shared, one, **util): job_id(gpus.name, f"part-{i % 2}") for i in range(4)},
    }
    found = look(servers[setting], pods)
    busy, bare, part = found["busy"], found["bare"], found["part-0"]
    assert (busy.gpu_ratio, busy.idle_gpus, busy.gpus) == (pytest.approx(0.5), 0, 1)
    assert busy.watts == pytest.approx(400 * (0.15 + 0.85 * 0.5), rel=0.02)
    assert busy.work_ratio == (None if setting == "old" else pytest.approx(0.3))
    assert (bare.gpu_ratio, bare.all_idle, bare.processless_gpus) == (0, True, 1)
    assert part.watts == pytest.approx(busy.watts / 2, rel=0.02), "two of the four that share one device"
    assert part.processless_gpus == 0


def test_instances_are_measured_by_their_engine_and_share_the_devices_power(gpus: World, servers: dict[str, str]):
    node = gpus.node("cut", gpus=0, parts={MIG: "7"}, **WATTS)
    util = {"sim.stint.dev/gpu-util": "100"}
    pods = {pod(gpus, f"p{i}", node, {MIG: "1"}, **util): job_id(gpus.name, f"j{i}") for i in range(2)}
    found = look(servers["renamed"], pods)
    assert [u.gpu_ratio for u in found.values()] == [pytest.approx(1.0)] * 2
    assert [u.watts for u in found.values()] == [pytest.approx(400 / 7, rel=0.02)] * 2


def test_a_counter_that_starts_anew_and_an_exporter_that_is_silent(gpus: World, servers: dict[str, str]):
    node = gpus.node("one", gpus=1, **WATTS)
    pods = {pod(gpus, "p", node, {GPU: "1"}, **{"sim.stint.dev/gpu-util": "100"}): job_id(gpus.name, "j")}
    before = look(servers["renamed"], pods)["j"]
    gpus.cluster.kubectl("annotate", "node", node, "sim.stint.dev/boot=2")
    after = look(servers["renamed"], pods)["j"]
    assert before.watts == pytest.approx(400, rel=0.02)
    assert 0 < after.watts < 500, "neither negative nor all of the counter at once"
    gpus.cluster.kubectl("annotate", "node", node, "sim.stint.dev/gpu-gap=true")
    prometheus = Prometheus.at(servers["renamed"], step_s=1.0)
    prometheus.window = "3s"

    def unknown() -> bool:
        (found,) = asyncio.run(prometheus.read(pods)).usage
        return not found.measured

    prometheus.clock = iter(range(0, 10**9, 1000)).__next__  # nothing is remembered from one look to the next
    eventually(unknown, timeout=20, what="what is not measured to be unknown", every=0.5)


@pytest.mark.parametrize("setting", ["renamed", "honoured"])
def test_a_metric_tells_progress_in_every_scrape_configuration(gpus: World, servers: dict[str, str], setting: str):
    node = gpus.node("one", gpus=1, **WATTS)
    job = job_id(gpus.name, "j")
    pods = {pod(gpus, "p", node, {GPU: "1"}, **{"sim.stint.dev/gpu-util": "50"}): job}
    wanted = {job: Wanted(Selector("DCGM_FI_DEV_GPU_UTIL")), job_id("other", "j"): Wanted(Selector("up"))}
    prometheus = Prometheus.at(servers[setting], step_s=1.0)

    def told() -> Mapping[JobId, float]:
        reading = asyncio.run(prometheus.read(pods, wanted))
        assert reading.told_wrong == ""
        return reading.told

    assert eventually(told, timeout=20, what="the metric", every=0.5) == {job: 50}


def test_a_pod_of_the_same_name_elsewhere_has_only_the_gpus_that_it_has_now(gpus: World, servers: dict[str, str]):
    """As the workers of a PyTorchJob do that starts again."""
    url, full = servers["renamed"], {"sim.stint.dev/gpu-util": "100"}
    first, second = (gpus.node(name, gpus=1, **WATTS) for name in ("first", "second"))
    pods = {pod(gpus, "worker-0", first, {GPU: "1"}, **full): job_id(gpus.name, "j")}
    look(url, pods)
    gpus.kubectl("delete", "pod", "worker-0", "--grace-period=0", "--force")
    pod(gpus, "worker-0", second, {GPU: "1"}, **full)
    series = f'DCGM_FI_DEV_FB_USED{{exported_pod="worker-0",exported_namespace="{gpus.name}"}}'

    def count(query: str) -> int:
        answer = json.loads(get(f"{url}/api/v1/query?query={urllib.parse.quote(f'count({query})')}") or "{}")
        return sum(int(row["value"][1]) for row in answer["data"]["result"])

    both = f"count_over_time({series}[30s])"
    eventually(lambda: (count(both), count(series)) == (2, 1), timeout=20, what="both in the window, one of them now")
    found = look(url, pods, window="30s")["j"]
    assert (found.gpus, found.watts) == (1, pytest.approx(400, rel=0.02))


def test_a_job_that_says_how_far_it_is_is_believed_within_reason(world: World):
    world.node("a")
    world.apply(world.job())
    world.until("Running")
    world.kubectl("annotate", "tj", "job", "stint.dev/units-done=1800")

    def told(source: str, units: float) -> dict[str, Any]:
        status = world.status()
        assert status["progress"].get("source") == source, status["progress"]
        assert status["progress"]["estimate"] == units
        return status

    status = eventually(lambda: told("TrainingJob", 1800), timeout=30, what="the TrainingJob's own annotation")
    left = datetime.fromisoformat(status["finish"]) - datetime.now(UTC)
    assert 1600 < left.total_seconds() < 2100, "half an hour at a unit a second"
    first = world.pods()[0]["metadata"]["name"]
    world.kubectl("annotate", "pod", first, "stint.dev/units-done=3000")
    eventually(lambda: told("Pods", 3000), timeout=30, what="a pod's annotation")
    world.kubectl("annotate", "pod", first, "stint.dev/units-done=1e9", "--overwrite")
    note = eventually(lambda: world.events().get("ProgressRefused"), timeout=30, what="garbage to be refused")
    assert f"annotation stint.dev/units-done of pod {first}: '1e9': must be a number from 0 to spec.work.units" in note
    condition = next(c for c in world.status()["conditions"] if c["type"] == "ProgressTold")
    assert (condition["status"], condition["reason"]) == ("False", "Refused")


def test_idle_gangs_are_taken_back_or_ended_where_their_policy_says_so(world: World):
    for node in ("a", "b", "c"):
        world.node(node)
    idle = {"sim.stint.dev/gpu-util": "0"}
    for action in ("Advise", "Checkpoint", "Stop"):
        policy = {"action": action, "afterMinutes": 0.05}
        world.apply(world.job(action.lower(), workers=2, gpus=4, annotations=idle, idlePolicy=policy))
    held = world.until("Suspended", "checkpoint", reason="Idle", timeout=60)
    assert "USD; requeued from the last checkpoint and held until its spec is edited" in held["message"]
    assert "USD/h" in world.event("Idle", "checkpoint")
    ended = world.until("Failed", "stop", reason="IdleStopped", timeout=30)
    assert "ended by spec.idlePolicy" in ended["message"]
    assert world.pods("checkpoint") == world.pods("stop") == []
    note = eventually(lambda: world.events("advise").get("GpusIdle"), timeout=30, what="advice")
    assert "spec.idlePolicy.action: Checkpoint" in note
    advised = world.status("advise")
    assert advised["phase"] == "Running"
    (advice,) = advised["advice"]
    assert (advice["what"], advice["usdPerHour"]) == ("Idle", pytest.approx(27.45, rel=0.02))
    world.kubectl(
        "patch", "tj", "checkpoint", "--type=merge", "-p", json.dumps({"spec": {"idlePolicy": {"action": "Advise"}}})
    )
    world.until("Running", "checkpoint", timeout=30)
