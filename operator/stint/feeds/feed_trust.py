"""What is believed of what feeds say: the last good value of each figure, since when, and what was refused.

Pure: a state and a reading give the next state; nothing here reads a clock or a socket. The order is

    prices that people write into PriceBooks  >  sources, by precedence  >  the tables that come with Stint

and of each figure the first that knows it gives it (`merged`; PriceBooks come on top in `stint.api.parse.pricebook`).
A figure that cannot be right, or that is ten times what it was, is not used: the last good one stays, and ages.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from stint.catalogue.catalogue import Catalogue
from stint.catalogue.layer import CarbonSignal, Concern, Layer, Place, PriceKey, SpotKey
from stint.feeds.feed import USD, Fact, Key, Reading, about
from stint.model.figure import Confidence, Figure
from stint.model.offering import CapacityType

JUMP = 10.0  # times up or down between two readings: nobody's price does that
SPOT_BELOW_LIST = 100.0  # times that a spot price may lie below the on-demand price where no spot price is known
REMEMBERED = timedelta(days=8)  # of the past, for whoever books what was
_MOST = {Concern.TARIFF: 10.0, Concern.CARBON: 5000.0, Concern.PUE: 5.0, Concern.INTERRUPTIONS: 60.0}
_MAY_BE_FREE = (CapacityType.RESERVED, CapacityType.OWNED)

Named = tuple[Concern, Key]


class Trouble(StrEnum):
    """What is wrong with a feed, in a word."""

    PENDING = "NotReadYet"
    DOWN = "SourceDown"
    QUARANTINED = "Quarantined"
    CURRENCY = "WrongCurrency"
    SIGNAL = "WrongCarbonSignal"
    UNREADABLE = "UnreadableRows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What may be believed of a feed."""

    base: Catalogue  # without any feed: people's own prices and the tables that come with Stint
    currency: str = USD  # that its money is in, where a row says nothing
    usd_per: float | None = None  # dollars for one unit of that currency; None: nobody has said


@dataclass(frozen=True, slots=True)
class Refused:
    """One figure that was not believed."""

    about: str
    value: float
    trouble: Trouble
    why: str  # completes "it says 393.2, ..."


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedState:
    """What is known of one feed."""

    name: str  # BOOK/SOURCE
    up: bool = False
    message: str = "not read yet"
    last_good: datetime | None = None  # when it was last read
    held: Mapping[Named, tuple[Fact, ...]] = field(default_factory=dict)  # in USD, each series by time
    confidence: Confidence = Confidence.LIST_PRICE
    refused: tuple[Refused, ...] = ()
    unreadable: tuple[str, ...] = ()

    def at(self, named: Named, now: datetime) -> Fact | None:
        """The one that holds then; after the end of a series its last one, with the age of that end."""
        series = self.held.get(named, ())
        begun = [fact for fact in series if fact.since is None or fact.since <= now]
        if not begun:
            return None
        last = begun[-1]
        if last.until is None or now < last.until:
            return last
        return replace(last, as_of=last.until if last.as_of is None else min(last.as_of, last.until))

    def layer(self, now: datetime) -> Layer:
        """Its figures as they are then."""
        found: dict[Concern, dict[Key, Figure]] = defaultdict(dict)
        for concern, key in self.held:
            fact = self.at((concern, key), now)
            if fact is not None:
                found[concern][key] = Figure(
                    value=fact.value,
                    source=f"feed/{self.name}",
                    as_of=fact.as_of.date() if fact.as_of else None,
                    confidence=self.confidence,
                )
        return Layer(
            prices={k: f for k, f in found[Concern.PRICE].items() if isinstance(k, PriceKey)},
            tariffs={k: f for k, f in found[Concern.TARIFF].items() if isinstance(k, str)},
            carbon={
                k: f for k, f in found[Concern.CARBON].items() if not isinstance(k, (str, PriceKey, Place, SpotKey))
            },
            pue={k: f for k, f in found[Concern.PUE].items() if isinstance(k, Place)},
            interruptions={k: f for k, f in found[Concern.INTERRUPTIONS].items() if isinstance(k, SpotKey)},
        )

    def changes(self, after: datetime, until: datetime) -> list[datetime]:
        """The instants in (after, until] at which one of its figures becomes another, in order."""
        instants = {
            instant
            for series in self.held.values()
            for fact in series
            for instant in (fact.since,)
            if instant is not None and after < instant <= until
        }
        return sorted(instants)


def take(state: FeedState, reading: Reading, terms: Terms) -> FeedState:
    """Believe what can be believed."""
    if not reading.facts:
        why = reading.mistakes[0] if reading.mistakes else "it answers, but gives no figure"
        return replace(failed(state, why), unreadable=reading.mistakes)
    told: dict[Named, list[Fact]] = defaultdict(list)
    refused: list[Refused] = []
    for raw in reading.facts:
        fact = _in_usd(raw, reading, terms, refused)
        if fact is not None:
            told[fact.concern, fact.key].append(fact)
    held = dict(state.held)
    if reading.complete and not reading.mistakes:
        named = {(f.concern, f.key) for f in reading.facts}
        held = {k: series for k, series in held.items() if k in named}
    for named_, facts in told.items():
        series = _believed(named_, facts, state, reading, terms, refused)
        if series:
            held[named_] = series
    believed = any(f.about not in {r.about for r in refused} for f in reading.facts)
    if not believed and all(r.trouble in (Trouble.CURRENCY, Trouble.SIGNAL) for r in refused):
        return replace(state, up=False, message=refused[0].why, refused=tuple(refused), unreadable=reading.mistakes)
    return replace(
        state,
        up=True,
        message="",
        last_good=reading.read_at if believed else state.last_good,
        held=held,
        confidence=reading.confidence,
        refused=tuple(refused),
        unreadable=reading.mistakes,
    )


def failed(state: FeedState, why: str) -> FeedState:
    """Its last good values stay, and grow old."""
    return replace(state, up=False, message=why)


def merged(shipped: Catalogue, states: Sequence[FeedState], now: datetime) -> Catalogue:
    """The catalogue with the feeds' figures on top, as they are then. `states`: the one that counts most last."""
    layers = tuple(state.layer(now) for state in reversed(states))
    return replace(shipped, layers=(*layers, *shipped.layers))


def troubles(state: FeedState) -> list[tuple[Trouble, str]]:
    """What a person should know and do, the worst first."""
    found = []
    if not state.up:
        since = f"; its last good figures are of {state.last_good:%Y-%m-%d %H:%M} and are kept" if state.held else ""
        kind = next((r.trouble for r in state.refused if r.trouble in (Trouble.CURRENCY, Trouble.SIGNAL)), Trouble.DOWN)
        found.append((kind, f"{state.message}{since if state.last_good else ''}"))
    found += [(r.trouble, f"{r.about} says {r.value:g}: {r.why}") for r in state.refused if r.why != state.message]
    if state.up and state.unreadable:
        found.append((Trouble.UNREADABLE, "; ".join(state.unreadable[:3])))
    return found


def _in_usd(fact: Fact, reading: Reading, terms: Terms, refused: list[Refused]) -> Fact | None:
    """With its date, in dollars; None: it is of another kind than decisions use."""
    signal = fact.key[0] if fact.concern is Concern.CARBON and isinstance(fact.key, tuple) else None
    if isinstance(signal, CarbonSignal) and signal is not terms.base.carbon_signal:
        why = (
            f"its carbon is {signal.value}, and decisions use {terms.base.carbon_signal.value}, which answers another "
            "question: take a feed of that kind, or set spec.carbon.signal of the PriceBook"
        )
        refused.append(Refused(fact.about, fact.value, Trouble.SIGNAL, why))
        return None
    rate, currency = 1.0, fact.currency or terms.currency
    if fact.concern in (Concern.PRICE, Concern.TARIFF) and currency != USD:
        if currency != terms.currency or terms.usd_per is None:
            why = (
                f"it is in {currency}, and nobody says what that is in dollars: give the source "
                f"currency: {currency} and usdPer, as 1.08"
            )
            refused.append(Refused(fact.about, fact.value, Trouble.CURRENCY, why))
            return None
        rate = terms.usd_per
    return replace(fact, value=fact.value * rate, currency=USD, as_of=fact.as_of or reading.as_of)


def _believed(
    named: Named, facts: Sequence[Fact], state: FeedState, reading: Reading, terms: Terms, refused: list[Refused]
) -> tuple[Fact, ...]:
    """The series as it is from now on; empty: nothing of it was ever good."""
    known = list(state.held.get(named, ()))
    values: dict[datetime | None, list[float]] = defaultdict(list)
    for fact in facts:
        values[fact.since].append(fact.value)
    news: list[Fact] = []
    for fact in sorted(facts, key=lambda f: (f.since is not None, f.since)):
        if news and news[-1].since == fact.since:
            continue  # the same again
        before = news[-1] if news else next((f for f in reversed(known) if _not_after(f, fact, reading)), None)
        why = _lie(named, fact, before, terms.base)
        others = [v for v in values[fact.since] if v != fact.value]
        if not why and others:
            why = f"it says {others[0]:g} for the same, too, and nobody knows which is meant: leave one of them out"
        if why:
            kept = "what was known before stays" if before else "nothing is used in its place"
            refused.append(Refused(fact.about, fact.value, Trouble.QUARANTINED, f"{why}; {kept}"))
        else:
            news.append(fact)
    for fact in (f for f in news if f.since is None):
        if known and known[-1].value == fact.value and known[-1].until is None:
            known[-1] = replace(known[-1], as_of=fact.as_of)
        else:
            known.append(fact if not known else replace(fact, since=reading.read_at))
    series = [f for f in news if f.since is not None]
    if series and (begins := series[0].since):
        known = [f for f in known if f.since is None or f.since < begins] + series
    old = [f for f in known if f.since is None or f.since < reading.read_at - REMEMBERED]
    return tuple(known[max(0, len(old) - 1) :])


def _not_after(known: Fact, fact: Fact, reading: Reading) -> bool:
    return known.since is None or known.since <= (fact.since or reading.read_at)


def _lie(named: Named, fact: Fact, before: Fact | None, base: Catalogue) -> str:
    """Why it cannot be right; empty: it can."""
    concern, key = named
    value = fact.value
    if not math.isfinite(value):
        return "that is no number"
    if value < 0:
        return "nothing costs less than nothing" if concern in (Concern.PRICE, Concern.TARIFF) else "it is negative"
    most = _MOST.get(concern, math.inf)
    if value > most:
        return f"more than {most:g} is not believed; is it in another unit?"
    if concern is Concern.PUE and value < 1:
        return "no building draws less than its machines do"
    if concern is Concern.CARBON and value == 0 and base.carbon_signal is CarbonSignal.AVERAGE_LIFECYCLE:
        return "no power is made of nothing"
    if concern is Concern.TARIFF and value == 0:
        return "no power is free"
    if not isinstance(key, PriceKey):
        return ""
    if value == 0:
        return "" if key.capacity_type in _MAY_BE_FREE else "only reserved and owned nodes may be free"
    return _jump(key, value, before, base)


def _jump(key: PriceKey, value: float, before: Fact | None, base: Catalogue) -> str:
    """Whether a price is ten times what it was or what it should be. A person's own price settles it."""
    if key.capacity_type in _MAY_BE_FREE:
        return ""
    listed = base.price(*key[:4], zone=key.zone or None)
    own = listed is not None and listed.confidence is Confidence.OVERRIDE
    remedy = "; if it is right, write it under spec.prices of a PriceBook, which beats every source"
    if before is not None and not own and not 1 / JUMP < value / before.value < JUMP:
        return f"{JUMP:g} times or more away from its last good {before.value:g}{remedy}"
    most, least = JUMP, 1 / JUMP
    if listed is None and key.capacity_type is CapacityType.SPOT:
        listed, least = base.list_price(*key[:3]), 1 / SPOT_BELOW_LIST
    if listed is not None and listed.value > 0 and not least < value / listed.value < most:
        times = most if value > listed.value else 1 / least
        return f"{times:g} times or more away from the {listed.value:g} of {listed.source}{remedy}"
    return ""


def relevant(state: FeedState, wanted: Iterable[str], now: datetime) -> list[tuple[Named, Fact]]:
    """Figures about `wanted` (see `about`) as they are, and what is known of the future."""
    chosen = frozenset(wanted)
    found: list[tuple[Named, Fact]] = []
    for named in sorted(state.held, key=lambda n: about(*n)):
        if about(*named) not in chosen:
            continue
        current = state.at(named, now)
        found += [(named, current)] if current else []
        found += [(named, f) for f in state.held[named] if f.since is not None and f.since > now]
    return found
