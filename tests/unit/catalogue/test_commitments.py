"""What is paid for anyway is sunk in decisions and stands in the bill."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stint.catalogue.commitments import Commitment, OwnedMachine, with_commitments
from stint.catalogue.layer import Layer, PriceKey
from stint.feeds import bundled
from stint.model.market import Offering
from stint.model.offering import CapacityType
from stint.testing.builders import NOW, a_figure, an_offering

CATALOGUE = bundled.load()
LIST = CATALOGUE.list_price("aws", "us-east-1", "p4de.24xlarge").value  # type: ignore[union-attr]
HOUR = timedelta(hours=1)


def reserved(**changes: object) -> Commitment:
    fields = {"name": "ri", "source": "pricebook/x", "provider": "aws", "instance_type": "p4de.24xlarge", "nodes": 4}
    return Commitment(**{"usd_per_node_hour": 5.0, **fields, **changes})  # type: ignore[arg-type]


def priced(
    *offerings: Offering, commitments: list[Commitment], nodes: int | list[int] = 4, now: datetime = NOW
) -> list[tuple[float | None, float | None]]:
    """Of each offering: what a decision sees, and what the books get."""
    catalogue = replace(CATALOGUE, commitments=tuple(commitments))
    counts = nodes if isinstance(nodes, list) else [nodes] * len(offerings)
    there = {o.id: n for o, n in zip(offerings, counts, strict=True)}
    found = with_commitments({o.id: o for o in offerings}, there, {}, catalogue, now)
    figures = [(found[o.id].usd_per_node_hour, found[o.id].billed_usd_per_node_hour) for o in offerings]
    return [(price and price.value, billed and billed.value) for price, billed in figures]


@pytest.mark.parametrize(
    ("nodes", "price", "billed"),
    [(0, 0.0, 5.0), (1, 0.0, 5.0), (4, 0.0, 5.0), (5, 8.0 / 5, (4 * 5 + 8.0) / 5), (8, 4.0, 6.5)],
)
def test_reserved_nodes_are_sunk_and_those_beyond_have_their_ordinary_price(nodes, price, billed):
    assert priced(an_offering(usd=8.0), commitments=[reserved()], nodes=nodes) == [pytest.approx((price, billed))]


@pytest.mark.parametrize(
    ("nodes", "room", "price", "new"),
    [
        (0, 4, 0.0, None),  # all that may be bought is paid for
        (2, 2, 0.0, None),
        (4, 4, 0.0, 8.0),  # nothing is left for the next one
        (4, 0, 0.0, None),
        (2, 8, 0.0, 6.0),  # two of eight
        (8, 4, 4.0, 8.0),
    ],
)
def test_a_node_that_would_be_bought_beyond_the_commitment_has_its_ordinary_price(nodes, room, price, new):
    offering = an_offering(usd=8.0)
    catalogue = replace(CATALOGUE, commitments=(reserved(),))
    found = with_commitments({offering.id: offering}, {offering.id: nodes}, {offering.id: room}, catalogue, NOW)
    o = found[offering.id]
    assert o.usd_per_node_hour is not None
    assert o.usd_per_node_hour.value == price
    assert (o.usd_per_new_node_hour and o.usd_per_new_node_hour.value) == new


def test_what_a_savings_plan_has_left_goes_to_nodes_that_may_be_bought():
    offering = an_offering(usd=10.0)
    plan = Commitment(name="sp", source="x", provider="aws", plan_usd_per_hour=28.0, plan_discount=0.3)
    catalogue = replace(CATALOGUE, commitments=(plan,))
    found = with_commitments({offering.id: offering}, {offering.id: 2}, {offering.id: 4}, catalogue, NOW)
    new = found[offering.id].usd_per_new_node_hour
    assert new is not None
    assert new.value == pytest.approx(5.0)


def test_the_nodes_of_two_pools_share_one_commitment():
    a, b = an_offering("a", usd=8.0), an_offering("b", usd=8.0)
    assert priced(a, b, commitments=[reserved()], nodes=[4, 4]) == [pytest.approx((4.0, 6.5))] * 2
    assert priced(a, b, commitments=[reserved()], nodes=[4, 0]) == [pytest.approx((0.0, 5.0))] * 2


def test_two_commitments_for_one_offering_add_up():
    ten = reserved(name="dearer", nodes=2, usd_per_node_hour=6.0)
    (found,) = priced(an_offering(usd=8.0), commitments=[reserved(nodes=2), ten], nodes=8)
    assert found == pytest.approx((8.0 * 4 / 8, (2 * 5 + 2 * 6 + 4 * 8) / 8))


@pytest.mark.parametrize(
    "other",
    [
        {"provider": "gcp"},
        {"region": "eu-west-1"},
        {"zone": "us-east-1b"},
        {"instance_type": "p5.48xlarge"},
    ],
)
def test_it_covers_only_what_it_names(other):
    assert priced(an_offering(usd=8.0), commitments=[reserved(**other)]) == [(8.0, None)]


def test_spot_is_never_committed():
    spot = an_offering(usd=3.0, capacity=CapacityType.SPOT)
    everything = Commitment(name="sp", source="x", provider="aws", plan_usd_per_hour=1000.0, plan_discount=0.3)
    assert priced(spot, commitments=[reserved(), everything]) == [(3.0, None)]


@pytest.mark.parametrize(
    ("now", "seen"),
    [
        (NOW - HOUR, (LIST, LIST)),
        (NOW, (0.0, 5.0)),
        (NOW + HOUR - timedelta(seconds=1), (0.0, 5.0)),
        (NOW + HOUR, (LIST, LIST)),
    ],
    ids=["before", "first instant", "last second", "after"],
)
def test_a_capacity_block_counts_from_its_start_until_before_its_end(now, seen):
    block = reserved(start=NOW, end=NOW + HOUR)
    offering = an_offering(usd=0.0, capacity=CapacityType.RESERVED)
    assert priced(offering, commitments=[block], now=now) == [pytest.approx(seen)]


def test_reserved_nodes_of_which_no_commitment_speaks_stay_free():
    offering = an_offering(usd=0.0, capacity=CapacityType.RESERVED)
    assert priced(offering, commitments=[reserved(provider="gcp")]) == [(0.0, None)]


def test_a_savings_plan_covers_what_it_pays_for_at_its_discount():
    plan = Commitment(name="sp", source="x", provider="aws", plan_usd_per_hour=28.0, plan_discount=0.3)
    offering = an_offering(usd=10.0)
    assert priced(offering, commitments=[plan], nodes=4) == [pytest.approx((0.0, 7.0))]  # 4 x 7 = 28
    assert priced(offering, commitments=[plan], nodes=8) == [pytest.approx((5.0, 8.5))]


def test_a_machine_of_our_own_costs_the_power_beyond_idle_and_is_booked_with_its_purchase():
    machine = OwnedMachine(capex_usd=350_400.0, depreciation_years=4, idle_watts=1000, usd_per_kwh=0.2, pue=1.5)
    bought = reserved(usd_per_node_hour=None, owned=machine, start=datetime(2025, 1, 1, tzinfo=UTC))
    offering = an_offering(usd=9.0, capacity=CapacityType.OWNED, watts_per_node=a_figure(3200.0), usd_per_kwh=None)
    catalogue = replace(CATALOGUE, commitments=(bought,))
    found = with_commitments({offering.id: offering}, {offering.id: 2}, {}, catalogue, NOW)[offering.id]
    assert found.usd_per_node_hour is not None
    assert found.usd_per_node_hour.value == 0.0
    assert found.watts_per_node is not None
    assert found.watts_per_node.value == 2200.0
    assert (found.usd_per_kwh.value, found.pue.value) == (0.2, 1.5)  # type: ignore[union-attr]
    assert found.billed_usd_per_node_hour is not None
    assert found.billed_usd_per_node_hour.value == pytest.approx(10.0 + 1.0 * 1.5 * 0.2)
    later = with_commitments({offering.id: offering}, {}, {}, catalogue, NOW + timedelta(days=365 * 4))[offering.id]
    assert later.billed_usd_per_node_hour is not None
    assert later.billed_usd_per_node_hour.value == pytest.approx(0.3), "written off"


def test_without_an_ordinary_price_nodes_beyond_the_commitment_are_unpriced_not_free():
    assert priced(an_offering(usd=None), commitments=[reserved()], nodes=4) == [(0.0, 5.0)]
    assert priced(an_offering(usd=None), commitments=[reserved()], nodes=5) == [(None, None)]


def test_a_price_by_the_zones_name_is_found_where_it_has_an_id_too():
    key = PriceKey("aws", "us-east-1", "p4de.24xlarge", CapacityType.SPOT, "us-east-1a")
    layer = Layer(prices={key: a_figure(3.21)})
    catalogue = replace(CATALOGUE, layers=(layer, *CATALOGUE.layers))
    found = catalogue.price("aws", "us-east-1", "p4de.24xlarge", CapacityType.SPOT, "use1-az1", "us-east-1a")
    assert found == a_figure(3.21)
