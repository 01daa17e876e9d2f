"""What the benchmarks at the size of a real cluster share: many nodes, many jobs, and who asked how often."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hack.cluster import Cluster
from hack.cluster.audit import own_writes
from hack.fleet import a100
from hack.processes import children
from stint.kube.client.api import Api

JOBS = "/apis/stint.dev/v1alpha1/namespaces/default/trainingjobs"
SETTLES_S = 40
_TICKS = os.sysconf("SC_CLK_TCK")


def job(name: str, *, workers: int, gpus: int = 1) -> dict[str, Any]:
    """A TrainingJob that runs for ten hours or more."""
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "workers": workers,
            "gpu": {"perWorker": gpus},
            "work": {"units": 36_000, "unitsPerSecond": {"A100-80GB": 1}},
            "template": {"spec": {"containers": [{"name": "train", "image": "registry.example.com/train:1"}]}},
        },
    }


async def all_of(work: Iterable[Awaitable[Any]]) -> None:
    """Side by side; the client itself limits how many requests are under way."""
    await asyncio.gather(*work)


async def create_nodes(api: Api, count: int, stem: str = "node") -> None:
    """Like ones; see `add_nodes`."""
    await add_nodes(api, [a100(f"{stem}-{i}") for i in range(count)])


async def add_nodes(api: Api, nodes: Sequence[dict[str, Any]]) -> None:
    """Until all that there are, are ready: as soon as KWOK has seen them."""
    await all_of(api.create("/api/v1/nodes", node) for node in nodes)

    async def ready() -> int:
        listed = await api.get("/api/v1/nodes")
        return sum(
            any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"].get("conditions", []))
            for n in listed["items"]
        )

    while await ready() < len(nodes):
        await asyncio.sleep(0.5)


def give_room() -> None:
    """To the control planes that this process starts from now on: memory enough for thousands of pods.

    With 1 GiB, which serves the tests, the API server is at that limit here, and looks for memory to free all the time.
    """
    os.environ |= {"GOMEMLIMIT": "4GiB", "GOGC": "200"}


async def warm_up(api: Api, path: str, jobs: Sequence[dict[str, Any]], *, pods: int) -> None:
    """Let some jobs come, run and go, so that the cluster is past its beginning.

    The API server ends a watch that cannot take in a burst, and gives the next one a buffer by the bursts it has seen:
    ten events at first. kwok 0.8.0 then reads all pods anew, and plays many of them twice. The garbage collector looks
    for new kinds every 30 s, and until then asks for each owner of such a kind by itself.

    Args:
        path: where they are created.
        pods: how many they have together.
    """
    began = time.monotonic()

    async def phases() -> list[str]:
        listed = await api.get("/api/v1/namespaces/default/pods", {"resourceVersion": "0"})
        return [pod["status"].get("phase", "") for pod in listed["items"]]

    await all_of(api.create(path, job) for job in jobs)
    while (await phases()).count("Running") < pods:
        await asyncio.sleep(1)
    await all_of(api.delete(f"{path}/{job['metadata']['name']}") for job in jobs)
    while await phases():
        await asyncio.sleep(1)
    await asyncio.sleep(max(SETTLES_S - (time.monotonic() - began), 5))


def cpu_seconds(pid: int) -> float:
    """User and system time that a process and its children have used, also those that have ended."""
    ticks = 0
    for each in (pid, *children(pid)):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS


def memory_mib(pid: int, what: str = "VmHWM") -> float:
    """Of a process and its children. VmHWM: the most each has ever had; VmRSS: what they have now."""
    texts = [Path(f"/proc/{each}/status").read_text() for each in (pid, *children(pid))]
    found = [re.search(rf"^{what}:\s+(\d+) kB", text, flags=re.MULTILINE) for text in texts]
    return sum(int(f.group(1)) for f in found if f is not None) / 1024


def all_requests(cluster: Cluster) -> Counter[str]:
    """What the API server has answered everybody, streams aside, by verb and resource; from its own metrics."""
    counted: Counter[str] = Counter()
    for line in cluster.kubectl("get", "--raw", "/metrics").splitlines():
        if line.startswith("apiserver_request_total{"):
            told = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if told["verb"] != "WATCH":
                part = f"/{told['subresource']}" if told["subresource"] else ""
                counted[f"{told['verb']} {told['resource']}{part}"] += int(float(line.rpartition(" ")[2]))
    return counted


def per_job(requests: Counter[str], jobs: int) -> dict[str, float]:
    """What makes up most of them, by verb and resource, for a job."""
    return {name: round(count / jobs, 2) for name, count in requests.most_common(12) if count >= jobs / 20}


def own_requests(metrics: str) -> int:
    """Requests that the operator has sent, leases and all, by its own metrics."""
    lines = (li for li in metrics.splitlines() if li.startswith("stint_api_requests"))
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def writes(cluster: Cluster) -> Counter[str]:
    """The operator's successful writes by verb and resource, from the API server's audit log."""
    log = cluster.provider.audit_log
    assert log is not None
    return Counter(
        f"{e['verb']} {e['objectRef'].get('resource')}{'/' + s if (s := e['objectRef'].get('subresource')) else ''}"
        for e in own_writes(log)
    )
