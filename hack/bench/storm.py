"""1,000 TrainingJobs of four one-GPU workers applied at once, on 600 fake nodes of a real control plane."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from hack.bench.scale import (
    JOBS,
    all_of,
    all_requests,
    cpu_seconds,
    create_nodes,
    give_room,
    job,
    memory_mib,
    own_requests,
    per_job,
    warm_up,
    writes,
)
from hack.cluster import Cluster, running_cluster
from hack.cluster.operators import ProcessOperator
from stint.kube.client.api import Api, connect
from stint.kube.client.informer import Informer
from stint.kube.records import PodRecord
from stint.kube.reduce import reduce_pod
from stint.kube.wire import WireMeta, WirePod

COUNT, WORKERS, NODES = 1000, 4, 600
WARM = 250
PATIENCE_S = 150


class _Status(msgspec.Struct):
    phase: str = ""


class _WireTrainingJob(msgspec.Struct):
    """As little as needs to be decoded: watching shares the two cores with what is watched."""

    metadata: WireMeta
    status: _Status = msgspec.field(default_factory=_Status)


def _running(resource: _WireTrainingJob) -> tuple[str, str, str]:
    """The record is the uid of one that runs."""
    meta = resource.metadata
    return meta.uid, meta.resource_version, meta.uid if resource.status.phase == "Running" else ""


async def _storm(cluster: Cluster, operator: ProcessOperator) -> dict[str, Any]:
    pid = operator.process.pid
    bound: set[str] = set()
    running: set[str] = set()
    last_bound = last_status = 0.0

    def pod_changed(_: PodRecord | None, new: PodRecord | None) -> None:
        nonlocal last_bound
        if new is not None and new.gang is not None and new.node and new.uid not in bound:
            bound.add(new.uid)
            last_bound = time.perf_counter()

    async with Api(connect(cluster.kubeconfig), concurrency=32) as api:
        await create_nodes(api, NODES)
        await warm_up(api, JOBS, [job(f"warm-{i}", workers=WORKERS) for i in range(WARM)], pods=WARM * WORKERS)

        def job_changed(_: object, uid: str | None) -> None:
            nonlocal last_status
            if uid and uid not in running:
                running.add(uid)
                last_status = time.perf_counter()

        pods: Informer[WirePod, PodRecord] = Informer(api, "/api/v1/pods", WirePod, reduce_pod, on_change=pod_changed)
        trainingjobs: Informer[_WireTrainingJob, str] = Informer(
            api, "/apis/stint.dev/v1alpha1/trainingjobs", _WireTrainingJob, _running, on_change=job_changed
        )
        watching = [asyncio.create_task(i.run()) for i in (pods, trainingjobs)]
        await asyncio.gather(pods.synced.wait(), trainingjobs.synced.wait())
        before, own, everybody = writes(cluster), own_requests(operator.metrics()), all_requests(cluster)
        cpu, started = cpu_seconds(pid), time.perf_counter()
        await all_of(api.create(JOBS, job(f"job-{i}", workers=WORKERS)) for i in range(COUNT))
        created = time.perf_counter()
        while len(bound) < COUNT * WORKERS or len(running) < COUNT:
            if time.perf_counter() - started > PATIENCE_S:
                raise TimeoutError(f"{len(bound)} pods bound and {len(running)} jobs running after {PATIENCE_S} s")
            await asyncio.sleep(0.1)
        requests = all_requests(cluster) - everybody
        row: dict[str, Any] = {
            "jobs": COUNT,
            "workers": WORKERS,
            "nodes": NODES,
            "seconds_to_create": round(created - started, 1),
            "seconds_to_last_bound": round(last_bound - started, 1),
            "seconds_to_last_status": round(last_status - started, 1),
            "own_requests_per_job": round((own_requests(operator.metrics()) - own) / COUNT, 2),
            "all_requests_per_job": round(requests.total() / COUNT, 2),
            "requests": per_job(requests, COUNT),
            "cpu_s": round(cpu_seconds(pid) - cpu, 1),
            "rss_mib": round(memory_mib(pid)),
        }
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    written = writes(cluster) - before
    row["patches_per_pod"] = round(written["patch pods"] / COUNT / WORKERS, 3)
    row["writes"] = dict(written.most_common())
    return row


def rows() -> list[dict[str, Any]]:
    """One row."""
    give_room()
    with (
        tempfile.TemporaryDirectory(prefix="stint-bench-") as folder,
        running_cluster(Path(folder), name="embedded", audit=True) as cluster,
    ):
        cluster.install_chart()
        return [asyncio.run(_storm(cluster, cluster.start_operator()))]
