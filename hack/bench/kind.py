"""What a kind cluster takes: from `make up`'s first act to an operator that leads, and the memory of all of it.

With everything built it is the warm figure. `XDG_CACHE_HOME=$(mktemp -d) hack/bench.py kind` is the first time ever.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

from hack import build
from hack.cluster import Cluster
from hack.cluster.kind import Kind
from hack.kind import docker as dockers
from hack.kind.offline import daemon
from hack.processes import eventually

RUNS = 3
_SIZES = {"B": 1 / 2**20, "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}


def rows() -> list[dict[str, Any]]:
    """One row a run; the first one builds what is not there."""
    found = []
    for run in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="stint-bench-") as folder:
            kind = Kind(Path(folder), build.versions()["default_kubernetes"])
            try:
                found.append({"run": run, **_one(kind)})
            finally:
                kind.stop()
    return found


def _one(kind: Kind) -> dict[str, Any]:
    began = last = time.monotonic()
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal last
        now = time.monotonic()
        seconds[name], last = round(now - last, 1), now

    assert kind.docker
    lap("docker_s")
    kind.start()
    lap("cluster_s")
    kind.load_stint()
    lap("image_s")
    cluster = Cluster(kind, kind.state)
    operator = cluster.start_stint(prometheus_url="", record_dir=kind.state)
    eventually(lambda: "stint_leader 1.0" in operator.metrics(), timeout=60, what="a leader")
    lap("operator_s")
    return {**seconds, "all_s": round(last - began, 1), "memory_mib": round(_memory(kind))}


def _memory(kind: Kind) -> float:
    """Of the nodes as Docker counts it, without file caches, and of Docker itself where it is ours; MiB."""
    told = kind.docker.run("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")
    sizes = [re.search(r"([\d.]+)([KMG]?i?B)", line) for line in told.splitlines() if line.startswith(kind.name)]
    nodes = sum(float(s.group(1)) * _SIZES[s.group(2)] for s in sizes if s)
    return nodes + (0 if dockers.own() else daemon.memory_mib())
