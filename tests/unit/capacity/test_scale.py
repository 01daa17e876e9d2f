"""The Scale adapter beside other writers of the same number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.capacity.adapter import Change, Member, Order
from stint.capacity.scale import ScaleAdapter
from stint.model.job import NodeName
from stint.testing.builders import NOW, an_offering
from stint.testing.suites import POOL
from tests.unit.capacity.worlds import Replicas

ADAPTER = ScaleAdapter()


def an_order(world: Replicas, *, seen: int, to: int, busy: int = 0, coming: int = 0, asked: int | None = None) -> Order:
    return Order(
        pool=POOL,
        changes=(Change(offering=an_offering(), from_nodes=seen + coming, to_nodes=to),),
        members=tuple(Member(name=NodeName(f"n{i}"), busy=i < busy) for i in range(seen)),
        now=NOW,
        target=world.target,
        coming=coming,
        asked=asked,
    )


async def carry_out(world: Replicas, order: Order) -> int:
    outcome = await ADAPTER.carry_out(order, world.api)
    assert outcome.refused == ""
    return world.replicas


async def test_the_pools_total_is_written_and_not_the_offerings():
    """Three nodes in another zone than the offering's are nodes of the target, too."""
    world = Replicas(3)
    order = an_order(world, seen=3, to=0, busy=3, asked=3)
    order = replace(order, changes=(Change(offering=an_offering(zone="elsewhere"), from_nodes=0, to_nodes=1),))
    assert await carry_out(world, order) == 4


async def test_nodes_on_order_count():
    assert await carry_out(world := Replicas(3), an_order(world, seen=1, coming=2, to=4, asked=3)) == 4


async def test_nodes_that_the_provider_takes_do_not_count():
    """The target replaces them itself."""
    world = Replicas(3)
    order = an_order(world, seen=2, to=3, asked=3)
    taken = Member(name=NodeName("taken"), interrupted=True)
    assert await carry_out(world, replace(order, members=(*order.members, taken))) == 3


@pytest.mark.parametrize("theirs", [5, 9])
async def test_growing_lowers_nothing(theirs):
    assert await carry_out(world := Replicas(theirs), an_order(world, seen=2, to=4, asked=2)) == theirs


async def test_a_higher_number_of_another_client_is_not_given_back():
    world = Replicas(8)
    outcome = await ADAPTER.carry_out(an_order(world, seen=3, to=0, asked=3), world.api)
    assert world.replicas == 8
    assert "stays 8" in outcome.note


async def test_machines_that_never_came_are_given_back_with_the_others():
    """Two of five that Stint asked for never joined."""
    assert await carry_out(world := Replicas(5), an_order(world, seen=3, to=0, asked=5)) == 0


async def test_a_write_that_crosses_another_is_made_again_upon_it():
    world = Replicas(2)
    others = iter([6])

    def between() -> None:
        if (theirs := next(others, None)) is not None:
            world.another_client_writes(theirs)

    world.api.between = between
    assert await carry_out(world, an_order(world, seen=2, to=4, asked=2)) == 6
    assert [verb for verb, _ in world.api.requests] == ["get", "patch", "get"]


async def test_writes_that_always_cross_end_in_a_refusal():
    world = Replicas(2)
    world.api.between = lambda: world.another_client_writes(1)
    outcome = await ADAPTER.carry_out(an_order(world, seen=2, to=4, asked=2), world.api)
    assert "machinedeployments/gpus" in outcome.refused


async def test_nothing_is_written_that_is_so_already():
    world = Replicas(4)
    await carry_out(world, an_order(world, seen=2, to=4, asked=2))
    assert [verb for verb, _ in world.api.requests] == ["get"]


@given(
    there=st.integers(0, 12),
    seen=st.integers(0, 8),
    coming=st.integers(0, 3),
    to=st.integers(0, 12),
    busy=st.integers(0, 8),
    asked=st.none() | st.integers(0, 12),
)
async def test_no_order_takes_a_busy_node_or_what_others_asked_for(there, seen, coming, to, busy, asked):
    world, busy = Replicas(there), min(busy, seen)
    order = an_order(world, seen=seen, coming=coming, to=to, busy=busy, asked=asked)
    after = await carry_out(world, order)
    assert after >= (there if busy else 0), "the target might choose a busy one"
    if order.to_nodes > order.from_nodes:
        foreign = max(0, seen - there)  # nodes that the target does not make, or that it is removing
        assert after == max(there, order.to_nodes - foreign)
    else:
        assert after <= there
        if there > max(order.from_nodes, asked or 0):
            assert after == there
