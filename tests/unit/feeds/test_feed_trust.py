"""What is believed, what is kept, and who wins."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest

from stint.api.meta import Meta
from stint.api.parse.pricebook import with_books
from stint.api.pricebook import Price as BookPrice
from stint.api.pricebook import PriceBook, Source, SourceStatus, SourceType, Spec, Status
from stint.catalogue.freshness import SPOT_LIMIT_DAYS, stale
from stint.catalogue.layer import CarbonSignal, Concern, Place, PriceKey, SpotKey
from stint.feeds import bundled
from stint.feeds.feed import Fact, Key, Reading
from stint.feeds.feed_trust import FeedState, Terms, Trouble, failed, merged, take, troubles
from stint.feeds.rows import to_fact, to_row
from stint.feeds.sources import in_order, restored, standing, status_of, wanted_by
from stint.model.offering import CapacityType
from stint.testing.builders import NOW, an_offering

SHIPPED = bundled.load()
SPOT = PriceKey("aws", "us-east-1", "p5.48xlarge", CapacityType.SPOT)
LISTED = SPOT._replace(capacity_type=CapacityType.ON_DEMAND)  # 55.04
HOUR = timedelta(hours=1)


def said(*facts: Fact, at: datetime = NOW, complete: bool = False, mistakes: tuple[str, ...] = ()) -> Reading:
    return Reading(source="it", read_at=at, as_of=at, facts=facts, complete=complete, mistakes=mistakes)


def price(value: float, key: PriceKey = SPOT, **more: object) -> Fact:
    return Fact(concern=Concern.PRICE, key=key, value=value, **more)  # type: ignore[arg-type]


def believe(*readings: Reading, base=SHIPPED, state: FeedState | None = None) -> FeedState:
    state = state or FeedState(name="book/it")
    for reading in readings:
        state = take(state, reading, Terms(base=base))
    return state


def value(state: FeedState, at: datetime = NOW, key: Key = SPOT, concern: Concern = Concern.PRICE) -> float | None:
    fact = state.at((concern, key), at)
    return None if fact is None else fact.value


def book(name: str = "mine", *, precedence: int = 0, sources: list[Source] | None = None, **spec: object) -> PriceBook:
    return PriceBook(metadata=Meta(name=name), spec=Spec(precedence=precedence, sources=sources or [], **spec))  # type: ignore[arg-type]


def test_prices_that_people_write_beat_sources_which_beat_what_ships():
    def found(catalogue) -> tuple[float, str]:
        figure = catalogue.price(*LISTED[:4])
        return figure.value, figure.source

    low, high = believe(said(price(50, LISTED))), believe(said(price(60, LISTED)))
    low, high = replace(low, name="book/low"), replace(high, name="book/high")
    assert found(SHIPPED)[0] == 55.04
    assert found(merged(SHIPPED, [low, high], NOW)) == (60, "feed/book/high")
    assert found(merged(SHIPPED, [high, low], NOW)) == (50, "feed/book/low")
    own = BookPrice(provider="aws", instance_type="p5.48xlarge", usd_per_node_hour=33)
    assert found(with_books(merged(SHIPPED, [low, high], NOW), [book(prices=[own])])) == (33, "pricebook/mine")


def test_sources_are_ordered_by_their_precedence_then_their_books_then_by_name():
    def source(name: str, precedence: int = 0) -> Source:
        return Source(name=name, type=SourceType.HTTP, url="http://x", precedence=precedence)

    books = [book("b", sources=[source("z"), source("a", 5)]), book("a", precedence=1, sources=[source("y")])]
    assert [f"{b.metadata.name}/{s.name}" for b, s in in_order(books)] == ["b/z", "a/y", "b/a"]


@pytest.mark.parametrize("factor", [10.0, 12.0, 0.1, 0.01])
def test_a_price_ten_times_away_from_the_last_good_one_is_quarantined(factor):
    state = believe(said(price(20)), said(price(20 * factor), at=NOW + HOUR))
    assert value(state, NOW + HOUR) == 20
    ((trouble, text),) = troubles(state)
    assert trouble is Trouble.QUARANTINED
    assert f"aws/us-east-1/p5.48xlarge/spot says {20 * factor:g}" in text
    assert "last good 20" in text
    assert "spec.prices" in text


@pytest.mark.parametrize("factor", [9.9, 0.11])
def test_less_than_that_is_a_market(factor):
    state = believe(said(price(20)), said(price(20 * factor), at=NOW + HOUR), base=replace(SHIPPED, layers=()))
    assert value(state, NOW + HOUR) == 20 * factor


def test_the_first_price_is_held_against_the_list_price():
    assert value(believe(said(price(550.4, LISTED))), key=LISTED) is None
    assert value(believe(said(price(5.5, LISTED))), key=LISTED) is None
    assert value(believe(said(price(66, LISTED))), key=LISTED) == 66


def test_spot_that_no_list_knows_is_held_against_the_price_on_demand():
    nowhere = SPOT._replace(instance_type="p6-b200.48xlarge")
    listed = nowhere._replace(capacity_type=CapacityType.ON_DEMAND)
    layer = replace(SHIPPED.layers[0], prices={listed: SHIPPED.layers[0].prices[LISTED]})  # 55.04
    base = replace(SHIPPED, layers=(layer,))
    assert value(believe(said(price(3.0, nowhere)), base=base), key=nowhere) == 3.0
    assert value(believe(said(price(0.3, nowhere)), base=base), key=nowhere) is None


def test_a_person_can_settle_it():
    own = BookPrice(
        provider="aws",
        region="us-east-1",
        instance_type="p5.48xlarge",
        capacity_type=CapacityType.SPOT,
        usd_per_node_hour=300,
    )
    base = with_books(SHIPPED, [book(prices=[own])])
    state = believe(said(price(20)), said(price(290), at=NOW + HOUR), base=base, state=believe(said(price(20))))
    assert value(state, NOW + HOUR) == 290
    assert troubles(state) == []


def test_reserved_nodes_may_be_free_and_no_others():
    free = SPOT._replace(capacity_type=CapacityType.RESERVED)
    assert value(believe(said(price(0, free))), key=free) == 0
    assert value(believe(said(price(0)))) is None


def test_two_values_for_one_thing_are_both_refused():
    state = believe(said(price(20)), said(price(21), price(22), at=NOW + HOUR))
    assert value(state, NOW + HOUR) == 20
    assert [r.value for r in state.refused] == [21, 22]


def test_one_lie_does_not_take_the_others_with_it():
    state = believe(said(price(20), price(50, LISTED)))
    state = believe(said(price(float("nan")), price(51, LISTED), at=NOW + HOUR), state=state)
    assert (value(state, NOW + HOUR), value(state, NOW + HOUR, LISTED)) == (20, 51)
    assert state.last_good == NOW + HOUR


def test_a_history_of_prices_gives_the_price_that_held_at_an_instant():
    history = said(*(price(v, since=NOW + h * HOUR) for h, v in ((-3, 20), (-1, 22), (2, 24))))
    state = believe(history)
    told = [value(state, NOW + h * HOUR) for h in (-4, -3, -2, -1, 0, 1.99, 2, 50)]
    assert told == [None, 20, 20, 22, 22, 22, 24, 24]
    assert state.changes(NOW - 3 * HOUR, NOW + 2 * HOUR) == [NOW - HOUR, NOW + 2 * HOUR]


def test_what_was_read_before_is_remembered_for_whoever_books_it():
    state = believe(said(price(20)), said(price(22), at=NOW + HOUR), said(price(22), at=NOW + 2 * HOUR))
    assert [value(state, NOW + h * HOUR) for h in (-9, 0, 0.99, 1, 2)] == [20, 20, 20, 22, 22]
    assert state.changes(NOW, NOW + 9 * HOUR) == [NOW + HOUR]
    state = believe(said(price(23), at=NOW + timedelta(days=30)), state=state)
    assert len(state.held[Concern.PRICE, SPOT]) == 2, "but not for ever"


def test_a_series_that_has_ended_goes_on_with_its_last_value_and_that_one_ages():
    state = believe(said(price(20, since=NOW - HOUR, until=NOW)))
    later = NOW + timedelta(days=9)
    assert value(state, later) == 20
    figure = state.layer(later).prices[SPOT]
    assert figure is not None
    assert figure.as_of == NOW.date()


def test_a_feed_gone_for_a_week_leaves_prices_that_are_stale_and_says_since_when():
    state = failed(believe(said(price(20))), "http://rates: no answer within 10 s")
    for days, old in ((1, False), (7, False), (8, True)):
        now = NOW + timedelta(days=days)
        figure = merged(SHIPPED, [state], now).price(*SPOT[:4])
        assert figure is not None
        assert (figure.value, figure.source) == (20, "feed/book/it")
        assert stale(figure, now.date(), SPOT_LIMIT_DAYS) is old
    ((trouble, text),) = troubles(state)
    assert trouble is Trouble.DOWN
    assert text == "http://rates: no answer within 10 s; its last good figures are of 2026-11-23 12:00 and are kept"


def test_what_is_taken_out_of_a_ConfigMap_is_withdrawn_unless_it_could_not_be_read_whole():  # noqa: N802
    state = believe(said(price(20), price(50, LISTED), complete=True))
    assert value(believe(said(price(50, LISTED), complete=True), state=state)) is None
    assert value(believe(said(price(50, LISTED), complete=True, mistakes=("line 3",)), state=state)) == 20
    assert value(believe(said(price(50, LISTED)), state=state)) == 20


@pytest.mark.parametrize(
    ("base", "used"),
    [(SHIPPED, CarbonSignal.AVERAGE_LIFECYCLE), (bundled.load(CarbonSignal.MARGINAL), CarbonSignal.MARGINAL)],
)
def test_marginal_and_average_carbon_are_never_mixed(base, used):
    place = Place("aws", "us-east-1")
    for signal in CarbonSignal:
        state = believe(said(Fact(concern=Concern.CARBON, key=(signal, place), value=400)), base=base)
        catalogue = merged(base, [state], NOW)
        if signal is used:
            assert catalogue.carbon_g_per_kwh(*place).value == 400
            continue
        assert catalogue.carbon_g_per_kwh(*place) == base.carbon_g_per_kwh(*place)
        ((trouble, text),) = troubles(state)
        assert trouble is Trouble.SIGNAL
        assert signal.value in text
        assert used.value in text


@pytest.mark.parametrize(
    ("concern", "key", "bad"),
    [
        (Concern.TARIFF, "berlin", (0.0, -0.1, 82.0)),
        (Concern.PUE, Place("dc", "berlin"), (0.9, 7.0)),
        (Concern.CARBON, (CarbonSignal.AVERAGE_LIFECYCLE, Place("dc", "berlin")), (0.0, 9000.0)),
        (Concern.INTERRUPTIONS, SpotKey("aws"), (-0.1, 100.0)),
    ],
)
def test_other_figures_have_their_bounds(concern, key, bad):
    for number in (*bad, float("nan"), float("inf")):
        state = believe(said(Fact(concern=concern, key=key, value=number)))
        assert value(state, key=key, concern=concern) is None
        assert state.refused[0].trouble is Trouble.QUARANTINED


KEYS = [
    (Concern.PRICE, SPOT),
    (Concern.PRICE, SPOT._replace(zone="use1-az4")),
    (Concern.TARIFF, "us-east-1"),
    (Concern.CARBON, (CarbonSignal.AVERAGE_LIFECYCLE, Place("aws", "us-east-1"))),
    (Concern.PUE, Place("aws")),
    (Concern.INTERRUPTIONS, SpotKey("aws", "us-east-1", "p5.48xlarge")),
]


@pytest.mark.parametrize(("concern", "key"), KEYS)
def test_a_row_says_all_that_a_fact_does(concern, key):
    fact = Fact(concern=concern, key=key, value=1.5, as_of=NOW, since=NOW - HOUR, until=NOW + HOUR)
    row = msgspec.json.decode(msgspec.json.encode(to_row(fact)), type=type(to_row(fact)))
    assert to_fact(row) == fact


def test_a_status_keeps_what_its_cluster_needs_and_a_restart_goes_on_with_it():
    elsewhere = SPOT._replace(region="eu-west-1")
    tariff = Fact(concern=Concern.TARIFF, key="us-east-1", value=0.2, since=NOW - HOUR)
    night = Fact(concern=Concern.TARIFF, key="us-east-1", value=0.1, since=NOW + HOUR)
    state = failed(believe(said(price(20), price(12, elsewhere), tariff, night)), "it is gone")
    source = Source(name="it", type=SourceType.HTTP, url="http://x")
    offering = an_offering(instance_type="p5.48xlarge", capacity=CapacityType.SPOT)
    status = status_of(state, source, wanted_by([offering], [state]), NOW)
    assert [(r.what, r.value) for r in status.kept] == [("price", 20), ("tariff", 0.2), ("tariff", 0.1)]
    assert (status.up, status.figures) == (False, 3)
    assert "it is gone" in status.message
    again = restored(msgspec.json.decode(msgspec.json.encode(status), type=SourceStatus), "book/it")
    for at in (NOW, NOW + 2 * HOUR):
        assert again.layer(at).tariffs == state.layer(at).tariffs
        assert again.layer(at).prices == {SPOT: state.layer(at).prices[SPOT]}
    seen = book("book", sources=[source])
    seen.status = Status(sources=[status])
    figure = standing(SHIPPED, [seen], NOW).price(*SPOT[:4])
    assert figure is not None
    assert (figure.value, figure.source) == (20, "feed/book/it")
