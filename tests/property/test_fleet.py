from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linprog

from stint.placement.fleet.certificate import prove
from stint.placement.fleet.consolidate import Gate, consolidate, with_moves_charged
from stint.placement.fleet.fluid import FluidProgramme
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.offers import offers_of
from stint.placement.fleet.plan import Effort, plan_fleet
from stint.placement.fleet.verify import broken_rules
from tests.fleets import fleets

FEW = Effort(steps=20, nodes=50)


def planned(fleet: Fleet):
    return plan_fleet(fleet, effort=FEW, rng=np.random.default_rng(0))


def least_by_force(fleet: Fleet) -> float:
    """Over every column of every job and every way to put worker after worker onto nodes. For the tiniest cases."""
    best = np.inf
    ways = [np.flatnonzero(fleet.column_class == c) for c in range(len(fleet.count))]
    for columns in itertools.product(*ways):
        workers = []
        for c, column in enumerate(columns):
            need = fleet.shape[fleet.class_shape[c]]
            workers += [(int(fleet.column_market[column]), need)] * int(fleet.column_workers[column])
        workers.sort(key=lambda w: (w[0], tuple(-w[1])))
        best = min(best, _least(fleet, workers, [], 0.0, best))
    return best


def _least(fleet: Fleet, workers: list, nodes: list, usd: float, best: float) -> float:
    if usd >= best:
        return best
    if not workers:
        return usd
    (market, need), rest = workers[0], workers[1:]
    for i, (pool, free) in enumerate(nodes):
        if fleet.market[pool] == market and (free + 1e-9 >= need).all():
            best = _least(fleet, rest, [*nodes[:i], (pool, free - need), *nodes[i + 1 :]], usd, best)
    for pool in np.flatnonzero(fleet.market == market):
        if sum(p == pool for p, _ in nodes) < fleet.limit[pool] and (fleet.capacity[pool] + 1e-9 >= need).all():
            opened = [*nodes, (pool, fleet.capacity[pool] - need)]
            best = _least(fleet, rest, opened, usd + float(fleet.usd_per_hour[pool]), best)
    return best


@settings(max_examples=60, deadline=None)
@given(fleet=fleets())
def test_a_plan_is_sound_proved_and_the_same_again(fleet):
    found, again = planned(fleet), planned(fleet)
    assert broken_rules(fleet, found.plan) == []
    assert found.bound_usd_per_hour <= found.solver_bound_usd_per_hour + 1e-6
    assert found.solver_bound_usd_per_hour <= found.plan.usd_per_hour + 1e-6
    for name in ("column", "node_pool", "worker_job", "worker_node", "workers"):
        np.testing.assert_array_equal(getattr(found.plan, name), getattr(again.plan, name))


@settings(max_examples=200, deadline=None)
@given(fleet=fleets(most_jobs=3))
def test_a_plan_is_as_cheap_as_trying_everything(fleet):
    found, least = planned(fleet), least_by_force(fleet)
    assert found.solver_bound_usd_per_hour <= least + 1e-6
    assert least - 1e-6 <= found.plan.usd_per_hour <= 1.001 * least + 1e-6


@settings(max_examples=60, deadline=None)
@given(fleet=fleets(most_jobs=3), data=st.data())
def test_any_prices_at_all_prove_a_bound(fleet, data):
    offers = offers_of(fleet)
    size = st.floats(0, 20) | st.sampled_from([np.nan, np.inf, -1.0, 1e300])
    unit = data.draw(arrays.arrays(float, offers.capacity.shape, elements=size))
    classes = data.draw(arrays.arrays(float, len(fleet.count), elements=st.floats(0, 100)))
    proof = prove(fleet, offers, np.clip(unit, -1.0, 1e3), classes)
    assert proof.bound_usd_per_hour <= least_by_force(fleet) + 1e-6


@settings(max_examples=40, deadline=None)
@given(fleet=fleets())
def test_sifting_finds_what_the_whole_programme_has(fleet):
    offers = offers_of(fleet)
    pools, resources = offers.capacity.shape
    cost = np.concatenate([fleet.usd_per_hour, fleet.column_usd_per_hour[offers.column]])
    rows = np.zeros((pools * resources, len(cost)))
    for p in range(pools):
        for r in range(resources):
            rows[p * resources + r, p] = -offers.capacity[p, r]
            rows[p * resources + r, pools:] = np.where(offers.pool == p, offers.use[:, r], 0.0)
    whole = np.zeros((len(fleet.count), len(cost)))
    whole[offers.of_class, pools + np.arange(len(offers.column))] = 1.0
    bounds = [(0, None if np.isinf(limit) else limit) for limit in fleet.limit] + [(0, None)] * len(offers.column)
    answer = linprog(cost, A_ub=rows, b_ub=np.zeros(len(rows)), A_eq=whole, b_eq=fleet.count, bounds=bounds)
    found = FluidProgramme(fleet, offers).solve()
    assert found.usd_per_hour == pytest.approx(answer.fun, rel=5e-4)
    assert found.proof.bound_usd_per_hour <= answer.fun + 1e-6


@settings(max_examples=60, deadline=None)
@given(fleet=fleets(), data=st.data())
def test_a_hot_programme_answers_as_a_new_one_does(fleet, data):
    offers = offers_of(fleet)
    hot = FluidProgramme(fleet, offers)
    hot.dive(hot.solve(), rounds=2, each=2)
    count = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(fleet.count), max_size=len(fleet.count))))
    hot.recount(np.arange(len(count)), count)
    new = FluidProgramme(replace(fleet, count=count), offers).solve()
    assert hot.solve().usd_per_hour == pytest.approx(new.usd_per_hour, rel=5e-4, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(fleet=fleets(), pause=st.floats(0, 10), moves=st.integers(0, 3), anew=st.booleans(), data=st.data())
def test_consolidation_is_sound_pays_and_keeps_to_its_number_of_moves(fleet, pause, moves, anew, data):
    found = planned(fleet)
    stays = np.array(data.draw(st.lists(st.booleans(), min_size=len(fleet.count), max_size=len(fleet.count))))
    there, before = replace(fleet, count=stays.astype(int)), left_behind(fleet, found.plan, stays)
    assert broken_rules(there, before) == []
    jobs = len(before.column)
    gate = Gate(move_usd=np.full(jobs, pause), hours=np.full(jobs, 4.0), payback=1.5, most_moves=moves)
    priced = None
    if anew:
        full = Gate(move_usd=np.full(len(stays), pause), hours=np.full(len(stays), 4.0), payback=1.5)
        charged = with_moves_charged(fleet, found.plan, full)
        offers = offers_of(charged)
        programme = FluidProgramme(charged, offers)
        programme.solve()
        programme.recount(np.arange(len(stays)), stays.astype(int))
        priced = offers, programme.solve()
    after = consolidate(there, before, found.fluid.proof, gate, priced)
    assert broken_rules(there, after.plan) == []
    assert len(after.moved) <= moves
    assert set(changed(before, after.plan)) <= set(after.moved.tolist())
    saved = before.usd_per_hour - after.plan.usd_per_hour
    assert saved * 4.0 >= 1.5 * after.move_usd - 1e-6


def changed(before: FleetPlan, after: FleetPlan) -> list[int]:
    """Jobs in another column. (Nodes have no names, so that other moves cannot be told.)"""
    return np.flatnonzero(before.column != after.column).tolist()


def left_behind(fleet: Fleet, plan: FleetPlan, stays: np.ndarray) -> FleetPlan:
    entries = stays[plan.worker_job]
    used, node = np.unique(plan.worker_node[entries], return_inverse=True)
    pools, column = plan.node_pool[used], plan.column[stays]
    return FleetPlan(
        column=column,
        node_pool=pools,
        worker_job=(np.cumsum(stays) - 1)[plan.worker_job[entries]],
        worker_node=node,
        workers=plan.workers[entries],
        usd_per_hour=float(fleet.usd_per_hour[pools].sum() + fleet.column_usd_per_hour[column].sum()),
    )
