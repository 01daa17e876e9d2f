"""No more nodes than may stand unused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stint.autoscale.breaker import unused_usd_per_hour
from stint.decide import decide
from stint.model.plan import Plan, Reason
from stint.model.situation import Settings, Situation
from stint.testing.builders import NOW, a_job, a_node, a_pool, a_situation, an_offering

A100 = an_offering()  # 8 USD/h a node
GROWS = a_pool(A100, scaler="Kwok", most=9)


def situation(most: float | None, *, nodes=(), jobs=()) -> Situation:
    made = a_situation(offerings=[A100], nodes=list(nodes), pools=[GROWS], jobs=list(jobs))
    return replace(made, settings=replace(Settings(), max_unused_usd_per_hour=most))


def ordered(plan: Plan) -> int:
    return sum(r.to_nodes - r.from_nodes for r in plan.resizes)


def test_what_counts_is_bought_and_empty_or_on_order():
    nodes = [
        a_node("empty", A100, bought=True),
        a_node("coming", A100, bought=True, ready=False, ready_at=NOW),
        a_node("never", A100, bought=True, ready=False),
        a_node("used", A100, bought=True, used_gpus=1),
        a_node("going", A100, bought=True, interrupted=True),
        a_node("theirs", A100),
    ]
    assert unused_usd_per_hour(situation(None, nodes=nodes)) == 24.0
    assert unused_usd_per_hour(situation(None, nodes=nodes), {"never"}) == 16.0


@pytest.mark.parametrize(("most", "nodes"), [(None, 2), (16.0, 2), (15.9, 1), (7.0, 0)])
def test_jobs_are_served_in_order_up_to_the_limit(most, nodes):
    plan = decide(situation(most, jobs=[a_job("a"), a_job("b")]))
    assert ordered(plan) == nodes
    stopped = [h for h in plan.holds if h.reason is Reason.SCALE_UP_STOPPED]
    assert len(stopped) == 2 - nodes
    assert bool(plan.scale_up_stopped) is bool(stopped)


def test_the_hold_says_why_in_figures():
    small = [a_node(f"n{i}", A100, bought=True, allocatable=replace(A100.per_node, cpu=1.0)) for i in range(2)]
    plan = decide(situation(20.0, nodes=small, jobs=[a_job()]))
    (held,) = plan.holds
    assert held.reason is Reason.SCALE_UP_STOPPED
    assert held.message.startswith(f"{A100.id}: nodes that Stint bought")
    assert "empty or on order cost 16.00 USD/h; 8.00 USD/h more would go beyond" in held.message
    assert "which is 20.00: no node is ordered until jobs use them" in held.message


def test_a_gang_counts_whole():
    assert ordered(decide(situation(15.0, jobs=[a_job(workers=2)]))) == 0
    assert ordered(decide(situation(16.0, jobs=[a_job(workers=2)]))) == 2


def test_a_node_that_a_job_gets_now_does_not_count():
    plan = decide(situation(8.0, nodes=[a_node("n", A100, bought=True)], jobs=[a_job("a"), a_job("b")]))
    assert [p.job for p in plan.placements] == ["team/a"]
    assert ordered(plan) == 1
