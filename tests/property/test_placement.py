from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stint.api import snapshot
from stint.decide import decide
from stint.model.job import Checkpoint
from stint.model.plan import Reason
from stint.placement import queue
from stint.placement.annealing import Annealing
from stint.placement.greedy import Greedy
from stint.placement.horizons import lay_out
from stint.placement.milp import Auto, Exact
from stint.placement.portfolio import Portfolio
from stint.placement.prices import prove
from stint.placement.problem import build_problem
from stint.placement.scarcity import find_prices
from stint.placement.solver import objective_usd
from stint.sim.soundness import unsound
from stint.testing import suites
from stint.testing.builders import a_job, running_on
from tests.problems import situations


@pytest.mark.parametrize("solver", [Greedy(), Annealing(), Exact(), Auto(), Portfolio()], ids=lambda s: s.name)
class TestEverySolver:  # the next solver adds its name and gets all of this
    @settings(max_examples=25, deadline=None)
    @given(situation=situations())
    def test_is_sound_repeats_itself_and_is_never_worse_than_nothing(self, solver, situation):
        suites.check_sound(solver, build_problem(situation, queue.in_order(situation)))


@pytest.mark.parametrize("solver", [Auto(), Portfolio()], ids=lambda s: s.name)
@settings(max_examples=80, deadline=None)
@given(situation=situations(most_jobs=2, most_nodes=2, topologies=False))  # those are left to greedy
def test_as_good_as_trying_every_order_and_place_at_the_starts_it_knows(solver, situation):
    jobs = tuple(j for j in queue.in_order(situation) if j.priority == 0)
    problem = build_problem(situation, jobs)
    found = objective_usd(problem, suites.solve(solver, problem))
    assert found <= suites.best_of_all(problem) + 1e-6


@pytest.mark.parametrize("solver", [Annealing(), Auto(), Portfolio()], ids=lambda s: s.name)
@settings(max_examples=25, deadline=None)
@given(situation=situations())
def test_never_worse_than_greedy(solver, situation):
    problem = build_problem(situation, queue.in_order(situation))
    cost = {s.name: objective_usd(problem, suites.solve(s, problem)) for s in (Greedy(), solver)}
    assert cost[solver.name] <= cost["greedy"] + 1e-9


@settings(max_examples=60, deadline=None)
@given(situation=situations(most_jobs=3), seed=st.integers(0, 9), much=st.sampled_from([0.0, 0.1, 1.0, 30.0]))
def test_any_prices_of_capacity_prove_a_bound(situation, seed, much):
    problem = build_problem(situation, queue.in_order(situation))
    market = lay_out(problem)
    dice = np.random.default_rng(seed)
    prices = prove(
        problem, market, much * dice.random(market.capacity.shape) * dice.integers(0, 2, market.capacity.shape)
    )
    for solver in (Greedy(), Portfolio()):
        answer = suites.solve(solver, problem)
        placed = np.array([c is not None for c in answer.choices], dtype=bool)
        left_out = float(problem.hold_usd[~placed].sum())
        assert prices.bound_usd(placed) <= objective_usd(problem, answer) - left_out + 1e-6


@settings(max_examples=40, deadline=None)
@given(situation=situations())
def test_prices_that_are_found_prove_no_less_than_none(situation):
    problem = build_problem(situation, queue.in_order(situation))
    found = find_prices(problem)
    alone = prove(problem, found.market, np.zeros_like(found.unit_usd))
    everybody = np.isfinite(alone.least_usd)
    assert found.bound_usd(everybody) >= alone.bound_usd(everybody)


@settings(max_examples=40, deadline=None)
@given(situation=situations())
def test_every_job_gets_exactly_one_answer_and_every_no_says_why(situation):
    plan = decide(situation)
    answered = [part.job for part in (*plan.placements, *plan.holds, *plan.stays, *plan.recalls)]
    assert sorted(answered) == sorted(j.id for j in situation.jobs if not j.suspended)
    assert all(h.message for h in plan.holds)
    assert plan.certificate is not None
    assert plan.certificate.objective_usd >= plan.certificate.bound_usd - 1e-6


@settings(max_examples=60, deadline=None)
@given(situation=situations(), hours_left=st.floats(0.1, 50), moves=st.integers(1, 4))
def test_gangs_make_room_only_where_that_leaves_a_sound_plan_with_less_that_is_late(situation, hours_left, moves):
    running = [_on(node, situation, hours_left) for node in situation.nodes if node.used.gpus]
    jobs = (*situation.jobs, *running)
    calm = decide(replace(situation, jobs=jobs))
    plan = decide(replace(situation, jobs=jobs, settings=replace(situation.settings, moves_per_hour=moves)))
    assert unsound(replace(situation, jobs=jobs), plan) == []
    answered = [part.job for part in (*plan.placements, *plan.holds, *plan.stays, *plan.recalls)]
    assert sorted(answered) == sorted(j.id for j in jobs)
    gone = [r.job for r in plan.recalls if r.reason is Reason.MAKES_ROOM]
    assert len(gone) <= moves
    if gone:
        assert all(r.job in {j.id for j in running} for r in plan.recalls)
        waits = {h.job: h for h in plan.holds if h.reason is Reason.MAKES_ROOM}
        deadlines = {j.id: j.deadline for j in jobs}
        assert any(deadlines[j] and h.chosen.finish <= deadlines[j] for j, h in waits.items())
        assert {p.job: p.nodes for p in plan.placements}.items() <= {p.job: p.nodes for p in calm.placements}.items()


def _on(node, situation, hours_left):
    """A gang that has all of a node that is taken, and writes checkpoints."""
    offering = next(o for o in situation.offerings if o.id == node.offering)
    saves = Checkpoint(every=timedelta(hours=1), restart=timedelta(minutes=6))
    job = a_job(f"on-{node.name}", hours=hours_left, checkpoint=saves, speeds={"A100-80GB": 1.0, "H100-SXM": 1.0})
    job = replace(job, per_worker=node.used)
    return running_on(job, node, offering=offering, hours_left=hours_left)


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
