"""2,000 running jobs on 1,000 fake nodes, and nothing happens: what that costs."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from hack.bench.scale import JOBS, all_of, cpu_seconds, create_nodes, job, memory_mib, own_requests
from hack.cluster import Cluster, running_cluster
from hack.cluster.operators import ProcessOperator
from stint.kube.client.api import Api, connect

COUNT, NODES, MINUTES = 2000, 1000, 5
PATIENCE_S = 400
SETTLES_S = 20  # the last statuses, and a cycle that finds that nobody waits for anything


async def _idle(cluster: Cluster, operator: ProcessOperator) -> dict[str, Any]:
    pid = operator.process.pid
    async with Api(connect(cluster.kubeconfig), concurrency=32) as api:
        await create_nodes(api, NODES)
        await all_of(api.create(JOBS, job(f"job-{i}", workers=1, gpus=4)) for i in range(COUNT))
        until = time.monotonic() + PATIENCE_S
        while (left := await _not_running(api)) > 0:
            if time.monotonic() > until:
                raise TimeoutError(f"{left} of {COUNT} jobs do not run after {PATIENCE_S} s")
            await asyncio.sleep(2)
        await asyncio.sleep(SETTLES_S)
    cpu, requests = cpu_seconds(pid), own_requests(operator.metrics())
    await asyncio.sleep(MINUTES * 60)  # this is what is measured
    return {
        "jobs": COUNT,
        "nodes": NODES,
        "minutes": MINUTES,
        "cpu_pct": round((cpu_seconds(pid) - cpu) / (MINUTES * 60) * 100, 2),
        "rss_mib": round(memory_mib(pid, "VmRSS")),
        "peak_rss_mib": round(memory_mib(pid)),
        "requests_per_min": round((own_requests(operator.metrics()) - requests) / MINUTES, 1),
    }


async def _not_running(api: Api) -> int:
    listed = await api.get("/apis/stint.dev/v1alpha1/trainingjobs")
    return sum(t.get("status", {}).get("phase") != "Running" for t in listed["items"])


def rows() -> list[dict[str, Any]]:
    """One row."""
    with (
        tempfile.TemporaryDirectory(prefix="stint-bench-") as folder,
        running_cluster(Path(folder), name="embedded") as cluster,
    ):
        cluster.install_chart()
        return [asyncio.run(_idle(cluster, cluster.start_operator()))]
