"""Nodes that give out parts of GPUs: which offering they are, what it costs, and what is taken of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.catalogue.quote import FreshnessLimits
from stint.feeds import bundled
from stint.kube.observe.inventory import Inventory, take_inventory
from stint.kube.records import NodeRecord
from stint.kube.reduce import reduce_node, reduce_pod
from stint.kube.wire import WireNode, WirePod
from stint.model.market import Offering
from stint.model.resources import Resources
from stint.testing.builders import NOW
from tests.unit.kube.objects import P4DE, a_record

CATALOGUE = bundled.load()
A100 = "NVIDIA-A100-SXM4-80GB"
TIME_SLICED = {"nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "time-slicing"}


def inventory(*nodes: NodeRecord) -> Inventory:
    return take_inventory(nodes, [], CATALOGUE, today=NOW.date(), limits=FreshnessLimits())


def only(found: Inventory) -> Offering:
    assert [p for p in found.problems if p.reason != "NoPrice"] == []
    (offering,) = found.offerings.values()
    return offering


@pytest.mark.parametrize(
    ("node", "name", "resource", "parts", "fraction", "gib"),
    [
        (
            a_record(gpus=32, labels={**P4DE, **TIME_SLICED, "nvidia.com/gpu.product": f"{A100}-SHARED"}),
            *("4-shared", "nvidia.com/gpu", 32, 0.25, 20),
        ),
        (
            a_record(gpus=0, labels={**P4DE, **TIME_SLICED}, slices={"nvidia.com/gpu.shared": 32}),
            *("4-shared", "nvidia.com/gpu.shared", 32, 0.25, 20),
        ),
        (
            a_record(
                gpus=56,
                labels={**P4DE, "nvidia.com/gpu.product": f"{A100}-MIG-1g.10gb", "nvidia.com/gpu.memory": "9728"},
            ),
            *("1g.10gb", "nvidia.com/gpu", 56, 1 / 7, 10),
        ),
        (
            a_record(gpus=0, labels=P4DE, slices={"nvidia.com/mig-3g.40gb": 16}),
            *("3g.40gb", "nvidia.com/mig-3g.40gb", 16, 3 / 7, 40),
        ),
    ],
    ids=["time-slicing", "renamed", "MIG single", "MIG mixed"],
)
def test_each_way_of_sharing_is_an_offering_of_its_own(
    node: NodeRecord, name: str, resource: str, parts: int, fraction: float, gib: float
) -> None:
    offering = only(inventory(node))
    assert offering.slices is not None
    assert (offering.slices.name, offering.slices.resource) == (name, resource)
    assert offering.slices.fraction == pytest.approx(fraction)
    assert offering.slices.per_gpu * 8 == parts == offering.per_node.gpus
    assert (offering.gpu_model, offering.gpu_memory_gib) == ("A100-80GB", gib)
    assert offering.id.split("/")[1] == f"p4de.24xlarge:{name}"


@pytest.mark.parametrize(
    ("profile", "product", "per_gpu"),
    [
        ("1g.20gb", A100, 4),
        ("2g.20gb", A100, 3),
        ("4g.40gb", A100, 1),
        ("7g.80gb", A100, 1),
        ("1g.10gb.me", A100, 7),
        ("1g.5gb", "NVIDIA-A100-SXM4-40GB", 7),
        ("3g.71gb", "NVIDIA-H200", 2),
    ],
)
def test_as_many_parts_as_nvidia_cuts(profile: str, product: str, per_gpu: int) -> None:
    labels = {k: v for k, v in P4DE.items() if not k.endswith(("gpu.memory", "instance-type"))}
    node = a_record(
        gpus=0, labels={**labels, "nvidia.com/gpu.product": product}, slices={f"nvidia.com/mig-{profile}": 1}
    )
    slices = only(inventory(node)).slices
    assert slices is not None
    assert slices.per_gpu == per_gpu


def test_whole_and_shared_nodes_of_one_pool_stay_apart_and_cost_the_same() -> None:
    shared = a_record("s", gpus=32, labels={**P4DE, **TIME_SLICED, "nvidia.com/gpu.product": f"{A100}-SHARED"})
    found = inventory(a_record("w"), shared)
    whole, parted = (found.offerings[found.offering_of[name]] for name in ("w", "s"))
    assert whole.id != parted.id
    assert whole.pool == parted.pool
    assert whole.usd_per_node_hour == parted.usd_per_node_hour


def test_an_owned_node_costs_its_gpus_however_many_share_them() -> None:
    own = {**P4DE, "stint.dev/capacity-type": "owned", "node.kubernetes.io/instance-type": "ours"}
    shared = {**own, **TIME_SLICED, "nvidia.com/gpu.product": f"{A100}-SHARED"}
    whole = only(inventory(a_record(labels=own)))
    parted = only(inventory(a_record(gpus=32, labels=shared)))
    assert whole.usd_per_node_hour is not None
    assert parted.usd_per_node_hour == whole.usd_per_node_hour
    assert parted.watts_per_node == whole.watts_per_node


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (a_record(gpus=0, slices={"nvidia.com/mig-1g.10gb": 4, "nvidia.com/mig-3g.40gb": 1}), "several MIG profiles"),
        (a_record(gpus=0, slices={"nvidia.com/mig-all": 4}), "no MIG profile"),
        (a_record(gpus=16, labels={**P4DE, "nvidia.com/gpu.product": f"{A100}-SHARED"}), "by how many"),
        (a_record(gpus=0, labels={**P4DE, **TIME_SLICED}, slices={"nvidia.com/mig-1g.10gb": 4}), "by time besides"),
    ],
)
def test_what_cannot_be_used_is_told(node: NodeRecord, says: str) -> None:
    (problem,) = inventory(node).problems
    assert problem.reason == "SharedGpus"
    assert says in problem.message
    assert problem.message.endswith("nothing is placed on it")


@pytest.mark.parametrize("slices", [{}, {"nvidia.com/mig-1g.10gb": 7}], ids=["none", "beside whole ones"])
def test_whole_gpus_are_whole(slices: dict[str, int]) -> None:
    labels = {**P4DE, "nvidia.com/gpu.replicas": "1", "nvidia.com/gpu.sharing-strategy": "none"}
    offering = only(inventory(a_record(labels=labels, slices=slices)))
    assert offering.slices is None
    assert offering.per_node == Resources(gpus=8, cpu=96, memory_gib=1000, pods=110)


def test_records_count_parts_beside_gpus() -> None:
    amounts = {"cpu": "96", "nvidia.com/gpu": "0", "nvidia.com/mig-1g.10gb": "7", "nvidia.com/gpu.shared": "0"}
    node: Any = {"metadata": {"name": "n", "uid": "n"}, "status": {"allocatable": amounts}}
    assert reduce_node(msgspec.convert(node, WireNode))[2].slices == {"nvidia.com/mig-1g.10gb": 7}
    asks = {"resources": {"requests": {"nvidia.com/mig-1g.10gb": "2", "cpu": "1"}}}
    pod: Any = {"metadata": {"name": "p", "uid": "p"}, "spec": {"containers": [asks, {}]}}
    record = reduce_pod(msgspec.convert(pod, WirePod))[2]
    assert (record.slices, record.requests.gpus) == (2, 0)
