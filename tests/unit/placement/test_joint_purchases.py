from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stint.model.cluster import ZONE
from stint.model.job import Objective, Topology
from stint.placement import queue
from stint.placement.greedy import Greedy
from stint.placement.horizons import lay_out
from stint.placement.joint_purchases import buy_together
from stint.placement.problem import build_problem
from stint.placement.solver import idle_usd, objective_usd
from stint.placement.verify import violations
from stint.testing.builders import a_job, a_node, a_pool, a_situation, an_offering

SMALL = an_offering("small", usd=5.0, gpus=4, instance_type="four")  # dearer a GPU, cheaper for one gang of four
HURRIED = Objective(usd_per_hour=50.0)  # nobody waits for the sake of a few dollars
LARGE = an_offering("large", usd=8.0, gpus=8, instance_type="eight")


def problem_of(jobs, *, most=10, nodes=(), offerings=(SMALL, LARGE), pools=None):
    pools = pools or [a_pool(o, scaler="kwok", most=most) for o in offerings]
    situation = a_situation(offerings=offerings, pools=pools, nodes=nodes, jobs=jobs)
    return build_problem(situation, queue.in_order(situation))


def greedy(problem):
    return Greedy().solve(problem, budget_steps=1, rng=np.random.default_rng(0))


def together(problem):
    return buy_together(problem, lay_out(problem), greedy(problem))


def bought(problem, answer):
    nodes = {n for c in answer.choices if c is not None for n in c.nodes if problem.node_is_new[n]}
    return sorted(problem.offerings[problem.node_offering[n]].instance_type for n in nodes)


def halves(count, **changes):
    return [a_job(f"j{i}", gpus=4, hours=10.0, **changes) for i in range(count)]


def test_two_gangs_share_a_node_that_neither_would_have_bought():
    problem = problem_of(halves(4))
    one_by_one, found = greedy(problem), together(problem)
    assert bought(problem, one_by_one) == ["four"] * 4
    assert bought(problem, found) == ["eight"] * 2
    assert violations(problem, found) == []
    assert idle_usd(problem, found) == pytest.approx(0.0)
    saved = objective_usd(problem, one_by_one) - objective_usd(problem, found)
    hours = float(problem.columns.held_hours[found.choices[0].column])
    assert saved == pytest.approx((4 * 5.0 - 2 * 8.0) * hours, rel=1e-3)  # but for energy


def test_those_that_last_about_as_long_meet_on_a_node():
    lengths = [1.0, 20.0, 1.0, 20.0]
    jobs = [a_job(f"j{i}", gpus=4, hours=h) for i, h in enumerate(lengths)]
    problem = problem_of(jobs)
    found = together(problem)
    by_node = {}
    for job, choice in zip(problem.jobs, found.choices, strict=True):
        by_node.setdefault(choice.nodes, set()).add(job.work.units)
    assert all(len(units) == 1 for units in by_node.values())


def test_who_goes_now_keeps_its_place_and_who_has_a_topology_its_nodes():
    node = a_node("there", LARGE, used_gpus=4)
    zone = Topology(key=ZONE, required=True)
    now, buys = (a_job(n, gpus=4, topology=t, objective=HURRIED, priority=2) for n, t in (("a", None), ("b", zone)))
    problem = problem_of([now, buys, *halves(2, objective=HURRIED)], nodes=[node])
    before, found = greedy(problem), together(problem)
    assert [j.id for j in problem.jobs[:2]] == [now.id, buys.id]
    assert found.choices[:2] == before.choices[:2]
    assert [bool(problem.node_is_new[c.nodes[0]]) for c in found.choices] == [False, True, True, True]
    assert bought(problem, found) == ["eight", "four"]
    assert violations(problem, found) == []


def test_limits_hold_also_for_offerings_of_one_pool():
    offerings = (replace(SMALL, pool=LARGE.pool), LARGE)
    pool = a_pool(LARGE, scaler="kwok", most=3, offerings=tuple(o.id for o in offerings))
    problem = problem_of(halves(6), offerings=offerings, pools=[pool])
    found = together(problem)
    answer = greedy(problem) if found is None else found
    assert len(bought(problem, answer)) <= 3
    assert all(c is not None for c in answer.choices)


def test_what_the_limits_leave_over_is_served_again():
    """Two large nodes for five halves: the fifth takes a small one."""
    pools = [a_pool(SMALL, scaler="kwok", most=1), a_pool(LARGE, scaler="kwok", most=2)]
    problem = problem_of(halves(5, objective=HURRIED), pools=pools)
    found = together(problem)
    assert violations(problem, found) == []
    assert all(c is not None for c in found.choices)
    assert bought(problem, found) == ["eight", "eight", "four"]


def test_higher_priorities_buy_first():
    pools = [a_pool(SMALL, scaler="kwok", most=10), a_pool(LARGE, scaler="kwok", most=1)]
    jobs = [replace(j, priority=i // 2) for i, j in enumerate(halves(4))]
    problem = problem_of(jobs, pools=pools)
    found = together(problem)
    on_large = {problem.jobs[j].priority for j, c in enumerate(found.choices) if problem.node_offering[c.nodes[0]] == 0}
    assert problem.offerings[0].instance_type == "eight"
    assert on_large == {1}


@pytest.mark.parametrize("jobs", [[], halves(1)])
def test_nothing_to_be_packed(jobs):
    assert together(problem_of(jobs)) is None


def test_the_same_problem_gives_the_same_answer():
    jobs = [a_job(f"j{i}", gpus=1 + i % 5, hours=1.0 + i % 7) for i in range(40)]
    problem = problem_of(jobs, most=40)
    assert together(problem) == together(problem)
