"""What the other e2e tests take for granted: a real control plane, and fake nodes and pods that do as they are told."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import ROOT, Cluster, eventually, get
from hack.processes import Processes

pytestmark = pytest.mark.e2e

GPU = "nvidia.com/gpu"
GATE = "example.com/wait"
_numbers = itertools.count()


class Corner:
    """A namespace, and nodes and pods by their short names."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def node(self, short: str = "node", *, gpus: int = 8, **annotations: str) -> str:
        name = f"{self.name}-{short}"
        amounts = {"cpu": "96", "memory": "1Ti", "pods": "110", GPU: str(gpus)}
        sim = {f"sim.stint.dev/{k.replace('_', '-')}": v for k, v in annotations.items()}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {"test": self.name, "kubernetes.io/hostname": name, f"{GPU}.product": "NVIDIA-L40S"},
                "annotations": {"kwok.x-k8s.io/node": "fake", **sim},
            },
            "status": {"capacity": amounts, "allocatable": amounts},
        }
        self.cluster.apply([node])
        return name

    def pod(self, name: str = "pod", *, gates: tuple[str, ...] = (), **annotations: str) -> None:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": self.name,
                "annotations": {f"sim.stint.dev/{k.replace('_', '-')}": v for k, v in annotations.items()},
            },
            "spec": {
                "schedulingGates": [{"name": g} for g in gates],
                "nodeSelector": {"test": self.name},
                "restartPolicy": "Never",
                "containers": [
                    {"name": "c", "image": "registry.example.com/train:1", "resources": {"limits": {GPU: "1"}}}
                ],
            },
        }
        eventually(lambda: self.kubectl("get", "serviceaccount", "default"), what="the ServiceAccount")
        self.cluster.apply([pod])

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("-n", self.name, *arguments)

    def read(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "--ignore-not-found", "-o", "json") or "{}")
        return found

    def phase(self, name: str, wanted: str, timeout: float = 30) -> dict[str, Any]:
        return eventually(
            lambda: p if (p := self.read("pod", name))["status"]["phase"] == wanted else {},
            timeout=timeout,
            what=f"{name} to be {wanted}",
        )

    def is_ready(self, node: str) -> bool:
        conditions = self.read("node", node)["status"].get("conditions", ())
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def ready(self, node: str) -> dict[str, Any]:
        eventually(lambda: self.is_ready(node), what=f"{node} to be ready")
        return self.read("node", node)


@pytest.fixture
def corner(cluster: Cluster) -> Iterator[Corner]:
    name = f"c{next(_numbers)}"
    cluster.kubectl("create", "namespace", name)
    yield Corner(cluster, name)
    cluster.kubectl("delete", "nodes", "-l", f"test={name}", "--wait=false")
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_the_api_server_is_of_the_version_that_was_asked_for(cluster: Cluster):
    told = json.loads(cluster.kubectl("version", "-o", "json"))
    assert told["serverVersion"]["gitVersion"] == f"v{cluster.provider.version}"


def test_a_fake_gpu_node_gets_ready_and_keeps_its_gpus(corner: Corner):
    node = corner.ready(corner.node(gpus=8))
    assert node["status"]["allocatable"][GPU] == "8"
    assert node["status"]["capacity"][GPU] == "8"


def test_a_node_that_is_not_said_to_be_fake_is_left_alone(corner: Corner):
    name = corner.node("real")
    corner.cluster.kubectl("annotate", "node", name, "kwok.x-k8s.io/node-")
    corner.cluster.kubectl("delete", "node", name)
    plain = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"test": corner.name}}}
    corner.cluster.apply([plain])
    corner.ready(corner.node("fake"))
    assert not corner.is_ready(name)


def test_one_patch_gives_a_gated_pod_its_node_and_lets_it_go(corner: Corner):
    wanted, _ = corner.node("a"), corner.node("b")
    corner.ready(wanted)
    corner.pod(gates=(GATE,))
    assert corner.read("pod", "pod")["spec"].get("nodeName") is None
    hostname = {"key": "kubernetes.io/hostname", "operator": "In", "values": [wanted]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [hostname]}]}
    spec = {
        "schedulingGates": [{"$patch": "delete", "name": GATE}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
    }
    corner.kubectl("patch", "pod", "pod", "--type=strategic", "-p", json.dumps({"spec": spec}))
    assert corner.phase("pod", "Running")["spec"]["nodeName"] == wanted


def test_a_pod_runs_on_until_it_is_told_how_long(corner: Corner):
    corner.node()
    corner.pod("on")
    corner.pod("short", run_for="200ms")
    corner.phase("short", "Succeeded")
    assert corner.phase("on", "Running")
    corner.kubectl("annotate", "pod", "on", "sim.stint.dev/run-for=200ms")
    ended = corner.phase("on", "Succeeded")
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_a_pod_fails_with_the_code_it_is_told(corner: Corner):
    corner.node()
    corner.pod(run_for="200ms", exit_code="3")
    ended = corner.phase("pod", "Failed")
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


def test_a_pod_may_start_late_and_a_deleted_one_goes(corner: Corner):
    corner.node()
    corner.pod("late", start_after="10m")
    corner.pod("soon", start_after="1s")
    corner.phase("soon", "Running")
    assert corner.read("pod", "late")["status"]["phase"] == "Pending"
    corner.kubectl("delete", "pod", "soon", "late", "--wait=false")
    eventually(lambda: not corner.read("pod", "soon") and not corner.read("pod", "late"), what="both pods to go")


def test_a_node_may_boot_slowly(corner: Corner):
    before = time.monotonic()
    slow = corner.node("slow", ready_after="2s")
    never = corner.node("never", ready_after="10m")
    corner.ready(slow)
    assert time.monotonic() - before >= 2
    assert not corner.is_ready(never)


@pytest.mark.parametrize("notice", ["1s", "10m"])
def test_a_spot_node_gets_a_notice_and_then_it_is_gone(corner: Corner, notice: str):
    name = corner.node(interrupt_notice=notice)
    corner.ready(name)
    at = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    corner.cluster.kubectl("annotate", "node", name, f"sim.stint.dev/interrupt-at={at}")
    if notice == "1s":
        eventually(lambda: not corner.read("node", name), what="the node to go")
        return

    def noticed() -> bool:  # beside it, a node that has just become ready may still have the taint that it was not
        taints = corner.read("node", name)["spec"].get("taints", [])
        return [(t["key"], t["effect"]) for t in taints] == [("stint.dev/interrupted", "NoSchedule")]

    eventually(noticed, what="the notice")


def test_prometheus_knows_which_pod_has_which_gpu(corner: Corner, prometheus: str):
    corner.node(gpus=2)
    corner.pod(gpu_util="40")
    corner.phase("pod", "Running")

    def series(metric: str) -> list[dict[str, Any]]:
        query = urllib.parse.quote(f'{metric}{{hostname="{corner.name}-node"}}')
        found: list[dict[str, Any]] = json.loads(get(f"{prometheus}/api/v1/query?query={query}"))["data"]["result"]
        return found

    def busy() -> list[dict[str, Any]]:  # scraped with honor_labels off, as most clusters do: the pod is exported_pod
        return [s for s in series("DCGM_FI_DEV_GPU_UTIL") if s["metric"].get("exported_pod") == "pod"]

    (one,) = eventually(busy, what="a series of the pod")
    assert float(one["value"][1]) == 40
    assert len(series("DCGM_FI_DEV_POWER_USAGE")) == 2  # the idle GPU too

    def millijoules() -> float:
        return max(float(s["value"][1]) for s in series("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"))

    before = eventually(millijoules, what="energy")
    eventually(lambda: millijoules() > before, what="energy to grow")


def _run(state: Path, verb: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hack.cluster", verb, "--state", str(state)]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'operator'}"}


def _mentioning(state: Path) -> list[str]:
    """Command lines of all processes that name the state folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if str(state) in line:
            lines.append(line)
    return lines


@pytest.mark.skipif(os.environ.get("CLUSTER", "embedded") != "embedded", reason="the embedded control plane's own")
def test_what_a_killed_start_leaves_behind_is_cleared_by_the_next_and_nothing_is_left_at_the_end(tmp_path: Path):
    state = tmp_path / "state"
    processes = Processes(state)
    command = [sys.executable, "-m", "hack.cluster", "up", "--state", str(state)]
    with subprocess.Popen(command, cwd=ROOT, env=_environment(), stderr=subprocess.DEVNULL) as first:
        try:
            eventually(lambda: processes.find("kube-apiserver"), timeout=60, what="the API server to be started")
        finally:
            first.send_signal(signal.SIGKILL)
    leftovers = [p for p in processes.noted() if p.alive]
    assert {"etcd", "kube-apiserver"} <= {p.name for p in leftovers}
    try:
        said = _run(state, "up").stdout
        assert not any(p.alive for p in leftovers)
        assert f"export KUBECONFIG={state / 'kubeconfig'}" in said
        status = _run(state, "status").stdout
        for name in ("etcd", "kube-scheduler", "kwok", "operator", "prometheus", "exporter"):
            assert name in status
        running = {p.pid for p in processes.noted()}
        assert "it runs already" in _run(state, "up").stdout
        assert {p.pid for p in processes.noted() if p.alive} == running
    finally:
        _run(state, "down")
    assert _mentioning(state) == []
