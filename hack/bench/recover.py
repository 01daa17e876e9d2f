"""From a node's end until its gang of 64 workers runs again, whole, on other nodes; and from a leader's to the next."""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from hack.bench.scale import JOBS, create_nodes, job
from hack.cluster import NAMESPACE, Cluster, eventually, get, running_cluster
from hack.cluster.operators import ProcessOperator
from stint.kube.client.api import Api, connect
from stint.kube.client.lease import RENEW_EVERY_S

WORKERS, NODES, RUNS = 64, 16, 5
PATIENCE_S = 60


async def _until(check: Callable[[], Awaitable[bool]], what: str) -> float:
    """Seconds until something is so, looked at twenty times a second."""
    began = time.perf_counter()
    while not await check():
        if time.perf_counter() - began > PATIENCE_S:
            raise TimeoutError(f"{what}: not within {PATIENCE_S} s")
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


async def _runs_on(api: Api, name: str) -> set[str]:
    status = (await api.get(f"{JOBS}/{name}")).get("status", {})
    return set(status.get("nodes", {})) if status.get("phase") == "Running" else set()


async def _recoveries(cluster: Cluster) -> list[float]:
    found = []
    async with Api(connect(cluster.kubeconfig), concurrency=32) as api:
        for run in range(RUNS):
            name = f"gang-{run}"
            await create_nodes(api, NODES, stem=name)
            await api.create(JOBS, job(name, workers=WORKERS))

            async def runs(name: str = name) -> bool:
                return bool(await _runs_on(api, name))

            await _until(runs, "the gang to run")
            lost = min(await _runs_on(api, name))
            await api.delete(f"/api/v1/nodes/{lost}")

            async def again(name: str = name, lost: str = lost) -> bool:
                where = await _runs_on(api, name)
                return bool(where) and lost not in where

            found.append(await _until(again, "the gang to run elsewhere"))
            await api.delete(f"{JOBS}/{name}")
            for i in range(NODES):
                await api.delete(f"/api/v1/nodes/{name}-{i}")
    return found


def recover() -> list[dict[str, Any]]:
    """One row: five nodes that are deleted."""
    with (
        tempfile.TemporaryDirectory(prefix="stint-bench-") as folder,
        running_cluster(Path(folder), name="embedded") as cluster,
    ):
        cluster.install_chart()
        cluster.start_operator()
        return [{"workers": WORKERS, "runs": RUNS, **_spread(asyncio.run(_recoveries(cluster)))}]


def failover() -> list[dict[str, Any]]:
    """One row: five leaders that are killed just as a job is applied, until the standby has created its batch Job."""
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="stint-bench-") as folder,
        running_cluster(Path(folder), name="embedded") as cluster,
    ):
        cluster.install_chart()
        leader = cluster.start_operator()
        asyncio.run(_nodes(cluster))
        for run in range(RUNS):
            standby = cluster.start_operator(name="even" if run % 2 else "odd")
            eventually(partial(leads, leader), what="a leader")
            before = renewed(cluster)
            eventually(partial(renewed_since, cluster, before), what="the Lease to be renewed")
            # Kills fall at even distances between two renewals: what is left of the Lease is waited out.
            time.sleep(RENEW_EVERY_S * run / RUNS)
            leader.process.signal(signal.SIGKILL)
            began = time.perf_counter()
            name = f"job-{run}"
            cluster.apply([job(name, workers=2)])
            eventually(partial(placed, cluster, name), timeout=PATIENCE_S, what="the standby's first write")
            found.append(time.perf_counter() - began)
            assert get(standby.metrics_url) is not None
            leader = standby
    return [{"runs": RUNS, **_spread(found)}]


async def _nodes(cluster: Cluster) -> None:
    async with Api(connect(cluster.kubeconfig)) as api:
        await create_nodes(api, 4)


def leads(operator: ProcessOperator) -> bool:
    """By its own metrics."""
    return "stint_leader 1.0" in operator.metrics()


def renewed(cluster: Cluster) -> str:
    """When the Lease was renewed last."""
    lease = cluster.get("lease", "stint", "-n", NAMESPACE)
    return str(lease["spec"]["renewTime"])


def renewed_since(cluster: Cluster, before: str) -> bool:
    """Whether it has been renewed again."""
    return renewed(cluster) != before


def placed(cluster: Cluster, name: str) -> bool:
    """Whether its batch Job is there and carries a plan."""
    listed = json.loads(cluster.kubectl("get", "jobs", "-o", "json"))["items"]
    return any(j["metadata"]["name"] == name and "stint.dev/plan" in j["metadata"]["annotations"] for j in listed)


def _spread(seconds: list[float]) -> dict[str, Any]:
    return {"seconds": {"p50": round(statistics.median(seconds), 2), "max": round(max(seconds), 2)}}
