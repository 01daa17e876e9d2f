"""What a storm costs where nobody queues: the pods of `storm` as plain Jobs that kube-scheduler places at once."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from hack.bench.scale import all_of, all_requests, create_nodes, give_room, per_job, warm_up
from hack.bench.storm import COUNT, NODES, PATIENCE_S, WARM, WORKERS
from hack.cluster import Cluster, running_cluster
from stint.kube.client.api import Api, connect
from stint.kube.client.informer import Informer
from stint.kube.records import PodRecord
from stint.kube.reduce import reduce_pod
from stint.kube.wire import WirePod

_JOBS = "/apis/batch/v1/namespaces/default/jobs"


def _job(name: str) -> dict[str, Any]:
    one_gpu = {"nvidia.com/gpu": "1"}
    worker = {
        "name": "train",
        "image": "registry.example.com/train:1",
        "resources": {"limits": one_gpu, "requests": one_gpu},
    }
    tolerated = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "completionMode": "Indexed",
            "completions": WORKERS,
            "parallelism": WORKERS,
            "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "tolerations": tolerated, "containers": [worker]}},
        },
    }


async def _plain(cluster: Cluster) -> dict[str, Any]:
    bound: set[str] = set()
    running: set[str] = set()
    last_bound = last_running = 0.0

    def pod_changed(_: PodRecord | None, new: PodRecord | None) -> None:
        nonlocal last_bound, last_running
        if new is not None and new.node and new.uid not in bound:
            bound.add(new.uid)
            last_bound = time.perf_counter()
        if new is not None and new.phase == "Running" and new.uid not in running:
            running.add(new.uid)
            last_running = time.perf_counter()

    async with Api(connect(cluster.kubeconfig), concurrency=32) as api:
        await create_nodes(api, NODES)
        await warm_up(api, _JOBS, [_job(f"warm-{i}") for i in range(WARM)], pods=WARM * WORKERS)
        pods: Informer[WirePod, PodRecord] = Informer(api, "/api/v1/pods", WirePod, reduce_pod, on_change=pod_changed)
        watching = asyncio.create_task(pods.run())
        await pods.synced.wait()
        everybody, started = all_requests(cluster), time.perf_counter()
        await all_of(api.create(_JOBS, _job(f"job-{i}")) for i in range(COUNT))
        created = time.perf_counter()
        while len(running) < COUNT * WORKERS:
            if time.perf_counter() - started > PATIENCE_S:
                raise TimeoutError(f"{len(bound)} pods bound and {len(running)} running after {PATIENCE_S} s")
            await asyncio.sleep(0.1)
        requests = all_requests(cluster) - everybody
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return {
        "jobs": COUNT,
        "workers": WORKERS,
        "nodes": NODES,
        "seconds_to_create": round(created - started, 1),
        "seconds_to_last_bound": round(last_bound - started, 1),
        "seconds_to_last_running": round(last_running - started, 1),
        "all_requests_per_job": round(requests.total() / COUNT, 2),
        "requests": per_job(requests, COUNT),
    }


def rows() -> list[dict[str, Any]]:
    """One row."""
    give_room()
    with (
        tempfile.TemporaryDirectory(prefix="stint-bench-") as folder,
        running_cluster(Path(folder), name="embedded", audit=True) as cluster,
    ):
        return [asyncio.run(_plain(cluster))]
