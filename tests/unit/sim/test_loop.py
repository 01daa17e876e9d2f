"""Whole runs of small worlds."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from stint.decide import decide
from stint.errors import InvalidInputError, StintError
from stint.model.plan import Plan, Reason, Resize
from stint.sim.loop import EndlessPolicyError, Progress, simulate
from stint.sim.policy import Decides
from stint.sim.soundness import UnsoundPlanError, unsound
from stint.sim.stage import Conditions
from stint.testing.builders import NOW, a_node, a_pool, a_situation, an_offering
from tests.queues import queue
from tests.stages import ON_DEMAND, SPOT, a_stage, submitted

STINT = Decides("stint")


def test_one_job_costs_what_its_node_costs_and_each_dollar_has_a_name():
    stage = a_stage([submitted("a", 1.0, hours=1.0)], [ON_DEMAND])
    outcome = simulate(stage, STINT)
    assert outcome.finished == 1
    # 300 s until the node is there, 30 s start-up, an hour of work, two checkpoints of 30 s, 600 s until it goes back
    assert outcome.node_usd == pytest.approx(8.0 * (300 + 30 + 3600 + 60 + 600) / 3600, abs=0.2)
    assert outcome.usd["useful"] == pytest.approx(8.0)
    assert outcome.usd["rework"] == pytest.approx(8.0 * 60 / 3600)
    assert outcome.usd["startup"] == pytest.approx(8.0 * 330 / 3600)
    assert outcome.p50_wait_h == pytest.approx(300 / 3600)


def test_a_standing_fleet_is_used_without_an_order():
    stage = a_stage([submitted("a")], [ON_DEMAND], pools=(a_pool(ON_DEMAND),), standing={ON_DEMAND.id: 1})
    outcome = simulate(stage, STINT)
    assert (outcome.finished, outcome.p50_wait_h) == (1, 0.0)
    assert [e.what for e in outcome.log] == ["place"]


def test_an_interruption_costs_the_work_since_the_last_checkpoint():
    often = Conditions(interruptions_per_hour={SPOT.id: 0.5}, notice_s=120.0)
    stage = a_stage([submitted(f"j{i}", hours=6.0) for i in range(6)], [SPOT], conditions=often)
    outcome = simulate(stage, STINT, seed=3)
    assert outcome.finished == 6
    assert outcome.interruptions > 0
    assert outcome.requeues > 0
    assert outcome.usd["useful"] == pytest.approx(6 * 6 * 3.0)
    assert outcome.usd["rework"] > 6 * 17 * 30 / 3600 * 3.0


def test_what_is_out_of_stock_never_comes_and_is_not_paid():
    stage = a_stage([submitted("a", hours=1.0)], [ON_DEMAND], conditions=Conditions(stock={ON_DEMAND.id: 0}))
    outcome = simulate(replace(stage, until_s=86_400.0), STINT)
    assert (outcome.finished, outcome.total_usd) == (0, 0.0)
    assert len([e for e in outcome.log if e.what == "order"]) > 1
    assert "od" in outcome.unfinished["team/a"]


def test_late_nodes_are_waited_for():
    late = Conditions(start_sigma=1.0)
    outcome = simulate(a_stage([submitted("a", hours=1.0)], [ON_DEMAND], conditions=late), STINT, seed=1)
    assert outcome.finished == 1
    assert outcome.p50_wait_h != pytest.approx(300 / 3600)


def test_a_fleet_of_nothing_leaves_everybody_waiting():
    outcome = simulate(a_stage([submitted("a"), submitted("b", 5.0)], []), STINT)
    assert (outcome.finished, set(outcome.unfinished)) == (0, {"team/a", "team/b"})


def test_zero_length_and_year_long_jobs_end():
    jobs = [submitted("blink", hours=0.0), submitted("year", hours=8760.0)]
    outcome = simulate(a_stage(jobs, [ON_DEMAND]), STINT)
    assert outcome.finished == 2
    assert outcome.hours > 8760


def test_a_missed_deadline_is_told():
    jobs = [submitted("late", hours=5.0, deadline_hours=2.0), submitted("early", hours=1.0, deadline_hours=20.0)]
    outcome = simulate(a_stage(jobs, [ON_DEMAND]), STINT)
    assert (outcome.misses, outcome.late, outcome.miss_hours) == (1, ("team/late",), (2.0,))


def test_time_that_is_up_ends_the_run_with_everything_booked():
    stage = a_stage([submitted("a", hours=100.0)], [ON_DEMAND], until_s=36_000.0)
    outcome = simulate(stage, STINT)
    assert (outcome.finished, outcome.hours) == (0, 10.0)
    assert outcome.total_usd == pytest.approx(outcome.node_usd)
    assert outcome.usd["useful"] > 0.9 * outcome.total_usd


class _Scripted:
    name = "scripted"

    def __init__(self, change):
        self.change = change

    def __call__(self, situation):
        return self.change(STINT(situation))


def _twice(plan: Plan) -> Plan:
    return replace(plan, placements=tuple(replace(p, nodes=p.nodes * 2) for p in plan.placements))


def _elsewhere(plan: Plan) -> Plan:
    return replace(plan, placements=tuple(replace(p, nodes=("nowhere",)) for p in plan.placements))


def _too_many(plan: Plan) -> Plan:
    return replace(plan, resizes=tuple(replace(r, to_nodes=99) for r in plan.resizes))


def _no_such_pool(plan: Plan) -> Plan:
    return replace(plan, resizes=(Resize(pool="p", offering="o", from_nodes=0, to_nodes=1),))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_twice, "2 workers, not 1 to 1"),
        (_elsewhere, "node nowhere is not there"),
        (_too_many, "would have 99 nodes, and its limit is 8"),
        (_no_such_pool, "pool p is not there"),
    ],
)
def test_an_unsound_plan_ends_the_policys_run(change, text):
    with pytest.raises(UnsoundPlanError, match=text) as caught:
        simulate(a_stage([submitted("a")], [ON_DEMAND]), _Scripted(change))
    assert "policy scripted" in str(caught.value)


def test_a_plan_about_newcomers_is_looked_at_with_the_orders_that_stand():
    standing = decide(queue()).standing

    def one_more_each_time(plan: Plan) -> Plan:
        if plan.resizes:
            return replace(plan, standing=standing, resizes=tuple(replace(r, to_nodes=8) for r in plan.resizes))
        order = Resize(pool=ON_DEMAND.pool, offering=ON_DEMAND.id, from_nodes=0, to_nodes=1)
        return replace(plan, standing=standing, resizes=(order,))  # alone, it would be within the limit

    jobs = [submitted("a"), submitted("b", 0.01)]
    with pytest.raises(UnsoundPlanError, match="would have 9 nodes, and its limit is 8"):
        simulate(a_stage(jobs, [ON_DEMAND]), _Scripted(one_more_each_time))


def test_a_node_that_the_provider_takes_makes_room_in_its_pool_for_one_of_another_offering():
    node = a_node("leaves", SPOT, interrupted=True)
    pool = replace(a_pool(SPOT, scaler="kwok", most=1), offerings=(SPOT.id, ON_DEMAND.id))
    offerings = (SPOT, replace(ON_DEMAND, pool=pool.name))
    situation = a_situation(offerings=offerings, pools=[pool], nodes=[node])
    order = Resize(pool=pool.name, offering=ON_DEMAND.id, from_nodes=0, to_nodes=1)
    assert unsound(situation, Plan(decided_at=NOW, resizes=(order,))) == []
    two = Plan(decided_at=NOW, resizes=(replace(order, to_nodes=2),))
    assert unsound(situation, two) == ["pool spot would have 2 nodes, and its limit is 1"]


def test_two_gangs_do_not_share_what_is_there_once():
    def first_node(plan: Plan) -> Plan:
        nodes = plan.placements[0].nodes if plan.placements else ()
        return replace(plan, placements=tuple(replace(p, nodes=nodes) for p in plan.placements))

    pools = (a_pool(ON_DEMAND),)
    stage = a_stage([submitted("a"), submitted("b")], [ON_DEMAND], pools=pools, standing={ON_DEMAND.id: 2})
    with pytest.raises(UnsoundPlanError, match="node od-0 would hold"):
        simulate(stage, _Scripted(first_node))


def test_a_policy_that_decides_nothing_leaves_its_jobs_unfinished():
    outcome = simulate(a_stage([submitted("a")]), _Scripted(lambda p: Plan(decided_at=p.decided_at)))
    assert (outcome.finished, list(outcome.unfinished)) == (0, ["team/a"])


def test_a_policy_that_always_wants_to_look_again_is_stopped():
    def later(plan: Plan) -> Plan:
        waits = tuple(replace(h, reason=Reason.WAITING_IS_CHEAPER) for h in plan.holds)
        return replace(plan, holds=waits, resizes=())

    with pytest.raises(EndlessPolicyError, match="nothing came of 51 decisions"):
        simulate(a_stage([submitted("a")], [ON_DEMAND]), _Scripted(later), most_in_vain=50)
    assert issubclass(EndlessPolicyError, StintError)


def test_a_run_that_is_stopped_tells_what_it_has():
    def stop(progress: Progress) -> None:
        if progress.decisions == 10:
            raise KeyboardInterrupt

    stage = a_stage([submitted(f"j{i}", i * 1.0, hours=2.0) for i in range(40)])
    outcome = simulate(stage, STINT, watch=stop)
    assert outcome.interrupted
    assert outcome.decisions == 10
    assert outcome.jobs == 40
    assert outcome.total_usd == pytest.approx(outcome.node_usd)


def test_decisions_are_no_closer_than_the_stage_says():
    times = []
    stage = a_stage([submitted(f"j{i}", i / 720, hours=1.0) for i in range(40)], every_s=60.0)
    simulate(stage, STINT, keep=lambda s, _: times.append(s.now))
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert min(gaps) >= timedelta(seconds=60)
    assert times[0] == NOW


def test_the_same_seed_gives_the_same_run_whatever_the_hash_seed():
    text = """
from tests.stages import *
from stint.sim.loop import simulate
from stint.sim.policy import Decides
jobs = [submitted(f"j{i}", i * 0.5, hours=1.0 + i % 7, gpus=2 ** (i % 4)) for i in range(60)]
print(simulate(a_stage(jobs), Decides("stint"), seed=5).digest)
"""
    root = Path(__file__).resolve().parents[3]
    digests = {
        subprocess.run(
            [sys.executable, "-c", text],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{root}{os.pathsep}{root / 'operator'}"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_another_seed_has_other_interruptions():
    stage = a_stage([submitted(f"j{i}", hours=10.0) for i in range(8)], [SPOT])
    assert simulate(stage, STINT, seed=0).digest != simulate(stage, STINT, seed=1).digest


def test_data_that_lies_elsewhere_is_moved_for_money():
    from stint.model.job import Data
    from stint.model.market import EgressRate
    from stint.model.situation import Rates
    from stint.testing.builders import a_figure

    far = an_offering("far", zone="us-west-2a")
    rate = EgressRate(
        from_provider="aws",
        from_region="us-east-1",
        to_provider="aws",
        to_region="us-west-2",
        usd_per_gb=a_figure(0.02),
    )
    job = submitted("a", hours=1.0, data=Data(gib=100.0, provider="aws", region="us-east-1", scratch_gib=100.0))
    outcome = simulate(a_stage([job], [far], rates=Rates(egress=(rate,))), STINT)
    assert outcome.usd["egress"] == pytest.approx(100 * 1.073741824 * 0.02)
    assert outcome.usd["storage"] > 0
    assert outcome.total_usd == pytest.approx(outcome.node_usd + outcome.usd["egress"] + outcome.usd["storage"])


def test_a_stage_has_every_job_once():
    jobs = [submitted("a"), submitted("b"), submitted("a", 1.0), submitted("c"), submitted("c")]
    with pytest.raises(InvalidInputError, match="2 mistakes") as caught:
        a_stage(jobs)
    assert [m.found for m in caught.value.mistakes] == ["'team/a'", "'team/c'"]


def test_every_requeue_that_the_operator_knows_is_seen_here_too():
    """Failures, evictions and hung starts are decided by the very code of the operator, back-off and all."""
    rough = Conditions(worker_failures_per_hour=0.1, evictions_per_hour=0.1, hung_starts=0.3)
    stage = a_stage([submitted(f"j{i}", hours=6.0) for i in range(8)], [ON_DEMAND], conditions=rough)
    outcome = simulate(stage, STINT, seed=1)
    reasons = {e.text.partition(":")[0] for e in outcome.log if e.what == "requeue"}
    assert {"WorkerFailed", "Disrupted", "DidNotStart"} <= reasons
    assert outcome.finished == 8
    assert outcome.usd["useful"] == pytest.approx(8 * 6 * 8.0)
    calm = simulate(replace(stage, conditions=Conditions()), STINT, seed=1)
    assert outcome.total_usd > calm.total_usd, "what went wrong is paid for"
    assert simulate(stage, STINT, seed=1).digest == outcome.digest


def test_a_start_that_hangs_is_tried_again_after_the_back_off_on_other_nodes():
    hung: list[Plan] = []
    stage = a_stage([submitted("a", hours=1.0)], [ON_DEMAND], conditions=Conditions(hung_starts=0.9))
    outcome = simulate(stage, STINT, seed=2, keep=lambda _, plan: hung.append(plan))
    starts = [r.failed_starts for plan in hung for r in plan.requeues]
    assert starts == list(range(1, len(starts) + 1))
    assert len(starts) >= 2
    assert outcome.finished == 1
