from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linprog

from hack.bench.consolidate import Gate, consolidate, with_moves_charged
from stint.placement.fleet.certificate import prove
from stint.placement.fleet.exact import _dual_feasible, solve_whole
from stint.placement.fleet.fluid import FluidProgramme
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.offers import offers_of, outdone
from stint.placement.fleet.plan import Effort, plan_fleet
from stint.placement.fleet.verify import broken_rules
from tests.fleets import a_fleet, fleets

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


@settings(max_examples=200, deadline=None)
@given(fleet=fleets(most_jobs=3), data=st.data())
def test_no_plan_beats_what_branch_and_bound_claims_or_prices_prove(fleet, data):
    small = data.draw(st.lists(st.booleans(), min_size=len(fleet.limit) - 1, max_size=len(fleet.limit) - 1))
    fleet = replace(fleet, capacity=fleet.capacity * np.where([False, *small], 0.5, 1.0)[:, None])
    least, offers = least_by_force(fleet), offers_of(fleet)
    whole = solve_whole(fleet, offers, nodes=100, gap=0.0)
    assert whole is not None
    assert whole.bound_usd_per_hour <= least + 1e-6
    assert FluidProgramme(fleet, offers).solve().proof.bound_usd_per_hour <= least + 1e-6


def patterns(capacity: np.ndarray, shape: np.ndarray, most: int = 9) -> Iterator[np.ndarray]:
    """How many workers of each shape one node can hold together: every way, but for those with very many."""
    for workers in itertools.product(*(range(min(most, _fit(capacity, need)) + 1) for need in shape)):
        if (np.array(workers) @ shape <= capacity + 1e-9).all():
            yield np.array(workers)


def _fit(capacity: np.ndarray, need: np.ndarray) -> int:
    return int(np.floor(((capacity + 1e-9)[need > 0] / need[need > 0]).min(initial=99)))


@st.composite
def odd_fleets(draw: st.DrawFn) -> Fleet:
    """One pool a market, of any size; workers of any size, some without a GPU; who comes to which market is random."""
    markets = draw(st.integers(1, 3))
    amount = st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 4.5, 5.0, 6.0, 7.3, 8.0])
    gpus = st.sampled_from(draw(st.sampled_from([[1.0, 2.0, 4.0, 6.0], [0.0, 1.0, 3.0], [0.5, 1.0, 1.5]])))
    sizes = draw(st.lists(st.tuples(gpus, amount, amount), min_size=1, max_size=4, unique=True))
    shapes = sorted(s for s in sizes if any(s)) or [(1.0, 1.0, 1.0)]
    ways = [draw(st.lists(st.integers(0, markets - 1), min_size=1, unique=True)) for _ in shapes]
    table = np.array([(c, m) for c, here in enumerate(ways) for m in sorted(here)])
    node = st.tuples(st.sampled_from([1.0, 2.0, 4.0, 8.0]), *[st.sampled_from([2.0, 4.0, 7.5, 8.0, 10.0])] * 2)
    return Fleet(
        capacity=np.array(draw(st.lists(node, min_size=markets, max_size=markets))),
        usd_per_hour=np.ones(markets),
        limit=np.full(markets, np.inf),
        market=np.arange(markets),
        shape=np.array(shapes),
        class_shape=np.arange(len(shapes)),
        count=np.ones(len(shapes), dtype=np.int64),
        column_class=table[:, 0],
        column_market=table[:, 1],
        column_workers=np.ones(len(table), dtype=np.int64),
        column_usd_per_hour=np.zeros(len(table)),
    )


@settings(max_examples=400, deadline=None)
@given(fleet=odd_fleets())
def test_workers_that_share_a_node_take_no_more_than_it_has(fleet):
    """Whatever is reckoned beside what they want: on this rests every bound."""
    offers = offers_of(fleet)
    rows = _dual_feasible(fleet, offers, np.arange(len(offers.pool)))
    for pool in range(len(fleet.limit)):
        here = np.flatnonzero(offers.pool == pool)
        shape = fleet.class_shape[offers.of_class[here]]
        for workers in patterns(fleet.capacity[pool], fleet.shape[shape]):
            assert (workers @ offers.taken[shape, pool] <= offers.capacity[pool] + 1e-6).all()
            for p, some, wants in rows:
                if p == pool:
                    assert workers[np.isin(here, some)] @ wants <= 1.0 + 1e-6


def test_what_a_worker_leaves_nobody_a_use_for_is_taken():
    heavy, light = (4.0, 60.0, 64.0), (1.0, 12.0, 16.0)  # on 8 GPUs, 96 cores, 768 GiB
    offers = offers_of(a_fleet([(0, 8.0, np.inf)], [(heavy, [(0, 1)]), (light, [(0, 1)])]))
    assert offers.taken[:, 0].tolist() == [[1.0, 12.0, 16.0, 0.0], [5.0, 60.0, 720.0, 1.0]]  # three light ones beside
    offers = offers_of(a_fleet([(0, 8.0, np.inf)], [(heavy, [(0, 1)])]))
    assert offers.taken[:, 0].tolist() == [[8.0, 96.0, 768.0, 1.0]]
    offers = offers_of(a_fleet([(0, 8.0, np.inf), (1, 8.0, np.inf)], [(heavy, [(0, 1)]), (light, [(1, 1)])]))
    assert offers.taken[1, 0].tolist() == [8.0, 96.0, 768.0, 1.0]  # the light ones go elsewhere


@settings(max_examples=200, deadline=None)
@given(fleet=fleets(most_jobs=3), free=st.booleans())
def test_markets_that_another_outdoes_are_not_missed(fleet, free):
    if free:
        fleet = replace(fleet, limit=np.where(fleet.usd_per_hour > 4.0, np.inf, fleet.limit))
    out = outdone(fleet)
    stays = ~out
    assert (np.unique(fleet.column_class[stays]) == np.arange(len(fleet.count))).all()
    rest = replace(
        fleet,
        column_class=fleet.column_class[stays],
        column_market=fleet.column_market[stays],
        column_workers=fleet.column_workers[stays],
        column_usd_per_hour=fleet.column_usd_per_hour[stays],
    )
    assert least_by_force(rest) == pytest.approx(least_by_force(fleet))


@pytest.mark.parametrize(
    ("second", "ways", "out"),
    [
        ((8.0, np.inf), [(0, 1), (1, 1)], [False, True]),  # of two that are equal the first stays
        ((7.0, np.inf), [(0, 1), (1, 1)], [True, False]),
        ((7.0, 3.0), [(0, 1), (1, 1)], [False, False]),  # a limit keeps both
        ((9.0, 3.0), [(0, 1), (1, 1)], [False, True]),
        ((9.0, 3.0), [(0, 2), (1, 1)], [False, False]),  # there it needs fewer workers
    ],
)
def test_which_market_is_outdone(second, ways, out):
    fleet = a_fleet([(0, 8.0, np.inf), (1, *second)], [((8.0, 32.0, 128.0), ways)])
    assert outdone(fleet).tolist() == out


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
    again = hot.solve()
    assert again.usd_per_hour == pytest.approx(new.usd_per_hour, rel=5e-4, abs=1e-6)
    assert again.proof.bound_usd_per_hour == pytest.approx(new.proof.bound_usd_per_hour, rel=1e-3, abs=1e-6)


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
