"""Fake workers: what a kubelet and a training script would do, in compressed time.

When all workers of a gang run, each is told how long its part will take on the GPUs it got: the work that is left,
at the job's own speed there, plus the time its checkpoints take. KWOK ends them after that.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from hack.cluster import Cluster


class Workers(threading.Thread):
    """Looks after all gangs until `stop`."""

    def __init__(self, cluster: Cluster, pace: float) -> None:
        super().__init__(daemon=True, name="workers")
        self._cluster = cluster
        self._pace = pace
        self._ended = threading.Event()
        self._told: set[str] = set()
        self.error: Exception | None = None

    def run(self) -> None:
        """Twice a second."""
        while not self._ended.wait(0.4):
            try:
                self._look()
            except RuntimeError as error:  # an object went between the look and the write
                self.error = error

    def stop(self) -> None:
        """End it, and wait for that."""
        self._ended.set()
        self.join(10)

    def _look(self) -> None:
        jobs = {(j["metadata"]["namespace"], j["metadata"]["name"]): j for j in self._cluster.get("tj", "-A")["items"]}
        gangs: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for pod in self._cluster.get("pods", "-A", "-l", "stint.dev/trainingjob")["items"]:
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
                key = (pod["metadata"]["namespace"], pod["metadata"]["labels"]["stint.dev/trainingjob"])
                gangs.setdefault(key, []).append(pod)
        for key, pods in gangs.items():
            job = jobs.get(key)
            new = [p for p in pods if p["metadata"]["uid"] not in self._told]
            if job is None or not new or len(pods) < job["spec"]["workers"]:
                continue
            if job.get("status", {}).get("phase") != "Running":
                continue  # its status does not tell yet what survived of the work
            seconds = self._seconds(job)
            names = [p["metadata"]["name"] for p in new]
            note = f"sim.stint.dev/run-for={seconds:.2f}s"
            self._cluster.kubectl("-n", key[0], "annotate", "--overwrite", "pod", *names, note)
            self._told |= {p["metadata"]["uid"] for p in new}

    def _seconds(self, job: dict[str, Any]) -> float:
        spec, status = job["spec"], job["status"]
        left = spec["work"]["units"] - status.get("progress", {}).get("unitsDone", 0)
        hours = left / spec["work"]["unitsPerSecond"][status["gpuModel"]] / 3600
        checkpoint = spec["checkpoint"]
        overhead = checkpoint["takesSeconds"] / (checkpoint["everyMinutes"] * 60)
        return float(hours * (1 + overhead) * 3600 / self._pace)


def gangs_on_spot(cluster: Cluster) -> dict[str, str]:
    """Running jobs whose nodes a provider may take at any time, each with one of these nodes; small gangs first."""
    nodes = {n["metadata"]["name"]: n["metadata"]["labels"] for n in cluster.get("nodes")["items"]}
    found = {}
    for job in sorted(cluster.get("tj", "-A")["items"], key=lambda j: j["spec"]["workers"]):
        status = job.get("status", {})
        held = sorted(status.get("nodes", {}))
        capacity = nodes.get(held[0], {}).get("stint.dev/capacity-type") if held else None
        if status.get("phase") == "Running" and capacity == "spot":
            found[f"{job['metadata']['namespace']}/{job['metadata']['name']}"] = held[0]
    return found


def take_spot_node(cluster: Cluster, node: str) -> bool:
    """Have the provider take it, with a second's notice. False: its job has just ended and it was given back."""
    annotations = {"sim.stint.dev/interrupt-at": "2026-01-01T00:00:00Z", "sim.stint.dev/interrupt-notice": "1s"}
    try:
        cluster.kubectl(
            "patch", "node", node, "--type=merge", "-p", json.dumps({"metadata": {"annotations": annotations}})
        )
    except RuntimeError:
        return False
    return True
