"""From what a PriceBook says of a source to the feed that reads it, and from a board's state to its status and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from stint.api.parse.pricebook import by_precedence
from stint.api.pricebook import (
    MOST_KEPT,
    MOST_QUARANTINED,
    Metrics,
    PriceBook,
    Quarantined,
    Source,
    SourceStatus,
    SourceType,
)
from stint.catalogue.catalogue import Catalogue
from stint.catalogue.layer import ANY, CarbonSignal, Concern, Place
from stint.feeds import carbon
from stint.feeds.config_map import ConfigMapFeed, GetObject
from stint.feeds.feed import Fact, Feed, about
from stint.feeds.feed_trust import FeedState, Named, Terms, merged, troubles
from stint.feeds.fetch import Where
from stint.feeds.http import HttpFeed
from stint.feeds.karpenter import KarpenterFeed
from stint.feeds.node_overlays import NodeOverlayFeed
from stint.feeds.opencost import OpenCostFeed
from stint.feeds.rows import to_fact, to_row
from stint.feeds.tariff import TariffFeed
from stint.model.market import Offering


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What feeds need of the process that reads them."""

    get: GetObject  # from the API server
    namespace: str  # where its ConfigMaps are
    tokens: Path  # a folder of folders: SECRET/KEY
    base: Callable[[datetime], Catalogue]  # prices without NodeOverlays


def name_of(book: PriceBook, source: Source) -> str:
    """BOOK/SOURCE: what figures, conditions and metrics call it."""
    return f"{book.metadata.name}/{source.name}"


def in_order(books: Iterable[PriceBook]) -> Iterator[tuple[PriceBook, Source]]:
    """Every source, the one that counts most last: by its own precedence, then its book's, then the later name."""
    each = [(book, source) for book in by_precedence(books) for source in book.spec.sources]
    yield from sorted(each, key=lambda one: one[1].precedence)


def feed_of(source: Source, name: str, around: Surroundings) -> Feed:
    """What reads it."""
    token = around.tokens / source.token if source.token else None
    where = Where(url=source.url, token_file=token, timeout_s=source.timeout_seconds)
    prometheus = source.metrics is Metrics.PROMETHEUS
    zones = [(Place(*z.at.split("/")), z.zone) for z in source.zones]
    match source.type:
        case SourceType.CONFIG_MAP:
            ref = source.config_map
            assert ref is not None  # a rule of the schema
            return ConfigMapFeed(name, around.get, around.namespace, ref.name, ref.key)
        case SourceType.HTTP:
            return HttpFeed(name, where)
        case SourceType.OPENCOST:
            return OpenCostFeed(name, where, prometheus, source.provider)
        case SourceType.KARPENTER:
            return KarpenterFeed(name, where, prometheus, source.provider or "aws")
        case SourceType.NODE_OVERLAYS:
            return NodeOverlayFeed(name, around.get, around.base, source.provider or "aws")
        case SourceType.TARIFF:
            return TariffFeed(name, source.tariffs, source.currency)
        case SourceType.ELECTRICITY_MAPS:
            where = replace(where, url=where.url or carbon.ELECTRICITY_MAPS)
            return carbon.ElectricityMapsFeed(name, where, zones, source.signal or CarbonSignal.AVERAGE_LIFECYCLE)
        case SourceType.WATT_TIME:
            where = replace(where, url=where.url or carbon.WATT_TIME)
            return carbon.WattTimeFeed(name, where, zones, source.signal or CarbonSignal.MARGINAL)


def terms_of(source: Source, base: Catalogue) -> Terms:
    """What may be believed of it."""
    return Terms(base=base, currency=source.currency, usd_per=source.usd_per)


def status_of(state: FeedState, source: Source, wanted: Iterable[Named], now: datetime) -> SourceStatus:
    """For the PriceBook's status. `wanted`: figures that this cluster may ask for."""
    told = troubles(state)
    kept = _kept(state, wanted, now)
    return SourceStatus(
        name=source.name,
        up=state.up,
        last_good=state.last_good.replace(microsecond=0) if state.last_good else None,
        figures=len(state.held),
        refused=len(state.refused),
        quarantined=[
            Quarantined(what=r.about[:256], value=f"{r.value:g}"[:32], why=r.why[:512])
            for r in state.refused[:MOST_QUARANTINED]
        ],
        message="; ".join(text for _, text in told[:3])[:1024],
        kept=[to_row(fact) for fact in kept[:MOST_KEPT]],
    )


def _kept(state: FeedState, wanted: Iterable[Named], now: datetime) -> list[Fact]:
    """Those that hold now, before those that will."""
    names = [named for named in sorted(set(wanted), key=lambda n: about(*n)) if named in state.held]
    current = [fact for named in names if (fact := state.at(named, now)) is not None]
    coming = [f for named in names for f in state.held[named] if f.since is not None and f.since > now]
    return current + sorted(coming, key=lambda f: f.since or now)


def restored(status: SourceStatus, name: str) -> FeedState:
    """A state as its status kept it: what an operator goes on with, and what the command line sees."""
    held: dict[Named, tuple[Fact, ...]] = {}
    for row in status.kept:
        try:
            fact = to_fact(row)
        except ValueError:
            continue  # somebody else wrote there
        held[fact.concern, fact.key] = (*held.get((fact.concern, fact.key), ()), fact)
    return FeedState(name=name, up=status.up, message=status.message, last_good=status.last_good, held=held)


def standing(shipped: Catalogue, books: Sequence[PriceBook], now: datetime) -> Catalogue:
    """The catalogue with what the books' statuses keep of their sources: what the operator uses, seen from outside."""
    states = []
    for book, source in in_order(books):
        status = next((s for s in book.status.sources if s.name == source.name), None)
        states += [restored(status, name_of(book, source))] if status else []
    return merged(shipped, states, now) if states else shipped


def wanted_by(offerings: Iterable[Offering], states: Iterable[FeedState]) -> set[Named]:
    """Which of the feeds' figures these offerings may ask for."""
    offerings = list(offerings)
    machines = {(o.provider, o.instance_type) for o in offerings}
    models = {(o.provider, o.gpu_model) for o in offerings}
    places = {(o.provider, o.region) for o in offerings}
    regions, providers = {o.region for o in offerings}, {o.provider for o in offerings}

    def asked(concern: Concern, key: object) -> bool:
        match key:
            case str():
                return key == ANY or key in regions
            case (CarbonSignal(), Place() as place):
                return place in places or (place.region == ANY and place.provider in providers)
            case Place():
                return key in places or (key.region == ANY and key.provider in providers)
            case (provider, region, what, *_):
                machine = (provider, what) in machines or (
                    concern is Concern.INTERRUPTIONS and (provider, what) in models
                )
                anything = what == ANY and provider in providers
                return (machine or anything) and (region == ANY or (provider, region) in places)
        return False

    return {(concern, key) for state in states for concern, key in state.held if asked(concern, key)}
