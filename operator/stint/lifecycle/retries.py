"""When a gang that did not start is tried again, and which nodes it avoids meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from stint.model.job import NodeName

BACKOFF_S, MOST_BACKOFF_S = 10.0, 600.0  # the first pause, and the longest
ORDER_BACKOFF_S, MOST_ORDER_BACKOFF_S = 180.0, 3600.0  # likewise, between orders that were of no use
MOST_AVOIDED = 64  # nodes that a status can carry
BLAME_LASTS = timedelta(minutes=10)  # after the back-off itself
SETTLE_S = 5.0  # what kube-scheduler says may be over by then: a pod was leaving, a node has just come
_MOST_DOUBLINGS = 10


def next_try(now: datetime, failed_starts: int, *, pace: float = 1.0) -> datetime:
    """When to try again: 10 s after the first failed start, twice as long after each further one, at most 10 min.

    Args:
        failed_starts: in a row, before this one.
        pace: seconds of the deciding clock that pass in one second on the wall.
    """
    pause_s = min(BACKOFF_S * 2 ** min(failed_starts, _MOST_DOUBLINGS), MOST_BACKOFF_S)
    return now + timedelta(seconds=pause_s * pace)


def avoided(nodes: Iterable[NodeName]) -> tuple[NodeName, ...]:
    """The nodes to blame, sorted, as many as a status can carry."""
    return tuple(sorted(set(nodes)))[:MOST_AVOIDED]


def blamed_until(not_before: datetime, *, pace: float = 1.0) -> datetime:
    """How long a job avoids the nodes that have just refused it.

    Args:
        not_before: when it tries again.
        pace: as in `next_try`.
    """
    return not_before + BLAME_LASTS * pace


def gives_up(attempt: int, retries: int) -> bool:
    """Whether a worker's failure ends the job: every retry was used before this attempt."""
    return attempt >= retries


def next_order(now: datetime, times: int, *, pace: float = 1.0) -> datetime:
    """When nodes may be ordered again that were of no use, or did not come: after 3 min, twice as long each time.

    Args:
        times: in a row, this one included.
        pace: as in `next_try`.
    """
    pause_s = min(ORDER_BACKOFF_S * 2 ** min(max(times - 1, 0), _MOST_DOUBLINGS), MOST_ORDER_BACKOFF_S)
    return now + timedelta(seconds=pause_s * pace)
