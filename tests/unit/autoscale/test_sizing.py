"""How many nodes pools should have. What is bought for whom is told in `tests/unit/test_decide.py` too."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from stint.autoscale import sizing
from stint.model.cluster import Node
from stint.model.market import Pool
from stint.model.offering import CapacityType
from stint.model.situation import Situation
from stint.placement import queue
from stint.placement.explain import full_capacity
from stint.placement.greedy import Greedy
from stint.placement.problem import build_problem
from stint.testing.builders import NOW, a_figure, a_job, a_node, a_pool, a_situation, an_offering
from stint.testing.suites import solve

A100 = an_offering()
SPOT = replace(an_offering(usd=3.0, capacity=CapacityType.SPOT), pool=A100.pool)
GROWS = a_pool(A100, scaler="Kwok", most=4)


def resize(situation: Situation):
    problem = build_problem(situation, queue.in_order(situation))
    answer = solve(Greedy(), problem)
    return sizing.resize(problem, answer, sizing.advise(problem, answer, full_capacity(problem, answer)))


def empty(name: str, minutes: float = 60, **changes: object) -> Node:
    return a_node(name, A100, removable=True, empty_since=NOW - timedelta(minutes=minutes), **changes)


def test_a_plan_that_is_made_again_orders_nothing_twice():
    """Once ordered, the nodes are under way; the same jobs then want no more."""
    jobs = [a_job("a", workers=2), a_job("b")]
    (first,) = resize(a_situation(offerings=[A100], pools=[GROWS], jobs=jobs))
    assert (first.to_nodes, first.for_jobs) == (3, ("team/a", "team/b"))
    coming = [a_node(f"n{i}", A100, ready=False, ready_at=NOW + timedelta(minutes=5)) for i in range(first.to_nodes)]
    assert resize(a_situation(offerings=[A100], nodes=coming, pools=[GROWS], jobs=jobs)) == ()


def test_only_what_is_lacking_is_bought():
    (change,) = resize(a_situation(offerings=[A100], nodes=[a_node("n", A100)], pools=[GROWS], jobs=[a_job(workers=3)]))
    assert (change.from_nodes, change.to_nodes) == (1, 3)
    assert change.message == "2 more p4de.24xlarge at 8.00 USD/h each for team/llama to start"


def test_what_replaces_a_node_that_the_provider_takes_is_ordered_while_that_is_still_there():
    """The pool is full, and its limit is no reason to go elsewhere: the node that goes counts no more."""
    nodes = [a_node(f"n{i}", A100, interrupted=i == 0) for i in range(4)]
    (change,) = resize(a_situation(offerings=[A100], nodes=nodes, pools=[GROWS], jobs=[a_job(workers=4)]))
    assert (change.from_nodes, change.to_nodes) == (3, 4)


def test_a_node_that_the_provider_takes_is_given_back_beside_the_least():
    pool = replace(GROWS, min_nodes=1)
    nodes = [empty("stays"), empty("goes", interrupted=True)]
    (change,) = resize(a_situation(offerings=[A100], nodes=nodes, pools=[pool]))
    assert (change.give_back, change.from_nodes, change.to_nodes) == (("goes",), 1, 1)


@pytest.mark.parametrize(("least", "going"), [(0, 3), (1, 2), (3, 0), (9, 0)])
def test_the_least_is_counted_over_all_offerings_of_a_pool(least, going):
    pool = replace(GROWS, offerings=(A100.id, SPOT.id), min_nodes=least)
    nodes = [empty("a"), empty("b"), replace(empty("c"), offering=SPOT.id)]
    changes = resize(a_situation(offerings=[A100, SPOT], nodes=nodes, pools=[pool]))
    assert sum(len(r.give_back) for r in changes) == going
    assert all(r.from_nodes - r.to_nodes == len(r.give_back) for r in changes)


def test_busy_nodes_count_towards_the_least():
    pool = replace(GROWS, min_nodes=1)
    (change,) = resize(a_situation(offerings=[A100], nodes=[a_node("a", A100, used_gpus=1), empty("b")], pools=[pool]))
    assert change.give_back == ("b",)


@pytest.mark.parametrize(("seconds", "gone"), [(599, False), (600, True)])
def test_a_pool_says_how_long_its_nodes_may_stand_empty(seconds, gone):
    pool = replace(GROWS, give_back_after_seconds=600)
    changes = resize(a_situation(offerings=[A100], nodes=[empty("a", minutes=seconds / 60)], pools=[pool]))
    assert bool(changes) is gone


def test_nodes_that_nobody_resizes_are_left_alone():
    assert resize(a_situation(offerings=[A100], nodes=[empty("a")], pools=[a_pool(A100)])) == ()


def test_nothing_is_given_back_of_what_is_bought_in_the_same_plan():
    """The job may not use the empty node, which is blamed for a start that did not hold."""
    blocked = empty("a")
    job = a_job(workers=1, avoid=(blocked.name,))
    changes = resize(a_situation(offerings=[A100], nodes=[blocked], pools=[GROWS], jobs=[job]))
    assert [(r.to_nodes, r.give_back) for r in changes] == [(2, ())]


def _advised(pool: Pool, *jobs: object) -> Counter[str]:
    changes = resize(a_situation(offerings=[A100], pools=[pool], jobs=jobs))
    assert all(r.advise_only for r in changes)
    return Counter({job: r.to_nodes for r in changes for job in r.for_jobs})


def test_what_is_advised_for_one_job_is_not_advised_for_another_again():
    advised = replace(GROWS, advise_only=True, max_nodes=2)
    assert _advised(advised, a_job("a", workers=2), a_job("b", workers=2)) == {"team/a": 2}
    assert _advised(replace(advised, max_nodes=4), a_job("a", workers=2), a_job("b", workers=2)) == {
        "team/a": 4,
        "team/b": 4,
    }


def test_no_advice_is_given_where_what_there_is_costs_less():
    dear = an_offering("cloud", usd=80.0)
    situation = a_situation(
        offerings=[A100, dear],
        nodes=[a_node("n", A100)],
        pools=[a_pool(A100), a_pool(dear, scaler="Kwok", most=4, advise_only=True)],
        jobs=[a_job()],
    )
    assert resize(situation) == ()
    waits = a_job("behind", priority=-1)  # ten hours behind the first, at a dollar each: not worth ten times the price
    assert resize(replace(situation, jobs=(*situation.jobs, waits))) == ()


def test_an_order_for_hundreds_names_the_first_of_them():
    jobs = [a_job(f"j{i:02}") for i in range(10)]
    pool = a_pool(A100, scaler="kwok", most=10)
    (change,) = resize(a_situation(offerings=[A100], pools=[pool], jobs=jobs))
    assert len(change.for_jobs) == 10
    assert change.message.endswith("team/j06, team/j07 and 2 more jobs to start")


def test_what_a_node_costs_is_one_figure_for_all():
    """Reserved: nothing, until a commitment says otherwise; what a new node costs may differ from one that is there."""
    reserved = replace(A100, capacity_type=CapacityType.RESERVED)
    assert [p.value for p in (reserved.price_of_existing, reserved.price_of_new, reserved.billed_price)] == [0, 0, 8]
    paid_for = a_situation(
        offerings=[reserved],
        nodes=[replace(empty("n"), offering=reserved.id)],
        pools=[a_pool(reserved, scaler="Kwok", most=4)],
    )
    assert resize(paid_for) == (), "removing it saves nothing"
    part = replace(reserved, billed_usd_per_node_hour=a_figure(5.0), usd_per_new_node_hour=a_figure(6.0))
    assert [p.value for p in (part.price_of_existing, part.price_of_new, part.billed_price)] == [8, 6, 5]
    spent = replace(A100, usd_per_new_node_hour=a_figure(6.0))
    given = a_situation(offerings=[spent], nodes=[a_node("n", spent, used_gpus=4)], pools=[GROWS], jobs=[a_job()])
    columns = build_problem(given, given.jobs).columns
    assert columns.usd_per_node_hour.tolist() == [8.0, 6.0]
    (bought,) = resize(given)
    assert bought.usd_per_hour == 6.0
