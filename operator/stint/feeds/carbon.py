"""Carbon intensity over HTTP, in the shapes of the two well-known services. What kind it is they say themselves.

Electricity Maps tells averages, over the life cycle or of operation alone; WattTime tells what one more watt causes
(MOER), in pounds per megawatt-hour. A kind that decisions do not use is refused by the board, never converted.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stint.catalogue.layer import CarbonSignal, Concern, Place
from stint.feeds.feed import Fact, FeedError, Reading
from stint.feeds.fetch import Where, get
from stint.model.figure import Confidence

ELECTRICITY_MAPS, WATT_TIME = "https://api.electricitymaps.com", "https://api.watttime.org"
GRAMS_PER_POUND = 453.59237
_FACTORS = {"lifecycle": CarbonSignal.AVERAGE_LIFECYCLE, "direct": CarbonSignal.AVERAGE_OPERATIONAL}
_WATT_TIME_SIGNALS = {"co2_moer": CarbonSignal.MARGINAL, "co2_aoer": CarbonSignal.AVERAGE_OPERATIONAL}


@dataclass(frozen=True, slots=True)
class ElectricityMapsFeed:
    """`/v3/carbon-intensity/latest` of each zone."""

    name: str
    where: Where
    zones: Sequence[tuple[Place, str]]
    signal: CarbonSignal = CarbonSignal.AVERAGE_LIFECYCLE

    async def read(self, now: datetime) -> Reading:
        """See `Feed`."""
        factor = next((f for f, s in _FACTORS.items() if s is self.signal), "lifecycle")
        zones = tuple(dict.fromkeys(zone for _, zone in self.zones))
        token = self.where.token()

        async def ask(zone: str) -> Any:
            params = {"zone": zone, "emissionFactorType": factor}
            headers = {"auth-token": token} if token else {}
            payload, _ = await get(
                self.where, "/v3/carbon-intensity/latest", params=params, headers=headers, bearer=False
            )
            return _decoded(payload)

        return _reading(self.name, now, self.zones, await _each(zones, ask), self._fact)

    def _fact(self, place: Place, told: Any) -> list[Fact]:
        kind = _FACTORS.get(str(told.get("emissionFactorType", "lifecycle")))
        if kind is None:
            raise ValueError(f"emissionFactorType {told.get('emissionFactorType')!r} is not known")
        when = _moment(told["datetime"])
        return [Fact(concern=Concern.CARBON, key=(kind, place), value=_number(told["carbonIntensity"]), as_of=when)]


@dataclass(frozen=True, slots=True)
class WattTimeFeed:
    """`/v3/forecast` of each region: a series, five minutes a step."""

    name: str
    where: Where  # its token is user:password
    zones: Sequence[tuple[Place, str]]
    signal: CarbonSignal = CarbonSignal.MARGINAL

    async def read(self, now: datetime) -> Reading:
        """See `Feed`."""
        kind = next((k for k, s in _WATT_TIME_SIGNALS.items() if s is self.signal), "co2_moer")
        headers = await self._login()
        regions = tuple(dict.fromkeys(zone for _, zone in self.zones))

        async def ask(region: str) -> Any:
            params = {"region": region, "signal_type": kind}
            payload, _ = await get(self.where, "/v3/forecast", params=params, headers=headers, bearer=False)
            return _decoded(payload)

        return _reading(self.name, now, self.zones, await _each(regions, ask), self._facts)

    async def _login(self) -> dict[str, str]:
        """Its tokens last half an hour."""
        pair = self.where.token()
        if not pair:
            return {}
        basic = base64.b64encode(pair.encode()).decode()
        payload, _ = await get(self.where, "/login", headers={"Authorization": f"Basic {basic}"}, bearer=False)
        token = _decoded(payload).get("token")
        if not token:
            raise FeedError("the login gives no token")
        return {"Authorization": f"Bearer {token}"}

    def _facts(self, place: Place, told: Any) -> list[Fact]:
        meta = told["meta"]
        kind, units = _WATT_TIME_SIGNALS.get(str(meta.get("signal_type"))), meta.get("units")
        if kind is None or units != "lbs_co2_per_mwh":
            raise ValueError(f"signal_type {meta.get('signal_type')!r} in {units!r} is not known")
        return [
            Fact(
                concern=Concern.CARBON,
                key=(kind, place),
                value=_number(point["value"]) * GRAMS_PER_POUND / 1000,
                since=_moment(point["point_time"]),
            )
            for point in told["data"]
        ]


async def _each(zones: Sequence[str], ask: Any) -> dict[str, Any]:
    """By zone; what went wrong is in place of its answer. One zone that fails does not hide the others."""
    answers = await asyncio.gather(*(ask(zone) for zone in zones), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, FeedError):
            raise answer
    return dict(zip(zones, answers, strict=True))


def _reading(
    name: str, now: datetime, zones: Sequence[tuple[Place, str]], answers: Mapping[str, Any], facts_of: Any
) -> Reading:
    facts: list[Fact] = []
    mistakes: list[str] = []
    for place, zone in zones:
        told = answers[zone]
        if isinstance(told, FeedError):
            mistakes.append(f"zone {zone}: {told}")
            continue
        try:
            facts += facts_of(place, told)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            mistakes.append(f"zone {zone}: {what}")
    if not facts and mistakes:
        raise FeedError(mistakes[0])
    return Reading(
        source=name,
        read_at=now,
        as_of=now,
        facts=tuple(facts),
        mistakes=tuple(mistakes),
        confidence=Confidence.MEASURED,
    )


def _decoded(payload: bytes) -> Any:
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"no JSON: {error}") from error
    if not isinstance(told, dict):
        raise FeedError("no JSON object")
    return told


def _number(told: Any) -> float:
    if isinstance(told, bool) or not isinstance(told, (int, float)):
        raise ValueError(f"{told!r} is no number")
    return float(told)


def _moment(told: Any) -> datetime:
    moment = datetime.fromisoformat(str(told))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
