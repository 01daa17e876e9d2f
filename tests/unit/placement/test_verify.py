"""The verifier must catch whatever a solver can get wrong: each test breaks a sound answer in one way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from stint.model.cluster import Node
from stint.model.job import Job
from stint.placement import queue
from stint.placement.greedy import Greedy
from stint.placement.problem import Problem, build_problem
from stint.placement.solver import Assignment, Choice
from stint.placement.verify import violations
from stint.testing.builders import NOW, a_job, a_node, a_pool, a_situation, an_offering, running_on
from stint.testing.suites import solve

A100 = an_offering()


@pytest.fixture
def problem() -> Problem:
    """Two jobs of one worker with all eight GPUs; two nodes, one of them for the first job only; one may be bought."""
    offering = an_offering()
    other = an_offering("h100", model="H100-SXM", usd=30.0)
    nodes = [a_node("n0", offering), a_node("n1", offering), a_node("n2", other), a_node("late", offering, ready=False)]
    jobs = [
        a_job("a", speeds={"A100-80GB": 1.0, "H100-SXM": 1.0}),
        a_job("b", speeds={"A100-80GB": 1.0, "H100-SXM": 1.0}, avoid=(nodes[1].name,)),
    ]
    pools = [a_pool(offering, scaler="Kwok", most=4), a_pool(other)]
    situation = a_situation(jobs=jobs, nodes=nodes, offerings=[offering, other], pools=pools)
    return build_problem(situation, queue.in_order(situation))


@pytest.fixture
def sound(problem: Problem) -> Assignment:
    answer = solve(Greedy(), problem)
    assert violations(problem, answer) == []
    assert None not in answer.choices
    return answer


def _with(answer: Assignment, j: int, **changes: object) -> Assignment:
    choices = list(answer.choices)
    assert choices[j] is not None
    choices[j] = replace(choices[j], **changes)
    return Assignment(choices=tuple(choices))


def _index(problem: Problem, name: str) -> int:
    return next(i for i, n in enumerate(problem.nodes) if n.name == name)


def _new(problem: Problem) -> int:
    return int(problem.node_is_new.argmax())


def test_a_node_that_holds_more_than_it_has(problem, sound):
    first = sound.choices[0]
    broken = _with(sound, 1, nodes=first.nodes, start_hours=first.start_hours)
    assert any("overbooked" in v for v in violations(problem, broken))


def test_a_node_of_another_offering(problem, sound):
    assert "not of its offering" in violations(problem, _with(sound, 0, nodes=(_index(problem, "n2"),)))[0]


def test_a_node_that_does_not_admit_the_job(problem, sound):
    assert "does not admit" in violations(problem, _with(sound, 1, nodes=(_index(problem, "n1"),)))[0]


def test_a_node_that_is_not_usable(problem, sound):
    assert "not usable" in violations(problem, _with(sound, 0, nodes=(_index(problem, "late"),)))[0]


def test_part_of_a_gang(problem, sound):
    assert "0 nodes for 1 workers" in violations(problem, _with(sound, 0, nodes=()))[0]


def test_another_jobs_column(problem, sound):
    assert "another job's" in violations(problem, _with(sound, 0, column=sound.choices[1].column))[0]


def test_a_column_that_does_not_exist(problem, sound):
    assert "does not exist" in violations(problem, _with(sound, 0, column=999))[0]


def test_a_start_in_the_past(problem, sound):
    assert "in the past" in violations(problem, _with(sound, 0, start_hours=-1.0))[0]


def test_a_new_node_that_nobody_buys(problem, sound):
    assert "bought first" in violations(problem, _with(sound, 0, nodes=(_new(problem),)))[0]
    waits = _with(sound, 0, nodes=(_new(problem),), start_hours=1.0)
    late = Assignment(choices=(waits.choices[0], None))
    assert any("nobody buys" in v for v in violations(problem, late))


def test_more_new_nodes_than_the_pool_may_have(problem, sound):
    buys = int((problem.columns.buys & (problem.columns.job == 0)).argmax())
    tight = replace(problem, headroom=problem.headroom * 0)
    broken = Assignment(choices=(Choice(column=buys, start_hours=0.0, nodes=(_new(problem),)), None))
    assert violations(problem, broken) == []
    assert "0 are allowed" in violations(tight, broken)[0]


def test_too_few_answers(problem, sound):
    assert violations(problem, Assignment(choices=sound.choices[:1])) == ["1 choices for 2 jobs"]


def test_a_column_that_is_impossible(problem, sound):
    column = sound.choices[0].column
    dear = problem.columns.objective_usd.copy()
    dear[column] = float("inf")
    broke = replace(problem, columns=replace(problem.columns, objective_usd=dear))
    assert violations(broke, sound) == [f"team/a: column {column} is impossible"]


def _one_job(node: Node, *runs: Job) -> tuple[Problem, int]:
    """A job that wants all of the only node, and the first column it could have."""
    situation = a_situation(jobs=[a_job("a"), *runs], nodes=[node], offerings=[A100])
    return build_problem(situation, queue.in_order(situation)), 0


@pytest.mark.parametrize(("start_hours", "sound_then"), [(0.0, False), (0.9, False), (1.0, True)])
def test_a_start_before_the_node_is_there(start_hours, sound_then):
    problem, column = _one_job(a_node("n", A100, ready=False, ready_at=NOW + timedelta(hours=1)))
    answer = Assignment(choices=(Choice(column=column, start_hours=start_hours, nodes=(0,)),))
    assert (violations(problem, answer) == []) is sound_then


@pytest.mark.parametrize(("start_hours", "sound_then"), [(0.0, False), (1.9, False), (2.0, True)])
def test_a_start_before_the_running_gang_has_left(start_hours, sound_then):
    node = a_node("n", A100, used_gpus=8)
    problem, column = _one_job(node, running_on(a_job("r"), node, offering=A100, hours_left=2))
    answer = Assignment(choices=(Choice(column=column, start_hours=start_hours, nodes=(0,)),))
    assert (violations(problem, answer) == []) is sound_then


def test_two_gangs_behind_each_other_may_share_a_node_and_may_not_overlap():
    situation = a_situation(jobs=[a_job("a"), a_job("b")], nodes=[a_node("n", A100)], offerings=[A100])
    problem = build_problem(situation, queue.in_order(situation))
    held = float(problem.columns.held_hours[0])

    def behind(start_hours: float) -> list[str]:
        first = Choice(column=0, start_hours=0.0, nodes=(0,))
        return violations(problem, Assignment(choices=(first, Choice(column=1, start_hours=start_hours, nodes=(0,)))))

    assert behind(held) == []
    assert "overbooked" in behind(held - 0.1)[0]


@pytest.mark.parametrize("axis", ["cpu", "memory_gib", "pods"])
def test_every_resource_is_counted_not_only_gpus(axis):
    tight = {"cpu": 33.0, "memory_gib": 257.0, "pods": 1}  # a worker of eight GPUs takes 32, 256 and 1
    node = a_node("n", A100, allocatable=replace(A100.per_node, gpus=16, **{axis: tight[axis]}))
    situation = a_situation(jobs=[a_job("a"), a_job("b")], nodes=[node], offerings=[A100])
    problem = build_problem(situation, queue.in_order(situation))
    both = tuple(Choice(column=c, start_hours=0.0, nodes=(0,)) for c in (0, 1))
    assert violations(problem, Assignment(choices=(both[0], None))) == []
    assert "overbooked" in violations(problem, Assignment(choices=both))[0]
