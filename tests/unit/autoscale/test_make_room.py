"""Room for a job that would miss its deadline: who leaves, what it may cost, and who waits meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from stint.decide import decide
from stint.model.job import Checkpoint, Job, Objective, job_id
from stint.model.plan import Reason
from stint.model.situation import Settings, Situation
from stint.placement.greedy import Greedy
from stint.placement.solvers import SOLVERS
from stint.testing.builders import NOW, a_job, a_node, a_situation, an_offering, running_on

SAVES = Checkpoint(every=timedelta(hours=1), restart=timedelta(minutes=6))
A100 = an_offering()
NODES = tuple(a_node(n, A100, used_gpus=8) for n in "ab")


def running(name: str, *nodes, hours_left: float = 20.0, **changes: object) -> Job:
    """For half an hour since its last checkpoint."""
    job = a_job(name, workers=len(nodes), hours=hours_left + 2.5, checkpoint=SAVES, **changes)
    job = replace(job, work=replace(job.work, units_done=2.5 * 3600))
    placed = running_on(job, *nodes, offering=A100, hours_left=hours_left)
    return replace(placed, assignment=replace(placed.assignment, since=NOW - timedelta(hours=2.5)))


def urgent(**changes: object) -> Job:
    return a_job("urgent", hours=2.0, **{"deadline_hours": 3.0, **changes})


def full(*jobs: Job, nodes=NODES, moves: int = 5, payback: float = 1.5) -> Situation:
    settings = Settings(moves_per_hour=moves, payback=payback)
    return a_situation(offerings=[A100], nodes=nodes, jobs=jobs, settings=settings)


def room_of(situation: Situation) -> list[str]:
    return [r.job.removeprefix("team/") for r in decide(situation).requeues if r.reason is Reason.MAKES_ROOM]


def test_one_that_can_wait_leaves_and_the_other_is_told_so():
    patient, other = running("patient", NODES[0]), running("other", NODES[1], deadline_hours=20.5)
    plan = decide(full(patient, other, urgent()))
    (requeue,) = plan.requeues
    assert requeue.job == "team/patient"
    assert requeue.message == (
        "makes room on a for team/urgent, which would otherwise miss its deadline; resumes when there is room"
    )
    (hold,) = plan.holds
    assert (hold.job, hold.reason) == ("team/urgent", Reason.MAKES_ROOM)
    assert hold.message == "starts on a when team/patient has left"
    assert hold.chosen.finish <= NOW + timedelta(hours=3)
    assert [s.job for s in plan.stays] == ["team/other"]


def test_once_they_are_gone_the_job_starts_in_time():
    patient = running("patient", NODES[0])
    again = replace(patient, assignment=None, moved_at=NOW, not_before=NOW + timedelta(seconds=1))
    free = a_node("a", A100)
    plan = decide(full(again, running("other", NODES[1]), urgent(), nodes=(free, NODES[1])))
    (placed,) = plan.placements
    assert (placed.job, placed.nodes, placed.late_by_hours) == ("team/urgent", ("a",), 0.0)
    assert plan.requeues == ()


@pytest.mark.parametrize("solver", sorted(SOLVERS.keys() - {"exact"}))
def test_every_solver_makes_room_that_lets_gangs_of_one_batch_wait_for_each_other(solver: str):
    situation = full(running("patient", NODES[0]), urgent(), nodes=NODES[:1])
    assert room_of(replace(situation, settings=replace(situation.settings, solver=solver))) == ["patient"]


def test_room_is_tried_with_the_solver_at_hand():
    """As when another solver has to stand in: the one that failed is not asked again."""
    situation = full(running("patient", NODES[0]), urgent(), nodes=NODES[:1])
    broken = replace(situation, settings=replace(situation.settings, solver="none of them"))
    (requeue,) = decide(broken, solver=Greedy()).requeues
    assert requeue.job == "team/patient"


def test_the_one_whose_pause_costs_least_leaves():
    fresh = running("fresh", NODES[1])
    fresh = replace(fresh, assignment=replace(fresh.assignment, since=NOW - timedelta(hours=2, minutes=1)))
    assert room_of(full(running("stale", NODES[0]), fresh, urgent())) == ["fresh"]


def test_small_ones_leave_only_as_many_as_it_takes():
    node = a_node("a", A100, used_gpus=8)
    small = [running(f"s{i}", node, gpus=2) for i in range(4)]
    assert room_of(full(*small, urgent(gpus=4), nodes=(node,), payback=1.0)) == ["s0", "s1"]
    assert room_of(full(*small, urgent(gpus=4), nodes=(node,), payback=1.0, moves=1)) == []


def test_a_gang_over_several_nodes_frees_them_all():
    wide = running("wide", *NODES)
    assert room_of(full(wide, urgent(workers=2))) == ["wide"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"moves": 0}, "moves are off"),
        ({"payback": 100.0}, "being late is not worth that much"),
        ({"victim": {"deadline_hours": 20.1}}, "the other would be late instead"),
        ({"victim": {"checkpoint": Checkpoint()}}, "it would lose everything"),
        ({"victim": {"moved_at": NOW - timedelta(minutes=30)}}, "it was moved half an hour ago"),
        ({"urgent": {"deadline_hours": 1.0}}, "it is late anyway"),
        ({"urgent": {"deadline_hours": 30.0}}, "it has the time to wait"),
        ({"urgent": {"deadline": None}}, "it has no deadline"),
    ],
)
def test_nobody_leaves_where(change: dict, why: str):
    victim, job = running("patient", NODES[0]), urgent()
    if "victim" in change:
        victim = replace(
            running("patient", NODES[0], deadline_hours=change["victim"].pop("deadline_hours", None)),
            **change["victim"],
        )
    if "urgent" in change:
        job = urgent(**change["urgent"])
    settings = {k: v for k, v in change.items() if k in ("moves", "payback")}
    assert room_of(full(victim, job, nodes=NODES[:1], **settings)) == [], why


def test_one_without_a_place_in_sight_gets_room_too():
    """Nobody has said yet when the gang that runs will end."""
    new = running("new", NODES[0])
    new = replace(new, assignment=replace(new.assignment, finish=None))
    situation = full(new, urgent(), nodes=NODES[:1])
    (hold,) = decide(replace(situation, settings=Settings())).holds
    assert hold.chosen is None
    assert room_of(situation) == ["new"]


def test_lateness_that_costs_more_is_worth_more_room():
    dear = Objective(usd_per_hour=100.0)
    victim = running("patient", NODES[0], objective=dear)
    cheap = urgent()
    assert room_of(full(victim, cheap, nodes=NODES[:1])) == []
    assert room_of(full(victim, urgent(objective=Objective(lateness_usd_per_hour=1000.0)), nodes=NODES[:1])) == [
        "patient"
    ]


def test_while_gangs_are_leaving_nobody_else_is_asked_to():
    leaving = replace(running("gone", NODES[1]), assignment=None, moved_at=NOW, not_before=NOW + timedelta(seconds=1))
    assert room_of(full(running("patient", NODES[0]), leaving, urgent())) == []


def test_who_would_start_now_in_the_room_that_is_made_waits_too():
    """Half of the node is free, and another job would take it; the urgent one needs all of it."""
    node = a_node("a", A100, used_gpus=4)
    half = running("half", node, gpus=4)
    quick = a_job("quick", gpus=4, hours=1.0, created=NOW)
    plan = decide(full(half, urgent(), quick, nodes=(node,)))
    assert [r.job for r in plan.requeues] == ["team/half"]
    assert {h.job: h.reason for h in plan.holds} == {
        "team/quick": Reason.MAKES_ROOM,
        "team/urgent": Reason.MAKES_ROOM,
    }
    assert plan.placements == ()


def of_another_namespace(job: Job) -> Job:
    return replace(job, id=job_id("other", job.id.partition("/")[2]))


def across(*jobs: Job, budget: int) -> list[str]:
    situation = full(*jobs)
    settings = replace(situation.settings, evictions_across_namespaces_per_hour=budget)
    requeues = decide(replace(situation, settings=settings)).requeues
    assert all(r.made_room_for == "other/urgent" for r in requeues)
    return [r.job for r in requeues]


def test_gangs_of_another_namespace_leave_only_within_a_budget_of_its_own():
    jobs = running("patient", NODES[0]), running("late", NODES[1], deadline_hours=20.5)
    dear = of_another_namespace(urgent(objective=Objective(lateness_usd_per_hour=1e6)))
    assert across(*jobs, dear, budget=0) == []
    assert across(*jobs, dear, budget=1) == ["team/patient"]
    before = replace(
        running("gone", NODES[1]), assignment=None, moved_at=NOW - timedelta(minutes=30), moved_for="other/urgent"
    )
    assert across(*jobs, before, dear, budget=1) == []
    own = replace(before, moved_for="team/urgent")
    assert across(*jobs, own, dear, budget=1) == ["team/patient"]
