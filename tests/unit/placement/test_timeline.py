"""The account of what is left, kept up to date, against the same counted in one go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from stint.placement import queue
from stint.placement.greedy import Greedy
from stint.placement.problem import Problem, build_problem
from stint.placement.timeline import Timeline
from stint.testing.builders import a_job, a_node, a_pool, a_situation, an_offering
from stint.testing.suites import solve
from tests.problems import situations


def rooms(problem: Problem, capacity: Timeline) -> list[list[list[int]]]:
    """Of every job and offering, on each node at every instant."""
    return [
        [capacity.room(j, o, at, at + 1e-6).tolist() for at in capacity.instants(o)]
        for j in range(len(problem.jobs))
        for o in range(len(problem.offerings))
    ]


@settings(max_examples=50, deadline=None)
@given(situation=situations(most_jobs=8))
def test_room_that_is_kept_is_the_room_that_there_is(situation):
    """Of kinds of workers that two jobs have, and that were asked about before anything was taken."""
    problem = build_problem(situation, queue.in_order(situation))
    asked, fresh = Timeline(problem), Timeline(problem)
    rooms(problem, asked)
    taken = [(j, c) for j, c in enumerate(solve(Greedy(), problem).choices) if c is not None]
    for capacity in (asked, fresh):
        for _, choice in taken:
            capacity.take(problem.columns, choice)
        for j, _ in taken[::2]:
            capacity.give_back(j)
    assert rooms(problem, asked) == rooms(problem, fresh)


@settings(max_examples=50, deadline=None)
@given(situation=situations())
def test_what_is_not_below_a_bound_is_all_that_the_bound_leaves_out(situation):
    problem = build_problem(situation, queue.in_order(situation))
    capacity, columns = Timeline(problem), problem.columns
    for choice in solve(Greedy(), problem).choices[:-1]:
        if choice is not None:
            capacity.take(columns, choice)
    for c in np.flatnonzero(np.isfinite(columns.objective_usd)):
        found = capacity.place(columns, int(c))
        if found is not None:
            assert capacity.place(columns, int(c), below=found[1] + 1e-6) == found
            under = capacity.place(columns, int(c), below=found[1] - 1e-6)
            assert under is None or under == found


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_node_bought_for_one_has_room_for_the_next(jobs):
    """With one job its kind of worker is counted when asked for, with two it is kept."""
    offering = an_offering()
    situation = a_situation(
        offerings=[offering],
        pools=[a_pool(offering, scaler="Kwok", most=3)],
        nodes=[a_node("n", offering, used_gpus=8)],
        jobs=[a_job(f"j{i}", gpus=4) for i in range(jobs)],
    )
    problem = build_problem(situation, queue.in_order(situation))
    capacity = Timeline(problem)
    buys = int(np.flatnonzero(problem.columns.buys)[0])
    assert capacity.room(0, 0, 1.0, 2.0).tolist() == [0] * (1 + jobs)
    found = capacity.place(problem.columns, buys)
    assert found is not None
    capacity.take(problem.columns, found[0])
    assert capacity.room(0, 0, 1.0, 2.0).tolist() == [0, 1, *[0] * (jobs - 1)]
    assert capacity.headroom.tolist() == [1]
