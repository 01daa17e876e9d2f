from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from stint.decide import decide
from stint.model.job import Checkpoint
from stint.model.offering import CapacityType
from stint.model.plan import Reason
from stint.model.situation import Settings
from stint.placement.greedy import Greedy
from stint.testing.builders import NOW, a_job, a_node, a_pool, a_situation, an_offering, running_on

SAVES = Checkpoint(every=timedelta(hours=1), restart=timedelta(minutes=6))
DEAR, CHEAP = an_offering("dear", usd=16.0), an_offering("cheap", usd=8.0)


def settled(job, *nodes, offering, hours_left=10.0):
    """Running for long enough to be moved, half an hour past its last checkpoint."""
    placed = running_on(job, *nodes, offering=offering, hours_left=hours_left)
    return replace(placed, assignment=replace(placed.assignment, since=NOW - timedelta(hours=2.5)))


def cheaper_place(*, hours=20.0, moves=5, payback=1.5, besides=(), **changes):
    """A job on a dear node, and a cheap one that stands free."""
    here, there = a_node("here", DEAR, used_gpus=8), a_node("there", CHEAP)
    job = a_job("job", hours=hours, checkpoint=SAVES, **changes)
    job = settled(
        replace(job, work=replace(job.work, units_done=2.5 * 3600)), here, offering=DEAR, hours_left=hours - 2.5
    )
    settings = Settings(moves_per_hour=moves, payback=payback)
    return a_situation(offerings=[DEAR, CHEAP], nodes=[here, there], jobs=[job, *besides], settings=settings)


class TestToACheaperPlace:
    def test_it_is_tried_with_the_solver_at_hand(self):
        given = cheaper_place()
        broken = replace(given, settings=replace(given.settings, solver="none of them"))
        assert decide(broken, solver=Greedy()).requeues == decide(given).requeues != ()

    def test_no_gang_moves_from_one_paid_for_node_to_another(self):
        given = cheaper_place()
        dear, cheap = (replace(o, capacity_type=CapacityType.RESERVED) for o in given.offerings)
        jobs = tuple(replace(j, capacity_types=(CapacityType.RESERVED,)) for j in given.jobs)
        assert decide(replace(given, offerings=(dear, cheap), jobs=jobs)).requeues == ()

    def test_a_gang_moves_and_is_told_what_that_saves(self):
        plan = decide(cheaper_place())
        (requeue,) = plan.requeues
        assert requeue.reason is Reason.CHEAPER_ELSEWHERE
        assert plan.stays == ()
        # 17.5 h at 8 instead of 16 USD/h, less half an hour again and a start of six minutes, time valued
        saved = 17.5 * 8.0 - (0.5 + 0.1) * (8.0 + 1.0)
        assert f"saves {saved:.2f} USD" in requeue.message

    def test_it_goes_there_when_it_waits(self):
        situation = cheaper_place()
        kept = replace(situation.jobs[0].work, units_done=2.0 * 3600)
        waiting = replace(situation.jobs[0], assignment=None, work=kept)
        free = replace(situation.nodes[0], used=type(situation.nodes[0].used)())
        plan = decide(replace(situation, jobs=(waiting,), nodes=(free, situation.nodes[1])))
        assert plan.placements[0].nodes == ("there",)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"moves": 0}, "moves are off"),
            ({"hours": 3.0}, "it is nearly done"),
            ({"payback": 40.0}, "it does not pay back that often"),
            ({"moved_at": NOW - timedelta(minutes=30)}, "it was moved half an hour ago"),
            ({"checkpoint_every": None}, "it would lose everything"),
            ({"besides": (a_job("waits", workers=9),)}, "somebody waits"),
        ],
    )
    def test_it_stays_where(self, change, why):
        every = change.pop("checkpoint_every", "hourly")
        situation = cheaper_place(**change)
        if every is None:
            lost = replace(situation.jobs[0], checkpoint=Checkpoint(every=None))
            situation = replace(situation, jobs=(lost,))
        assert decide(situation).requeues == (), why

    def test_no_more_than_so_many_an_hour(self):
        moved = replace(
            settled(a_job("other", checkpoint=SAVES), a_node("there", CHEAP), offering=CHEAP),
            moved_at=NOW - timedelta(minutes=59),
        )
        situation = cheaper_place(moves=1, besides=(moved,))
        third = a_node("third", CHEAP)
        situation = replace(situation, nodes=(*situation.nodes, third))
        assert decide(situation).requeues == ()
        later = replace(moved, moved_at=NOW - timedelta(minutes=61))
        assert len(decide(replace(situation, jobs=(situation.jobs[0], later))).requeues) == 1

    def test_a_place_that_is_taken_is_no_place(self):
        situation = cheaper_place()
        full = a_node("there", CHEAP, used_gpus=8)
        assert decide(replace(situation, nodes=(situation.nodes[0], full))).requeues == ()


def half_full(*, hours=20.0, advise_only=False, removable=True, **changes):
    """Two nodes of a pool that can shrink, each half full of one gang."""
    nodes = [a_node(f"n{i}", DEAR, used_gpus=4, removable=removable) for i in range(2)]
    jobs = [
        settled(
            a_job(f"j{i}", gpus=4, hours=hours, checkpoint=SAVES, **changes), n, offering=DEAR, hours_left=hours - 2.5
        )
        for i, n in enumerate(nodes)
    ]
    jobs = [replace(j, work=replace(j.work, units_done=2.5 * 3600)) for j in jobs]
    pool = a_pool(DEAR, scaler="Kwok", most=4, advise_only=advise_only)
    settings = Settings(moves_per_hour=5)
    return a_situation(offerings=[DEAR], pools=[pool], nodes=nodes, jobs=jobs, settings=settings)


class TestOffAWastefulNode:
    def test_one_gang_leaves_and_is_kept_off_the_node_for_a_while(self):
        plan = decide(half_full())
        (requeue,) = plan.requeues
        assert requeue.avoid == ("n0",)
        assert requeue.job == "team/j0"
        assert "leaves node n0, which is then given back" in requeue.message
        assert [s.job for s in plan.stays] == ["team/j1"]

    def test_it_then_joins_the_other(self):
        situation = half_full()
        waiting = replace(situation.jobs[0], assignment=None, avoid=("n0",))
        free = replace(situation.nodes[0], used=type(situation.nodes[0].used)())
        plan = decide(replace(situation, jobs=(waiting, situation.jobs[1]), nodes=(free, situation.nodes[1])))
        assert plan.placements[0].nodes == ("n1",)

    @pytest.mark.parametrize("change", [{"hours": 3.0}, {"advise_only": True}, {"removable": False}])
    def test_nobody_leaves_for_nothing(self, change):
        assert decide(half_full(**change)).requeues == ()

    def test_a_reserved_node_is_paid_for_when_it_is_empty_too(self):
        given = half_full()
        reserved = replace(DEAR, capacity_type=CapacityType.RESERVED)
        jobs = tuple(replace(j, capacity_types=(CapacityType.RESERVED,)) for j in given.jobs)
        assert decide(replace(given, offerings=(reserved,), jobs=jobs)).requeues == ()

    def test_a_node_on_which_others_are_is_left_alone(self):
        situation = half_full()
        shared = tuple(replace(n, used=replace(n.used, gpus=5)) for n in situation.nodes)
        assert decide(replace(situation, nodes=shared)).requeues == ()
