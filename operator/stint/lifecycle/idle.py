"""GPUs that are paid for and do nothing: whether a job's idlePolicy applies, and what that time has cost.

Only what is measured of all of a gang's GPUs counts. Unknown is not idle.
"""

from __future__ import annotations

from datetime import datetime

from stint.estimate.runtime import hours_between
from stint.model.gang import GangFacts
from stint.model.job import OnIdle


def due(facts: GangFacts, now: datetime) -> str:
    """Why the idlePolicy of a gang applies, in one clause with money; empty: it does not, or not yet."""
    idle = facts.idle
    if idle is None or now - idle.since < facts.idle_after:
        return ""
    what = "all of its GPUs have" if idle.gpus != 1 else "its GPU has"
    bare = " and no process has them open" if idle.processless else ""
    minutes = (now - idle.since).total_seconds() / 60
    usd = cost_usd(facts, now)
    return f"{what} done nothing for {minutes:.0f} min{bare}, at {idle.usd_per_hour:.2f} USD/h: {usd:.2f} USD"


def cost_usd(facts: GangFacts, now: datetime) -> float:
    """What the idle time has cost until now."""
    idle = facts.idle
    return 0.0 if idle is None else idle.usd_per_hour * max(0.0, hours_between(idle.since, now))


def acts(facts: GangFacts, now: datetime) -> bool:
    """Whether the gang is requeued or ended for it."""
    return facts.on_idle is not OnIdle.ADVISE and bool(due(facts, now))


def message(facts: GangFacts, now: datetime) -> str:
    """Why a gang is stopped as idle, and what brings it back."""
    why = due(facts, now) or "its GPUs did nothing"
    if facts.on_idle is OnIdle.STOP:
        return f"{why}; spec.idlePolicy ends it"
    return (
        f"{why}; requeued from the last checkpoint and held until its spec is edited: raise "
        "spec.idlePolicy.afterMinutes, or set spec.suspend to true and back"
    )
