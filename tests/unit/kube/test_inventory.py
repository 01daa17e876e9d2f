from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.catalogue.quote import FreshnessLimits
from stint.feeds import bundled
from stint.kube.inventory import capacity_type, region_of, take_inventory
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
