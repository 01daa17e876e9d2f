from __future__ import annotations

import numpy as np
import pytest

from stint.decide import decide
from stint.model.job import Objective
from stint.placement import queue
from stint.placement.horizons import HORIZONS, lay_out
from stint.placement.portfolio import Portfolio
from stint.placement.problem import build_problem
from stint.placement.shadow_prices import find_prices
from stint.testing.builders import a_job, a_node, a_situation, an_offering, running_on

HURRIED = Objective(usd_per_hour=5.0)


def with_nodes(count, *, jobs=2, **changes):
    offering = an_offering()
    nodes = [a_node(f"n{i}", offering) for i in range(count)]
    waiting = [a_job(f"j{i}", objective=HURRIED, **changes) for i in range(jobs)]
    return a_situation(offerings=[offering], nodes=nodes, jobs=waiting)


def problem_of(situation):
    return build_problem(situation, queue.in_order(situation))


def test_one_more_node_is_worth_no_more_than_the_wait_that_it_spares():
    (worth,) = decide(with_nodes(1)).certificate.node_worth
    assert worth.offering == an_offering().id
    assert 5.0 < worth.usd <= 50.0  # the second job would start ten hours sooner, at 5 USD each


def test_where_everybody_has_room_nothing_is_worth_anything():
    assert decide(with_nodes(2)).certificate.node_worth == ()


def test_the_bound_knows_that_two_cannot_start_on_one_node():
    situation = with_nodes(1)
    certificate = decide(situation).certificate
    alone = decide(with_nodes(2)).certificate.objective_usd
    assert alone + 5.0 < certificate.bound_usd <= certificate.objective_usd


def test_a_running_gang_gives_its_capacity_back_when_it_ends():
    offering = an_offering()
    node = a_node("n0", offering, used_gpus=8)
    runs = running_on(a_job("runs"), node, offering=offering, hours_left=3.0)
    market = lay_out(problem_of(a_situation(offerings=[offering], nodes=[node], jobs=[runs, a_job("waits")])))
    gpu_hours = market.capacity[0, :, 0]
    assert gpu_hours.tolist() == pytest.approx([8.0 * max(0.0, h - 3.0) for h in market.horizon_hours])


def test_a_gang_uses_by_a_horizon_what_it_would_had_it_started_at_its_buckets_end():
    market = lay_out(problem_of(with_nodes(1, jobs=1)))
    held = float(problem_of(with_nodes(1, jobs=1)).columns.held_hours[0])
    horizons = market.horizon_hours
    assert len(horizons) == HORIZONS + 1
    used = market.overlap_hours(np.arange(HORIZONS + 2), np.zeros(HORIZONS + 2, dtype=np.int64))
    assert used[:, 0].tolist() == [1.0] + [0.0] * (HORIZONS + 1)  # now
    assert used[0, 1:].tolist() == pytest.approx([min(held, h) for h in horizons[1:]])
    assert used[2, -1] == pytest.approx(min(held, horizons[-1] - horizons[2]))
    assert not used[-1].any()  # after the last


def test_jobs_that_are_alike_have_one_price():
    prices = find_prices(problem_of(with_nodes(3, jobs=9)))
    assert np.ptp(prices.least_usd) == pytest.approx(0.0)


def test_no_jobs_no_nodes_no_offerings():
    offering = an_offering()
    for situation in (
        a_situation(offerings=[]),
        a_situation(offerings=[offering]),
        with_nodes(0),
        with_nodes(1, jobs=0),
    ):
        problem = problem_of(situation)
        assert find_prices(problem).rent_usd == 0.0
        answer = Portfolio().solve(problem, budget_steps=100, rng=np.random.default_rng(0))
        assert all(c is None for c in answer.choices)


def test_scarce_nodes_are_left_to_those_who_cannot_do_without():
    """Greedy gives the one cheap node to the first in the queue, who saves little by it."""
    cheap, dear = an_offering("cheap", usd=8.0), an_offering("dear", usd=10.0, model="H100-SXM")
    nodes = [a_node("c", cheap), a_node("d", dear)]
    either = a_job("either", speeds={"A100-80GB": 1.0, "H100-SXM": 1.0}, objective=HURRIED)
    only = a_job("only", speeds={"A100-80GB": 1.0}, objective=HURRIED)
    jobs = [either, only] if either.id < only.id else [only, either]
    plan = decide(a_situation(offerings=[cheap, dear], nodes=nodes, jobs=jobs))
    assert {p.job: p.chosen.offering for p in plan.placements} == {either.id: dear.id, only.id: cheap.id}
