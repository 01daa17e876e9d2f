"""Everything that `hack.hostile` lets a tenant try, a row an attack: whether others were hurt, how long they waited.

Others are hurt where their job does not run on the node that is there for it, is requeued, or where the operator's
memory grows by more than `MOST_MIB`. The last row takes anything in any field through all that reads it, without a
cluster.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings

from hack.bench.scale import memory_mib
from hack.cluster import Cluster, eventually, running_cluster
from hack.cluster.operators import ProcessOperator
from hack.fuzz import Tried, hurt, tries
from hack.hostile import ATTACKS, IMAGE, NEED_A_CHEAPER_NODE, ON_RUNNING, Body, Target, Tenant
from hack.processes import NotYetError

CASES = 100_000
PATIENCE_S = 20.0
MOST_MIB = 100.0
_EACH = 20  # objects of each kind at a time, at the most
_A_ROUND = 100


def rows() -> list[dict[str, Any]]:
    """One an attack."""
    found = []
    with tempfile.TemporaryDirectory() as folder, running_cluster(Path(folder)) as cluster:
        cluster.install_chart("steering.enabled=true", "moves.perHour=10")
        operator = cluster.start_operator("--steering", "--moves-per-hour=10")
        for i, name in enumerate([*ATTACKS, *ON_RUNNING]):
            found.append(_tried(cluster, operator, name, f"h{i}"))
    return [*found, _fuzzed(CASES)]


def _tried(cluster: Cluster, operator: ProcessOperator, name: str, corner: str) -> dict[str, Any]:
    labels = {"test": corner}
    nodes = [_node(f"{corner}-a", labels, "on-demand")]
    if name in NEED_A_CHEAPER_NODE:
        nodes.append(_node(f"{corner}-b", labels, "spot"))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": corner}}
    cluster.apply([namespace, *nodes])
    tenant = Tenant.settle(cluster, f"{corner}-tenant")
    target = Target(f"{corner}-a", labels, f"{corner}-b" if len(nodes) > 1 else "")
    eventually(lambda: cluster.kubectl("-n", corner, "get", "serviceaccount", "default"), what="its ServiceAccount")
    before = memory_mib(operator.process.pid, "VmRSS")
    hurt_by = ""
    try:
        if name in ON_RUNNING:
            _submit(cluster, corner, labels)
            _runs(cluster, corner)
            uids = _pods(cluster, corner)
            started = time.monotonic()
            check = ON_RUNNING[name](tenant, target)
            eventually(lambda: check() or True, timeout=PATIENCE_S, what="the tenant to be told")
            _runs(cluster, corner)
            hurt_by = "" if _pods(cluster, corner) == uids else "its pods were ended"
        else:
            check = ATTACKS[name](tenant, target)
            started = time.monotonic()
            _submit(cluster, corner, labels)
            _runs(cluster, corner)
        waited = time.monotonic() - started
        eventually(lambda: check() or True, timeout=PATIENCE_S, what="the tenant to be told")
    except NotYetError as error:
        waited, hurt_by = PATIENCE_S, str(error)[:200]
    grown = memory_mib(operator.process.pid, "VmRSS") - before
    if grown > MOST_MIB:
        hurt_by = hurt_by or f"the operator's memory grew by {grown:.0f} MiB"
    for where in (corner, tenant.namespace):
        cluster.kubectl("-n", where, "delete", "tj,jobs,pods", "--all", "--wait=false", "--grace-period=0", "--force")
        cluster.kubectl("delete", "namespace", where, "--wait=false")
    cluster.kubectl("delete", "node", *(n["metadata"]["name"] for n in nodes), "--wait=false")
    hurts = {"why": hurt_by} if hurt_by else {}
    return {
        "attack": name,
        "others_hurt": bool(hurt_by),
        "seconds": round(waited, 2),
        "grown_mib": round(grown),
        **hurts,
    }


def _submit(cluster: Cluster, namespace: str, labels: dict[str, str]) -> None:
    template = {"spec": {"nodeSelector": labels, "containers": [{"name": "train", "image": IMAGE}]}}
    spec = {
        "workers": 2,
        "gpu": {"perWorker": 4},
        "work": {"units": 3600, "unitsPerSecond": {"A100-80GB": 1.0}},
        "checkpoint": {"everyMinutes": 10},
        "template": template,
    }
    meta = {"name": "next", "namespace": namespace}
    cluster.apply([{"apiVersion": "stint.dev/v1alpha1", "kind": "TrainingJob", "metadata": meta, "spec": spec}])


def _runs(cluster: Cluster, namespace: str) -> None:
    def there() -> bool:
        status = cluster.get("-n", namespace, "tj", "next").get("status", {})
        assert status.get("phase") == "Running", f"{status.get('phase')} {status.get('message')}"
        assert status["nodes"] == {f"{namespace}-a": "0-1"}, status["nodes"]
        assert not status.get("rollbacks"), "it was requeued"
        return True

    eventually(there, timeout=PATIENCE_S, what="the others' job to run")


def _pods(cluster: Cluster, namespace: str) -> set[str]:
    return {p["metadata"]["uid"] for p in cluster.get("-n", namespace, "pods")["items"]}


def _node(name: str, labels: dict[str, str], capacity: str) -> Body:
    amounts = {"cpu": "96", "memory": "1000Gi", "pods": "110", "nvidia.com/gpu": "8"}
    described = {
        "kubernetes.io/hostname": name,
        "node.kubernetes.io/instance-type": "p4de.24xlarge",
        "topology.kubernetes.io/zone": "us-east-1a",
        "topology.kubernetes.io/region": "us-east-1",
        "karpenter.sh/capacity-type": capacity,
        "stint.dev/provider": "aws",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        "nvidia.com/gpu.memory": "81920",
        **labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": described, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def _fuzzed(cases: int) -> dict[str, Any]:
    """Objects with anything in any field, until so many have been tried."""
    tried, why, rounds = 0, "", 0
    logging.disable(logging.CRITICAL)
    started = time.monotonic()

    @settings(max_examples=_A_ROUND, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(some=tries(_EACH))
    def try_them(some: Tried) -> None:
        nonlocal tried
        tried += len(some)
        assert not (found := hurt(some)), found

    try:
        while tried < cases and not why:
            rounds += 1
            try:
                seed(rounds)(try_them)()
            except AssertionError as error:
                why = str(error)[:300]
    finally:
        logging.disable(logging.NOTSET)
    seconds = round(time.monotonic() - started, 2)
    hurts = {"why": why} if why else {}
    return {"attack": "anything in any field", "others_hurt": bool(why), "seconds": seconds, "cases": tried, **hurts}
