"""The cheapest column of a job: looking first where like jobs went saves time and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hack.bench.decide import situation
from stint.placement import explain, greedy, queue
from stint.placement.greedy import Greedy, columns_of_jobs
from stint.placement.portfolio import serve_by_rent
from stint.placement.problem import build_problem
from stint.placement.shadow_prices import find_prices
from stint.placement.sifting import cheapest_of_each


class _Forgetful(dict):
    def __setitem__(self, key: object, value: object) -> None:
        del key, value


@pytest.mark.parametrize("seed", range(3))
def test_where_like_jobs_went_changes_nothing(seed, monkeypatch):
    given = situation(150, nodes=60, seed=seed)
    problem = build_problem(given, queue.in_order(given))
    prices = find_prices(problem)
    first = greedy.serve(problem, range(150)), serve_by_rent(problem, prices, strength=0.5)
    init = greedy.Timeline.__init__

    def forgetful(self, problem):
        init(self, problem)
        self.hints = _Forgetful()

    monkeypatch.setattr(greedy.Timeline, "__init__", forgetful)
    assert first == (greedy.serve(problem, range(150)), serve_by_rent(problem, prices, strength=0.5))


def test_what_a_solver_has_left_is_what_its_answer_leaves():
    given = situation(60, nodes=40)
    problem = build_problem(given, queue.in_order(given))
    answer = Greedy().solve(problem, budget_steps=1, rng=np.random.default_rng(0))
    counted = explain.full_capacity(problem, answer)
    assert counted is answer.left
    other = greedy.Assignment(choices=(None, *answer.choices[1:]), left=answer.left)
    anew = explain.full_capacity(problem, other)
    assert anew is not answer.left
    again = explain.full_capacity(problem, greedy.Assignment(choices=answer.choices))
    assert explain.explanations(problem, answer, counted) == explain.explanations(problem, answer, again)


@pytest.mark.parametrize("seed", range(20))
def test_the_cheapest_few_of_each_group(seed):
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, 9, 40))
    usd = rng.integers(0, 6, 40).astype(float)
    what = np.arange(40) * 3
    want = []
    for g in np.unique(group):
        mine = np.flatnonzero(group == g)
        want += [int(what[i]) for i in sorted(mine, key=lambda i: (usd[i], i))[:3]]
    assert cheapest_of_each(group, usd, what, 3).tolist() == want


def test_of_nothing_nothing_is_cheapest():
    nothing = np.zeros(0, dtype=np.int64)
    assert not len(cheapest_of_each(nothing, nothing.astype(float), nothing, 2))
    given = situation(1, nodes=1)
    problem = build_problem(given, ())
    assert columns_of_jobs(problem.columns, 0) == []
