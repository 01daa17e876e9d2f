"""Fake workers: what a kubelet and a training script would do, in compressed time; and the provider of spot nodes.

When all workers of a gang run, each is told how long its part will take on the GPUs it got: the work that is left,
at the job's own speed there, plus the time its checkpoints take. KWOK ends them after that.

One gang on spot is not told so: its node is taken once it has run for a while. Only who is told can end, and so the
story has its interruption also where every look at the cluster takes seconds.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hack.cluster import Cluster

TAKEN_AFTER_S = 6.0  # of running on spot

Gang = tuple[str, str]  # namespace and name of its TrainingJob


class Workers(threading.Thread):
    """Looks after all gangs until `stop`."""

    def __init__(self, cluster: Cluster, pace: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(daemon=True, name="workers")
        self._cluster = cluster
        self._pace = pace
        self._clock = clock
        self._ended = threading.Event()
        self._told: set[str] = set()
        self._victim: Gang | None = None
        self._doomed: set[str] = set()  # its pods
        self._since = 0.0  # when the victim was first seen to run
        self.taken = ""  # which node was taken from whom
        self.error: Exception | None = None

    def run(self) -> None:
        """Twice a second."""
        while not self._ended.wait(0.4):
            try:
                self.look()
            except RuntimeError as error:  # an object went between the look and the write
                self.error = error

    def stop(self) -> None:
        """End it, and wait for that."""
        self._ended.set()
        self.join(10)

    def look(self) -> None:
        """Once: tell gangs that have just started when they are done, and take the node that is to be taken."""
        jobs = {(j["metadata"]["namespace"], j["metadata"]["name"]): j for j in self._cluster.get("tj", "-A")["items"]}
        if not self.taken:
            self._interrupt(jobs)
        gangs: dict[Gang, list[dict[str, Any]]] = {}
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
            if key == self._victim:
                self._doomed = {p["metadata"]["uid"] for p in pods}
                continue
            seconds = self._seconds(job)
            names = [p["metadata"]["name"] for p in new]
            note = f"sim.stint.dev/run-for={seconds:.2f}s"
            self._cluster.kubectl("-n", key[0], "annotate", "--overwrite", "pod", *names, note)
            self._told |= {p["metadata"]["uid"] for p in new}

    def _interrupt(self, jobs: Mapping[Gang, dict[str, Any]]) -> None:
        """The first gang that is seen to run on spot, if it still does, once it has run for long enough."""
        there = on_spot(jobs, self._cluster.get("nodes")["items"])
        if self._victim not in there:
            self._victim, self._since = next(iter(there), None), self._clock()
        elif self._victim is not None and self._clock() - self._since >= TAKEN_AFTER_S:
            node, whose = there[self._victim], "/".join(self._victim)
            take_spot_node(self._cluster, node)
            self.taken = f"the provider takes spot node {node} from {whose}: its gang goes elsewhere"
            self._told |= self._doomed
            self._victim = None

    def _seconds(self, job: dict[str, Any]) -> float:
        spec, status = job["spec"], job["status"]
        left = spec["work"]["units"] - status.get("progress", {}).get("unitsDone", 0)
        hours = left / spec["work"]["unitsPerSecond"][status["gpuModel"]] / 3600
        checkpoint = spec["checkpoint"]
        overhead = checkpoint["takesSeconds"] / (checkpoint["everyMinutes"] * 60)
        return float(hours * (1 + overhead) * 3600 / self._pace)


def on_spot(jobs: Mapping[Gang, dict[str, Any]], nodes: Iterable[dict[str, Any]]) -> dict[Gang, str]:
    """Running jobs whose nodes a provider may take at any time, each with one of these nodes; small gangs first."""
    labels = {n["metadata"]["name"]: n["metadata"]["labels"] for n in nodes}
    found = {}
    for key, job in sorted(jobs.items(), key=lambda item: item[1]["spec"]["workers"]):
        status = job.get("status", {})
        held = sorted(status.get("nodes", {}))
        capacity = labels.get(held[0], {}).get("stint.dev/capacity-type") if held else None
        if status.get("phase") == "Running" and capacity == "spot":
            found[key] = held[0]
    return found


def take_spot_node(cluster: Cluster, node: str) -> None:
    """Have the provider take it, with a second's notice."""
    annotations = {"sim.stint.dev/interrupt-at": "2026-01-01T00:00:00Z", "sim.stint.dev/interrupt-notice": "1s"}
    cluster.kubectl("patch", "node", node, "--type=merge", "-p", json.dumps({"metadata": {"annotations": annotations}}))
