"""A thousand jobs at once on six hundred nodes: one plan, which can be made again, by an operator that answers.

They are all there when the operator starts, and so they are decided about together. It is killed while it carries that
out, and a second one goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hack.bench.scale import JOBS, add_nodes, all_of, give_room, job
from hack.cluster import ROOT, Cluster, eventually, get, running_cluster
from hack.cluster.operators import ProcessOperator
from hack.fleet import FOUR_SHARE, a100
from stint.api import snapshot
from stint.kube.client.api import Api, connect

pytestmark = pytest.mark.e2e

COUNT, NODES, SHARED = 1000, 600, 30
PATIENCE_S = 150


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A control plane of its own, with nodes in three zones, half of them spot, and all the jobs."""
    for name in ("GOMEMLIMIT", "GOGC"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    give_room()
    with running_cluster(tmp_path / "cluster") as cluster:
        cluster.install_chart()
        asyncio.run(_fill(cluster))
        yield cluster


def _node(i: int) -> dict[str, Any]:
    capacity, zone = ("on-demand", "spot")[i % 2], "abc"[i % 3]
    labels = {"topology.kubernetes.io/zone": f"us-east-1{zone}", "karpenter.sh/capacity-type": capacity}
    if i >= NODES - SHARED:
        return a100(f"node-{i}", gpus=32, labels=labels | FOUR_SHARE)
    return a100(f"node-{i}", labels=labels)


def _job(i: int) -> dict[str, Any]:
    made = job(f"job-{i:04}", workers=1 + i % 2, gpus=(1, 2, 4)[i % 3])
    made["spec"]["checkpoint"] = {"everyMinutes": 10, "takesSeconds": 5, "restartSeconds": 30}
    made["spec"]["work"]["units"] = 36_000 + 36 * i
    made["spec"]["objective"] = {"usdPerHour": 1000}  # or most would wait for the few spot nodes that are cheapest
    if i % 4 == 0:
        made["spec"] |= {"workers": 2, "gpu": {"perWorker": 1}, "elastic": {"min": 1, "max": 4}}
    if i % 10 == 1:
        made["spec"] |= {"workers": 1, "gpu": {"fraction": 0.25}}
    return made


async def _fill(cluster: Cluster) -> None:
    async with Api(connect(cluster.kubeconfig), concurrency=32) as api:
        await add_nodes(api, [_node(i) for i in range(NODES)])
        await all_of(api.create(JOBS, _job(i)) for i in range(COUNT))


@dataclass
class Probe:
    """What somebody sees who asks all the time, as a kubelet and Prometheus do, while a node changes all the time."""

    at: float  # seconds since the epoch
    alive: bool
    ready: bool
    heard: float | None  # when news of nodes came last


@dataclass
class Prober:
    """Asks until told to stop."""

    seen: list[Probe] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, operator: ProcessOperator) -> None:
        health = f"http://127.0.0.1:{operator.health_port}"
        while not self.stop.is_set():
            alive, ready = get(f"{health}/healthz") is not None, get(f"{health}/readyz") is not None
            age = re.search(r'^stint_informer_age_seconds{kind="nodes"} (\S+)', operator.metrics(), re.MULTILINE)
            at = time.time()
            self.seen.append(Probe(at, alive, ready, at - float(age[1]) if age else None))

    def disturb(self, cluster: Cluster) -> None:
        async def label() -> None:
            async with Api(connect(cluster.kubeconfig)) as api:
                for i in range(1_000_000):
                    if self.stop.is_set():
                        return
                    await api.patch("/api/v1/nodes/node-0", {"metadata": {"labels": {"beats": str(i)}}})

        asyncio.run(label())


@contextmanager
def probing(cluster: Cluster, operator: ProcessOperator) -> Iterator[Prober]:
    prober = Prober()
    threads = [
        threading.Thread(target=prober.ask, args=(operator,)),
        threading.Thread(target=prober.disturb, args=(cluster,)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield prober
    finally:
        prober.stop.set()
        for thread in threads:
            thread.join()


def _digest(plan: bytes) -> str:
    return hashlib.sha256(plan).hexdigest()


def _decided_again(file: Path, *, seed: int) -> str:
    """By the command line, in a process that scatters its sets and dicts differently."""
    command = [sys.executable, "-m", "stint.cli.main", "plan", "-f", str(file), "-o", "json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "PYTHONHASHSEED": str(seed)}
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    assert done.returncode in (0, 3), done.stderr.decode()
    return _digest(done.stdout)


def _largest(operator: ProcessOperator, folder: Path) -> tuple[Path, snapshot.Record]:
    """Of its decisions, the one that placed the most."""
    found = [(f, snapshot.decode(f.read_bytes(), name=f.name)) for f in operator.decisions(folder)]
    return max(found, key=lambda made: len(made[1].plan.placements) if made[1].plan else 0)


def _running(cluster: Cluster) -> int:
    return cluster.kubectl("get", "tj", "-o", "jsonpath={.items[*].status.phase}").split().count("Running")


def test_a_thousand_jobs_get_one_plan_that_can_be_made_again(crowded: Cluster, tmp_path: Path):
    folders = [tmp_path / "first", tmp_path / "second"]
    first = crowded.start_operator(record_dir=folders[0], name="first")
    with probing(crowded, first) as prober:
        eventually(lambda: first.decisions(folders[0]), timeout=60, what="the first plan")
        time_written = first.decisions(folders[0])[0].stat().st_mtime
        eventually(lambda: prober.seen[-1].at > time_written, what="the next probe")
    first.process.signal(signal.SIGKILL)  # it has begun to carry it out
    file, record = _largest(first, folders[0])
    assert record.plan is not None
    assert len(record.situation.jobs) == COUNT
    assert sum(j.min_workers < j.max_workers for j in record.situation.jobs) == COUNT // 4
    assert len(record.situation.nodes) == NODES
    shared = {n.name for n in record.situation.nodes if n.allocatable.gpus == 32}
    fractions = {j.id for j in record.situation.jobs if j.gpu_fraction is not None}
    assert (len(shared), len(fractions)) == (SHARED, COUNT // 10)
    assert all(shared.issuperset(p.nodes) is (p.job in fractions) for p in record.plan.placements)
    assert len(record.plan.placements) == COUNT
    assert len(record.situation.notes) == 1, record.situation.notes  # that there is no Prometheus

    planned = [p for p in prober.seen if record.situation.now.timestamp() < p.at < time_written]
    assert planned, "planning took no time at all"
    assert all(p.alive and p.ready for p in planned)
    assert len({round(p.heard, 2) for p in planned if p.heard}) > 1, "no news of nodes while it planned"

    second = crowded.start_operator(record_dir=folders[1], name="second")
    eventually(lambda: _running(crowded) == COUNT, timeout=PATIENCE_S, every=1, what="all of them to run")
    assert not re.search(r"^stint_plan_fallbacks_total{.*} [1-9]", second.metrics(), re.MULTILINE)
    assert "stint_unforeseen_errors_total 0.0" in second.metrics()
    for made, (found, stored) in {"first": (file, record), "second": _largest(second, folders[1])}.items():
        assert stored.plan is not None
        digest = _digest(snapshot.encode_plan(stored.plan))
        assert [_decided_again(found, seed=seed) for seed in (1, 2)] == [digest, digest], made
