"""From `apply` to the last worker bound: one gang of 64 on eight fake nodes of a real control plane."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from hack.bench.scale import job
from hack.cluster import Cluster, running_cluster
from hack.fleet import a100
from stint.kube.client.api import Api, connect
from stint.kube.client.informer import Informer
from stint.kube.records import PodRecord
from stint.kube.reduce import reduce_pod
from stint.kube.wire import WirePod

WORKERS = 64
RUNS = 3


async def _one(cluster: Cluster, name: str) -> float:
    """Seconds until our own watch has seen the last of them bound."""
    bound: set[str] = set()
    done = asyncio.Event()

    def changed(_: PodRecord | None, new: PodRecord | None) -> None:
        if new is not None and new.gang is not None and new.gang.job == name and new.node:
            bound.add(new.uid)
            if len(bound) == WORKERS:
                done.set()

    async with Api(connect(cluster.kubeconfig)) as api:
        pods: Informer[WirePod, PodRecord] = Informer(api, "/api/v1/pods", WirePod, reduce_pod, on_change=changed)
        watching = asyncio.create_task(pods.run())
        await pods.synced.wait()
        started = time.perf_counter()
        await api.create("/apis/stint.dev/v1alpha1/namespaces/default/trainingjobs", job(name, workers=WORKERS))
        await asyncio.wait_for(done.wait(), 60)
        seconds = time.perf_counter() - started
        await api.delete(f"/apis/stint.dev/v1alpha1/namespaces/default/trainingjobs/{name}", propagation="Foreground")
        while any(p.gang is not None and p.gang.job == name for p in pods):
            await asyncio.sleep(0.05)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return seconds


def rows() -> list[dict[str, Any]]:
    """One row a run; the first one is cold."""
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="stint-bench-") as folder,
        running_cluster(Path(folder), name="embedded", audit=True) as cluster,
    ):
        cluster.install_chart()
        cluster.start_operator()
        cluster.apply([a100(f"gang-{i}") for i in range(8)])
        for run in range(RUNS):
            name = f"gang-{run}"
            seconds = asyncio.run(_one(cluster, name))
            assert cluster.provider.audit_log is not None
            audit = map(json.loads, cluster.provider.audit_log.read_text().splitlines())
            ours = [
                e
                for e in audit
                if e["user"]["username"].endswith(":stint")
                and e.get("objectRef", {}).get("resource") == "pods"
                and e["objectRef"].get("name", "").startswith(f"{name}-")
                and e["verb"] == "patch"
            ]
            found.append(
                {
                    "workers": WORKERS,
                    "run": run,
                    "seconds": round(seconds, 2),
                    "writes_per_pod": round(len(ours) / WORKERS, 2),
                }
            )
    return found
