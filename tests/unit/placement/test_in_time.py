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
