"""What holds in every simulated world."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stint.sim.books import COMPONENTS, NODES
from stint.sim.loop import simulate
from stint.sim.policy import Decides
from stint.sim.stage import Conditions
from tests.stages import ON_DEMAND, SPOT, a_stage, submitted

jobs = st.lists(
    st.tuples(st.floats(0, 20), st.floats(0.0, 12), st.sampled_from([1, 2, 4, 8]), st.integers(1, 3), st.booleans()),
    min_size=1,
    max_size=12,
)
worlds = st.builds(
    Conditions,
    interruptions_per_hour=st.fixed_dictionaries({SPOT.id: st.sampled_from([0.0, 0.1, 1.0])}),
    notice_s=st.sampled_from([0.0, 120.0, 3600.0]),
    start_sigma=st.sampled_from([0.0, 0.8]),
    out_of_stock=st.sampled_from([0.0, 0.3]),
    worker_failures_per_hour=st.sampled_from([0.0, 0.1]),
    evictions_per_hour=st.sampled_from([0.0, 0.1]),
    hung_starts=st.sampled_from([0.0, 0.2]),
)


@settings(max_examples=15, deadline=None)
@given(jobs=jobs, conditions=worlds, until=st.one_of(st.none(), st.floats(1, 50)), seed=st.integers(0, 9))
def test_every_dollar_is_booked_once(jobs, conditions, until, seed):
    asked = [
        submitted(f"j{i}", at, hours=hours, gpus=gpus, workers=workers, deadline_hours=at + 2 * hours if soon else None)
        for i, (at, hours, gpus, workers, soon) in enumerate(jobs)
    ]
    stage = a_stage(
        asked,
        conditions=conditions,
        until_s=100 * 3600.0 if until is None else until * 3600.0,
        standing={ON_DEMAND.id: 1},
    )
    outcome = simulate(stage, Decides("stint"), seed=seed)
    assert sum(outcome.usd[name] for name in NODES) == pytest.approx(outcome.node_usd, rel=1e-9, abs=1e-9)
    for name in COMPONENTS:
        assert sum(outcome.hourly_usd[name]) == pytest.approx(outcome.usd[name], rel=1e-9, abs=1e-9)
    assert outcome.finished + len(outcome.unfinished) <= outcome.jobs
    assert outcome.taken_gpu_hours <= outcome.paid_gpu_hours + 1e-9
    if outcome.finished == outcome.jobs:
        # what was kept is what there was to do; each worker pays for the part of a node that it takes
        work = sum(hours * workers * gpus / 8 for _, hours, gpus, workers, _ in jobs)
        usd = outcome.usd["useful"]
        assert 3.0 * work - 1e-6 <= usd <= 8.0 * work + 1e-6
