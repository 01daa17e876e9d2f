import pytest

from stint.placement import queue
from stint.placement.explain import explanations, full_capacity
from stint.placement.greedy import Greedy
from stint.placement.problem import build_problem
from stint.testing.builders import a_job, a_node, a_pool, a_situation, an_offering
from stint.testing.suites import solve


def test_a_bought_node_is_paid_once_however_many_jobs_are_told_about_it():
    """The first job buys a node and uses half. It pays for the other half in any case: joining it there is free."""
    new, there = an_offering("new", usd=8.0, labels={"is": "new"}), an_offering("there", usd=3.0, gpus=4)
    situation = a_situation(
        offerings=[new, there],
        pools=[a_pool(new, scaler="Kwok", most=1), a_pool(there)],
        nodes=[a_node("n", there)],
        jobs=[a_job("first", gpus=4, hours=40.0, priority=1, node_selector={"is": "new"}), a_job("next", gpus=4)],
    )
    problem = build_problem(situation, queue.in_order(situation))
    answer = solve(Greedy(), problem)
    _, told = explanations(problem, answer, full_capacity(problem, answer))
    assert told.runner_up is not None
    assert told.runner_up.offering == new.id
    assert told.runner_up.cost.usd == pytest.approx(40.0, rel=0.01)
    assert told.runner_up.objective_usd == pytest.approx(10.0, rel=0.01)  # its ten hours
