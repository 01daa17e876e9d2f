"""The part that reads sources in their time: what it tells, what it keeps, what it survives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stint.api.meta import Meta
from stint.api.parse.pricebook import read_books
from stint.api.pricebook import (
    Carbon,
    Intensity,
    PriceBook,
    Row,
    Source,
    SourceStatus,
    SourceType,
    Spec,
    Status,
    TimeOfUse,
    Window,
)
from stint.catalogue.catalogue import Catalogue
from stint.catalogue.layer import CarbonSignal, Concern
from stint.controllers import feeds
from stint.controllers.feeds import Feeds
from stint.feeds import bundled
from stint.kube.client.api import Api, ApiError
from stint.kube.observe.inventory import Inventory
from stint.kube.observe.snapshot import Observation
from stint.metrics.exporter import Metrics
from stint.model.offering import CapacityType
from stint.testing.builders import NOW, a_situation, an_offering
from stint.views.pool_status import book_status
from tests.unit.feeds.served import World, serving

SHIPPED = bundled.load()
P5 = ("aws", "us-east-1", "p5.48xlarge", CapacityType.ON_DEMAND)
OFFERING = an_offering(instance_type="p5.48xlarge")


class NoApi(Api):
    """It refuses everything."""

    def __init__(self) -> None:
        pass

    async def get(self, path: str, params: Any = None) -> Any:
        del params
        raise ApiError(403, "Forbidden", f"may not get {path}")


@dataclass
class Room:
    """What the operator holds: books and a clock; and what was told to it."""

    world: World
    books: list[PriceBook] = field(default_factory=list)
    now: datetime = NOW
    told: list[Catalogue] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    feeds: Feeds = field(init=False)

    def __post_init__(self) -> None:
        self.feeds = self.another()

    def another(self) -> Feeds:
        return Feeds(
            api=NoApi(),
            shipped=SHIPPED,
            books=lambda: tuple(self.books),
            namespace="stint-system",
            tokens=Path("/nowhere"),
            metrics=self.metrics,
            now=lambda: self.now,
            on_change=self.told.append,
        )

    def price(self) -> float | None:
        figure = self.told[-1].price(*P5) if self.told else None
        return figure.value if figure else None

    def troubles(self) -> list[str]:
        return [f"{trouble.value} {text}" for trouble, text in self.feeds.troubles(self.books[0])]


async def until(check: Callable[[], Any], what: str = "") -> None:
    async with asyncio.timeout(10):
        while not check():
            await asyncio.sleep(0.005)


@pytest.fixture
async def room(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    monkeypatch.setattr(feeds, "LOOK_EVERY_S", 0.01)
    async with serving() as world:
        here = Room(world)
        running = asyncio.create_task(here.feeds.run())
        yield here
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def book(*sources: Source, name: str = "mine", status: Status | None = None, **spec: Any) -> PriceBook:
    meta, wish = Meta(name=name, generation=1), Spec(sources=list(sources), **spec)
    return PriceBook(metadata=meta, spec=wish, status=status or Status())


def http(world: World, path: str = "", every: float = 0.0002, **more: Any) -> Source:
    return Source(name="api", type=SourceType.HTTP, url=world.url + path, every_minutes=every, **more)


def say(world: World, value: float) -> None:
    row = {"provider": "aws", "region": "us-east-1", "instanceType": "p5.48xlarge", "value": value}
    world.body = json.dumps({"rows": [row]})


async def test_a_new_price_is_told_and_a_source_that_is_taken_away_takes_its_prices_with_it(room):
    say(room.world, 50)
    room.books = [book(http(room.world))]
    await until(lambda: room.price() == 50)
    say(room.world, 48)
    await until(lambda: room.price() == 48)
    room.books = [book()]
    await until(lambda: room.price() == 55.04)


async def test_no_decision_goes_by_half_the_prices_at_the_start(room):
    room.world.hangs = True
    room.books = [book(http(room.world, timeout_seconds=0.3))]
    assert not room.feeds.settled()
    assert room.troubles() == ["NotReadYet api: not read yet"]
    await until(room.feeds.settled)
    assert "no answer within 0.3 s" in room.troubles()[0]
    room.books = [*room.books, book(http(room.world, "/other"), name="later")]
    assert room.feeds.settled(), "one that comes later holds nobody up"


async def test_a_restart_goes_on_with_what_the_status_keeps_while_the_source_is_down(room):
    say(room.world, 50)
    room.books = [book(http(room.world))]
    await until(lambda: room.price() == 50)
    kept = Status(sources=room.feeds.statuses(room.books[0], [OFFERING]))
    room.world.status = 503
    room.told.clear()
    room.books = [book(http(room.world), status=kept)]
    again = room.another()
    running = asyncio.create_task(again.run())
    await until(again.settled)
    assert room.price() == 50
    figure = room.told[-1].price(*P5)
    assert figure is not None
    assert figure.source == "feed/mine/api"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_another_address_said_is_forgotten_and_a_new_rhythm_forgets_nothing(room):
    say(room.world, 50)
    room.books = [book(http(room.world))]
    await until(lambda: room.price() == 50)
    room.world.status = 503
    room.books = [book(http(room.world, every=0.0003))]
    await until(lambda: "SourceDown" in " ".join(room.troubles()))
    assert room.price() == 50
    room.books = [book(http(room.world, "/elsewhere"))]
    await until(lambda: room.price() == 55.04)


async def test_the_hour_changes_a_tariff_without_anybody_being_asked(room):
    night = Window(start="22:00", to="06:00", per_kwh=0.1)
    tariff = TimeOfUse(region="dc", per_kwh=0.3, windows=[night])
    room.books = [book(Source(name="power", type=SourceType.TARIFF, tariffs=[tariff], every_minutes=1000))]
    await until(lambda: room.told and room.told[-1].tariff_usd_per_kwh("dc").value == 0.3)
    room.now = NOW.replace(hour=22)
    await until(lambda: room.told[-1].tariff_usd_per_kwh("dc").value == 0.1)
    assert room.feeds.changes(NOW, NOW + timedelta(days=1)) == [
        NOW.replace(hour=22),
        NOW.replace(hour=6) + timedelta(days=1),
    ]
    assert room.feeds.catalogue(NOW).tariff_usd_per_kwh("dc").value == 0.3  # for whoever books what was


async def test_a_clock_that_is_put_back_puts_the_tariff_back(room):
    night = Window(start="22:00", to="06:00", per_kwh=0.1)
    tariff = TimeOfUse(region="dc", per_kwh=0.3, windows=[night])
    room.now = NOW.replace(hour=23)
    room.books = [book(Source(name="power", type=SourceType.TARIFF, tariffs=[tariff], every_minutes=1000))]
    await until(lambda: room.told and room.told[-1].tariff_usd_per_kwh("dc").value == 0.1)
    room.now = NOW
    await until(lambda: room.told[-1].tariff_usd_per_kwh("dc").value == 0.3)


async def test_nonsense_in_a_status_is_passed_over(room):
    room.world.status = 503
    nonsense = SourceStatus(name="api", up=True, kept=[Row(value=3.0), Row(what=Concern.CARBON, value=1.0)])
    room.books = [book(http(room.world), status=Status(sources=[nonsense]))]
    await until(room.feeds.settled)
    assert room.price() == 55.04


async def test_one_that_breaks_in_a_way_nobody_foresaw_leaves_the_others_alone(room, monkeypatch):
    say(room.world, 50)
    real = feeds.feed_of

    def broken(source: Source, name: str, around: Any) -> Any:
        if source.name == "bad":
            raise ZeroDivisionError("oops")
        return real(source, name, around)

    monkeypatch.setattr(feeds, "feed_of", broken)
    bad = Source(name="bad", type=SourceType.HTTP, url=room.world.url, every_minutes=0.0002)
    room.books = [book(bad, http(room.world))]
    await until(lambda: room.price() == 50)
    assert "a mistake of Stint's: ZeroDivisionError('oops')" in room.troubles()[0]


async def test_a_right_that_is_missing_is_named_with_the_value_that_grants_it(room):
    room.books = [book(Source(name="karpenter", type=SourceType.NODE_OVERLAYS))]
    await until(lambda: room.feeds.settled() and room.told)
    assert "feeds.nodeOverlays" in room.troubles()[0]


async def test_metrics_and_status_tell_how_a_source_is(room):
    say(room.world, 50)
    room.books = [book(http(room.world))]
    await until(lambda: room.price() == 50)
    say(room.world, 5000)
    await until(lambda: room.troubles())
    room.now = NOW + timedelta(minutes=1)
    (status,) = room.feeds.statuses(room.books[0], [OFFERING])
    assert (status.up, status.figures, status.refused) == (True, 1, 1)
    assert [(q.what, q.value) for q in status.quarantined] == [("aws/us-east-1/p5.48xlarge/on-demand", "5000")]
    assert [r.value for r in status.kept] == [50]

    def shown() -> str:
        return room.metrics.render().decode()

    await until(lambda: 'stint_feed_quarantined_figures{source="mine/api"} 1.0' in shown())
    assert 'stint_feed_up{source="mine/api"} 1.0' in shown()
    room.books = [book()]
    await until(lambda: "stint_feed_up{" not in shown())


def conditions(book_: PriceBook, room: Room, signal: CarbonSignal) -> dict[str, tuple[str, str, str]]:
    books = replace(read_books([book_]), carbon_signal=signal)
    observation = Observation(situation=a_situation(offerings=[OFFERING]), seen={}, inventory=Inventory(), books=books)
    troubles, sources = room.feeds.troubles(book_), room.feeds.statuses(book_, [OFFERING])
    told = book_status(book_, observation, troubles=troubles, sources=sources).conditions
    return {c.type: (c.status, c.reason, c.message) for c in told}


async def test_a_books_conditions_speak_of_its_sources_and_of_the_kind_of_its_carbon(room):
    average = Carbon(intensities=[Intensity(at="aws/us-east-1", g_per_kwh=300)])
    plain = book(carbon=average)
    assert conditions(plain, room, CarbonSignal.AVERAGE_LIFECYCLE) == {"Valid": ("True", "Valid", "")}
    status, reason, message = conditions(plain, room, CarbonSignal.MARGINAL)["Valid"]
    assert (status, reason) == ("False", "Invalid")
    assert "average-lifecycle" in message
    assert "marginal" in message
    room.world.status = 503
    room.books = [book(http(room.world))]
    assert conditions(room.books[0], room, CarbonSignal.AVERAGE_LIFECYCLE)["SourcesGood"][:2] == (
        "Unknown",
        "NotReadYet",
    )
    await until(room.feeds.settled)
    status, reason, message = conditions(room.books[0], room, CarbonSignal.AVERAGE_LIFECYCLE)["SourcesGood"]
    assert (status, reason) == ("False", "SourceDown")
    assert message.startswith(f"api: {room.world.url}: 503")
