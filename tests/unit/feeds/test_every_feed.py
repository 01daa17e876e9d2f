"""What every feed must do, whatever it reads: the next one adds its harness to `HARNESSES` and gets all of this."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from stint.api.pricebook import TimeOfUse
from stint.catalogue.layer import CarbonSignal, Concern, Place, PriceKey
from stint.feeds import bundled
from stint.feeds.carbon import ElectricityMapsFeed, WattTimeFeed
from stint.feeds.config_map import ConfigMapFeed
from stint.feeds.feed import Feed, FeedError
from stint.feeds.feed_trust import FeedState, Named, Terms, Trouble, failed, take
from stint.feeds.fetch import Where
from stint.feeds.http import HttpFeed
from stint.feeds.karpenter import KarpenterFeed
from stint.feeds.node_overlays import NodeOverlayFeed
from stint.feeds.opencost import OpenCostFeed
from stint.feeds.tariff import TariffFeed
from stint.model.offering import CapacityType
from stint.testing.builders import NOW
from tests.unit.feeds.served import World, serving

CATALOGUE = bundled.load()
P5 = PriceKey("aws", "us-east-1", "p5.48xlarge", CapacityType.ON_DEMAND)
GRID = Place("aws", "us-east-1")
GOOD, BETTER = 50.0, 48.0  # the list says 55.04


class Harness:
    """How a kind of feed is made and told what to say. `None` as a value: a row is there and says nothing."""

    named: Named = (Concern.PRICE, P5)
    money = True
    remote = True  # over HTTP, so that it can hang and fail
    catalogue = CATALOGUE
    zero_is_bad = True

    def feed(self, world: World) -> Feed:
        raise NotImplementedError

    def say(self, world: World, *values: float | str | None) -> None:
        raise NotImplementedError

    def garble(self, world: World) -> None:
        world.body = "<html>Sign in to continue</html>"


def where(world: World) -> Where:
    return Where(url=world.url, timeout_s=0.2)


def row(value: Any) -> dict[str, Any]:
    return {"provider": "aws", "region": "us-east-1", "instanceType": "p5.48xlarge", "value": value}


class Json(Harness):
    def feed(self, world: World) -> Feed:
        return HttpFeed("it", where(world))

    def say(self, world: World, *values: float | str | None) -> None:
        world.body = json.dumps({"rows": [row(v) for v in values]})


def csv_of(values: Sequence[object]) -> str:
    lines = (f"aws,us-east-1,p5.48xlarge,{'' if v is None else v}\n" for v in values)
    return "provider,region,instanceType,value\n" + "".join(lines)


class Csv(Json):
    def say(self, world: World, *values: float | str | None) -> None:
        world.body, world.content_type = csv_of(values), "text/csv"


class ConfigMapCsv(Harness):
    remote = False

    def feed(self, world: World) -> Feed:
        return ConfigMapFeed("it", world.get, "stint-system", "rates")

    def say(self, world: World, *values: float | str | None) -> None:
        world.objects = {"data": {"prices.csv": csv_of(values), "README.md": "prices"}}

    def garble(self, world: World) -> None:
        world.objects = {"data": {"prices.csv": "<html>\n"}}


class ConfigMapYaml(ConfigMapCsv):
    def say(self, world: World, *values: float | str | None) -> None:
        world.objects = {"data": {"prices.yaml": json.dumps({"rows": [row(v) for v in values]})}}

    def garble(self, world: World) -> None:
        world.objects = {"data": {"prices.yaml": "rows: [}"}}


def text_of(metric: str, labels: Mapping[str, str], values: Sequence[object]) -> str:
    told = ",".join(f'{k}="{v}"' for k, v in labels.items())
    lines = (f'{metric}{{{told},node="n{i}"}} {v}\n' for i, v in enumerate(values) if v is not None)
    return f"# TYPE {metric} gauge\n" + "".join(lines)


class OpenCost(Harness):
    labels: Mapping[str, str] = {
        "instance_type": "p5.48xlarge",
        "region": "us-east-1",
        "provider_id": "aws:///us-east-1a/i-0123456789",
    }
    metric = "node_total_hourly_cost"

    def feed(self, world: World) -> Feed:
        return OpenCostFeed("it", where(world))

    def say(self, world: World, *values: float | str | None) -> None:
        world.body, world.content_type = text_of(self.metric, self.labels, values), "text/plain"

    def garble(self, world: World) -> None:
        world.body = "node_total_hourly_cost{instance_type="


class OpenCostByPrometheus(OpenCost):
    def feed(self, world: World) -> Feed:
        return OpenCostFeed("it", where(world), prometheus=True)

    def say(self, world: World, *values: float | str | None) -> None:
        said = [
            {"metric": {"__name__": self.metric, "node": f"n{i}", **self.labels}, "value": [NOW.timestamp(), str(v)]}
            for i, v in enumerate(values)
            if v is not None
        ]
        world.body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": said}})

    def garble(self, world: World) -> None:
        world.body = '{"status": "success", "data": 7}'


class Karpenter(OpenCost):
    named = (Concern.PRICE, P5._replace(zone="us-east-1a"))
    labels: Mapping[str, str] = {
        "instance_type": "p5.48xlarge",
        "capacity_type": "on-demand",
        "region": "us-east-1",
        "zone": "us-east-1a",
    }
    metric = "karpenter_cloudprovider_instance_type_offering_price_estimate"

    def feed(self, world: World) -> Feed:
        return KarpenterFeed("it", where(world))


class NodeOverlays(Harness):
    remote = False
    money = False  # always in dollars

    def feed(self, world: World) -> Feed:
        return NodeOverlayFeed("it", world.get, lambda _: CATALOGUE)

    def say(self, world: World, *values: float | str | None) -> None:
        requirements = [
            {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["p5.48xlarge"]},
            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
            {"key": "topology.kubernetes.io/region", "operator": "In", "values": ["us-east-1"]},
        ]
        world.objects = {
            "items": [
                {"metadata": {"name": f"o{i}"}, "spec": {"requirements": requirements, "price": str(v)}}
                for i, v in enumerate(values)
                if v is not None
            ]
        }

    def garble(self, world: World) -> None:
        world.objects = {"items": [{"spec": 7}]}


class ElectricityMaps(Harness):
    named = (Concern.CARBON, (CarbonSignal.AVERAGE_LIFECYCLE, GRID))
    money = False

    def feed(self, world: World) -> Feed:
        return ElectricityMapsFeed("it", where(world), [(GRID, "US-MIDA-PJM")])

    def say(self, world: World, *values: float | str | None) -> None:
        told = {"zone": "US-MIDA-PJM", "datetime": "2026-11-23T11:00:00.000Z", "emissionFactorType": "lifecycle"}
        for value in values or (None,):
            told |= {"carbonIntensity": float(value) if isinstance(value, str) else value}
        world.body = json.dumps(told)


class WattTime(Harness):
    named = (Concern.CARBON, (CarbonSignal.MARGINAL, GRID))
    money = False
    zero_is_bad = False  # where wind is curtailed one more watt emits nothing
    catalogue = bundled.load(CarbonSignal.MARGINAL)

    def feed(self, world: World) -> Feed:
        return WattTimeFeed("it", where(world), [(GRID, "PJM_DC")])

    def say(self, world: World, *values: float | str | None) -> None:
        data = [
            {"point_time": "2026-11-23T11:55:00+00:00", "value": v if v is None else float(v) / 0.45359237}
            for v in values
        ]
        meta = {"region": "PJM_DC", "signal_type": "co2_moer", "units": "lbs_co2_per_mwh"}
        world.body = json.dumps({"data": data, "meta": meta})


HARNESSES = [
    Json(),
    Csv(),
    ConfigMapCsv(),
    ConfigMapYaml(),
    OpenCost(),
    OpenCostByPrometheus(),
    Karpenter(),
    NodeOverlays(),
    ElectricityMaps(),
    WattTime(),
]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as here:
        yield here


@dataclass
class Board:
    """A feed with its state, read now and again as the operator does."""

    harness: Harness
    world: World
    state: FeedState
    currency: str = "USD"
    usd_per: float | None = None

    async def read(self, *values: float | str | None, say: bool = True) -> FeedState:
        if say:
            self.harness.say(self.world, *values)
        terms = Terms(base=self.harness.catalogue, currency=self.currency, usd_per=self.usd_per)
        try:
            self.state = take(self.state, await self.harness.feed(self.world).read(NOW), terms)
        except FeedError as error:
            self.state = failed(self.state, str(error))
        return self.state

    def value(self) -> float | None:
        fact = self.state.at(self.harness.named, NOW)
        return None if fact is None else fact.value


@pytest.fixture
async def board(harness: Harness, world: World) -> Board:
    return Board(harness, world, FeedState(name="book/it"))


@pytest.mark.parametrize("harness", HARNESSES, ids=lambda h: type(h).__name__)
class TestEveryFeed:
    async def test_what_it_says_is_known_with_its_source_and_date(self, board):
        state = await board.read(GOOD)
        assert (state.up, state.message, state.last_good) == (True, "", NOW)
        assert board.value() == pytest.approx(GOOD)
        layer = state.layer(NOW)
        concern, key = board.harness.named
        figure = (layer.prices if concern is Concern.PRICE else layer.carbon)[key]
        assert figure.source == "feed/book/it"
        assert figure.as_of == (None if isinstance(board.harness, ConfigMapCsv) else NOW.date())

    async def test_the_next_value_replaces_the_last_one(self, board):
        await board.read(GOOD)
        await board.read(BETTER)
        assert board.value() == pytest.approx(BETTER)

    async def test_when_it_says_nothing_the_last_good_value_stays_and_it_counts_as_down(self, board):
        await board.read(GOOD)
        state = await board.read()
        assert not state.up
        assert state.message
        assert board.value() == pytest.approx(GOOD)

    async def test_what_is_no_answer_at_all_changes_nothing_but_that_it_is_down(self, board):
        await board.read(GOOD)
        board.harness.garble(board.world)
        state = await board.read(say=False)
        assert not state.up
        assert state.message
        assert board.value() == pytest.approx(GOOD)

    @pytest.mark.parametrize("lie", ["NaN", "Infinity", "-Infinity", -3.0, 0.0])
    async def test_what_cannot_be_is_never_used(self, board, lie):
        if lie == 0.0 and not board.harness.zero_is_bad:
            pytest.skip("zero can be")
        await board.read(GOOD)
        state = await board.read(lie)
        assert board.value() == pytest.approx(GOOD)
        assert state.refused or state.unreadable or not state.up
        fresh = Board(board.harness, board.world, FeedState(name="book/it"))
        await fresh.read(lie)
        assert fresh.value() is None

    async def test_a_row_without_a_value_is_told(self, board):
        await board.read(GOOD)
        state = await board.read(None)
        assert board.value() == pytest.approx(GOOD)
        assert state.unreadable or not state.up

    async def test_the_same_twice_does_no_harm(self, board):
        state = await board.read(GOOD, GOOD)
        assert board.value() == pytest.approx(GOOD)
        assert not state.refused

    async def test_a_jump_is_not_believed_unless_it_is_no_price(self, board):
        await board.read(GOOD)
        state = await board.read(GOOD * 12)
        if board.harness.named[0] is not Concern.PRICE:
            assert board.value() == pytest.approx(GOOD * 12)
            return
        assert board.value() == pytest.approx(GOOD)
        (refused,) = state.refused
        assert refused.trouble is Trouble.QUARANTINED
        assert "spec.prices" in refused.why
        await board.read(BETTER)
        assert (board.value(), board.state.refused) == (BETTER, ())

    async def test_money_of_another_country_needs_a_rate(self, board):
        if not board.harness.money:
            pytest.skip("it speaks of no money, or of dollars only")
        board.currency = "EUR"
        state = await board.read(GOOD)
        assert board.value() is None
        assert not state.up
        assert "EUR" in state.message
        assert "usdPer" in state.message
        board.usd_per = 1.08
        state = await board.read(GOOD)
        assert state.up
        assert board.value() == pytest.approx(GOOD * 1.08)

    async def test_a_server_that_fails_or_hangs_is_down_and_the_last_good_value_stays(self, board):
        await board.read(GOOD)
        if board.harness.remote:
            for status, hangs in ((503, False), (200, True)):
                board.world.status, board.world.hangs = status, hangs
                state = await board.read(say=False)
                assert ("503" in state.message) or ("no answer within 0.2 s" in state.message)
        else:
            board.world.objects = None
            state = await board.read(say=False)
            assert "403" in state.message
        assert not state.up
        assert board.value() == pytest.approx(GOOD)
        assert state.last_good == NOW


async def test_what_ships_can_be_read_as_a_feed_and_is_all_believed():
    reading = await bundled.Shipped().read(NOW)
    state = take(FeedState(name="shipped"), reading, Terms(base=CATALOGUE))
    assert state.refused == ()
    layer = state.layer(NOW)
    for key, figure in CATALOGUE.layers[0].prices.items():
        if figure is not None:
            assert (layer.prices[key].value, layer.prices[key].as_of) == (figure.value, figure.as_of)


async def test_a_tariff_is_a_feed_too():
    feed = TariffFeed("it", [TimeOfUse(region="berlin", per_kwh=0.2)], currency="EUR")
    state = take(FeedState(name="it"), await feed.read(NOW), Terms(base=CATALOGUE, currency="EUR", usd_per=1.1))
    assert state.layer(NOW).tariffs["berlin"].value == pytest.approx(0.22)
    assert state.changes(NOW - timedelta(days=1), NOW + timedelta(days=1)) == []
