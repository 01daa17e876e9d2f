"""GPUs that are paid for and do nothing: since when, for how much, and what their job's idlePolicy has to say to it.

Only what is measured of all of a gang's GPUs counts. Unknown is not idle: it begins the time anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from stint.api.trainingjob import IdlePolicy, Progress, Status
from stint.estimate.runtime import hours_between
from stint.kube.observe.gang import Gang, GangState
from stint.model.cluster import Utilisation
from stint.model.job import OnIdle


@dataclass(frozen=True, slots=True)
class Idleness:
    """Of one gang."""

    since: datetime | None = None  # all of its GPUs do nothing since then; None: they work, or it is not known
    due: str = ""  # for so long that its policy applies, in a sentence with money; empty: not yet
    usd: float = 0.0  # what that time has cost

    def acts(self, policy: IdlePolicy) -> bool:
        """Whether the gang is to be taken back."""
        return bool(self.due) and policy.action is not OnIdle.ADVISE


def look_idle(
    gang: Gang,
    status: Status,
    progress: Progress,
    policy: IdlePolicy,
    used: Utilisation | None,
    now: datetime,
    *,
    holds: int,
) -> Idleness:
    """Pure.

    Args:
        used: what is known at the moment; None: nothing.
        holds: GPUs, or parts of one, of its workers that run: where fewer are measured, the others may work.
    """
    works = gang.state is GangState.PLACED and gang.plan is not None and progress.running_since is not None
    if not works or used is None or not used.all_idle or gang.plan is None or (used.gpus or 0) < holds:
        return Idleness()
    since = status.idle_since or now
    waited = now - since
    if waited < timedelta(minutes=policy.after_minutes):
        return Idleness(since=since)
    rate = gang.plan.usd_per_hour
    usd = rate * hours_between(since, now)
    what = "all of its GPUs have" if used.gpus != 1 else "its GPU has"
    bare = " and no process has them open" if used.processless_gpus and used.processless_gpus == used.gpus else ""
    text = f"{what} done nothing for {waited.total_seconds() / 60:.0f} min{bare}, at {rate:.2f} USD/h: {usd:.2f} USD"
    return Idleness(since=since, due=text, usd=usd)
