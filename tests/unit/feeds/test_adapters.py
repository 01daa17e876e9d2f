"""What is particular to each adapter."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stint.api.pricebook import ConfigMapRef, Source, SourceType, TimeOfUse, Window, ZoneRef
from stint.catalogue.layer import CarbonSignal, Concern, Place, PriceKey
from stint.feeds import bundled, fetch, rows
from stint.feeds.carbon import ElectricityMapsFeed, WattTimeFeed
from stint.feeds.config_map import ConfigMapFeed
from stint.feeds.feed import Feed, FeedError
from stint.feeds.fetch import Where
from stint.feeds.http import HttpFeed
from stint.feeds.karpenter import KarpenterFeed
from stint.feeds.node_overlays import NodeOverlayFeed
from stint.feeds.opencost import OpenCostFeed
from stint.feeds.sources import Surroundings, feed_of
from stint.feeds.tariff import TariffFeed, price_at
from stint.model.offering import CapacityType
from stint.testing.builders import NOW
from tests.unit.feeds.served import World, serving

CATALOGUE = bundled.load()
GRID = Place("aws", "us-east-1")
ON_DEMAND, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as here:
        yield here


# OpenCost


def node(name: str, value: float, *, kind: str = "p5.48xlarge", spot: int = 0, **labels: str) -> str:
    each = {
        "node": name,
        "instance_type": kind,
        "region": "us-east-1",
        "provider_id": "aws:///us-east-1a/i-1",
        **labels,
    }
    told = ",".join(f'{k}="{v}"' for k, v in each.items())
    return f'node_total_hourly_cost{{{told}}} {value}\nkubecost_node_is_spot{{node="{name}"}} {spot}\n'


async def opencost(world: World, *lines: str, provider: str = "") -> tuple[dict[PriceKey, float], tuple[str, ...]]:
    world.body = "".join(lines)
    reading = await OpenCostFeed("it", Where(url=world.url), provider=provider).read(NOW)
    return {f.key: f.value for f in reading.facts if isinstance(f.key, PriceKey)}, reading.mistakes


async def test_nodes_of_one_kind_have_their_median_and_spot_is_apart(world):
    prices, _ = await opencost(
        world, node("a", 50), node("b", 56), node("c", 51), node("d", 20, spot=1), node("e", float("nan"))
    )
    key = PriceKey("aws", "us-east-1", "p5.48xlarge", ON_DEMAND)
    assert prices == {key: 51, key._replace(capacity_type=SPOT): 20}


@pytest.mark.parametrize(
    ("provider_id", "default", "provider"),
    [
        ("aws:///us-east-1a/i-0abc", "", "aws"),
        ("i-0abcdef1234567890", "", "aws"),
        ("gce://project/us-central1-a/x", "", "gcp"),
        ("azure:///subscriptions/1", "x", "azure"),
        ("kind://docker/x", "dc", "dc"),
    ],
)
async def test_whose_a_node_is(world, provider_id, default, provider):
    (key,), _ = await opencost(world, node("a", 50, provider_id=provider_id), provider=default)
    assert key.provider == provider


async def test_nodes_that_cannot_be_told_are_named_and_renamed_labels_are_read(world):
    prices, mistakes = await opencost(
        world,
        node("a", 50, kind=""),
        node("b", 50, region=""),
        node("c", 50, provider_id="bare-metal"),
        node("d", 50, kind="", exported_instance_type="p5.48xlarge"),
    )
    assert len(prices) == 1
    assert [m.split()[1] for m in mistakes] == ["a", "b", "c"]


# Karpenter


async def test_karpenters_reserved_capacity_is_not_taken_for_cheap(world):
    metric = "karpenter_cloudprovider_instance_type_offering_price_estimate"
    lines = [
        f'{metric}{{instance_type="p5.48xlarge",capacity_type="{terms}",zone="us-east-1a"}} {value}\n'
        for terms, value in (("spot", 21), ("reserved", 1e-7), ("odd", 3))
    ]
    world.body = "".join(lines)
    reading = await KarpenterFeed("it", Where(url=world.url)).read(NOW)
    assert [(f.key, f.value) for f in reading.facts] == [
        (PriceKey("aws", "us-east-1", "p5.48xlarge", SPOT, "us-east-1a"), 21)
    ]
    assert "odd" in reading.mistakes[0]


def overlay(name: str, weight: int = 0, *, wants: dict[str, tuple[str, list[str]]] | None = None, **spec: str) -> Any:
    wants = wants or {"node.kubernetes.io/instance-type": ("In", ["p5.48xlarge"])}
    requirements = [{"key": k, "operator": o, "values": v} for k, (o, v) in wants.items()]
    return {"metadata": {"name": name}, "spec": {"requirements": requirements, "weight": weight, **spec}}


async def overlaid(world: World, *overlays: Any) -> tuple[dict[str, float], tuple[str, ...]]:
    """Prices of p5.48xlarge in us-east-1, by terms; the list says 55.04 on demand."""
    world.objects = {"items": list(overlays)}
    reading = await NodeOverlayFeed("it", world.get, lambda _: CATALOGUE).read(NOW)
    keys = {f.key: f.value for f in reading.facts if isinstance(f.key, PriceKey)}
    mine = {k: v for k, v in keys.items() if k[:3] == ("aws", "us-east-1", "p5.48xlarge") and not k.zone}
    return {k.capacity_type.value: v for k, v in mine.items()}, reading.mistakes


@pytest.mark.parametrize(
    ("spec", "price"),
    [
        ({"price": "40.5"}, 40.5),
        ({"priceAdjustment": "-10%"}, 55.04 * 0.9),
        ({"priceAdjustment": "+10%"}, 55.04 * 1.1),
        ({"priceAdjustment": "+2.5"}, 57.54),
        ({"priceAdjustment": "-1.04"}, 54.0),
    ],
)
async def test_an_overlay_sets_or_adjusts(world, spec, price):
    prices, _ = await overlaid(world, overlay("a", **spec))
    assert prices["on-demand"] == pytest.approx(price)


async def test_of_several_overlays_the_weightier_counts_then_the_first_by_name(world):
    light, b, a = overlay("x", 1, price="30"), overlay("b", 2, price="40"), overlay("a", 2, price="41")
    prices, _ = await overlaid(world, light, b, a)
    assert prices["on-demand"] == 41


async def test_requirements_narrow_it_down_and_those_that_cannot_be_judged_are_named(world):
    terms = {"karpenter.sh/capacity-type": ("NotIn", ["spot"]), "karpenter.k8s.aws/instance-family": ("In", ["p5"])}
    prices, mistakes = await overlaid(
        world,
        overlay("od", wants=terms, price="44"),
        overlay("pool", 9, wants={"karpenter.sh/nodepool": ("In", ["x"])}, price="1"),
        overlay("word", 9, price="cheap"),
        overlay("gt", 9, wants={"node.kubernetes.io/instance-type": ("Gt", ["3"])}, price="1"),
        overlay("capacity", 9),
    )
    assert prices == {"on-demand": 44}
    assert [m.split()[1] for m in mistakes] == ["pool:", "word:", "gt:"]
    assert "karpenter.sh/nodepool" in mistakes[0]


# Rows


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"value": 1, "instanceType": "x"}, "provider: is missing"),
        ({"value": 1, "provider": "aws"}, "instanceType: is missing"),
        ({"provider": "aws", "instanceType": "x"}, "value: None is no number"),
        ({"value": "dear", "provider": "aws", "instanceType": "x"}, "'dear' is no number"),
        ({"value": True, "provider": "aws", "instanceType": "x"}, "True is no number"),
        ({"value": 1, "what": "prize"}, "what"),
        ({"value": 1, "capacityType": "free"}, "capacityType"),
        ({"value": 1, "signal": "green"}, "signal"),
        ({"value": 1, "from": "soon"}, "from: 'soon' is no time"),
        ({"value": 1, "usd": 1}, "unknown field usd"),
        (7, "'7' is no row"),
    ],
)
def test_a_row_that_cannot_be_is_named_and_the_others_are_read(row, told):
    good = {"provider": "aws", "instanceType": "p5.48xlarge", "value": 50}
    reading = rows.read_json(json.dumps({"rows": [good, row]}).encode(), "it", NOW)
    assert [f.value for f in reading.facts] == [50]
    (mistake,) = reading.mistakes
    assert mistake.startswith("rows[1]: ")
    assert told in mistake


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "value,surprise\n1,2\n", "price of p5: 50\n", "value\n" + "x" * 200_000]
)
def test_a_csv_that_is_none_is_told(text):
    try:
        reading = rows.read_csv(text, "it", NOW)
    except FeedError:
        return
    assert reading.facts == ()
    assert reading.mistakes


@pytest.mark.parametrize("data", ["[1", "7", "null", '{"rows": 5}', "[" * 100_000])
def test_json_that_is_none_is_told(data):
    with pytest.raises(FeedError):
        rows.read_json(data.encode(), "it", NOW)


async def test_a_csv_with_a_history_gives_its_series_with_dates(world):
    world.objects = {
        "data": {
            "a.csv": "what,provider,region,zone,instanceType,capacityType,value,from\n"
            "price,aws,us-east-1,use1-az4,p5.48xlarge,spot,20,2026-11-20T00:00:00Z\n"
            "price,aws,us-east-1,use1-az4,p5.48xlarge,spot,22,2026-11-22\n",
            "b.yaml": "asOf: 2026-11-01\nrows:\n"
            "- {what: tariff, region: berlin, value: 0.2}\n- {what: pue, provider: dc, value: 1.2}\n",
        }
    }
    reading = await ConfigMapFeed("it", world.get, "stint-system", "rates").read(NOW)
    assert reading.mistakes == ()
    assert [(f.concern.value, f.value, f.since, f.as_of) for f in reading.facts] == [
        ("price", 20, datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)),
        ("price", 22, datetime(2026, 11, 22, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)),
        ("tariff", 0.2, None, datetime(2026, 11, 1, tzinfo=UTC)),
        ("pue", 1.2, None, datetime(2026, 11, 1, tzinfo=UTC)),
    ]


@pytest.mark.parametrize("key", ["", "missing.csv"])
async def test_a_ConfigMap_without_the_file_says_what_it_has(world, key):  # noqa: N802
    world.objects = {"data": {"README.md": "hi"}}
    with pytest.raises(FeedError, match=r"it has README\.md"):
        await ConfigMapFeed("it", world.get, "stint-system", "rates", key).read(NOW)


# HTTP


async def test_a_token_is_sent_and_one_that_is_not_there_is_told(world, tmp_path: Path):
    world.body = '{"rows": []}'
    (tmp_path / "key").write_text("s3cret\n")
    await HttpFeed("it", Where(url=world.url, token_file=tmp_path / "key")).read(NOW)
    assert world.asked[-1].headers["Authorization"] == "Bearer s3cret"
    with pytest.raises(FeedError, match=r"feeds\.tokenSecrets"):
        await HttpFeed("it", Where(url=world.url, token_file=tmp_path / "other")).read(NOW)


async def test_an_endless_answer_is_cut_off(world, monkeypatch):
    monkeypatch.setattr(fetch, "MOST_BYTES", 1000)
    world.body = "x" * 5000
    with pytest.raises(FeedError, match="more than"):
        await HttpFeed("it", Where(url=world.url)).read(NOW)


async def test_nobody_there_is_told():
    with pytest.raises(FeedError, match=r"127\.0\.0\.1:1"):
        await HttpFeed("it", Where(url="http://127.0.0.1:1/x")).read(NOW)


# Tariffs

BERLIN = TimeOfUse(
    region="berlin",
    time_zone="Europe/Berlin",
    per_kwh=0.20,
    windows=[
        Window(days=["Mon", "Tue", "Wed", "Thu", "Fri"], start="07:00", to="19:00", per_kwh=0.30),
        Window(start="22:00", to="05:00", per_kwh=0.12),
    ],
)


@pytest.mark.parametrize(
    ("utc", "price"),
    [
        ("2026-11-23T05:59", 0.20),  # Monday 06:59
        ("2026-11-23T06:00", 0.30),
        ("2026-11-23T17:59", 0.30),
        ("2026-11-23T18:00", 0.20),
        ("2026-11-23T21:00", 0.12),
        ("2026-11-24T03:59", 0.12),
        ("2026-11-24T04:00", 0.20),
        ("2026-11-22T12:00", 0.20),  # Sunday noon
        ("2026-07-20T05:00", 0.30),  # in summer 7 o'clock is earlier
        ("2026-07-20T04:59", 0.20),
    ],
)
def test_a_tariff_goes_by_the_clock_on_the_wall(utc, price):
    assert price_at(BERLIN, datetime.fromisoformat(utc).replace(tzinfo=UTC)) == price


@pytest.mark.parametrize("day", ["2026-11-23", "2026-03-29", "2026-10-25"])
async def test_the_series_agrees_with_the_clock_at_every_minute_also_when_clocks_are_changed(day):
    now = datetime.fromisoformat(day).replace(tzinfo=UTC)
    reading = await TariffFeed("it", [BERLIN]).read(now)
    facts = [f for f in reading.facts if f.since is not None]
    for minute in range(-60, 26 * 60, 5):
        at = now + timedelta(minutes=minute)
        assert [f.value for f in facts if f.since is not None and f.since <= at][-1] == price_at(BERLIN, at), at


async def test_a_window_of_some_days_goes_on_past_midnight_into_a_day_that_is_none_of_them():
    night = TimeOfUse(region="x", per_kwh=0.2, windows=[Window(days=["Fri"], start="22:00", to="06:00", per_kwh=0.1)])
    friday = datetime(2026, 11, 27, tzinfo=UTC)
    told = [price_at(night, friday + timedelta(hours=h)) for h in (5, 21, 23, 29, 31, 47)]
    assert told == [0.2, 0.2, 0.1, 0.1, 0.2, 0.2]


async def test_a_time_zone_that_nobody_knows_is_told():
    with pytest.raises(FeedError, match="Mars/Olympus"):
        await TariffFeed("it", [TimeOfUse(region="x", time_zone="Mars/Olympus", per_kwh=1)]).read(NOW)


# Carbon


async def test_electricity_maps_is_asked_as_it_wants_and_believed_as_it_says(world, tmp_path: Path):
    (tmp_path / "t").write_text("key")
    world.body = json.dumps(
        {"zone": "DE", "carbonIntensity": 302, "datetime": "2026-11-23T11:00:00.000Z", "emissionFactorType": "direct"}
    )
    where = Where(url=world.url, token_file=tmp_path / "t")
    feed = ElectricityMapsFeed("it", where, [(GRID, "DE")], CarbonSignal.AVERAGE_OPERATIONAL)
    (fact,) = (await feed.read(NOW)).facts
    assert (world.asked[0].path, dict(world.asked[0].query)) == (
        "/v3/carbon-intensity/latest",
        {"zone": "DE", "emissionFactorType": "direct"},
    )
    assert world.asked[0].headers["auth-token"] == "key"
    assert "Authorization" not in world.asked[0].headers
    assert (fact.key, fact.value) == ((CarbonSignal.AVERAGE_OPERATIONAL, GRID), 302)
    assert fact.as_of == datetime(2026, 11, 23, 11, tzinfo=UTC)


async def test_watt_time_logs_in_and_its_pounds_become_grams_a_series(world, tmp_path: Path):
    (tmp_path / "t").write_text("user:pass")
    points = [{"point_time": f"2026-11-23T12:{m:02}:00+00:00", "value": v} for m, v in ((0, 1000), (5, 500))]
    meta = {"region": "CAISO_NORTH", "signal_type": "co2_moer", "units": "lbs_co2_per_mwh"}
    world.by_path = {"/login": '{"token": "abc"}', "/v3/forecast": json.dumps({"data": points, "meta": meta})}
    feed = WattTimeFeed("it", Where(url=world.url, token_file=tmp_path / "t"), [(GRID, "CAISO_NORTH")])
    facts = (await feed.read(NOW)).facts
    assert world.asked[0].headers["Authorization"] == "Basic " + base64.b64encode(b"user:pass").decode()
    assert world.asked[1].headers["Authorization"] == "Bearer abc"
    assert [(f.value, f.since) for f in facts] == [
        (pytest.approx(453.59237), NOW),
        (pytest.approx(226.796185), NOW + timedelta(minutes=5)),
    ]
    assert {f.key for f in facts} == {(CarbonSignal.MARGINAL, GRID)}


async def test_watt_time_in_other_units_is_not_guessed_at(world):
    meta = {"signal_type": "health_damage", "units": "dollars_per_mwh"}
    world.body = json.dumps({"data": [], "meta": meta})
    with pytest.raises(FeedError, match="health_damage"):
        await WattTimeFeed("it", Where(url=world.url), [(GRID, "X")]).read(NOW)


# Sources

URL = "http://127.0.0.1:1"
SOURCES = [
    (Source(name="a", type=SourceType.CONFIG_MAP, config_map=ConfigMapRef(name="x")), ConfigMapFeed),
    (Source(name="a", type=SourceType.HTTP, url=URL), HttpFeed),
    (Source(name="a", type=SourceType.OPENCOST, url=URL), OpenCostFeed),
    (Source(name="a", type=SourceType.KARPENTER, url=URL), KarpenterFeed),
    (Source(name="a", type=SourceType.NODE_OVERLAYS), NodeOverlayFeed),
    (Source(name="a", type=SourceType.TARIFF, tariffs=[BERLIN]), TariffFeed),
    (Source(name="a", type=SourceType.ELECTRICITY_MAPS, zones=[ZoneRef(at="aws/x", zone="DE")]), ElectricityMapsFeed),
    (Source(name="a", type=SourceType.WATT_TIME, zones=[ZoneRef(at="aws/x", zone="DE")]), WattTimeFeed),
]


@pytest.mark.parametrize(("source", "kind"), SOURCES, ids=lambda v: v.type.value if isinstance(v, Source) else "")
def test_each_type_of_source_has_its_feed(source, kind):
    async def get(_: str) -> Any:
        return {}

    around = Surroundings(get=get, namespace="stint-system", tokens=Path("/feeds"), base=lambda _: CATALOGUE)
    feed = feed_of(source, "book/a", around)
    assert isinstance(feed, kind)
    assert isinstance(feed, Feed)
    assert feed.name == "book/a"
    assert {s.type for s, _ in SOURCES} == set(SourceType)


def test_concerns_are_those_of_the_contract():
    assert {c.value for c in Concern} == {"price", "tariff", "carbon", "pue", "interruptions"}
