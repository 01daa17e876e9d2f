"""A queue so long that newcomers are decided about alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from stint.model.job import Job
from stint.model.plan import Plan
from stint.model.situation import Situation
from stint.placement.newcomers import MANY
from stint.testing.builders import NOW, a_job, a_node, a_situation, an_offering, running_on

CHEAP = an_offering("cheap", usd=8.0)
OTHER = an_offering("other", usd=30.0, model="H100-SXM")  # of no use to those who wait
RUNS = running_on(a_job("runs"), a_node("c0", CHEAP), offering=CHEAP, hours_left=2.0)


def queue(**changes: Any) -> Situation:
    """A gang runs for two hours on the only cheap node; many wait for it, whole; 4 GPUs of another model are free."""
    crowd = [a_job(f"w{i:03}", hours=1.0) for i in range(MANY + 10)]
    nodes = [a_node("c0", CHEAP, used_gpus=8), a_node("h0", OTHER, used_gpus=4)]
    nodes[0] = replace(nodes[0], used=RUNS.per_worker)
    return replace(a_situation(offerings=[CHEAP, OTHER], nodes=nodes, jobs=[RUNS, *crowd]), **changes)


def a_newcomer(name: str = "new", **changes: Any) -> Job:
    """Two GPUs of the other model for an hour."""
    return a_job(name, **{"gpus": 2, "hours": 1.0, "speeds": {"H100-SXM": 1.0}, **changes})


def then(plan: Plan, *new: Job, seconds: float = 5.0, **changes: Any) -> Situation:
    """A little later, when some more jobs have come."""
    given = queue(**changes)
    now = NOW + timedelta(seconds=seconds)
    return replace(given, now=now, jobs=(*given.jobs, *new), before=plan.standing)
