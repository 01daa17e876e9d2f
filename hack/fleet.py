"""Fake GPU nodes of real instance types, labelled as GPU feature discovery, the clouds and Karpenter label theirs.

`python -m hack.fleet` prints the sample fleet: two clouds, spot and on-demand, and a few machines of our own.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from stint.accelerators import nvidia, registry
from stint.catalogue.reserved import allocatable
from stint.feeds import bundled
from stint.kube.observe.inventory import region_of

_CATALOGUE = bundled.load()


@dataclass(frozen=True, kw_only=True)
class Group:
    """Like nodes."""

    pool: str
    provider: str
    instance_type: str
    zone: str
    capacity: str = "on-demand"  # on-demand, spot, reserved or owned
    nodes: int = 1
    most: int = 0  # with a limit it is a GPUPool that grows and shrinks
    gpu_model: str = ""  # for machines that no provider sells
    gpus: int = 0
    cold_start_s: float = 300
    give_back_s: float = 600


def owned(pool: str, *, nodes: int) -> Group:
    """Machines of our own: eight A100 each, in a data centre that no provider runs."""
    return Group(
        pool=pool,
        provider="on-premises",
        instance_type="dgx-a100",
        zone="dc1",
        capacity="owned",
        nodes=nodes,
        gpu_model="A100-80GB",
        gpus=8,
    )


spot = partial(Group, capacity="spot")

SAMPLE = (
    owned("a100-onprem", nodes=2),
    Group(pool="l40s-eks", provider="aws", instance_type="g6e.12xlarge", zone="us-east-1a", nodes=2),
    spot(pool="l40s-spot", provider="aws", instance_type="g6e.12xlarge", zone="us-east-1b", nodes=1, most=6),
    Group(pool="h100-eks", provider="aws", instance_type="p5.48xlarge", zone="us-east-1a", nodes=1, most=4),
    spot(pool="h100-spot", provider="aws", instance_type="p5.48xlarge", zone="us-east-1b", nodes=0, most=4),
    Group(pool="a100-gke", provider="gcp", instance_type="a2-ultragpu-8g", zone="us-central1-a", nodes=1, most=4),
    spot(pool="l4-gke-spot", provider="gcp", instance_type="g2-standard-48", zone="us-central1-a", nodes=2, most=6),
)


def sample() -> list[dict[str, Any]]:
    """Nodes, and GPUPools for those that grow."""
    return objects(SAMPLE)


def objects(groups: tuple[Group, ...], *, mode: str = "Act") -> list[dict[str, Any]]:
    """Manifests of some groups."""
    made = [pool(g, mode) for g in groups if g.most]
    return made + [node(g, i) for g in groups for i in range(g.nodes)]


def _size(g: Group) -> tuple[str, int, float, float, float]:
    """Model, GPUs, GiB of one GPU, allocatable cores and GiB."""
    machine = _CATALOGUE.instance_type(g.provider, g.instance_type)
    sold = machine.gpu_model if machine else None
    model = _CATALOGUE.canonical_gpu(g.gpu_model) if g.gpu_model else sold
    if model is None:
        raise SystemExit(f"{g.provider}/{g.instance_type} is not in the catalogue; give gpu_model and gpus")
    facts = _CATALOGUE.gpus[model]
    memory = facts.memory_gib.value if facts.memory_gib else 0.0
    if machine is None:
        return model, g.gpus, memory, 16.0 * g.gpus, 128.0 * g.gpus
    cores, gib = machine.vcpu or 8.0 * machine.gpu_count, machine.memory_gib or 64.0 * machine.gpu_count
    return model, int(machine.gpu_count), machine.gpu_memory_gib or memory, *allocatable(g.provider, cores, gib)


A100 = "NVIDIA-A100-SXM4-80GB"
FOUR_SHARE = {  # as NVIDIA's plug-ins label a node whose GPUs are each shared by four
    nvidia.LABELS.product: f"{A100}-SHARED",
    nvidia.REPLICAS: "4",
    nvidia.STRATEGY: "time-slicing",
}


def a100(name: str, *, gpus: int = 8, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """An on-demand node of eight A100, shared or not, as benchmarks and the harness of kills have many of them."""
    amounts = {"cpu": "96", "memory": "1000Gi", "pods": "110", nvidia.GPU: str(gpus)}
    described = {
        "kubernetes.io/hostname": name,
        "node.kubernetes.io/instance-type": "p4de.24xlarge",
        "topology.kubernetes.io/zone": "us-east-1a",
        "karpenter.sh/capacity-type": "on-demand",
        nvidia.LABELS.product: A100,
        **(labels or {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}, "labels": described},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def node(g: Group, index: int) -> dict[str, Any]:
    """One fake node."""
    model, gpus, memory, cores, gib = _size(g)
    region = region_of(g.provider, g.zone) or g.zone
    name = f"{g.pool}-{index}"
    vendor = registry.named(_CATALOGUE.gpus[model].vendor)
    described = registry.labels_of(vendor)
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": g.instance_type,
        "topology.kubernetes.io/zone": g.zone,
        "topology.kubernetes.io/region": region,
        "stint.dev/pool": g.pool,
        "stint.dev/provider": g.provider,
        "stint.dev/capacity-type": g.capacity,
        described.product: _CATALOGUE.gfd_product(model),
        described.count: str(gpus),
        described.memory_mib: str(int(memory * 1024)),
    }
    if g.provider == "aws":
        labels["karpenter.sh/capacity-type"] = g.capacity
    if g.provider == "gcp":
        labels |= {"cloud.google.com/gke-nodepool": g.pool}
        labels |= {"cloud.google.com/gke-spot": "true"} if g.capacity == "spot" else {}
    amounts = {"cpu": f"{cores:.2f}", "memory": f"{int(gib * 1024)}Mi", "pods": "110", vendor.resource: str(gpus)}
    scheme = {"aws": "aws", "gcp": "gce", "azure": "azure"}.get(g.provider, "kwok")
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {
            "providerID": f"{scheme}:///{g.zone}/{name}",
            "taints": [{"key": vendor.taint.key, "value": vendor.taint.value, "effect": vendor.taint.effect}],
        },
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def pool(g: Group, mode: str = "Act") -> dict[str, Any]:
    """A GPUPool that grows and shrinks."""
    offering: dict[str, Any] = {
        "provider": g.provider,
        "region": region_of(g.provider, g.zone),
        "zone": g.zone,
        "instanceType": g.instance_type,
        "capacityType": g.capacity,
    }
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": g.pool},
        "spec": {
            "nodeSelector": {"stint.dev/pool": g.pool},
            "offerings": [offering],
            "limits": {"minNodes": 0, "maxNodes": g.most},
            "scaler": {"adapter": "Kwok", "mode": mode},
            "coldStartSeconds": g.cold_start_s,
            "giveBackAfterSeconds": g.give_back_s,
        },
    }


if __name__ == "__main__":
    sys.stdout.write(yaml.safe_dump_all(sample(), sort_keys=False))
