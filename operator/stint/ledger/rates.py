"""What an offering costs and draws by the hour, and since when that was known."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from stint.model.figure import value_of
from stint.model.market import Offering
from stint.model.offering import OfferingId


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Of one node, while it is there."""

    pool: str
    gpu_model: str
    capacity_type: str
    usd_per_hour: float | None  # None: nobody gives a price
    source: str = ""
    watts: float = 0.0  # of GPUs and host, at load
    host_watts: float = 0.0  # the host's part of them
    pue: float = 1.0
    usd_per_kwh: float = 0.0  # 0: the price contains it
    g_per_kwh: float | None = None  # None: nobody knows
    usd_per_storage_gb_month: float = 0.0


def rates_of(offering: Offering, host_watts_per_gpu: float) -> Rates:
    """The rates of an offering as it is billed now. What cannot be reckoned with counts as not known."""
    price = offering.billed_price
    usd_per_hour = value_of(price, None)
    gpus = offering.whole_gpus(offering.per_node.gpus)
    watts = value_of(offering.watts_per_node, 0.0)
    return Rates(
        pool=offering.pool,
        gpu_model=offering.gpu_model,
        capacity_type=offering.capacity_type.value,
        usd_per_hour=usd_per_hour,
        source=price.source if price is not None and usd_per_hour is not None else "",
        watts=watts,
        host_watts=min(watts, gpus * host_watts_per_gpu),
        pue=value_of(offering.pue, 1.0),
        usd_per_kwh=value_of(offering.usd_per_kwh, 0.0),
        g_per_kwh=value_of(offering.g_co2_per_kwh, None),
        usd_per_storage_gb_month=value_of(offering.usd_per_storage_gb_month, 0.0),
    )


@dataclass(slots=True)
class Timeline:
    """Every offering's rates as steps in time. Before its first step an offering had the rates of that step."""

    _since: dict[OfferingId, list[datetime]] = field(default_factory=dict)
    _rates: dict[OfferingId, list[Rates]] = field(default_factory=dict)

    def learn(self, rates: Mapping[OfferingId, Rates], now: datetime) -> bool:
        """Take note of what holds from `now` on. True if any of it is new. A clock that went back changes nothing."""
        news = False
        for offering, new in rates.items():
            known = self._rates.setdefault(offering, [])
            if known and known[-1] == new:
                continue
            times = self._since.setdefault(offering, [])
            if times and now <= times[-1]:
                continue
            known.append(new)
            times.append(now)
            news = True
        return news

    def know(self, offering: OfferingId) -> bool:
        """Whether it ever had rates."""
        return offering in self._rates

    def between(
        self, offering: OfferingId, start: datetime, end: datetime
    ) -> Iterator[tuple[datetime, datetime, Rates]]:
        """The rates from `start` to `end`, in pieces.

        Raises:
            KeyError: nothing is known of the offering.
        """
        times, rates = self._since[offering], self._rates[offering]
        i = max(bisect.bisect_right(times, start) - 1, 0)
        while start < end:
            until = min(times[i + 1], end) if i + 1 < len(times) else end
            if until > start:
                yield start, until, rates[i]
                start = until
            i += 1

    def steps(self, since: datetime) -> Iterator[tuple[OfferingId, datetime, Rates]]:
        """What held at `since` and all that came after, offering by offering."""
        for offering in sorted(self._rates):
            times = self._since[offering]
            first = max(bisect.bisect_right(times, since) - 1, 0)
            yield from ((offering, times[i], self._rates[offering][i]) for i in range(first, len(times)))

    def forget(self, before: datetime) -> None:
        """Drop the steps that end before."""
        for offering, times in self._since.items():
            first = max(bisect.bisect_right(times, before) - 1, 0)
            del times[:first], self._rates[offering][:first]

    def recall(
        self, offering: OfferingId, since: datetime, usd_per_hour: float | None, source: str, like: Rates
    ) -> None:
        """Put in a price that was written down earlier; all else is taken to have been as it is in `like`."""
        old = replace(like, usd_per_hour=usd_per_hour, source=source)
        times, rates = self._since.setdefault(offering, []), self._rates.setdefault(offering, [])
        at = bisect.bisect_left(times, since)
        if at < len(times) and times[at] == since:
            return
        times.insert(at, since)
        rates.insert(at, old)
