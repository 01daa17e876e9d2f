"""Patterns of jobs that slow each other down: what they cost, who moves for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hack.bench.sharing import Sharing, Stands, patterns_of, prices, share

# two classes that want a GPU each, on nodes of one and of two
GIVEN = Sharing(
    capacity=np.array([[1.0, 8.0], [2.0, 16.0]]),
    usd_per_hour=np.array([1.0, 1.6]),
    shape=np.array([[1.0, 2.0], [1.0, 4.0]]),
    count=np.array([2, 2]),
    kept=np.array([[0.9, 0.7], [0.7, 0.95]]),
)
FREE = {"move_usd": np.zeros(2), "start_usd": np.zeros(2)}


def test_every_set_that_fits_is_a_pattern_on_the_cheapest_node():
    found = patterns_of(GIVEN)
    assert found.holds.tolist() == [[1, 0], [2, 0], [1, 1], [0, 1], [0, 2]]
    assert found.pool.tolist() == [0, 1, 1, 0, 1]
    assert found.keeps == pytest.approx(np.array([[1, 0], [1.8, 0], [0.7, 0.7], [0, 1], [0, 1.9]]))


def test_work_costs_what_its_best_pattern_does():
    usd, price = prices(GIVEN, patterns_of(GIVEN), np.array([1.0, 10.0]))
    assert price == pytest.approx([1.6 / 1.8, 1.6 / 1.9])
    assert usd == pytest.approx(price @ [1.0, 10.0])


def test_those_share_that_bear_each_other():
    plan = share(GIVEN, [], **FREE)
    assert sorted(n.holds.tolist() for n in plan) == [[0, 2], [2, 0]]
    assert [n.pool for n in plan] == [1, 1]
    bad = replace(GIVEN, kept=np.full((2, 2), 0.7))
    assert [n.pool for n in share(bad, [], **FREE)] == [0, 0, 0, 0]


def test_a_job_moves_where_that_pays_and_only_then():
    mixed = [Stands(pool=1, holds=np.array([1, 1]), fixed=np.zeros(2, dtype=np.int64)) for _ in range(2)]
    plan = share(GIVEN, mixed, **FREE)
    assert sorted(n.holds.tolist() for n in plan) == [[0, 2], [2, 0]]
    dear = {"move_usd": np.full(2, 5.0), "start_usd": np.zeros(2)}
    assert sorted((n.stands, n.holds.tolist()) for n in share(GIVEN, mixed, **dear)) == [(0, [1, 1]), (1, [1, 1])]


def test_a_job_that_cannot_be_moved_stays():
    mixed = [Stands(pool=1, holds=np.array([1, 1]), fixed=np.array([1, 1]))] * 2
    assert sorted(n.stands for n in share(GIVEN, mixed, **FREE) if n.stands is not None) == [0, 1]


def test_a_new_node_has_to_pay_for_its_start():
    one = replace(GIVEN, count=np.array([1, 0]))
    large = [Stands(pool=1, holds=np.array([1, 0]), fixed=np.zeros(2, dtype=np.int64))]
    assert [n.pool for n in share(one, large, **FREE)] == [0]
    slow = {"move_usd": np.zeros(2), "start_usd": np.full(2, 0.7)}
    assert [(n.stands, n.pool) for n in share(one, large, **slow)] == [(0, 1)]


def test_a_job_that_no_node_holds_is_refused():
    with pytest.raises(ValueError, match="no node holds class 1"):
        replace(GIVEN, shape=np.array([[1.0, 2.0], [3.0, 4.0]]))
