"""Utilisation of 5,000 GPUs, each with a pod of its own, read from a real Prometheus: what one look costs."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from hack import build
from hack.exporter.series import GPU, Meter, render
from hack.processes import Processes, free_port
from stint.feeds.prometheus import Prometheus, Reading
from stint.feeds.promql import PrometheusUnavailableError
from stint.model.job import JobId, job_id
from stint.model.measured import Selector, Wanted

GPUS, PER_NODE, PER_JOB = 5_000, 8, 8
LOOKS, INTERVAL_S, WINDOW = 10, 5, "20s"
PATIENCE_S = 180.0
EXPORTER = {"pod": "dcgm-exporter-0", "namespace": "monitoring"}  # so that its labels meet those of the GPUs


def _pod(i: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"train-{i // PER_JOB}-{i % PER_JOB}-x7k2p",
            "namespace": f"team-{i // PER_JOB % 40}",
            "uid": str(i),
        },
        "spec": {
            "nodeName": f"node-{i // PER_NODE}",
            "containers": [{"name": "train", "resources": {"requests": {GPU: "1"}}}],
        },
        "status": {"phase": "Running"},
    }


def _node(i: int) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
    return {
        "metadata": {"name": f"node-{i}", "labels": labels},
        "status": {"allocatable": {GPU: str(PER_NODE)}},
    }


def _serve(pipe: Pipe) -> None:
    """The exporters, as one, in another process."""
    nodes, pods = [_node(i) for i in range(GPUS // PER_NODE)], [_pod(i) for i in range(GPUS)]
    meter = Meter()

    async def metrics(_: web.Request) -> web.Response:
        steps = "".join(
            f'train_steps{{pod="{p["metadata"]["name"]}",namespace="{p["metadata"]["namespace"]}"}} 1234\n'
            for p in pods
        )
        return web.Response(text=render(nodes, pods, meter=meter) + steps)

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/metrics", metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


async def _measure(url: str) -> dict[str, Any]:
    pods = {}
    for i in range(GPUS):
        meta = _pod(i)["metadata"]
        pods[meta["namespace"], meta["name"]] = job_id(meta["namespace"], f"train-{i // PER_JOB}")
    wanted = {job: Wanted(Selector("train_steps")) for job in set(pods.values())}
    prometheus = Prometheus.at(url, timeout_s=30.0)
    prometheus.window = WINDOW
    await _ready(prometheus, pods, wanted)
    server = prometheus.server
    queries, read, cpu, wall = server.queries, server.bytes, time.process_time(), time.perf_counter()
    for _ in range(LOOKS):
        reading = await prometheus.read(pods, wanted)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    known = [u for u in reading.usage if u.watts is not None and u.work_ratio is not None and u.memory_gib is not None]
    return {
        "gpus": GPUS,
        "pods": len(pods),
        "jobs_known": len(known),
        "jobs_told": len(reading.told),
        "queries_per_cycle": (server.queries - queries) / LOOKS,
        "cpu_ms": round(1000 * cpu / LOOKS, 1),
        "wall_ms": round(1000 * wall / LOOKS, 1),
        "bytes": (server.bytes - read) // LOOKS,
    }


async def _ready(prometheus: Prometheus, pods: dict[tuple[str, str], JobId], wanted: dict[JobId, Wanted]) -> Reading:
    """Once it knows all of them for longer than the window."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            reading = await prometheus.read(pods, wanted)
            if all(u.watts is not None for u in reading.usage) and reading.usage:
                await asyncio.sleep(float(WINDOW.rstrip("s")) + INTERVAL_S)
                return reading
        except PrometheusUnavailableError:
            prometheus.breaker.succeeded()
        if time.monotonic() > until:
            raise TimeoutError("Prometheus does not know all GPUs")
        await asyncio.sleep(1)


def rows() -> list[dict[str, Any]]:
    """One row."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    exporter = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    exporter.start()
    with tempfile.TemporaryDirectory(prefix="stint-bench-") as folder:
        processes = Processes(Path(folder))
        try:
            target = f"127.0.0.1:{ours.recv()}"
            config = Path(folder) / "prometheus.yaml"
            jobs = [
                {
                    "job_name": "dcgm-exporter",
                    "static_configs": [{"targets": [target], "labels": EXPORTER}],
                    "honor_labels": False,
                }
            ]
            config.write_text(yaml.safe_dump({"global": {"scrape_interval": f"{INTERVAL_S}s"}, "scrape_configs": jobs}))
            port = free_port()
            processes.start(
                "prometheus",
                [
                    str(build.prometheus()),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--log.level=warn",
                ],
            )
            print(f"python {sys.version.split()[0]}, a real Prometheus", file=sys.stderr)
            return [asyncio.run(_measure(f"http://127.0.0.1:{port}"))]
        finally:
            processes.end_all()
            exporter.terminate()
            exporter.join()
