"""The clock that decisions go by: the wall's, or a faster one for demos, in which a day passes in minutes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Clock:
    """`pace` seconds pass on this clock for each of the wall's, counted from `start`."""

    start: datetime
    pace: float = 1.0

    def now(self) -> datetime:
        """The time that decisions go by."""
        return self.of(datetime.now(UTC))

    def of(self, wall: datetime) -> datetime:
        """What this clock showed when the wall's showed `wall`."""
        return self.start + (wall - self.start) * self.pace

    def wall_seconds(self, span: timedelta) -> float:
        """How long a span of this clock takes on the wall's."""
        return span.total_seconds() / self.pace


def wall_clock() -> Clock:
    """The ordinary one."""
    return Clock(start=datetime.now(UTC))
