"""Whoever is killed when, and whatever is not measured: a dollar is booked once, and none is forgotten."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.bench.bookings import START, Cluster, Operator, booked_usd, live
from stint.api.ledger import USES, Ledger
from stint.ledger.book import Span, Terms, book, total_usd
from stint.ledger.days import whole
from stint.ledger.rates import Rates, Timeline
from stint.model.offering import OfferingId
from tests.property.test_cost import UNHURRIED

OFFERING = OfferingId("pool/machine/zone/spot")
RATES = Rates(pool="pool", gpu_model="H100", capacity_type="spot", usd_per_hour=8.0, watts=700.0, usd_per_kwh=0.2)


@pytest.mark.parametrize("seed", range(3))
async def test_kills_and_lost_scrapes_change_the_total_by_less_than_a_thousandth(seed):
    cluster = Cluster(rng=random.Random(seed), jobs=6, workers=3, hours=12.0, price_steps=6)
    operator = Operator(cluster=cluster, rng=random.Random(seed + 1), lost_scrapes=0.5)
    looks = [seen async for seen in live(cluster, operator, kills=20, every_s=120.0, down_s=120.0)]
    truth = cluster.dollars()
    assert booked_usd(looks[-1]) == pytest.approx(truth, rel=1e-3)
    ledgers = [seen.spending.ledger for seen in looks[-1].seen.values()]
    assert all(ledger.closed for ledger in ledgers)
    for ledger in ledgers:
        line = whole(ledger)
        assert line is not None
        assert line.usd.total + line.components.transfer == pytest.approx(line.components.total)
        assert min(getattr(line.gpu_seconds, use) for use in USES) >= 0
    kept = [row for day in operator.api.days() for row in day.rows]
    assert sum(row.line.total_usd for row in kept) == pytest.approx(booked_usd(looks[-1])), "the days have it all, once"
    nodes = [row for day in operator.api.days() for row in day.nodes]
    assert sum(row.usd for row in nodes) >= truth * 0.999, "nodes cost what their jobs do, and what nobody had"


def seconds(low: int, high: int) -> st.SearchStrategy[timedelta]:
    return st.integers(low, high).map(lambda s: timedelta(seconds=s))


@st.composite
def spans(draw: st.DrawFn) -> Span:
    start = START + draw(seconds(0, 50_000))
    works = draw(st.none() | seconds(0, 500))
    end = draw(st.none() | seconds(0, 200_000))
    leaving = draw(st.none() | seconds(0, 200_000))
    return Span(
        run=draw(st.sampled_from("ab")),
        offering=OFFERING,
        share=draw(st.sampled_from([0.25, 1.0])),
        gpus=draw(st.sampled_from([2.0, 8.0])),
        start=start,
        works=start + works if works is not None else None,
        leaving=start + leaving if leaving is not None else None,
        end=start + end if end is not None else None,
        finished=draw(st.booleans()),
    )


@UNHURRIED
@given(
    workers=st.lists(spans(), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 300_000), max_size=12),
    terms=st.builds(
        Terms,
        size=st.integers(1, 4),
        units_per_second=st.sampled_from([0.0, 2.0]),
        idle_share=st.none() | st.floats(0, 1),
        licence_usd_per_gpu_hour=st.sampled_from([0.0, 0.5]),
        labour_usd_per_hour=st.sampled_from([0.0, 3.0]),
    ),
    owed=st.floats(0, 1e5),
)
def test_booking_in_any_pieces_and_in_any_order_comes_to_the_same(workers, cuts, terms, owed):
    """Some pieces come twice, some late: what lies before the watermark adds nothing."""
    timeline = Timeline()
    timeline.learn({OFFERING: RATES}, START)
    end = START + timedelta(seconds=300_000)
    once = book(Ledger(rework_units=owed), workers, terms, timeline, start=START, until=end)
    pieces, through = Ledger(rework_units=owed), START
    for cut in [*cuts, 300_000, 300_000]:
        until = START + timedelta(seconds=cut)
        pieces = book(pieces, workers, terms, timeline, start=through, until=until)
        through = max(through, until)
    assert total_usd(pieces) == pytest.approx(total_usd(once), rel=1e-9, abs=1e-9)
    one, many = whole(once), whole(pieces)
    assert (one is None) == (many is None)
    if one is not None and many is not None:
        for use in USES:
            assert getattr(many.gpu_seconds, use) == pytest.approx(getattr(one.gpu_seconds, use), rel=1e-6, abs=1e-3)
    assert pieces.rework_units == pytest.approx(once.rework_units, rel=1e-6, abs=1e-3)


@UNHURRIED
@given(workers=st.lists(spans(), min_size=1, max_size=6), size=st.integers(1, 4))
def test_every_second_of_a_worker_is_of_one_use_and_paid_for_once(workers, size):
    """The sum over uses is the time that the workers were bound, whatever the gang was doing."""
    timeline = Timeline()
    timeline.learn({OFFERING: RATES}, START)
    end = START + timedelta(seconds=400_000)
    line = whole(book(Ledger(), workers, Terms(size=size, idle_share=0.3), timeline, start=START, until=end))
    expected = 0.0
    for w in workers:
        alike = [end if o.end is None else o.end for o in workers if o.run == w.run]
        last = end if w.end is None else max(alike) if w.finished else w.end
        expected += w.gpus * max(0.0, (last - w.start).total_seconds())
    assert (line.gpu_seconds.total if line else 0.0) == pytest.approx(expected)
