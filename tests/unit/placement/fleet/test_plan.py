from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hack.bench.consolidate import Gate, consolidate, with_moves_charged
from hack.bench.incremental import LastFullPlan
from stint.placement.fleet.exact import solve_whole
from stint.placement.fleet.fluid import FluidProgramme
from stint.placement.fleet.improve import sweep, sweep_gangs
from stint.placement.fleet.model import FleetPlan
from stint.placement.fleet.offers import offers_of
from stint.placement.fleet.partial_plan import NoRoomError, PartialPlan
from stint.placement.fleet.plan import Effort, plan_fleet
from stint.placement.fleet.rounding import Bound
from stint.placement.fleet.verify import broken_rules
from stint.placement.sifting import NoPricesError
from tests.fleets import a_fleet

ONE, FOUR, EIGHT = (1.0, 4.0, 16.0), (4.0, 16.0, 64.0), (8.0, 32.0, 128.0)
UNLIMITED = np.inf


def plan(fleet, *, steps=50):
    return plan_fleet(fleet, effort=Effort(steps=steps, nodes=100), rng=np.random.default_rng(0))


def test_what_is_scarce_goes_to_those_who_save_most_by_it():
    pools = [(0, 10.0, UNLIMITED), (1, 4.0, 1.0)]
    dear, cheap = (EIGHT, [(0, 3), (1, 1)]), (EIGHT, [(0, 1), (1, 1)])  # the first would need three nodes elsewhere
    found = plan(a_fleet(pools, [cheap, dear]))
    assert found.plan.usd_per_hour == pytest.approx(14.0)
    assert found.plan.column.tolist() == [0, 3]
    assert found.gap == pytest.approx(0.0, abs=1e-6)


def test_one_more_node_is_worth_what_it_would_save():
    pools = [(0, 10.0, UNLIMITED), (1, 4.0, 2.0)]
    found = plan(a_fleet(pools, [(EIGHT, [(0, 1), (1, 1)])] * 5))
    assert found.fluid.proof.node_worth_usd[1] == pytest.approx(6.0)
    assert found.fluid.proof.node_worth_usd[0] == 0.0


def test_a_gang_never_straddles_markets():
    found = plan(a_fleet([(0, 10.0, UNLIMITED), (1, 1.0, 1.0)], [(EIGHT, [(0, 2), (1, 2)])]))
    assert set(found.plan.node_pool.tolist()) == {0}


def test_branch_and_bound_puts_no_two_workers_on_a_node_that_want_most_of_it_each():
    wide = (4.0, 60.0, 64.0)  # of 8 GPUs and 96 cores: two nodes' worth of room has three of them, and holds two
    fleet = a_fleet([(0, 8.0, UNLIMITED), (1, 6.0, UNLIMITED)], [(wide, [(0, 3)]), ((4.0, 48.0, 64.0), [(1, 2)])])
    whole = solve_whole(fleet, offers_of(fleet), nodes=100, gap=0.0)
    assert whole is not None
    assert whole.nodes.tolist() == [3, 1]
    assert whole.bound_usd_per_hour == pytest.approx(30.0)


def test_a_wide_gang_is_tried_elsewhere_as_a_whole():
    fleet = a_fleet([(0, 8.0, UNLIMITED), (1, 5.0, UNLIMITED)], [(EIGHT, [(0, 30), (1, 30)])])
    each = np.arange(30)
    bound = Bound(
        column=np.array([0]),
        node_pool=np.zeros(30, dtype=np.int64),
        entry_job=np.zeros(30, dtype=np.int64),
        entry_node=each,
        entry_workers=np.ones(30, dtype=np.int64),
        loose=np.zeros(0, dtype=np.int64),
    )
    proof = FluidProgramme(fleet, offers_of(fleet)).solve().proof
    partial = PartialPlan(fleet, offers_of(fleet), bound, proof, besides=np.ones(30, dtype=bool))
    sweep(partial.in_play, thrift=0.0)
    assert partial.plan().usd_per_hour == pytest.approx(240.0)  # node by node it is left alone
    sweep_gangs(partial.in_play, thrift=0.0)
    assert partial.plan().usd_per_hour == pytest.approx(150.0)
    assert broken_rules(fleet, partial.plan()) == []


def test_no_room_within_the_limits_is_said():
    with pytest.raises(NoPricesError, match="Infeasible"):
        plan(a_fleet([(0, 1.0, 1.0)], [(EIGHT, [(0, 2)])]))
    three = (3.0, 12.0, 48.0)
    with pytest.raises(NoRoomError, match="fits nowhere within the limits"):  # in fractions, five fit on two nodes
        plan(a_fleet([(0, 1.0, 2.0)], [(three, [(0, 5)])]))


def test_thousands_of_jobs_that_are_alike_are_planned_as_one_class():
    fleet = a_fleet([(0, 8.0, UNLIMITED)], [(ONE, [(0, 1)])])
    found = plan(replace(fleet, count=np.array([10_000])))
    assert len(found.plan.node_pool) == 1_250
    assert found.gap == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("usd_per_hour", np.array([np.nan]), "usd_per_hour must be finite"),
        ("usd_per_hour", np.array([-1.0]), "usd_per_hour must be finite and >= 0"),
        ("limit", np.array([-1.0]), "limit must be >= 0"),
        ("column_workers", np.array([0]), "column_workers must be >= 1"),
    ],
)
def test_a_fleet_that_makes_no_sense_is_refused(name, value, said):
    with pytest.raises(ValueError, match=said):
        replace(a_fleet([(0, 8.0, UNLIMITED)], [(ONE, [(0, 1)])]), **{name: value})


def test_a_class_without_a_column_is_refused():
    with pytest.raises(ValueError, match="every class needs a column"):
        a_fleet([(0, 8.0, UNLIMITED)], [(ONE, [(0, 1)]), (FOUR, [])])


class TestVerify:
    fleet = a_fleet([(0, 8.0, 2.0), (1, 8.0, 2.0)], [(EIGHT, [(0, 2)]), (FOUR, [(0, 1), (1, 1)])])
    sound = FleetPlan(
        column=np.array([0, 2]),
        node_pool=np.array([0, 0, 1]),
        worker_job=np.array([0, 0, 1]),
        worker_node=np.array([0, 1, 2]),
        workers=np.array([1, 1, 1]),
        usd_per_hour=24.0,
    )

    def test_a_sound_plan_passes(self):
        assert broken_rules(self.fleet, self.sound) == []

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"column": np.array([0])}, "1 columns for 2 jobs"),
            ({"column": np.array([1, 2])}, "job 0 has a column of another class"),
            ({"workers": np.array([1, 0, 1])}, "job 0 has 1 of 2 workers"),
            ({"worker_node": np.array([0, 2, 2])}, "job 0 has workers in another market"),
            ({"worker_node": np.array([0, 0, 2])}, "node 0 holds more than it has"),
            ({"node_pool": np.array([0, 0, 1, 0]), "usd_per_hour": 32.0}, "pool 0 has 3 nodes, 2 are allowed"),
            ({"usd_per_hour": 20.0}, "says it costs 20.0000 USD/h, and costs 24.0000"),
        ],
    )
    def test_each_broken_rule_is_named(self, change, said):
        assert any(said in text for text in broken_rules(self.fleet, replace(self.sound, **change)))


class TestConsolidation:
    """Two nodes, each half full of one gang."""

    fleet = a_fleet([(0, 8.0, UNLIMITED)], [(FOUR, [(0, 1)])] * 2)
    spread = FleetPlan(
        column=np.array([0, 1]),
        node_pool=np.array([0, 0]),
        worker_job=np.array([0, 1]),
        worker_node=np.array([0, 1]),
        workers=np.array([1, 1]),
        usd_per_hour=16.0,
    )
    proof = FluidProgramme(fleet, offers_of(fleet)).solve().proof

    def after(self, **changes):
        gate = Gate(move_usd=np.full(2, 2.0), hours=np.full(2, 4.0))
        return consolidate(self.fleet, self.spread, self.proof, replace(gate, **changes))

    def test_one_gang_moves_where_that_pays(self):
        after = self.after()
        assert after.plan.usd_per_hour == pytest.approx(8.0)
        assert len(after.moved) == 1
        assert after.move_usd == pytest.approx(2.0)

    def test_what_is_on_wasteful_nodes_is_packed_anew(self):
        three = a_fleet([(0, 8.0, UNLIMITED)], [(FOUR, [(0, 1)])] * 4)
        spread = FleetPlan(
            column=np.arange(4),
            node_pool=np.zeros(3, dtype=np.int64),
            worker_job=np.arange(4),
            worker_node=np.array([0, 1, 2, 2]),
            workers=np.ones(4, dtype=np.int64),
            usd_per_hour=24.0,
        )
        for pause, moved in ((2.0, [0, 1]), (6.0, [0])):  # both for 3/4 USD/h each, or one after another for 9/4
            gate = Gate(move_usd=np.full(4, pause), hours=np.full(4, 4.0))
            charged = with_moves_charged(three, spread, gate)
            offers = offers_of(charged)
            fluid = FluidProgramme(charged, offers).solve()
            after = consolidate(three, spread, fluid.proof, gate, (offers, fluid))
            assert broken_rules(three, after.plan) == []
            assert after.plan.usd_per_hour == pytest.approx(16.0)
            assert after.moved.tolist() == moved

    def test_nobody_moves_where_it_does_not_pay_back(self):
        assert len(self.after(move_usd=np.full(2, 22.0)).moved) == 0  # 8 USD/h x 4 h = 32 < 1.5 x 22
        assert len(self.after(move_usd=np.full(2, 21.0)).moved) == 1

    def test_nobody_moves_who_is_nearly_done(self):
        assert len(self.after(hours=np.full(2, 0.3)).moved) == 0

    def test_no_more_than_may_move(self):
        assert len(self.after(most_moves=0).moved) == 0

    def test_a_gang_moves_to_another_market_where_the_fluid_plan_has_it(self):
        fleet = a_fleet([(0, 8.0, UNLIMITED), (1, 2.0, 1.0)], [(EIGHT, [(0, 1), (1, 1)])])
        there = FleetPlan(
            column=np.array([0]),
            node_pool=np.array([0]),
            worker_job=np.array([0]),
            worker_node=np.array([0]),
            workers=np.array([1]),
            usd_per_hour=8.0,
        )
        proof = FluidProgramme(fleet, offers_of(fleet)).solve().proof
        for move_usd, moved in ((1.0, [0]), (20.0, [])):
            gate = Gate(move_usd=np.array([move_usd]), hours=np.array([4.0]))
            charged = with_moves_charged(fleet, there, gate)
            offers = offers_of(charged)
            priced = offers, FluidProgramme(charged, offers).solve()
            assert consolidate(fleet, there, proof, gate, priced).moved.tolist() == moved


class TestIncremental:
    fleet = a_fleet([(0, 8.0, 3.0), (1, 5.0, 1.0)], [(FOUR, [(0, 1)])])

    def standing(self):
        found = plan(self.fleet)
        return LastFullPlan(self.fleet, found.plan, found.fluid.proof)

    def find(self, standing, need, ways):
        market, workers = (np.array(axis) for axis in zip(*ways, strict=True))
        return standing.find(np.array(need), market, workers, np.zeros(len(ways)))

    def test_room_that_is_there_comes_first(self):
        spot = self.find(self.standing(), FOUR, [(0, 1)])
        assert spot.nodes == (0,)
        assert spot.bought == ()

    def test_what_is_taken_is_gone(self):
        standing = self.standing()
        for _ in range(5):  # one half node there, two more nodes within the limit
            standing.take(self.find(standing, FOUR, [(0, 1)]), np.array(FOUR))
        assert self.find(standing, FOUR, [(0, 1)]) is None

    def test_the_cheaper_market_while_it_lasts(self):
        standing = self.standing()
        spot = self.find(standing, EIGHT, [(0, 1), (1, 1)])
        assert spot.bought == ((1, 1, 1),)
        standing.take(spot, np.array(EIGHT))
        assert self.find(standing, EIGHT, [(0, 1), (1, 1)]).bought == ((0, 1, 1),)

    def test_a_zone_that_the_plan_left_out_has_a_price_too(self):
        cores = (1.0, 48.0, 16.0)  # half of a node's
        fleet = a_fleet([(0, 8.0, UNLIMITED), (1, 8.0, UNLIMITED)], [(cores, [(0, 1), (1, 1)])] * 3)
        found = plan(fleet)
        spot = self.find(LastFullPlan(fleet, found.plan, found.fluid.proof), cores, [(0, 1), (1, 1)])
        assert spot.bought == ()
        assert spot.usd_per_hour == pytest.approx(4.0)
        assert spot.regret_usd_per_hour == pytest.approx(0.0)

    def test_who_leaves_a_node_to_nobody_is_reckoned_to_cost_all_of_it(self):
        wide = (4.0, 90.0, 64.0)
        fleet = a_fleet([(0, 8.0, UNLIMITED)], [(FOUR, [(0, 1)])] * 2)
        found = plan(fleet)
        spot = self.find(LastFullPlan(fleet, found.plan, found.fluid.proof), wide, [(0, 1)])
        assert spot.usd_per_hour == pytest.approx(8.0)
        assert spot.regret_usd_per_hour == pytest.approx(0.0)

    def test_a_gang_larger_than_everything_has_no_place(self):
        assert self.find(self.standing(), EIGHT, [(0, 9), (1, 9)]) is None
