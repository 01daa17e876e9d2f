"""Lookups: the nearest figure answers, a stand-in says so, and what is not known is None."""

from datetime import date

import pytest

from stint.catalogue.catalogue import Assumptions, Catalogue
from stint.catalogue.hardware import GpuFacts, InstanceType
from stint.catalogue.layer import ANY, INTERNET, CarbonSignal, Layer, Place, PriceKey, Route, SpotKey
from stint.catalogue.overrides import Overrides
from stint.model.figure import Confidence, Figure
from stint.model.offering import CapacityType

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND


def a_figure(value: float, confidence: Confidence = Confidence.LIST_PRICE, as_of: date | None = None) -> Figure:
    return Figure(value=value, source="test", as_of=as_of, confidence=confidence)


def a_gpu(model: str, product: str, memory_gib: float, *aliases: str, capex_usd: float | None = None) -> GpuFacts:
    return GpuFacts(
        model=model,
        vendor="NVIDIA",
        product=product,
        memory_gib=a_figure(memory_gib),
        tdp_watts=a_figure(400.0, as_of=date(2026, 1, 1)),
        idle_watts=None,
        bf16_tflops=None,
        fp8_tflops=None,
        memory_gb_per_s=None,
        link_gb_per_s=None,
        capex_usd=None if capex_usd is None else a_figure(capex_usd),
        aliases=aliases,
    )


def an_instance_type(name: str, gpu_model: str, gpu_count: float) -> InstanceType:
    return InstanceType(
        provider="aws",
        name=name,
        gpu_model=gpu_model,
        gpu_count=gpu_count,
        gpu_memory_gib=None,
        vcpu=None,
        memory_gib=None,
        local_disk_gb=None,
        network_gbps=None,
        source="test",
    )


def a_catalogue(layer: Layer, carbon_signal: CarbonSignal = CarbonSignal.AVERAGE_LIFECYCLE) -> Catalogue:
    return Catalogue(
        gpus={
            "A100-40GB": a_gpu("A100-40GB", "NVIDIA-A100-SXM4-40GB", 40.0, "A100", capex_usd=14016.0),
            "A100-80GB": a_gpu("A100-80GB", "NVIDIA-A100-SXM4-80GB", 80.0, "A100"),
        },
        instances={
            ("aws", "p4d"): an_instance_type("p4d", "A100-40GB", 8.0),
            ("aws", "p4de"): an_instance_type("p4de", "A100-80GB", 8.0),
        },
        layers=(layer,),
        assumptions=Assumptions(
            host_watts_per_gpu=a_figure(100.0, Confidence.ESTIMATE, date(2025, 1, 1)),
            training_load_fraction=a_figure(0.85, Confidence.ESTIMATE),
            amortisation_years=a_figure(4.0, Confidence.ESTIMATE),
        ),
        carbon_signal=carbon_signal,
    )


PRICES = a_catalogue(
    Layer(
        prices={
            PriceKey("aws", "us-east-1", "p4d", ON_DEMAND): a_figure(22.0),
            PriceKey("aws", "us-east-1", "p4d", SPOT): a_figure(8.0),
            PriceKey("aws", "us-east-1", "p4d", SPOT, "use1-az1"): a_figure(7.0),
            PriceKey("aws", "us-east-1", "p4d", SPOT, "use1-az2"): None,
            PriceKey("crusoe", ANY, "a100", ON_DEMAND): a_figure(2.0),
        }
    )
)


class TestPrices:
    @pytest.mark.parametrize(("zone", "usd"), [("use1-az1", 7.0), ("use1-az6", 8.0), (None, 8.0)])
    def test_spot_is_the_zones_price_where_known_and_else_the_regions(self, zone, usd):
        assert PRICES.price("aws", "us-east-1", "p4d", SPOT, zone).value == usd

    def test_a_zone_without_a_spot_market_does_not_borrow_the_regions_price(self):
        assert PRICES.price("aws", "us-east-1", "p4d", SPOT, "use1-az2") is None

    def test_a_uniform_price_holds_in_every_region(self):
        assert PRICES.list_price("crusoe", "us-east1-a", "a100").value == 2.0

    def test_what_is_not_listed_is_not_known(self):
        assert PRICES.price("aws", "mars-1", "p4d", ON_DEMAND) is None
        assert PRICES.price("aws", "us-east-1", "p9", SPOT) is None

    def test_reserved_capacity_is_free_at_the_margin(self):
        figure = PRICES.price("aws", "us-east-1", "p4d", CapacityType.RESERVED)
        assert (figure.value, figure.confidence) == (0.0, Confidence.DEFINITION)

    def test_an_owned_machine_costs_its_purchase_over_its_life(self):
        figure = PRICES.price("aws", "us-east-1", "p4d", CapacityType.OWNED)
        assert figure.value == pytest.approx(8 * 14016.0 / (4 * 8760))  # 3.20 USD/h
        assert figure.confidence is Confidence.ESTIMATE  # as is the length of its life
        assert PRICES.price("aws", "us-east-1", "p4de", CapacityType.OWNED) is None  # nobody knows its purchase


class TestEgress:
    CATALOGUE = a_catalogue(
        Layer(
            egress={
                Route("aws", "us-east-1", "aws", "us-west-2"): a_figure(0.02),
                Route("aws", "us-east-1", INTERNET): a_figure(0.09),
                Route("aws", ANY, INTERNET): a_figure(0.10, Confidence.ESTIMATE),
            }
        )
    )

    @pytest.mark.parametrize(
        ("start", "to_provider", "to_region", "usd"),
        [
            ("us-east-1", "aws", "us-east-1", 0.0),
            ("us-east-1", "aws", "us-west-2", 0.02),
            ("us-east-1", "gcp", "us-east4", 0.09),
            ("eu-west-1", "gcp", "us-east4", 0.10),
            ("us-east-1", "aws", "sa-east-1", 0.09),
        ],
    )
    def test_the_nearest_rate_answers(self, start, to_provider, to_region, usd):
        assert self.CATALOGUE.egress_usd_per_gb("aws", start, to_provider, to_region).value == usd

    def test_a_pair_of_regions_that_no_list_names_is_marked_an_estimate(self):
        figure = self.CATALOGUE.egress_usd_per_gb("aws", "us-east-1", "aws", "sa-east-1")
        assert figure.confidence is Confidence.ESTIMATE
        assert "upper bound" in figure.source

    def test_the_rates_of_an_unknown_provider_are_not_known(self):
        assert self.CATALOGUE.egress_usd_per_gb("lambda", "us", "aws", "us-east-1") is None


def test_watts_of_a_node_are_its_gpus_and_their_share_of_the_host():
    figure = PRICES.node_watts("aws", "p4d")
    assert figure.value == 8 * (400.0 + 100.0)
    assert figure.confidence is Confidence.DERIVED
    assert figure.as_of == date(2025, 1, 1)  # as old as its oldest part
    assert PRICES.node_watts("aws", "p9") is None


def test_interruptions_go_from_zone_to_region_to_provider_and_from_type_to_gpu():
    catalogue = a_catalogue(
        Layer(
            interruptions={
                SpotKey("aws", "us-east-1", "A100-40GB", "use1-az1"): a_figure(0.3),
                SpotKey("aws", "us-east-1", "p4d"): a_figure(0.2),
                SpotKey("aws"): a_figure(0.05),
            }
        )
    )
    rates = [
        catalogue.interruptions_per_hour("aws", *where).value
        for where in [
            ("us-east-1", "p4d", "use1-az1"),
            ("us-east-1", "p4d", "use1-az2"),
            ("us-east-1", "p4de", None),
            ("eu-west-1", "p4d", None),
        ]
    ]
    assert rates == [0.3, 0.2, 0.05, 0.05]
    assert catalogue.interruptions_per_hour("lambda", "us", "x") is None


class TestCarbon:
    LAYER = Layer(
        carbon={
            (CarbonSignal.AVERAGE_LIFECYCLE, Place("aws", "eu-west-3")): a_figure(50.0),
            (CarbonSignal.AVERAGE_OPERATIONAL, Place("aws", "eu-west-3")): a_figure(16.0),
            (CarbonSignal.AVERAGE_OPERATIONAL, Place("aws", "us-west-2")): a_figure(79.0),
        }
    )

    def test_one_kind_of_signal_never_stands_in_for_another(self):
        assert a_catalogue(self.LAYER).carbon_g_per_kwh("aws", "eu-west-3").value == 50.0
        assert a_catalogue(self.LAYER).carbon_g_per_kwh("aws", "us-west-2") is None
        operational = a_catalogue(self.LAYER, CarbonSignal.AVERAGE_OPERATIONAL)
        assert operational.carbon_g_per_kwh("aws", "eu-west-3").value == 16.0

    def test_a_price_book_of_another_kind_is_refused(self):
        book = Overrides(name="ours", carbon={Place("aws"): 1.0}, carbon_signal=CarbonSignal.MARGINAL)
        with pytest.raises(ValueError, match="marginal"):
            a_catalogue(self.LAYER).with_overrides(book)


class TestOverrides:
    BOOK = Overrides(
        name="contract",
        as_of=date(2026, 5, 1),
        prices={
            PriceKey("aws", "us-east-1", "p4d", SPOT): 5.0,
            PriceKey("aws", "us-east-1", "p4d", CapacityType.RESERVED): 9.0,
            PriceKey("on-prem", ANY, "dgx", CapacityType.OWNED): 11.0,
        },
        egress={Route("aws", ANY, "gcp", ANY): 0.01},
        storage={Place("on-prem"): 0.005},
        carbon={Place("on-prem"): 30.0},
        pue={Place("on-prem", "hall-1"): 1.3},
        tariffs={"hall-1": 0.07},
        interruptions={SpotKey("aws", ANY, "p4d"): 0.001},
        licences={"solver": 2.5},
        labour_usd_per_job_hour=0.4,
        carbon_usd_per_tonne=80.0,
    )
    CATALOGUE = PRICES.with_overrides(BOOK)

    @pytest.mark.parametrize(
        ("method", "arguments", "value"),
        [
            ("price", ("aws", "us-east-1", "p4d", SPOT), 5.0),
            ("price", ("aws", "us-east-1", "p4d", SPOT, "use1-az1"), 5.0),  # also where a zone's own is known
            ("price", ("aws", "us-east-1", "p4d", CapacityType.RESERVED), 9.0),
            ("price", ("on-prem", "hall-1", "dgx", CapacityType.OWNED), 11.0),
            ("egress_usd_per_gb", ("aws", "us-east-1", "gcp", "us-east4"), 0.01),
            ("storage_usd_per_gb_month", ("on-prem", "hall-1"), 0.005),
            ("carbon_g_per_kwh", ("on-prem", "hall-1"), 30.0),
            ("pue", ("on-prem", "hall-1"), 1.3),
            ("tariff_usd_per_kwh", ("hall-1",), 0.07),
            ("interruptions_per_hour", ("aws", "us-east-1", "p4d"), 0.001),
            ("licence_usd_per_gpu_hour", ("solver",), 2.5),
            ("labour_usd_per_job_hour", (), 0.4),
            ("carbon_usd_per_tonne", (), 80.0),
        ],
    )
    def test_the_users_number_wins_and_says_whose_it_is(self, method, arguments, value):
        assert getattr(self.CATALOGUE, method)(*arguments) == Figure(
            value=value, source="pricebook/contract", as_of=date(2026, 5, 1), confidence=Confidence.OVERRIDE
        )

    def test_the_rest_stays_as_it_was(self):
        assert self.CATALOGUE.list_price("aws", "us-east-1", "p4d").value == 22.0

    def test_the_later_book_wins(self):
        later = Overrides(name="later", prices={PriceKey("aws", "us-east-1", "p4d", SPOT): 4.0})
        assert self.CATALOGUE.with_overrides(later).price("aws", "us-east-1", "p4d", SPOT).source == "pricebook/later"

    def test_a_book_can_make_a_figure_zero(self):
        free = Overrides(name="free", carbon_usd_per_tonne=0.0, labour_usd_per_job_hour=0.0)
        assert self.CATALOGUE.with_overrides(free).carbon_usd_per_tonne().value == 0.0

    @pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
    def test_an_impossible_number_is_refused_by_name(self, wrong):
        with pytest.raises(ValueError, match=r"^pue .*'hall-1'"):
            Overrides(name="typo", pue={Place("on-prem", "hall-1"): wrong})
        with pytest.raises(ValueError, match=r"^carbon_usd_per_tonne"):
            Overrides(name="typo", carbon_usd_per_tonne=wrong)
