"""GPUs of a running gang that do nothing: since when, as far as that is measured of all of them.

Unknown is not idle: it begins the time anew. What follows from it is `stint.lifecycle.idle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from stint.api.trainingjob_status import Progress, Status
from stint.kube.observe.gang import Gang
from stint.model.cluster import Utilisation
from stint.model.gang import GangState, Idle


@dataclass(frozen=True, slots=True)
class Idleness:
    """What people are told of one gang."""

    since: datetime | None = None  # all of its GPUs do nothing since then; None: they work, or it is not known
    due: str = ""  # for so long that its policy applies, in a clause with money; empty: not yet
    usd: float = 0.0  # what that time has cost


def look_idle(
    gang: Gang, status: Status, progress: Progress, used: Utilisation | None, now: datetime, *, holds: int
) -> Idle | None:
    """Since when all of a gang's GPUs do nothing; None: they work, or that is not known. Pure.

    Args:
        used: what is known at the moment; None: nothing.
        holds: GPUs, or parts of one, of its workers that run: where fewer are measured, the others may work.
    """
    works = gang.state is GangState.PLACED and gang.plan is not None and progress.running_since is not None
    if not works or used is None or not used.all_idle or gang.plan is None or (used.gpus or 0) < holds:
        return None
    return Idle(
        since=status.idle_since or now,
        gpus=used.gpus or 0,
        processless=bool(used.processless_gpus) and used.processless_gpus == used.gpus,
        usd_per_hour=gang.plan.usd_per_hour,
    )
