"""Electricity by the hour of the week, as contracts have it: windows on the wall clock of a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stint.api.pricebook import TimeOfUse, Window
from stint.catalogue.layer import Concern
from stint.feeds.feed import Fact, FeedError, Reading
from stint.model.figure import Confidence

AROUND = timedelta(days=8)  # that far back and ahead
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class TariffFeed:
    """What people wrote into the source itself."""

    name: str
    tariffs: Sequence[TimeOfUse]
    currency: str = "USD"

    async def read(self, now: datetime) -> Reading:
        """See `Feed`."""
        facts = tuple(f for tariff in self.tariffs for f in _series(tariff, self.currency, now))
        return Reading(
            source=self.name, read_at=now, as_of=now, facts=facts, confidence=Confidence.OVERRIDE, complete=True
        )


def price_at(tariff: TimeOfUse, moment: datetime) -> float:
    """Of a kilowatt-hour.

    Raises:
        FeedError: nobody knows its time zone.
    """
    local = moment.astimezone(_zone(tariff.time_zone))
    return next((w.per_kwh for w in tariff.windows if _within(w, local)), tariff.per_kwh)


def _within(window: Window, local: datetime) -> bool:
    """On the day that it begins, or past midnight after that."""
    begins, ends, clock = time.fromisoformat(window.start), time.fromisoformat(window.to), local.time()
    over_midnight = ends <= begins
    late = over_midnight and clock < ends
    if not (late or (begins <= clock and (over_midnight or clock < ends))):
        return False
    day = _DAYS[(local - timedelta(days=late)).weekday()]
    return not window.days or day in window.days


def _series(tariff: TimeOfUse, currency: str, now: datetime) -> Iterator[Fact]:
    """Each change around `now`."""
    before: float | None = None
    instants = list(_instants(tariff, now))
    for instant in instants:
        value = price_at(tariff, instant)
        if value != before:
            yield Fact(concern=Concern.TARIFF, key=tariff.region, value=value, currency=currency, since=instant)
        before = value


def _instants(tariff: TimeOfUse, now: datetime) -> list[datetime]:
    """When it may change: at the edges of windows, and at full hours, when clocks are put forward or back."""
    zone = _zone(tariff.time_zone)
    first = (now - AROUND).replace(minute=0, second=0, microsecond=0)
    hours = int(2 * AROUND / timedelta(hours=1))
    found = {first + timedelta(hours=h) for h in range(hours)}
    edges = {time.fromisoformat(edge) for w in tariff.windows for edge in (w.start, w.to)}
    for day in range(2 * AROUND.days + 1):
        local = (first + timedelta(days=day)).astimezone(zone).date()
        found |= {datetime.combine(local, edge, zone).astimezone(UTC) for edge in edges}
    return sorted(instant for instant in found if first <= instant)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise FeedError(f"time zone {name!r} is not known; write it as Europe/Berlin") from error
