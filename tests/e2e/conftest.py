"""One cluster, one operator and one Prometheus for all e2e tests; every test has nodes and a namespace of its own."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from hack.cluster import Cluster, Operator, eventually, running_cluster
from tests.e2e import others

# On kind everything runs again that does not speak of the embedded cluster itself, and what needs a kubelet.
_EMBEDDED_ONLY = [
    f"test_{name}.py"
    for name in (
        "absurd",
        "api_faults",
        "calibration",
        "cluster",
        "faults",
        "feeds",
        "fit",
        "hostile",
        "kueue",
        "moves",
        "others_kinds",
        "planner",
        "purchases",
        "readme",
        "rights",
        "sharing",
        "slow_to_kill",
        "steering",
        "thousand",
        "utilisation",
        "webhook",
    )
]  # they need no kubelet; some need a server beside the operator, to restart the API server, or to read its audit log
collect_ignore = _EMBEDDED_ONLY if os.environ.get("CLUSTER") == "kind" else ["kind"]
if os.environ.get("POD_GROUPS", "") in ("", "0"):
    collect_ignore = [*collect_ignore, "test_pod_groups.py"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.environ.get("CLUSTER") == "current":
        pytest.skip("these tests add fake nodes, and the nodes of CLUSTER=current are never touched")
    with running_cluster(tmp_path_factory.mktemp("cluster"), audit=True) as running:
        yield running


@pytest.fixture(scope="session")
def prometheus(cluster: Cluster) -> str:
    return cluster.start_monitoring()


@pytest.fixture(scope="session")
def shared_operator(cluster: Cluster, prometheus: str, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    if cluster.provider.owns_nodes:
        cluster.install_workload_crds()
        minimal = others.minimal_crds()
        cluster.apply(minimal)
        names = [f"crd/{crd['metadata']['name']}" for crd in minimal]
        eventually(
            lambda: cluster.kubectl("wait", "--for=condition=Established", *names, "--timeout=30s"),
            what="the minimal CRDs to be served",
        )
    return cluster.start_stint(
        "steering.enabled=true",
        "feeds.configMaps[0]=e2e-rates",
        "pools.scaleTargets[0].apiGroup=apps",
        "pools.scaleTargets[0].resource=deployments",
        prometheus_url=prometheus,
        prometheus_window="10s",
        record_dir=tmp_path_factory.mktemp("decisions"),
    )


_numbers = itertools.count()


@dataclass
class World:
    """A corner of the cluster: a namespace, and nodes that only its jobs may use."""

    cluster: Cluster
    name: str
    made: list[tuple[str, str]] = field(default_factory=list)

    def apply(self, *objects: dict[str, Any]) -> None:
        for thing in objects:
            if thing["kind"] in ("Node", "GPUPool", "PriceBook"):
                self.made.append((thing["kind"].lower(), thing["metadata"]["name"]))
        self.cluster.apply(list(objects))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.name, *arguments, stdin=stdin)

    def node(
        self,
        name: str,
        *,
        gpus: int = 8,
        labels: dict[str, str] | None = None,
        parts: dict[str, str] | None = None,
        **annotations: str,
    ) -> str:
        """A fake on-demand node of eight A100; `parts`: resources that stand for parts of them."""
        full = f"{self.name}-{name}"
        amounts = {"cpu": "96", "memory": "1000Gi", "pods": "110", "nvidia.com/gpu": str(gpus), **(parts or {})}
        described = {
            "kubernetes.io/hostname": full,
            "node.kubernetes.io/instance-type": "p4de.24xlarge",
            "topology.kubernetes.io/zone": "us-east-1a",
            "topology.kubernetes.io/region": "us-east-1",
            "karpenter.sh/capacity-type": "on-demand",
            "stint.dev/provider": "aws",
            "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
            "nvidia.com/gpu.memory": "81920",
            "test": self.name,
            "stint.dev/pool": f"{self.name}-inferred",
            **(labels or {}),
        }
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": full,
                    "labels": described,
                    "annotations": {
                        "kwok.x-k8s.io/node": "fake",
                        **{f"sim.stint.dev/{k.replace('_', '-')}": v for k, v in annotations.items()},
                    },
                },
                "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
                "status": {"capacity": amounts, "allocatable": amounts},
            }
        )
        return full

    def pool(self, name: str, *, most: int, mode: str = "Act", **spec: Any) -> str:
        """A GPUPool of spot L40S nodes that grows quickly."""
        full = f"{self.name}-{name}"
        self.apply(
            {
                "apiVersion": "stint.dev/v1alpha1",
                "kind": "GPUPool",
                "metadata": {"name": full},
                "spec": {
                    "nodeSelector": {"stint.dev/pool": full, "test": self.name},
                    "offerings": [
                        {
                            "provider": "aws",
                            "zone": "us-east-1b",
                            "instanceType": "g6e.12xlarge",
                            "capacityType": "spot",
                        }
                    ],
                    "limits": {"maxNodes": most},
                    "scaler": {"adapter": "Kwok", "mode": mode},
                    "coldStartSeconds": 1,
                    "giveBackAfterSeconds": 3,
                    **spec,
                },
            }
        )
        return full

    def job(
        self,
        name: str = "job",
        *,
        workers: int = 2,
        gpus: int = 4,
        annotations: dict[str, str] | None = None,
        **spec: Any,
    ) -> dict[str, Any]:
        """A TrainingJob that takes an hour on A100 or L40S; its fake pods run until told otherwise."""
        return {
            "apiVersion": "stint.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {
                "workers": workers,
                "gpu": {"perWorker": gpus},
                "work": {"units": 3600, "unitsPerSecond": {"A100-80GB": 1.0, "L40S": 0.5}},
                "checkpoint": {"everyMinutes": 10, "takesSeconds": 5, "restartSeconds": 30},
                "template": {
                    "metadata": {"annotations": annotations or {}},
                    "spec": {
                        "nodeSelector": {"test": self.name},
                        "containers": [{"name": "train", "image": "registry.example.com/train:1"}],
                    },
                },
                **spec,
            },
        }

    def status(self, name: str = "job") -> dict[str, Any]:
        told = self.kubectl("get", "tj", name, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(told or "{}").get("status", {})
        return found

    def until(self, phase: str, name: str = "job", *, reason: str = "", timeout: float = 30) -> dict[str, Any]:
        """Its status, once it is in that phase (for that reason)."""

        def there() -> dict[str, Any]:
            status = self.status(name)
            assert status.get("phase") == phase, status
            assert reason in ("", status.get("reason")), status
            return status

        return eventually(there, timeout=timeout, what=f"{name} to be {phase} {reason}")

    def paid(self, name: str = "job") -> dict[str, Any]:
        """The status of a job that has ended, once its ledger is closed."""

        def closed() -> dict[str, Any]:
            status = self.status(name)
            assert status.get("ledger", {}).get("closed"), status.get("ledger")
            return status

        return eventually(closed, what=f"the ledger of {name} to be closed")

    def pods(self, name: str = "job") -> list[dict[str, Any]]:
        """Pods of a gang that have not ended, by rank."""
        listed = json.loads(self.kubectl("get", "pods", "-l", f"stint.dev/trainingjob={name}", "-o", "json"))["items"]
        alive = [p for p in listed if p["status"]["phase"] in ("Pending", "Running")]
        return sorted(
            alive, key=lambda p: int(p["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
        )

    def event(self, reason: str, name: str = "job") -> str:
        """Its note; an event is written after the status that it tells of."""
        return eventually(lambda: self.events(name).get(reason), timeout=10, what=f"an event {reason} of {name}") or ""

    def events(self, name: str = "job") -> dict[str, str]:
        """Of a TrainingJob: reason to note."""
        listed = json.loads(self.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
        about = [e for e in listed if (e["regarding"]["kind"], e["regarding"]["name"]) == ("TrainingJob", name)]
        return {e["reason"]: e["note"] for e in about}


@pytest.fixture
def world(cluster: Cluster, shared_operator: Operator) -> Iterator[World]:
    name = f"t{next(_numbers)}"
    cluster.kubectl("create", "namespace", name)
    here = World(cluster, name)
    eventually(lambda: here.kubectl("get", "serviceaccount", "default"), what="the namespace's ServiceAccount")
    yield here
    here.kubectl("delete", "tj", "--all", "--wait=false")
    bought = json.loads(cluster.kubectl("get", "nodes", "-l", f"test={name}", "-o", "json"))["items"]
    for kind, thing in [*here.made, *(("node", n["metadata"]["name"]) for n in bought)]:
        cluster.kubectl("delete", kind, thing, "--ignore-not-found", "--wait=false")
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    assert shared_operator.failed() == ""
