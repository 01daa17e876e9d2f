"""First sync of 5,000 nodes and 50,000 pods, and the cost of an event, against an API server that only has answers."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import sys
import time
from multiprocessing.connection import Connection as Pipe
from typing import Any

from aiohttp import web

NODES, PODS, EVENTS, PAGE = 5_000, 50_000, 5_000, 500


def _node(i: int) -> dict[str, Any]:
    amounts = {"cpu": "96", "memory": "1000Gi", "pods": "110", "nvidia.com/gpu": "8", "ephemeral-storage": "2Ti"}
    conditions = [
        {"type": t, "status": "True" if t == "Ready" else "False", "reason": "Kubelet" + t, "message": "it is",
         "lastHeartbeatTime": "2026-11-23T12:00:00Z", "lastTransitionTime": "2026-11-23T12:00:00Z"}
        for t in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    ]  # fmt: skip
    images = [{"names": [f"registry.example.com/team/image-{k}@sha256:{'a' * 64}"], "sizeBytes": k} for k in range(40)]
    labels = {f"label.example.com/key-{k}": f"value-{k}" for k in range(30)}
    return {
        "metadata": {
            "name": f"node-{i}", "uid": f"node-{i}", "resourceVersion": str(i + 1), "labels": labels,
            "creationTimestamp": "2026-11-23T12:00:00Z",
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}}],
        },
        "spec": {"providerID": f"aws:///us-east-1a/i-{i}"},
        "status": {"capacity": amounts, "allocatable": amounts, "conditions": conditions, "images": images},
    }  # fmt: skip


def _pod(i: int, version: int, phase: str = "Running") -> dict[str, Any]:
    env = [{"name": f"VARIABLE_{k}", "value": "x" * 40} for k in range(25)]
    mounts = [{"name": f"volume-{k}", "mountPath": f"/mnt/{k}"} for k in range(6)]
    return {
        "metadata": {
            "name": f"pod-{i}", "namespace": f"team-{i % 50}", "uid": f"pod-{i}", "resourceVersion": str(version),
            "labels": {"app": "x", "team": f"t{i % 50}"}, "annotations": {"note": "y" * 200},
            "ownerReferences": [{"kind": "Job", "name": "j", "uid": "u", "apiVersion": "batch/v1", "controller": True}],
            "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:spec": {"f:containers": {}}}}],
        },
        "spec": {
            "nodeName": f"node-{i % NODES}",
            "containers": [{"name": "c", "image": "registry.example.com/x", "env": env, "volumeMounts": mounts,
                            "resources": {"requests": {"cpu": "4", "memory": "32Gi", "nvidia.com/gpu": "1"}}}],
        },
        "status": {"phase": phase, "conditions": [{"type": t, "status": "True"} for t in ("Ready", "PodScheduled")]},
    }  # fmt: skip


def _serve(pipe: Pipe) -> None:
    """The other process: pages and events, encoded beforehand so that serving them costs nothing."""
    pages: dict[str, list[bytes]] = {}
    for path, items in (("nodes", [_node(i) for i in range(NODES)]), ("pods", [_pod(i, i + 1) for i in range(PODS)])):
        chunks = [items[i : i + PAGE] for i in range(0, len(items), PAGE)]
        pages[path] = [
            json.dumps(
                {
                    "metadata": {"resourceVersion": "100000", "continue": str(k + 1) if k + 1 < len(chunks) else ""},
                    "items": c,
                }
            ).encode()
            for k, c in enumerate(chunks)
        ]
    events = [
        json.dumps({"type": "MODIFIED", "object": _pod(i, 200_000 + i, "Failed")}).encode() + b"\n"
        for i in range(EVENTS)
    ]
    go = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        kind = request.path.rsplit("/", 1)[-1]
        if request.query.get("watch") != "1":
            return web.Response(body=pages[kind][int(request.query.get("continue") or 0)])
        stream = web.StreamResponse()
        await stream.prepare(request)
        if kind == "pods":
            await go.wait()
            await stream.write(b"".join(events))
        await asyncio.sleep(3600)
        return stream

    async def start(_: web.Request) -> web.Response:
        go.set()
        return web.Response()

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/api/v1/{kind}", answer)
        app.router.add_post("/go", start)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


async def _measure(port: int) -> dict[str, Any]:
    from kubernetes.client import Configuration

    from stint.kube.client.api import Api, Connection
    from stint.kube.client.informer import Informer
    from stint.kube.reduce import reduce_node, reduce_pod
    from stint.kube.wire import WireNode, WirePod

    connection = Connection(f"http://127.0.0.1:{port}", None, None, None, True, Configuration())
    async with Api(connection) as api:
        changed = 0

        def count(_: object, new: Any) -> None:
            nonlocal changed
            changed += new is not None and getattr(new, "phase", "") == "Failed"

        informers: list[Informer[Any, Any]] = [
            Informer(api, "/api/v1/nodes", WireNode, reduce_node),
            Informer(api, "/api/v1/pods", WirePod, reduce_pod, on_change=count),
        ]
        cpu, wall = time.process_time(), time.perf_counter()
        tasks = [asyncio.create_task(i.run()) for i in informers]
        await asyncio.gather(*(i.synced.wait() for i in informers))
        sync_cpu, sync_wall = time.process_time() - cpu, time.perf_counter() - wall
        cpu = time.process_time()
        await api.raw("POST", "/go")
        while changed < EVENTS:
            await asyncio.sleep(0.01)
        event_cpu = time.process_time() - cpu
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "nodes": len(informers[0].records),
        "pods": len(informers[1].records),
        "cpu_s": round(sync_cpu, 2),
        "wall_s": round(sync_wall, 2),
        "rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "cpu_ms_per_event": round(1000 * event_cpu / EVENTS, 3),
    }


def _client(port: int, pipe: Pipe) -> None:
    pipe.send(asyncio.run(_measure(port)))


def rows() -> list[dict[str, Any]]:
    """Server and client are processes of their own, so that memory and time are the client's alone."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        port = ours.recv()
        here, there = context.Pipe()
        client = context.Process(target=_client, args=(port, there))
        client.start()
        row: dict[str, Any] = here.recv()
        client.join()
    finally:
        server.terminate()
        server.join()
    print(f"python {sys.version.split()[0]}", file=sys.stderr)
    return [row]
