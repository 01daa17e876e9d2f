"""A circuit breaker: who does not answer is left alone for a while, and asked once before it is trusted again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Circuit(StrEnum):
    """Where it stands."""

    CLOSED = "closed"  # asked as usual
    OPEN = "open"  # not asked
    HALF_OPEN = "half-open"  # asked once: the answer decides


@dataclass(slots=True)
class Breaker:
    """Opens after some failures in a row, for a time that doubles with each probe that fails.

    Times are seconds of any clock that does not step.
    """

    after: int = 3
    pause_s: float = 30.0
    most_s: float = 300.0
    state: Circuit = Circuit.CLOSED
    failures: int = 0
    until: float = 0.0  # when the next probe is due, while it is open

    def allows(self, now: float) -> bool:
        """Whether to ask now. While it is open: no, until a probe is due."""
        if self.state is Circuit.OPEN and now >= self.until:
            self.state = Circuit.HALF_OPEN
        return self.state is not Circuit.OPEN

    def succeeded(self) -> None:
        """It answered, in time and in shape."""
        self.state, self.failures = Circuit.CLOSED, 0

    def failed(self, now: float) -> None:
        """It did not."""
        self.failures += 1
        if self.failures >= self.after:
            self.state = Circuit.OPEN
            self.until = now + min(self.most_s, self.pause_s * 2 ** min(self.failures - self.after, 10))
