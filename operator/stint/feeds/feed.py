"""What every feed is: something that can be read, and then says figures. Whether to believe them is for the board.

To add one: a class with a `name` and `async read(now)`, in a file of its own, and its line in the shared suite
(`tests/unit/feeds/test_every_feed.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from stint.catalogue.layer import CarbonSignal, Concern, Place, PriceKey, SpotKey
from stint.errors import StintError
from stint.model.figure import Confidence

USD = "USD"
Key = PriceKey | str | tuple[CarbonSignal, Place] | Place | SpotKey  # of a price, a tariff, carbon, PUE, interruptions


class FeedError(StintError):
    """No answer, or none in which anything can be used. What was known before stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One figure as a feed tells it, believable or not, from an instant to another."""

    concern: Concern
    key: Key
    value: float  # in the unit of its concern, money in `currency`; nan and the like are passed on
    currency: str = ""  # empty: what the source is said to be in
    as_of: datetime | None = None  # when it was true; None: as the reading says
    since: datetime | None = None  # from when on it holds; None: from when it was first read
    until: datetime | None = None  # None: until the next one

    @property
    def about(self) -> str:
        """For people: aws/us-east-1/p5.48xlarge/spot/use1-az1, or tariff berlin."""
        return about(self.concern, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a feed said at one moment."""

    source: str
    read_at: datetime
    facts: tuple[Fact, ...]
    as_of: datetime | None = None  # when it was true; None: nobody knows, so that it counts as stale
    confidence: Confidence = Confidence.LIST_PRICE
    complete: bool = False  # True: what it does not name is withdrawn, where it could be read whole
    mistakes: tuple[str, ...] = ()  # rows that could not be read


@runtime_checkable
class Feed(Protocol):
    """One source of figures."""

    @property
    def name(self) -> str:
        """How figures and conditions call it."""
        ...

    async def read(self, now: datetime) -> Reading:
        """What it says now.

        Raises:
            FeedError: saying why there is nothing.
        """
        ...


def about(concern: Concern, key: Key) -> str:
    """What a figure is about, in a line."""
    if isinstance(key, PriceKey):
        return "/".join((*key[:3], key.capacity_type.value, *((key.zone,) if key.zone else ())))
    if isinstance(key, SpotKey):
        return " ".join((concern.value, "/".join(part for part in key if part)))
    if isinstance(key, str):
        return f"{concern.value} {key}"
    signal, place = key if concern is Concern.CARBON else ("", key)
    kind = f" {signal.value}" if isinstance(signal, CarbonSignal) else ""
    return f"{concern.value}{kind} {'/'.join(str(part) for part in place)}"
