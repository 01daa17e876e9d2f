"""Which GPU a node has and how many, where labels, the cloud, the catalogue and the device plugin do not agree."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.api.parse.pricebook import with_books
from stint.api.pricebook import PriceBook
from stint.catalogue.names import own_name
from stint.catalogue.quote import FreshnessLimits
from stint.errors import InvalidInputError
from stint.feeds import bundled
from stint.kube.observe.inventory import Inventory, take_inventory
from stint.kube.observe.own_models import with_own_models
from stint.kube.records import NodeRecord
from stint.kube.reduce import reduce_node
from stint.kube.wire import WireNode
from stint.model.market import Offering
from stint.testing.builders import NOW
from tests.unit.kube.test_inventory import a_gpu_pool

CATALOGUE = bundled.load()
WHERE = {"topology.kubernetes.io/region": "us-east-1", "topology.kubernetes.io/zone": "us-east-1a"}
INSTANCE = "node.kubernetes.io/instance-type"
PRODUCT, MEMORY, COUNT = "nvidia.com/gpu.product", "nvidia.com/gpu.memory", "nvidia.com/gpu.count"
KARPENTER = "karpenter.k8s.aws/instance-gpu-"


def node(
    labels: dict[str, str], *, provider_id: str = "", annotations: dict[str, str] | None = None, **has: str
) -> NodeRecord:
    """As the API server has it; `has`: what it offers besides CPU and memory, eight GPUs by default."""
    offers = {k.replace("__", "/").replace("_", "."): v for k, v in has.items()} or {"nvidia.com/gpu": "8"}
    made = {
        "metadata": {"name": "n", "uid": "n", "labels": labels, "annotations": annotations or {}},
        "spec": {"providerID": provider_id},
        "status": {"allocatable": {"cpu": "95", "memory": "1100Gi", "pods": "110", **offers}},
    }
    return reduce_node(msgspec.convert(made, WireNode))[2]


def aws(instance: str, labels: dict[str, str] | None = None, gpus: str = "8") -> NodeRecord:
    return node(
        {INSTANCE: instance, **WHERE, **(labels or {})}, provider_id="aws:///us-east-1a/i-1", nvidia_com__gpu=gpus
    )


def look(*nodes: NodeRecord, pools: list[GPUPool] | None = None, book: PriceBook | None = None) -> Inventory:
    catalogue = with_books(CATALOGUE, [book]) if book else CATALOGUE
    return take_inventory(nodes, pools or [], catalogue, today=NOW.date(), limits=FreshnessLimits())


def only(found: Inventory) -> Offering:
    (offering,) = found.offerings.values()
    return offering


def a_book(**spec: Any) -> PriceBook:
    return msgspec.convert({"metadata": {"name": "ours", "uid": "b"}, "spec": spec}, PriceBook)


class TestWhichModel:
    @pytest.mark.parametrize(
        ("record", "model", "gib"),
        [
            (aws("p4de.24xlarge", {f"{KARPENTER}name": "a100", f"{KARPENTER}memory": "81920"}), "A100-80GB", 80),
            (aws("p4de.24xlarge", {f"{KARPENTER}name": "a100"}), "A100-80GB", 80),
            (aws("p3dn.24xlarge", {f"{KARPENTER}name": "v100", f"{KARPENTER}memory": "32768"}), "V100-32GB", 32),
            (aws("x9.huge", {f"{KARPENTER}name": "a100", f"{KARPENTER}memory": "81920"}), "A100-80GB", 80),
            (aws("x9.huge", {f"{KARPENTER}name": "a100"}), "A100-40GB", 40),
            (aws("p4de.24xlarge"), "A100-80GB", 80),
            (aws("p4de.24xlarge", {f"{KARPENTER}name": "a100", PRODUCT: "NVIDIA-H100-80GB-HBM3"}), "H100-SXM", 80),
            (
                node(
                    {"gpu.nvidia.com/class": "H100_NVLINK_80GB", "gpu.nvidia.com/count": "8", INSTANCE: "gd-8xh100ib"}
                ),
                "H100-SXM",
                80,
            ),
            (
                node(
                    {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.vram": "192G"},
                    amd_com__gpu="8",
                ),
                "MI300X",
                192,
            ),
            (node({"beta.amd.com/gpu.product-name": "AMD_Instinct_MI210"}, amd_com__gpu="8"), "MI210", 64),
            (node({PRODUCT: "NVIDIA-A30", MEMORY: "24576", COUNT: "8", "nvidia.com/gpu.replicas": "0"}), "A30", 24),
            (node({PRODUCT: "NVIDIA-GeForce-RTX-4090", MEMORY: "24564"}), "RTX 4090", pytest.approx(23.99, rel=0.01)),
            (node({PRODUCT: "NVIDIA-H200-NVL", MEMORY: "143771"}), "H200-NVL", pytest.approx(140.4, rel=0.01)),
            (node({PRODUCT: "Tesla-V100-SXM2-16GB-N", MEMORY: "16384"}), "V100-SXM2-16GB-N", 16),
            (node({PRODUCT: "NVIDIA-Z9000", MEMORY: "262144"}), "Z9000", 256),
            (aws("p4de.24xlarge", {PRODUCT: "NVIDIA-A100-SXM4-80GB-X", MEMORY: "81920"}), "A100-80GB", 80),
        ],
    )
    def test_the_exact_name_wins(self, record, model, gib):
        offering = only(look(record))
        assert (offering.gpu_model, offering.gpu_memory_gib) == (model, gib)
        assert offering.slices is None

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("NVIDIA-GeForce-RTX-9090", "GeForce-RTX-9090"),
            ("Tesla-V100-SXM2-16GB-N", "V100-SXM2-16GB-N"),
            ("nvidia tesla x", "x"),
            ("AMD_Instinct_X", "X"),
            ("nvidia", "nvidia"),
        ],
    )
    def test_what_a_model_is_called_that_only_a_label_names(self, text, name):
        assert own_name(text) == name


class TestModelsOfOnesOwn:
    NODE = node(
        {PRODUCT: "NVIDIA-Z9000", MEMORY: "262144", COUNT: "8", "stint.dev/capacity-type": "owned", INSTANCE: "ours"}
    )

    def test_of_nodes_without_a_price_the_first_of_each_offering_is_told(self):
        labels = {PRODUCT: "NVIDIA-A30", MEMORY: "24576"}
        many = [msgspec.structs.replace(node(labels), name=f"n{i}", uid=f"n{i}") for i in range(9)]
        assert [(p.about, p.reason) for p in look(*many).problems] == [("node n0", "NoPrice")]
        inside = [msgspec.structs.replace(n, labels={**n.labels, "pool": "big"}) for n in many]
        assert look(*inside, pools=[a_gpu_pool(offerings=[])]).problems == (), "the pool's own condition says so"

    def test_without_a_price_its_nodes_are_told_how_to_give_one(self):
        found = look(self.NODE)
        assert only(found).usd_per_node_hour is None
        (problem,) = found.problems
        assert (problem.reason, problem.pools) == ("NoPrice", ())
        assert "gpuModel: Z9000, capacityType: owned, usdPerGpuHour" in problem.message
        assert found.offering_of, "it may be used as soon as it has a price"

    @pytest.mark.parametrize("provider", ["*", "on-premises"])
    def test_a_price_by_model_is_of_all_its_gpus(self, provider):
        price = {"provider": provider, "gpuModel": "nvidia z9000", "capacityType": "owned", "usdPerGpuHour": 2.5}
        labels = {**self.NODE.labels, **({"stint.dev/provider": provider} if provider != "*" else {})}
        found = look(msgspec.structs.replace(self.NODE, labels=labels), book=a_book(prices=[price]))
        price_found = only(found).usd_per_node_hour
        assert price_found is not None
        assert price_found.value == pytest.approx(20.0)
        assert price_found.source == "pricebook/ours"
        assert found.problems == ()

    def test_a_price_by_model_of_shared_gpus_is_that_of_the_whole_ones(self):
        shared = {"nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "time-slicing"}
        record = node({**self.NODE.labels, **shared}, nvidia_com__gpu="32")
        price = {"provider": "*", "gpuModel": "Z9000", "capacityType": "owned", "usdPerGpuHour": 2.5}
        found = only(look(record, book=a_book(prices=[price]))).usd_per_node_hour
        assert found is not None
        assert found.value == pytest.approx(20.0)

    def test_a_price_by_instance_type_beats_one_by_model_in_the_same_book(self):
        prices = [
            {"provider": "*", "gpuModel": "Z9000", "capacityType": "owned", "usdPerGpuHour": 2.5},
            {"provider": "*", "instanceType": "ours", "capacityType": "owned", "usdPerNodeHour": 7},
        ]
        found = only(look(self.NODE, book=a_book(prices=prices))).usd_per_node_hour
        assert found is not None
        assert found.value == 7

    def test_a_price_by_model_beats_what_comes_with_the_package(self):
        price = {"provider": "aws", "gpuModel": "A100-80GB", "usdPerGpuHour": 1.0}
        record = aws("p4de.24xlarge", {"karpenter.sh/capacity-type": "on-demand"})
        found = only(look(record, book=a_book(prices=[price]))).usd_per_node_hour
        assert found is not None
        assert found.value == pytest.approx(8.0)

    def test_a_book_teaches_memory_watts_and_what_it_cost(self):
        model = {"name": "Z9000", "labels": ["NVIDIA-Z9000"], "memoryGiB": 200, "watts": 900, "capexUsd": 26280}
        record = node({PRODUCT: "NVIDIA-Z9000", "stint.dev/capacity-type": "owned"})
        found = look(record, book=a_book(gpuModels=[model]))
        offering = only(found)
        assert (offering.gpu_model, offering.gpu_memory_gib) == ("Z9000", 200)
        assert offering.watts_per_node is not None
        assert offering.usd_per_node_hour is not None
        assert found.problems == ()
        taught = with_books(CATALOGUE, [a_book(gpuModels=[model])])
        peak = taught.watts_of("Z9000", 1)
        assert peak is not None
        assert peak.value == pytest.approx(900 + CATALOGUE.assumptions.host_watts_per_gpu.value)

    def test_what_is_said_of_a_known_model_is_put_over_what_is_known(self):
        taught = with_books(CATALOGUE, [a_book(gpuModels=[{"name": "H100-SXM", "watts": 650, "labels": ["MY-H100"]}])])
        gpu = taught.gpu("my-h100")
        assert gpu is not None
        assert (gpu.model, gpu.tdp_watts and gpu.tdp_watts.value) == ("H100-SXM", 650)
        assert gpu.memory_gib == CATALOGUE.gpus["H100-SXM"].memory_gib
        assert gpu.product == CATALOGUE.gpus["H100-SXM"].product

    @pytest.mark.parametrize(
        "price",
        [
            {"provider": "aws", "usdPerNodeHour": 1},
            {"provider": "aws", "instanceType": "x", "gpuModel": "y", "usdPerNodeHour": 1},
            {"provider": "aws", "instanceType": "x", "usdPerGpuHour": 1},
            {"provider": "aws", "gpuModel": "x", "usdPerNodeHour": 1},
        ],
    )
    def test_a_price_of_neither_is_refused(self, price):
        from stint.api.parse.pricebook import to_overrides

        with pytest.raises(InvalidInputError, match="either instanceType and usdPerNodeHour, or gpuModel"):
            to_overrides(a_book(prices=[price]))

    def test_a_pool_may_describe_one(self):
        full = {
            "provider": "on-premises",
            "zone": "dc1",
            "instanceType": "dgx-z",
            "capacityType": "owned",
            "gpuModel": "Z9000",
            "gpus": 8,
            "cpu": 128,
            "memoryGiB": 1000,
            "gpuMemoryGiB": 256,
        }
        found = look(pools=[a_gpu_pool(offerings=[full])])
        offering = only(found)
        assert found.problems == ()
        assert (offering.gpu_model, offering.gpu_memory_gib, offering.per_node.gpus) == ("Z9000", 256, 8)
        without = {k: v for k, v in full.items() if k != "gpuMemoryGiB"}
        (problem,) = look(pools=[a_gpu_pool(offerings=[without])]).problems
        assert "memoryGiB and gpuMemoryGiB" in problem.message

    def test_jobs_may_name_what_a_node_has(self):
        known = with_own_models(CATALOGUE, [self.NODE], [])
        assert known.canonical_gpu("z9000") == known.canonical_gpu("NVIDIA-Z9000") == "Z9000"
        assert with_own_models(CATALOGUE, [], []) is CATALOGUE

    def test_labels_cannot_fill_the_catalogue(self):
        many = [node({PRODUCT: f"NVIDIA-Q{i}", MEMORY: "1024"}) for i in range(500)]
        assert len(with_own_models(CATALOGUE, many, []).gpus) == len(CATALOGUE.gpus) + 64


HAMI = {"hami.io/node-nvidia-register": "GPU-0,10,46068,100,NVIDIA-NVIDIA A40,0,true"}
GKE = {**WHERE, INSTANCE: "g2-standard-8", "cloud.google.com/gke-accelerator": "nvidia-l4"}
CLIENTS, STRATEGY = "cloud.google.com/gke-max-shared-clients-per-gpu", "cloud.google.com/gke-gpu-sharing-strategy"


class TestHowMany:
    @pytest.mark.parametrize(
        ("labels", "gpus", "name", "parts", "per_gpu"),
        [
            ({**GKE, CLIENTS: "8", STRATEGY: "time-sharing"}, "8", "8-shared", 8, 8),
            ({**GKE, CLIENTS: "4", STRATEGY: "mps"}, "4", "4-shared", 4, 4),
            (
                {
                    INSTANCE: "a2-highgpu-1g",
                    "cloud.google.com/gke-accelerator": "nvidia-tesla-a100",
                    "cloud.google.com/gke-gpu-partition-size": "1g.5gb",
                },
                "7",
                "1g.5gb",
                7,
                7,
            ),
        ],
        ids=["GKE time-sharing", "GKE MPS", "GKE MIG"],
    )
    def test_gkes_labels_tell_how_gpus_are_shared(self, labels, gpus, name, parts, per_gpu):
        found = look(node(labels, provider_id="gce://p/us-central1-a/n", nvidia_com__gpu=gpus))
        offering = only(found)
        assert offering.slices is not None
        assert (offering.slices.name, offering.slices.per_gpu, offering.per_node.gpus) == (name, per_gpu, parts)
        assert {p.reason for p in found.problems} <= {"NoPrice"}

    @pytest.mark.parametrize(
        ("record", "says"),
        [
            (
                node({PRODUCT: "NVIDIA-A40", COUNT: "8", MEMORY: "46068"}, annotations=HAMI, nvidia_com__gpu="80"),
                "offers 80 nvidia.com/gpu, and has 8 GPUs (nvidia.com/gpu.count): each is given out several times by",
            ),
            (node({PRODUCT: "NVIDIA-A40"}, annotations=HAMI, nvidia_com__gpu="10"), "HAMi gives out each of its GPUs"),
            (aws("p4d.24xlarge", gpus="32"), "has 8 GPUs (the catalogue for p4d.24xlarge)"),
            (aws("x9.huge", {f"{KARPENTER}name": "a100", f"{KARPENTER}count": "8"}, gpus="16"), "instance-gpu-count"),
            (node({PRODUCT: "NVIDIA-A40"}, nvidia_com__gpu="80"), "has 16 GPUs (the largest machine there is)"),
            (
                node(
                    {
                        PRODUCT: "NVIDIA-A40",
                        COUNT: "8",
                        "nvidia.com/gpu.replicas": "2",
                        "nvidia.com/gpu.sharing-strategy": "mps",
                    },
                    nvidia_com__gpu="80",
                ),
                "it offers 80",
            ),
        ],
        ids=[
            "HAMi",
            "HAMi without a count",
            "no label, but the catalogue",
            "Karpenter",
            "nobody says",
            "too many parts",
        ],
    )
    def test_a_node_that_offers_more_than_it_has_is_refused(self, record, says):
        found = look(record)
        (problem,) = found.problems
        assert problem.reason == "SharedGpus"
        assert says in problem.message
        assert problem.message.endswith("nothing is placed on it")
        assert found.offering_of == {}

    def test_a_node_with_fewer_than_it_should_have_is_used_and_costs_what_a_whole_one_costs(self):
        assert only(look(aws("p4de.24xlarge", gpus="6"))).per_node.gpus == 8

    @pytest.mark.parametrize("count", ["eight", "-8", "9" * 70, "", "0"])
    def test_a_count_that_is_no_number_is_not_believed(self, count):
        assert only(look(aws("p4de.24xlarge", {COUNT: count}))).per_node.gpus == 8


class TestOtherVendors:
    @pytest.mark.parametrize(
        ("record", "reason", "says"),
        [
            (node({INSTANCE: "ct6e-standard-4t"}, google_com__tpu="4"), "NotSupported", "Google TPUs (google.com/tpu)"),
            (
                node({}, aws_amazon_com__neuron="16", aws_amazon_com__neuroncore="128"),
                "NotSupported",
                "AWS Trainium or Inferentia (aws.amazon.com/neuron)",
            ),
            (node({}, gpu_intel_com__i915="4"), "NotSupported", "Intel GPUs (gpu.intel.com/i915)"),
            (node({}, habana_ai__gaudi="8"), "UnknownGpu", "no label says which habana.ai/gaudi it has"),
            (node({}, amd_com__gpu="8"), "UnknownGpu", "run the node labeller of AMD's GPU operator"),
            (node({}), "UnknownGpu", "run GPU feature discovery"),
            (node({PRODUCT: "Voodoo2"}), "UnknownGpu", "with nvidia.com/gpu.memory beside it"),
        ],
    )
    def test_each_is_told_the_remedy_of_its_own_vendor(self, record, reason, says):
        (problem,) = look(record).problems
        assert problem.reason == reason
        assert says in problem.message
        assert problem.node is record
        assert ("feature discovery" in problem.message) == (record.device in ("nvidia.com/gpu", ""))

    def test_a_node_without_any_is_nobodys_business(self):
        assert look(node({}, google_com__tpu="0")).problems == ()
