"""How long a gang that runs keeps its placement while a node of it is not ready.

A kubelet that restarts, or a network that fails for a moment, makes a node not ready while its containers run on. A
gang that is ended then loses its work since the last checkpoint for nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta


def until(since: datetime, grace: timedelta, *, pace: float = 1.0) -> datetime:
    """When the grace period of a node ends.

    Args:
        since: when it was no longer ready, on the deciding clock.
        grace: on the wall's clock.
        pace: seconds of the deciding clock that pass in one second on the wall.
    """
    try:
        return since + grace * pace
    except OverflowError:
        return since


def is_over(since: datetime | None, now: datetime, grace: timedelta, *, pace: float = 1.0) -> bool:
    """Whether a node has been not ready for longer than its gang waits.

    Args:
        since: None where nobody knows since when: such a node gets no grace.
    """
    return since is None or now >= until(since, grace, pace=pace)
