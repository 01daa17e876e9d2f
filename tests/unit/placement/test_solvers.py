"""What each solver does in cases that can be worked out by hand, or by trying everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stint.model.job import Objective
from stint.model.offering import CapacityType
from stint.model.situation import Situation
from stint.placement import queue
from stint.placement.annealing import Annealing
from stint.placement.exact import MOST_PLACES, Exact
from stint.placement.greedy import Greedy
from stint.placement.portfolio import Portfolio
from stint.placement.problem import Problem, build_problem
from stint.placement.solver import Assignment, objective_usd
from stint.placement.verify import violations
from stint.testing.builders import a_figure, a_job, a_node, a_pool, a_situation, an_offering, running_on
from stint.testing.suites import best_by_force, solve

A100 = an_offering()
DEAR = an_offering("dear", usd=30.0, model="H100-SXM")
BOTH = {"A100-80GB": 1.0, "H100-SXM": 2.0}


def lay_out(situation: Situation) -> Problem:
    return build_problem(situation, queue.in_order(situation))


def where(problem: Problem, answer: Assignment) -> dict[str, tuple[str, ...] | None]:
    """Each job's nodes by name, in order; `new` for one that is bought."""
    names = [n.name for n in problem.nodes]
    return {
        job.id.removeprefix("team/"): None
        if choice is None
        else tuple(names[n] if n < len(names) else "new" for n in choice.nodes)
        for job, choice in zip(problem.jobs, answer.choices, strict=True)
    }


@pytest.mark.parametrize("solver", [Greedy(), Annealing(), Exact(), Portfolio()], ids=lambda s: s.name)
class TestEverySolver:
    def test_answers_an_empty_queue(self, solver):
        assert solve(solver, lay_out(a_situation(offerings=[A100]))).choices == ()

    def test_leaves_out_a_gang_that_fits_nowhere(self, solver):
        situation = a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[a_job(workers=2)])
        assert solve(solver, lay_out(situation)).choices == (None,)

    def test_splits_no_gang_over_two_offerings(self, solver):
        nodes = [a_node("a", A100), a_node("d", DEAR)]
        situation = a_situation(offerings=[A100, DEAR], nodes=nodes, jobs=[a_job(workers=2, speeds=BOTH)])
        assert solve(solver, lay_out(situation)).choices == (None,)

    def test_packs_small_gangs_beside_each_other_so_that_the_large_one_fits(self, solver):
        nodes = [a_node("n0", A100), a_node("n1", A100)]
        small = [a_job(f"s{i}", gpus=4, priority=1) for i in range(2)]
        situation = a_situation(offerings=[A100], nodes=nodes, jobs=[*small, a_job("large")])
        problem = lay_out(situation)
        found = where(problem, solve(solver, problem))
        assert found["s0"] == found["s1"] != found["large"]

    def test_serves_a_higher_priority_first_even_when_that_costs_more(self, solver):
        """The valued job would pay for its delay many times over, but it stands behind."""
        valued = a_job("valued", objective=Objective(usd_per_hour=1000.0))
        situation = a_situation(
            offerings=[A100], nodes=[a_node("n", A100)], jobs=[valued, a_job("first", priority=1, hours=1)]
        )
        problem = lay_out(situation)
        starts = {j.id: c.start_hours for j, c in zip(problem.jobs, solve(solver, problem).choices, strict=True) if c}
        assert starts["team/first"] == 0.0
        assert starts.get("team/valued") != 0.0

    def test_never_buys_more_than_the_pool_may_have(self, solver):
        situation = a_situation(
            offerings=[A100],
            nodes=[a_node("n", A100, used_gpus=8)],
            pools=[a_pool(A100, scaler="Kwok", most=3)],
            jobs=[a_job(f"j{i}") for i in range(4)],
        )
        problem = lay_out(situation)
        answer = solve(solver, problem)
        bought = {n for c in answer.choices if c for n in c.nodes if problem.node_is_new[n]}
        assert violations(problem, answer) == []
        assert len(bought) == 2  # the third one is there already

    def test_two_offerings_of_one_pool_share_its_limit(self, solver):
        spot = replace(an_offering(usd=8.0, capacity=CapacityType.SPOT), pool=A100.pool)
        pool = replace(a_pool(A100, scaler="Kwok", most=2), offerings=(A100.id, spot.id))
        jobs = [a_job(f"j{i}", capacity_types=(kind,)) for i, kind in enumerate([CapacityType.SPOT] * 2)]
        jobs += [a_job(f"k{i}", capacity_types=(CapacityType.ON_DEMAND,)) for i in range(2)]
        problem = lay_out(a_situation(offerings=[A100, spot], pools=[pool], jobs=jobs))
        answer = solve(solver, problem)
        bought = {n for c in answer.choices if c for n in c.nodes if problem.node_is_new[n]}
        assert (violations(problem, answer), len(bought)) == ([], 2)

    def test_waits_for_a_running_gang_no_longer_than_it_must(self, solver):
        nodes = [a_node(f"n{i}", A100, used_gpus=8) for i in range(2)]
        runs = [
            running_on(a_job(f"r{i}"), n, offering=A100, hours_left=h)
            for i, (n, h) in enumerate(zip(nodes, (3, 2), strict=True))
        ]
        problem = lay_out(a_situation(offerings=[A100], nodes=nodes, jobs=[*runs, a_job()]))
        (choice,) = solve(solver, problem).choices
        assert choice is not None
        assert choice.start_hours == pytest.approx(2.0)

    def test_the_same_dice_give_the_same_answer(self, solver):
        jobs = [a_job(f"j{i}", workers=1 + i % 2, gpus=4, speeds=BOTH) for i in range(4)]
        nodes = [a_node("n0", A100), a_node("n1", A100), a_node("d", DEAR)]
        problem = lay_out(a_situation(offerings=[A100, DEAR], nodes=nodes, jobs=jobs))
        assert all(solve(solver, problem, seed=s) == solve(solver, problem, seed=s) for s in range(3))

    def test_only_annealing_rolls_them(self, solver):
        jobs = [a_job(f"j{i}", workers=1 + i % 2, gpus=4, speeds=BOTH) for i in range(4)]
        problem = lay_out(a_situation(offerings=[A100], nodes=[a_node("n0", A100)], jobs=jobs))
        rng = np.random.Generator(np.random.PCG64(0))
        before = rng.bit_generator.state
        solver.solve(problem, budget_steps=200, rng=rng)
        assert (rng.bit_generator.state != before) is (solver.name == "annealing")


def test_exact_gives_the_cheap_node_to_the_job_that_gains_most_and_greedy_to_the_first():
    """One node is cheap, the other dear; the second job in the queue is slow on the dear one."""
    first, second = a_job("first", speeds={"A100-80GB": 1.0, "H100-SXM": 3.3}), a_job("second", speeds=BOTH)
    nodes = [a_node("cheap", A100), a_node("dear", DEAR)]
    problem = lay_out(a_situation(offerings=[A100, DEAR], nodes=nodes, jobs=[first, second]))
    greedy, exact = solve(Greedy(), problem), solve(Exact(), problem)
    assert where(problem, greedy)["first"] == ("cheap",)
    assert where(problem, exact) == {"first": ("dear",), "second": ("cheap",)}
    assert objective_usd(problem, exact) < objective_usd(problem, greedy)
    assert where(problem, solve(Portfolio(), problem)) == where(problem, exact)


def test_exact_does_not_buy_and_then_go_where_nothing_had_to_be_bought():
    """New nodes are cheaper, and a part of one would stand idle: the price of new ones for an old one would be best."""
    offering = an_offering("od", usd=8.0, usd_per_new_node_hour=a_figure(2.0))
    node = a_node("n0", offering, used_gpus=8)
    runs = running_on(a_job("runs"), node, offering=offering, hours_left=0.02)  # gone before a new node would be there
    jobs = [runs, a_job("new", gpus=4, hours=10.0, objective=Objective(performance=0.0))]
    pool = a_pool(offering, scaler="kwok", most=2)
    problem = lay_out(a_situation(offerings=[offering], pools=[pool], nodes=[node], jobs=jobs))
    answer = solve(Exact(), problem)
    assert violations(problem, answer) == []
    assert where(problem, answer) == {"new": ("new",)}


def test_a_level_too_large_for_the_programme_is_answered_by_greedy():
    nodes = [a_node(f"n{i:02}", A100) for i in range(40)]
    jobs = [a_job(f"j{i:02}") for i in range(MOST_PLACES // len(nodes) + 1)]
    problem = lay_out(a_situation(offerings=[A100], nodes=nodes, jobs=jobs))
    assert solve(Exact(), problem) == solve(Greedy(), problem)


@st.composite
def tiny_problems(draw: st.DrawFn) -> Problem:
    """Two jobs of one or two workers, up to two nodes of two offerings, and one or two that may be bought."""
    offerings = [an_offering("a", usd=draw(st.sampled_from([4.0, 8.0]))), replace(DEAR)]
    nodes = [
        a_node(f"n{i}", draw(st.sampled_from(offerings)), used_gpus=draw(st.sampled_from([0, 2, 4, 8])))
        for i in range(draw(st.integers(0, 2)))
    ]
    pools = [a_pool(o, scaler=draw(st.sampled_from([None, "Kwok"])), most=draw(st.integers(1, 3))) for o in offerings]
    jobs = [
        a_job(
            f"j{i}",
            workers=draw(st.integers(1, 2)),
            gpus=draw(st.sampled_from([2, 4, 8])),
            hours=draw(st.sampled_from([2.0, 3.0, 11.0])),
            speeds={"A100-80GB": 1.0, "H100-SXM": draw(st.sampled_from([1.5, 2.5, 4.0]))},
            deadline_hours=draw(st.sampled_from([None, 2.5, 8.0])),
            objective=Objective(usd_per_hour=draw(st.sampled_from([1.0, 20.0]))),
        )
        for i in range(draw(st.integers(1, 2)))
    ]
    for i, node in enumerate(nodes):
        if node.used.gpus == 8:
            there = next(o for o in offerings if o.id == node.offering)
            jobs.append(running_on(a_job(f"r{i}"), node, offering=there, hours_left=draw(st.sampled_from([0.5, 1.5]))))
    return lay_out(a_situation(offerings=offerings, nodes=nodes, pools=pools, jobs=jobs))


@settings(max_examples=60, deadline=None)
@given(problem=tiny_problems())
def test_exact_finds_what_trying_everything_finds(problem):
    answer = solve(Exact(), problem)
    assert violations(problem, answer) == []
    assert objective_usd(problem, answer) == pytest.approx(best_by_force(problem), rel=1e-5)
