from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hack.cluster.build import BuildError, control_plane, staging_modules, versions
from hack.cluster.processes import HopelessError, NotYetError, Process, Processes, eventually, started_at
from hack.exporter.series import render

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
