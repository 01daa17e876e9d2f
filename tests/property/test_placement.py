from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from stint.api import snapshot
from stint.decide import decide
from stint.model.job import Checkpoint
from stint.model.plan import Reason
from stint.model.situation import Settings
from stint.placement import queue
from stint.placement.annealing import Annealing
from stint.placement.exact import Exact
from stint.placement.greedy import Greedy
from stint.placement.portfolio import Portfolio
from stint.placement.problem import build_problem
from stint.placement.solver import objective_usd
from stint.sim.soundness import unsound
from stint.testing import suites
from stint.testing.builders import a_job, a_node, a_situation, an_offering, running_on
from tests.problems import situations


@pytest.mark.parametrize("solver", [Greedy(), Annealing(), Exact(), Portfolio()], ids=lambda s: s.name)
class TestEverySolver:  # the next solver adds its name and gets all of this
    @settings(max_examples=25, deadline=None)
    @given(situation=situations())
    def test_is_sound_repeats_itself_and_is_never_worse_than_nothing(self, solver, situation):
        suites.check_sound(solver, build_problem(situation, queue.in_order(situation)))


@pytest.mark.parametrize("solver", [Portfolio()], ids=lambda s: s.name)
@settings(max_examples=80, deadline=None)
@given(situation=situations(most_jobs=2, most_nodes=2, topologies=False))  # those are left to greedy
def test_as_good_as_trying_every_order_and_place_at_the_starts_it_knows(solver, situation):
    jobs = tuple(j for j in queue.in_order(situation) if j.priority == 0)
    problem = build_problem(situation, jobs)
    found = objective_usd(problem, suites.solve(solver, problem))
    assert found <= suites.best_of_all(problem) + 1e-6


@pytest.mark.parametrize("solver", [Annealing(), Portfolio()], ids=lambda s: s.name)
@settings(max_examples=25, deadline=None)
@given(situation=situations())
def test_never_worse_than_greedy(solver, situation):
    problem = build_problem(situation, queue.in_order(situation))
    cost = {s.name: objective_usd(problem, suites.solve(s, problem)) for s in (Greedy(), solver)}
    assert cost[solver.name] <= cost["greedy"] + 1e-9


@st.composite
def full_clusters(draw):
    """Every node is taken by gangs that write checkpoints, and jobs with deadlines come."""
    offering, saves = an_offering(), Checkpoint(every=timedelta(hours=1), restart=timedelta(minutes=6))
    nodes = [a_node(f"n{i}", offering, used_gpus=8) for i in range(draw(st.integers(1, 3)))]
    jobs = []
    for node in nodes:
        for k, gpus in enumerate(draw(st.sampled_from([[8], [4, 4], [2, 2, 4], [1, 7]]))):
            hours = draw(st.floats(0.1, 50))
            loose = draw(st.one_of(st.none(), st.floats(hours + 0.1, hours + 20)))
            job = a_job(f"on-{node.name}-{k}", gpus=gpus, hours=hours, checkpoint=saves, deadline_hours=loose)
            jobs.append(running_on(job, node, offering=offering, hours_left=hours))
    for i in range(draw(st.integers(1, 3))):
        hours = draw(st.floats(0.5, 4))
        due = hours * draw(st.floats(1.05, 3))
        workers, gpus = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 4, 8]))
        jobs.append(a_job(f"u{i}", workers=workers, gpus=gpus, hours=hours, deadline_hours=due))
    moving = Settings(moves_per_hour=draw(st.integers(1, 4)), payback=1.0)
    return a_situation(offerings=[offering], nodes=nodes, jobs=jobs, settings=moving)


@settings(max_examples=80, deadline=None)
@given(situation=full_clusters())
def test_gangs_make_room_only_where_that_leaves_a_sound_plan_and_somebody_in_time(situation):
    plan = decide(situation)
    assert unsound(situation, plan) == []
    answered = [part.job for part in (*plan.placements, *plan.holds, *plan.stays, *plan.requeues)]
    assert sorted(answered) == sorted(j.id for j in situation.jobs)
    gone = [r.job for r in plan.requeues if r.reason is Reason.MAKES_ROOM]
    event(f"{len(gone)} make room")
    assert len(gone) <= situation.settings.moves_per_hour
    if gone:
        jobs = {j.id: j for j in situation.jobs}
        assert all(jobs[j].assignment is not None for j in gone)
        waits = [h for h in plan.holds if h.reason is Reason.MAKES_ROOM]
        assert any(h.chosen.finish <= jobs[h.job].deadline for h in waits)
        still = replace(situation, settings=replace(situation.settings, moves_per_hour=0))
        before = {(p.job, p.nodes) for p in decide(still).placements}
        assert {(p.job, p.nodes) for p in plan.placements} <= before


@settings(max_examples=40, deadline=None)
@given(situation=situations())
def test_a_plan_names_each_offering_once_for_each_job(situation):
    plan = decide(situation)
    offerings = sorted(o.id for o in situation.offerings)
    for part in (*plan.placements, *plan.holds):
        told = [r.offering for r in part.explanation.rejected]
        told += [c.offering for c in (part.chosen, part.explanation.runner_up) if c is not None]
        assert sorted(told) == offerings


@settings(max_examples=25, deadline=None)
@given(situation=situations())
def test_a_stored_decision_reads_back_to_the_same_bytes(situation):
    plan = decide(situation)
    stored = snapshot.encode(situation, plan)
    read = snapshot.decode(stored, name="it")
    assert snapshot.encode(read.situation, decide(read.situation)) == stored
