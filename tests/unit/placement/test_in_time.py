"""Nothing late is chosen while something in time can be had, whatever the rest of a bought node costs."""

import pytest

from stint.decide import decide
from stint.model.situation import Settings
from stint.testing.builders import a_job, a_node, a_pool, a_situation, an_offering, running_on

OWNED = an_offering("owned", usd=0.5)
LARGE = an_offering("large", usd=100.0)


@pytest.mark.parametrize("solver", ["greedy", "portfolio"])
def test_one_gpu_of_a_large_machine_is_bought_for_a_deadline(solver):
    node = a_node("n", OWNED, used_gpus=8)
    there = running_on(a_job("there", hours=20), node, offering=OWNED, hours_left=8)
    job = a_job("small", gpus=1, hours=3.0, deadline_hours=6.0)
    situation = a_situation(
        jobs=[there, job],
        nodes=[node],
        offerings=[OWNED, LARGE],
        pools=[a_pool(OWNED), a_pool(LARGE, scaler="kwok", most=2)],
        settings=Settings(solver=solver),
    )
    plan = decide(situation)
    assert [(r.pool, r.to_nodes) for r in plan.resizes] == [("large", 1)]


@pytest.mark.parametrize("solver", ["greedy", "portfolio"])
@pytest.mark.parametrize(("slack_minutes", "where"), [(3, "large"), (20, "owned")])
def test_what_would_be_in_time_by_a_hair_if_another_ends_as_foreseen_is_left_for_what_is_safe(
    solver, slack_minutes, where
):
    """The gang that runs may take a little longer than it says; the dear node is there now."""
    node = a_node("n", OWNED, used_gpus=8)
    there = running_on(a_job("there", hours=20), node, offering=OWNED, hours_left=2)
    job = a_job("next", hours=3.0, deadline_hours=5.01 + slack_minutes / 60)
    dear = an_offering("large", usd=1.5)
    nodes = [node, a_node("m", dear)]
    situation = a_situation(
        jobs=[there, job], nodes=nodes, offerings=[OWNED, dear], settings=Settings(solver=solver, reserve_seconds=600)
    )
    plan = decide(situation)
    chosen = (*plan.placements, *plan.holds)[0].chosen
    assert chosen.offering.split("/")[0] == where


def test_a_place_by_a_hair_is_taken_where_there_is_no_other():
    node = a_node("n", OWNED, used_gpus=8)
    there = running_on(a_job("there", hours=20), node, offering=OWNED, hours_left=2)
    job = a_job("next", hours=3.0, deadline_hours=5.02)
    (hold,) = decide(a_situation(jobs=[there, job], nodes=[node], offerings=[OWNED])).holds
    assert hold.chosen is not None
    assert hold.chosen.finish <= job.deadline
