"""Small worlds for the simulator's tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from stint.model.job import Checkpoint, Job
from stint.model.market import Offering
from stint.model.offering import CapacityType
from stint.sim.stage import Conditions, Stage
from stint.testing.builders import NOW, a_job, a_pool, an_offering

ON_DEMAND = an_offering("od")
SPOT = an_offering("spot", usd=3.0, capacity=CapacityType.SPOT, interruptions_per_hour=0.05)
EVERY_20_MIN = Checkpoint(every=timedelta(minutes=20), takes=timedelta(seconds=30), restart=timedelta(minutes=3))


def submitted(name: str, at_hours: float = 0.0, *, deadline_hours: float | None = None, **changes: Any) -> Job:
    """A job that comes at `at_hours`, with checkpoints."""
    job = a_job(name, **{"checkpoint": EVERY_20_MIN, **changes})
    deadline = None if deadline_hours is None else NOW + timedelta(hours=deadline_hours)
    return replace(job, created=NOW + timedelta(hours=at_hours), deadline=deadline)


def a_stage(jobs: Sequence[Job], offerings: Sequence[Offering] = (ON_DEMAND, SPOT), **changes: Any) -> Stage:
    """Pools that grow to 8 nodes, and nothing that is there from the start."""
    pools = tuple(a_pool(o, scaler="kwok", most=8) for o in offerings)
    stage = Stage(name="test", start=NOW, offerings=tuple(offerings), pools=pools, jobs=tuple(jobs))
    return replace(stage, **{"conditions": Conditions(), **changes})
