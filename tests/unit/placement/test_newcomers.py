from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from stint.api import snapshot
from stint.decide import decide
from stint.model.job import Objective
from stint.model.plan import Plan, Reason
from stint.model.resources import Resources
from stint.model.situation import Quota, Settings, Situation
from stint.placement.newcomers import MANY, whole
from stint.sim.loop import simulate
from stint.sim.policy import Decides
from stint.sim.soundness import unsound
from stint.testing.builders import NOW, a_figure, a_job, a_node, a_pool, an_offering, carried_out, running_on
from tests.queues import CHEAP, OTHER, RUNS, a_newcomer, queue, then
from tests.stages import a_stage, submitted


@pytest.fixture(scope="module")
def first() -> Plan:
    return decide(queue())


def is_about_everybody(situation: Situation) -> bool:
    plan = decide(situation)
    decided = [x.job for some in (plan.placements, plan.holds, plan.stays, plan.requeues) for x in some]
    assert sorted(decided) == sorted(j.id for j in situation.jobs)
    assert plan == decide(replace(situation, before=None)), "what stood before has no part in it"
    return not plan.is_about_newcomers


def test_a_short_queue_is_decided_about_as_a_whole_each_time():
    assert decide(replace(queue(), jobs=queue().jobs[: MANY - 1])).standing is None


def test_one_more_job_gets_its_place_and_nobody_else_is_decided_about(first):
    situation = then(first, a_newcomer())
    plan = decide(situation)
    assert plan.is_about_newcomers
    assert [(p.job, p.nodes) for p in plan.placements] == [("team/new", ("h0",))]
    assert (plan.holds, [s.job for s in plan.stays]) == ((), [RUNS.id])
    assert unsound(situation, plan) == []
    assert plan.standing.held == first.standing.held
    assert plan.standing.regret_usd == pytest.approx(0.0, abs=1e-6), "it goes where the prices would have it"


def test_together_with_the_last_plan_everybody_is_told(first):
    plan = decide(then(first, a_newcomer(), a_newcomer("full", gpus=8)))
    both = whole(plan, first)
    assert {h.job for h in both.holds} == {h.job for h in first.holds} | {"team/full"}
    assert {h.job: h for h in both.holds if h.job != "team/full"} == {h.job: h for h in first.holds}
    assert both.certificate == first.certificate
    assert whole(first, plan) == first, "a plan about everybody needs no other"


def test_one_after_the_other_until_there_is_no_room(first):
    situation, last = then(first, a_newcomer("n0")), first
    for i in range(1, 4):
        plan = decide(situation)
        assert plan.is_about_newcomers
        last = whole(plan, last)
        situation = carried_out(situation, plan, seconds=5.0)
        situation = replace(situation, jobs=(*situation.jobs, a_newcomer(f"n{i}")))
    there = [j.assignment.nodes for j in situation.jobs if j.id in ("team/n0", "team/n1")]
    assert there == [("h0",), ("h0",)]
    assert {h.job for h in last.holds} >= {"team/n2"}
    assert len(last.holds) == len(first.holds) + 1


def test_a_promise_is_kept_though_the_node_is_free_until_then():
    """A gang waits for 4 GPUs that come back in an hour, and 4 that are free: who takes those must be gone then."""
    runs = running_on(
        a_job("half", gpus=4, speeds={"H100-SXM": 1.0}), a_node("h0", OTHER), offering=OTHER, hours_left=1
    )
    pricey = Objective(usd_per_hour=100.0)
    waits = a_job("whole", speeds={"H100-SXM": 1.0}, hours=5.0, objective=pricey)
    given = queue()
    nodes = tuple(replace(n, used=runs.per_worker) if n.name == "h0" else n for n in given.nodes)
    given = replace(given, nodes=nodes, jobs=(*given.jobs, runs, waits))
    plan = decide(given)
    (promise,) = [r for r in plan.standing.reserved if r.job == waits.id]
    assert promise.nodes == ("h0",)
    for hours, goes in ((0.5, True), (3.0, False)):
        new = a_newcomer(hours=hours)
        after = replace(given, now=NOW + timedelta(seconds=5), jobs=(*given.jobs, new), before=plan.standing)
        made = decide(after)
        assert [p.job for p in made.placements] == ([new.id] if goes else [])
        assert made.is_about_newcomers is not goes, "what fills a gap that has a price is for all to be compared"


def test_a_promise_is_kept_when_its_time_has_passed():
    """A short gang was to be done by now; who is to leave its node has not left yet."""
    runs = running_on(
        a_job("half", gpus=4, speeds={"H100-SXM": 1.0}), a_node("h0", OTHER), offering=OTHER, hours_left=0.002
    )
    waits = a_job("whole", speeds={"H100-SXM": 1.0}, hours=0.001, objective=Objective(usd_per_hour=100.0))
    given = queue()
    nodes = tuple(replace(n, used=runs.per_worker) if n.name == "h0" else n for n in given.nodes)
    given = replace(given, nodes=nodes, jobs=(*given.jobs, runs, waits))
    plan = decide(given)
    (promise,) = [r for r in plan.standing.reserved if r.job == waits.id]
    assert promise.until_hours < 45.0 / 3600.0
    jobs = (*given.jobs, a_newcomer(hours=10.0))
    made = decide(replace(given, now=NOW + timedelta(seconds=45), jobs=jobs, before=plan.standing))
    assert made.placements == ()


def test_what_is_bought_for_newcomers_comes_on_top_and_within_the_limit():
    pools = (a_pool(CHEAP), a_pool(OTHER, scaler="kwok", most=3))
    hurried = Objective(usd_per_hour=50.0)
    whole_node = partial(a_newcomer, gpus=8, hours=10.0, objective=hurried)
    given = queue(pools=pools)
    given = replace(given, jobs=(*given.jobs, whole_node("early")))
    plan = last = decide(given)
    assert [(r.from_nodes, r.to_nodes, r.for_jobs) for r in plan.resizes] == [(1, 2, ("team/early",))]
    situation = replace(
        given, now=NOW + timedelta(seconds=5), jobs=(*given.jobs, whole_node("a")), before=plan.standing
    )
    plan = decide(situation)
    assert plan.is_about_newcomers
    last = whole(plan, last)
    assert [(r.from_nodes, r.to_nodes, r.for_jobs) for r in last.resizes] == [(1, 3, ("team/early", "team/a"))]
    assert last.resizes[0].usd_per_hour == pytest.approx(60.0)
    situation = carried_out(replace(situation, jobs=(*situation.jobs, whole_node("b"))), plan, seconds=5.0)
    plan = decide(situation)
    assert plan.resizes == ()
    assert whole(plan, last).resizes == last.resizes, "the order stands"


def test_a_node_that_was_to_be_given_back_and_is_still_there_is_not_taken_from_a_newcomer():
    """The API server refused to delete it: it is as empty as before, and the newcomer gets it."""
    pools = (a_pool(CHEAP), a_pool(OTHER, scaler="kwok", most=3))
    given = queue(pools=pools)
    idle = a_node("h1", OTHER, removable=True, empty_since=NOW - timedelta(hours=2))
    given = replace(given, nodes=(*given.nodes, idle))
    last = decide(given)
    assert [r.give_back for r in last.resizes] == [("h1",)]
    new = a_newcomer(gpus=8)
    situation = replace(given, now=NOW + timedelta(seconds=5), jobs=(*given.jobs, new), before=last.standing)
    plan = decide(situation)
    assert [p.nodes for p in plan.placements] == [("h1",)]
    assert plan.is_about_newcomers
    both = whole(plan, last)
    assert both.resizes == ()
    assert unsound(situation, both) == []


def _dearer(s: Situation) -> Situation:
    return replace(s, offerings=(replace(CHEAP, usd_per_node_hour=a_figure(8.01)), OTHER))


def _a_node_more(s: Situation) -> Situation:
    return replace(s, nodes=(*s.nodes, a_node("h1", OTHER)))


def _somebody_else_has_come(s: Situation) -> Situation:
    return replace(s, nodes=(s.nodes[0], replace(s.nodes[1], used=s.nodes[1].used + Resources(cpu=1.0))))


def _one_has_ended(s: Situation) -> Situation:
    nodes = (replace(s.nodes[0], used=Resources()), s.nodes[1])
    return replace(s, jobs=s.jobs[1:], nodes=nodes)


def _one_was_taken_back(s: Situation) -> Situation:
    return replace(s, nodes=(replace(s.nodes[0], ready=False), s.nodes[1]))


def _one_waits_no_more(s: Situation) -> Situation:
    return replace(s, jobs=(*s.jobs[:5], *s.jobs[6:]))


def _one_was_changed(s: Situation) -> Situation:
    return replace(s, jobs=(*s.jobs[:5], replace(s.jobs[5], priority=5), *s.jobs[6:]))


def _a_minute_has_passed(s: Situation) -> Situation:
    return replace(s, now=NOW + timedelta(seconds=60))


def _at_the_same_time(s: Situation) -> Situation:
    return replace(s, now=NOW)


@pytest.mark.parametrize(
    "changed",
    [
        _dearer,
        _a_node_more,
        _somebody_else_has_come,
        _one_has_ended,
        _one_was_taken_back,
        _one_waits_no_more,
        _one_was_changed,
        _a_minute_has_passed,
        _at_the_same_time,
    ],
    ids=lambda f: f.__name__.strip("_"),
)
def test_when_anything_else_has_changed_everybody_is_decided_about(first, changed):
    assert is_about_everybody(changed(then(first, a_newcomer())))


@pytest.mark.parametrize(
    "new",
    [
        a_newcomer(gpus=8, priority=1, speeds={"A100-80GB": 1.0}),
        a_newcomer(gpus=8, deadline_hours=2.0, speeds={"A100-80GB": 1.0}),
    ],
    ids=["comes before those who wait", "would be late"],
)
def test_a_newcomer_that_may_not_stand_behind_the_others(first, new):
    assert is_about_everybody(then(first, new))


def test_a_newcomer_that_nothing_can_be_done_for_is_told_so(first):
    plan = decide(then(first, a_newcomer(speeds={"B200": 1.0})))
    assert plan.is_about_newcomers
    assert [h.reason for h in plan.holds] == [Reason.NO_SPEED_FOR_MODEL]


def test_when_regrets_have_added_up_everybody_is_decided_about(first):
    most = first.standing.most_regret_usd
    assert most == pytest.approx(0.01 * first.certificate.objective_usd)
    spent = replace(first, standing=replace(first.standing, regret_usd=2.0 * most))
    assert is_about_everybody(then(spent, a_newcomer()))


def test_what_cannot_be_undone_may_cost_little_more_than_the_prices_say():
    """Alone on a node that is bought for it, a small job would pay for all of it."""
    pools = (a_pool(CHEAP), a_pool(OTHER, scaler="kwok", most=3))
    plan = decide(queue(pools=pools))
    hurried = Objective(usd_per_hour=400.0)
    new = [a_newcomer("a", gpus=4, objective=hurried), a_newcomer("b", objective=hurried, hours=9.0)]
    situation = then(plan, *new, pools=pools)
    assert decide(replace(situation, jobs=situation.jobs[:-1])).is_about_newcomers, "the first has room"
    assert is_about_everybody(situation)


def test_a_quota_that_a_newcomer_would_break(first):
    settings = Settings(quotas=(Quota(namespace="team", usd_per_hour=9.0),))
    plan = decide(queue(settings=settings))
    assert plan.standing is not None
    assert is_about_everybody(then(plan, a_newcomer(), settings=settings))


def test_who_backs_off_competes_again_when_its_time_has_come(first):
    new = a_newcomer(not_before=NOW + timedelta(seconds=20))
    plan = decide(then(first, new))
    assert [h.reason for h in plan.holds] == [Reason.BACKING_OFF]
    assert plan.standing.good_until == new.not_before
    assert is_about_everybody(then(plan, new, seconds=25.0))


def test_what_was_stored_is_decided_again_to_the_byte(first):
    situation = then(first, a_newcomer())
    stored = snapshot.encode(situation, decide(situation))
    record = snapshot.decode(stored, name="it")
    assert record.plan.is_about_newcomers
    assert snapshot.encode(record.situation, decide(record.situation)) == stored


def test_the_simulator_goes_the_same_way_and_everybody_ends():
    jobs = [submitted(f"w{i:03}", hours=0.3, gpus=1) for i in range(MANY + 40)]
    jobs += [submitted(f"late{i}", 0.15 + 0.003 * i, hours=0.2, gpus=1) for i in range(5)]
    stage = a_stage(jobs, [an_offering("od")], every_s=5.0)
    stage = replace(stage, pools=tuple(replace(p, max_nodes=4) for p in stage.pools))
    made: list[Plan] = []
    outcome = simulate(stage, Decides("stint"), keep=lambda _, plan: made.append(plan))
    assert outcome.finished == len(jobs)
    assert 0 < sum(p.is_about_newcomers for p in made) < len(made)


def test_a_newcomer_that_waits_in_the_simulator_waits_for_a_minute_until_everybody_is_looked_at():
    """By its deadline it comes before all others, who were promised the room that is free."""
    jobs = [submitted("half", hours=3.0, gpus=4)]
    jobs += [submitted(f"w{i:03}", 0.2, hours=1.0) for i in range(MANY)]
    jobs += [submitted("whole", 0.5, hours=0.2)]
    slow = Objective(usd_per_hour=0.1)
    jobs += [submitted("new", 0.5 + 10.0 / 3600.0, hours=4.0, gpus=4, deadline_hours=1000.0, objective=slow)]
    stage = a_stage(jobs, [an_offering("od")], every_s=5.0, until_s=3600.0)
    stage = replace(stage, pools=tuple(replace(p, max_nodes=1) for p in stage.pools))
    made: list[tuple[float, Plan]] = []
    simulate(stage, Decides("stint"), keep=lambda s, plan: made.append(((s.now - NOW).total_seconds(), plan)))
    assert [(at, [h.job for h in p.holds]) for at, p in made if p.is_about_newcomers] == [(1810.0, ["team/new"])]
    assert [at for at, p in made if "team/new" in {x.job for x in p.placements}] == [1860.0]
