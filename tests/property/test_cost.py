"""What holds of the cost to finish whatever the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stint.cost.finish import COMPONENTS, CostToFinish, FinishInputs, cost_to_finish

AMOUNTS = {
    "work_hours": st.floats(0, 500) | st.just(np.inf),
    "wait_hours": st.floats(0, 100),
    "boot_hours": st.floats(0, 2),
    "interruptions_per_hour": st.floats(0, 2),
    "checkpoint_every_hours": st.floats(0.05, 24) | st.just(np.inf),
    "checkpoint_hours": st.floats(0, 0.5),
    "restart_hours": st.floats(0, 1),
    "billed_nodes": st.floats(0, 64),
    "usd_per_node_hour": st.floats(0, 200),
    "watts": st.floats(0, 1e6),
    "pue": st.floats(1, 2),
    "usd_per_kwh": st.floats(0, 1),
    "g_co2_per_kwh": st.floats(0, 1000),
    "usd_per_tonne_co2": st.floats(0, 500),
    "egress_gib": st.floats(0, 1e6),
    "usd_per_egress_gb": st.floats(0, 0.2),
    "storage_gib": st.floats(0, 1e6),
    "usd_per_storage_gb_month": st.floats(0, 0.5),
    "licence_usd_per_hour": st.floats(0, 50),
    "labour_usd_per_hour": st.floats(0, 50),
    "hours_to_deadline": st.floats(0, 500) | st.just(np.inf),
    "lateness_usd_per_hour": st.floats(0, 1000),
}
ways = st.fixed_dictionaries(AMOUNTS)
UNHURRIED = settings(deadline=None)  # a busy machine is no counterexample
# What makes a run dearer or no cheaper as it grows. Not here: the deadline and the checkpoint interval.
DEARER = sorted(set(AMOUNTS) - {"hours_to_deadline", "checkpoint_every_hours"})


def run(*columns: dict[str, float]) -> CostToFinish:
    return cost_to_finish(FinishInputs(**{name: np.array([column[name] for column in columns]) for name in AMOUNTS}))


@UNHURRIED
@given(way=ways)
def test_the_total_is_the_sum_of_its_components_and_nothing_is_nan(way):
    result = run(way)
    parts = [float(getattr(result, name)[0]) for name in COMPONENTS]
    assert all(part >= 0 for part in parts)
    assert float(result.total_usd[0]) == pytest.approx(sum(parts))


@UNHURRIED
@given(way=ways)
def test_a_run_never_takes_less_than_its_work(way):
    result = run(way)
    assert result.wall_hours[0] >= way["work_hours"] * (1 - 1e-12)
    assert result.finish_hours[0] >= result.wall_hours[0]


@UNHURRIED
@given(way=ways, name=st.sampled_from(DEARER), factor=st.floats(1, 3))
def test_more_of_anything_that_costs_never_costs_less(way, name, factor):
    before, after = run(way, {**way, name: way[name] * factor}).total_usd
    assert after >= before * (1 - 1e-9)


@UNHURRIED
@given(way=ways)
def test_a_job_that_cannot_run_costs_infinity(way):
    assert run({**way, "work_hours": np.inf}).total_usd[0] == np.inf


@UNHURRIED
@given(first=ways, second=ways)
def test_columns_do_not_know_of_each_other(first, second):
    together = run(first, second).total_usd
    assert together.tolist() == [run(first).total_usd[0], run(second).total_usd[0]]


@UNHURRIED
@given(way=ways)
def test_a_deadline_further_away_never_costs_more(way):
    nearer, further = run(way, {**way, "hours_to_deadline": way["hours_to_deadline"] + 1}).total_usd
    assert further <= nearer
