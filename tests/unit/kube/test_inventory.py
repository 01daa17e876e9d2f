from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.catalogue.quote import FreshnessLimits
from stint.feeds import bundled
from stint.kube.observe.inventory import capacity_type, region_of, take_inventory
from stint.model.market import Taint
from stint.model.offering import CapacityType
from stint.testing.builders import NOW
from tests.unit.kube.objects import P4DE, a_record

CATALOGUE = bundled.load()


def inventory(nodes: list, pools: list[GPUPool] | None = None):
    return take_inventory(nodes, pools or [], CATALOGUE, today=NOW.date(), limits=FreshnessLimits())


def a_gpu_pool(name: str = "big", **spec: Any) -> GPUPool:
    full = {
        "nodeSelector": {"pool": name},
        "offerings": [{"provider": "aws", "zone": "us-east-1b", "instanceType": "p5.48xlarge", "capacityType": "spot"}],
        "limits": {"maxNodes": 4},
        "scaler": {"adapter": "Kwok", "mode": "Act"},
        **spec,
    }
    return msgspec.convert({"metadata": {"name": name, "uid": name}, "spec": full}, GPUPool)


def test_a_node_that_says_what_it_is_forms_a_pool_with_a_price():
    found = inventory([a_record("n1"), a_record("n2")])
    (offering,) = found.offerings.values()
    assert (offering.provider, offering.gpu_model, offering.capacity_type) == ("aws", "A100-80GB", "on-demand")
    assert offering.usd_per_node_hour is not None
    assert 20 < offering.usd_per_node_hour.value < 45
    assert found.pools[offering.pool].inferred
    assert set(found.offering_of) == {"n1", "n2"}


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ({"karpenter.sh/capacity-type": "spot"}, CapacityType.SPOT),
        ({"eks.amazonaws.com/capacityType": "ON_DEMAND"}, CapacityType.ON_DEMAND),
        ({"eks.amazonaws.com/capacityType": "CAPACITY_BLOCK"}, CapacityType.RESERVED),
        ({"cloud.google.com/gke-spot": "true"}, CapacityType.SPOT),
        ({"kubernetes.azure.com/scalesetpriority": "spot"}, CapacityType.SPOT),
        ({"karpenter.sh/capacity-type": "spot", "stint.dev/capacity-type": "owned"}, CapacityType.OWNED),
        ({}, None),
    ],
)
def test_capacity_types_by_everybodys_labels(labels, kind):
    assert capacity_type(labels) is kind


@pytest.mark.parametrize(
    ("provider", "zone", "region"),
    [("aws", "us-east-1a", "us-east-1"), ("gcp", "us-central1-a", "us-central1"), ("azure", "1", "")],
)
def test_regions_of_zones(provider, zone, region):
    assert region_of(provider, zone) == region


def test_nodes_without_gpus_are_nobodys_business():
    assert inventory([a_record(gpus=0, labels={})]).offerings == {}


def test_a_node_whose_gpu_nobody_knows_is_told_with_a_remedy():
    (problem,) = inventory([a_record(labels={"nvidia.com/gpu.product": "Voodoo2"}, provider_id="")]).problems
    assert problem.node is not None
    assert problem.pools == ()  # nobody would be told by a pool's condition
    assert problem.about == "node n1"
    assert "describe the nodes in a GPUPool" in problem.message


def test_two_pools_that_claim_one_node_are_told_and_nothing_is_placed_on_it():
    pools = [a_gpu_pool("a", nodeSelector={"x": "y"}), a_gpu_pool("b", nodeSelector={"x": "y"})]
    found = inventory([a_record(labels={**P4DE, "x": "y"})], pools)
    (problem,) = found.problems
    assert "a and b both select it" in problem.message
    assert found.offering_of == {}


def test_a_pools_one_offering_is_what_its_nodes_are():
    found = inventory([a_record(labels={"pool": "big"})], [a_gpu_pool()])
    assert found.offering_of["n1"] == "big/p5.48xlarge/us-east-1b/spot"


def test_a_machine_that_the_catalogue_does_not_know_is_told_where():
    wrong = a_gpu_pool(offerings=[{"provider": "aws", "zone": "us-east-1b", "instanceType": "p9.huge"}])
    (problem,) = inventory([], [wrong]).problems
    assert problem.about == "GPUPool big spec.offerings[0]"
    assert "p9.huge" in problem.message


def test_an_owned_machine_is_amortised_and_pays_for_its_energy():
    own = {"provider": "on-premises", "zone": "dc1", "instanceType": "dgx", "capacityType": "owned"}
    size = {"gpuModel": "A100-80GB", "gpus": 8, "cpu": 128, "memoryGiB": 1000}
    (offering,) = inventory([], [a_gpu_pool(offerings=[{**own, **size}])]).offerings.values()
    assert offering.usd_per_node_hour is not None
    assert offering.usd_per_node_hour.value > 0
    assert offering.usd_per_kwh is not None
    assert inventory([a_record()]).offerings.popitem()[1].usd_per_kwh is None  # a cloud's price contains it


def test_taints_of_the_moment_do_not_describe_an_offering():
    passing = (Taint(key="stint.dev/interrupted"), Taint(key="node.kubernetes.io/unreachable", effect="NoExecute"))
    (offering,) = inventory([a_record(taints=passing)]).offerings.values()
    assert offering.taints == ()


def test_old_spot_prices_are_marked_as_stale():
    (offering,) = inventory([], [a_gpu_pool()]).offerings.values()
    assert offering.stale == ("price",)


CLOUDS = {
    "Karpenter on AWS": (
        "aws:///us-west-2b/i-1",
        {
            "node.kubernetes.io/instance-type": "g6.48xlarge",
            "topology.kubernetes.io/zone": "us-west-2b",
            "karpenter.sh/capacity-type": "spot",
            "karpenter.sh/nodepool": "gpu",
            "karpenter.k8s.aws/instance-gpu-name": "l4",
        },
        ("gpu", "aws", "us-west-2", "L4", CapacityType.SPOT),
    ),
    "an EKS node group": (
        "aws:///us-east-1a/i-2",
        {
            "node.kubernetes.io/instance-type": "p4d.24xlarge",
            "topology.kubernetes.io/zone": "us-east-1a",
            "topology.kubernetes.io/region": "us-east-1",
            "eks.amazonaws.com/capacityType": "ON_DEMAND",
            "eks.amazonaws.com/nodegroup": "train",
            "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB",
        },
        ("train", "aws", "us-east-1", "A100-40GB", CapacityType.ON_DEMAND),
    ),
    "GKE": (
        "gce://project/us-central1-c/node",
        {
            "node.kubernetes.io/instance-type": "a2-ultragpu-8g",
            "topology.kubernetes.io/zone": "us-central1-c",
            "cloud.google.com/gke-nodepool": "ultra",
            "cloud.google.com/gke-accelerator": "nvidia-a100-80gb",
            "cloud.google.com/gke-provisioning": "preemptible",
        },
        ("ultra", "gcp", "us-central1", "A100-80GB", CapacityType.SPOT),
    ),
    "AKS": (
        "azure:///subscriptions/s/vm",
        {
            "node.kubernetes.io/instance-type": "Standard_ND96amsr_A100_v4",
            "topology.kubernetes.io/zone": "eastus-1",
            "topology.kubernetes.io/region": "eastus",
            "kubernetes.azure.com/agentpool": "nd",
            "kubernetes.azure.com/scalesetpriority": "spot",
            "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        },
        ("nd", "azure", "eastus", "A100-80GB", CapacityType.SPOT),
    ),
    "a machine of one's own": (
        "",
        {
            "stint.dev/provider": "on-premises",
            "stint.dev/capacity-type": "owned",
            "nvidia.com/gpu.product": "NVIDIA-L40S",
        },
        ("l40s-owned", "on-premises", "", "L40S", CapacityType.OWNED),
    ),
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_a_node_is_by_the_labels_that_it_comes_with(cloud):
    provider_id, labels, wanted = CLOUDS[cloud]
    found = inventory([a_record(labels=labels, provider_id=provider_id)])
    assert {p.reason for p in found.problems} <= {"NoPrice"}
    (offering,) = found.offerings.values()
    known = (offering.pool, offering.provider, offering.region, offering.gpu_model, offering.capacity_type)
    assert known == wanted


def test_the_memory_of_a_gpu_tells_models_of_one_name_apart():
    def model(mib: str) -> str:
        labels = {"nvidia.com/gpu.product": "A100", "nvidia.com/gpu.memory": mib}
        (offering,) = inventory([a_record(labels=labels)]).offerings.values()
        return offering.gpu_model

    assert (model("40960"), model("81920")) == ("A100-40GB", "A100-80GB")


def test_nodes_in_different_zones_and_terms_are_different_offerings_of_one_pool():
    base = {**P4DE, "karpenter.sh/nodepool": "gpu"}
    records = [
        a_record("n1", labels=base),
        a_record("n2", labels={**base, "topology.kubernetes.io/zone": "us-east-1b"}),
        a_record("n3", labels={**base, "karpenter.sh/capacity-type": "spot"}),
    ]
    found = inventory(records)
    assert len(set(found.offering_of.values())) == 3
    (pool,) = found.pools.values()
    assert set(pool.offerings) == set(found.offerings)


def test_a_pools_nodes_are_told_apart_by_what_they_say_of_themselves():
    offerings = [
        {"provider": "aws", "zone": "us-east-1b", "instanceType": "p5.48xlarge", "capacityType": kind}
        for kind in ("spot", "on-demand")
    ]
    pool = a_gpu_pool(offerings=offerings)
    records = [
        a_record(f"n{i}", labels={"pool": "big", "karpenter.sh/capacity-type": kind})
        for i, kind in enumerate(("on-demand", "spot"))
    ]
    found = inventory(records, [pool])
    assert found.offering_of["n0"].endswith("/on-demand")
    assert found.offering_of["n1"].endswith("/spot")


def test_a_pool_says_how_it_is_resized():
    found = inventory([], [a_gpu_pool(), a_gpu_pool("quiet", scaler={"adapter": "Kwok"})])
    assert (found.pools["big"].scaler, found.pools["big"].advise_only, found.pools["big"].max_nodes) == (
        "Kwok",
        False,
        4,
    )
    assert found.pools["quiet"].advise_only


def test_the_order_of_the_records_changes_nothing():
    records = [a_record(f"n{i}", labels={**P4DE, "karpenter.sh/nodepool": f"p{i % 2}"}) for i in range(4)]
    assert inventory(records) == inventory(records[::-1])
