"""From PriceBooks to what the catalogue has on top of its own figures."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TypeVar

from stint.accelerators.registry import DEFAULT
from stint.api.pricebook import GpuModel, PriceBook, as_of
from stint.catalogue.catalogue import Catalogue
from stint.catalogue.commitments import Commitment, OwnedMachine, in_order
from stint.catalogue.hardware import GpuFacts
from stint.catalogue.layer import CarbonSignal, Place, PriceKey, Route, SpotKey
from stint.catalogue.overrides import Overrides
from stint.catalogue.quote import FreshnessLimits
from stint.errors import InvalidInputError, Mistake
from stint.model.figure import Confidence, Figure

_Key = TypeVar("_Key", bound=Hashable)


def to_overrides(book: PriceBook) -> Overrides:
    """The catalogue's noun for a PriceBook.

    Raises:
        InvalidInputError: a date or a number that cannot be, or two numbers for one thing.
    """
    spec = book.spec
    mistakes: list[Mistake] = []
    if spec.as_of and as_of(book) is None:
        mistakes.append(Mistake("spec.asOf", spec.as_of, "is no date; write it as 2026-11-01"))
    energy, carbon = spec.energy, spec.carbon
    for i, p in enumerate(spec.prices):
        per = (
            bool(p.instance_type),
            p.usd_per_node_hour is not None,
            bool(p.gpu_model),
            p.usd_per_gpu_hour is not None,
        )
        if per not in ((True, True, False, False), (False, False, True, True)):
            text = "must have either instanceType and usdPerNodeHour, or gpuModel and usdPerGpuHour"
            mistakes.append(Mistake(f"spec.prices[{i}]", p.instance_type or p.gpu_model, text))

    def once(path: str, entries: Iterable[tuple[_Key, float]]) -> dict[_Key, float]:
        return _once(path, entries, mistakes)

    overrides = Overrides(
        name=book.metadata.name,
        as_of=as_of(book),
        prices=once(
            "spec.prices",
            (
                (PriceKey(p.provider, p.region, p.instance_type, p.capacity_type, p.zone), p.usd_per_node_hour)
                for p in spec.prices
                if p.instance_type and p.usd_per_node_hour is not None
            ),
        ),
        gpu_prices=once(
            "spec.prices",
            (
                (PriceKey(p.provider, p.region, p.gpu_model, p.capacity_type, p.zone), p.usd_per_gpu_hour)
                for p in spec.prices
                if p.gpu_model and p.usd_per_gpu_hour is not None
            ),
        ),
        gpus={m.name: _gpu(m, f"pricebook/{book.metadata.name}", as_of(book)) for m in spec.gpu_models},
        egress=once(
            "spec.egress", ((Route(*e.source.split("/"), *e.to.split("/")), e.usd_per_gb) for e in spec.egress)
        ),
        storage=once("spec.storage", ((Place(*s.at.split("/")), s.usd_per_gb_month) for s in spec.storage)),
        carbon=once(
            "spec.carbon.intensities",
            ((Place(*i.at.split("/")), i.g_per_kwh) for i in (carbon.intensities if carbon else ())),
        ),
        carbon_signal=(carbon and carbon.signal) or CarbonSignal.AVERAGE_LIFECYCLE,
        pue=once("spec.energy.pue", ((Place(*p.at.split("/")), p.ratio) for p in (energy.pue if energy else ()))),
        tariffs=once("spec.energy.tariffs", ((t.region, t.usd_per_kwh) for t in (energy.tariffs if energy else ()))),
        interruptions=once(
            "spec.interruptions",
            ((SpotKey(i.provider, i.region, i.what, i.zone), i.per_hour) for i in spec.interruptions),
        ),
        licences=once("spec.licences", ((entry.name, entry.usd_per_gpu_hour) for entry in spec.licences)),
        labour_usd_per_job_hour=spec.labour.usd_per_job_hour if spec.labour else None,
        carbon_usd_per_tonne=carbon.usd_per_tonne if carbon else None,
    )
    if mistakes:
        raise InvalidInputError(f"PriceBook {book.metadata.name}", mistakes)
    return overrides


def _gpu(model: GpuModel, source: str, told: date | None) -> GpuFacts:
    def figure(value: float) -> Figure | None:
        if not value:
            return None
        return Figure(value=value, source=source, as_of=told, confidence=Confidence.OVERRIDE)

    return GpuFacts(
        model=model.name,
        vendor=DEFAULT.name,
        product=model.labels[0] if model.labels else model.name,
        memory_gib=figure(model.memory_gib),
        tdp_watts=figure(model.watts),
        idle_watts=None,
        bf16_tflops=figure(model.bf16_tflops),
        fp8_tflops=None,
        memory_gb_per_s=None,
        link_gb_per_s=None,
        capex_usd=figure(model.capex_usd),
        aliases=tuple(model.labels[1:]),
    )


def _once(path: str, entries: Iterable[tuple[_Key, float]], mistakes: list[Mistake]) -> dict[_Key, float]:
    """By key. Two different figures for one thing are a mistake; the same one twice does no harm."""
    said: dict[_Key, tuple[int, float]] = {}
    for i, (key, value) in enumerate(entries):
        before, known = said.setdefault(key, (i, value))
        if known != value:
            text = f"contradicts {path}[{before}], which says {known:g} for the same; leave one of them out"
            mistakes.append(Mistake(f"{path}[{i}]", f"{value:g}", text))
    return {key: value for key, (_, value) in said.items()}


def to_commitments(book: PriceBook) -> tuple[Commitment, ...]:
    """What a PriceBook says is paid for anyway."""
    return tuple(
        Commitment(
            name=c.name,
            source=f"pricebook/{book.metadata.name}",
            provider=c.provider,
            region=c.region,
            zone=c.zone,
            instance_type=c.instance_type,
            nodes=c.nodes,
            usd_per_node_hour=c.usd_per_node_hour,
            plan_usd_per_hour=c.savings_plan.usd_per_hour if c.savings_plan else None,
            plan_discount=c.savings_plan.discount if c.savings_plan else 0.0,
            owned=OwnedMachine(
                capex_usd=c.owned.capex_usd,
                depreciation_years=c.owned.depreciation_years,
                idle_watts=c.owned.idle_watts,
                usd_per_kwh=c.owned.usd_per_kwh,
                pue=c.owned.pue,
            )
            if c.owned
            else None,
            start=c.start,
            end=c.end,
        )
        for c in book.spec.commitments
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBook:
    """One PriceBook as the catalogue takes it."""

    name: str
    overrides: Overrides | None  # None: none of it can be used
    commitments: tuple[Commitment, ...] = ()
    wrong: InvalidInputError | ValueError | None = None  # what keeps it from being used


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All PriceBooks, each read once. The last one counts most."""

    each: tuple[ReadBook, ...] = ()
    carbon_signal: CarbonSignal | None = None  # the kind of carbon intensity that decisions use; None: no book says
    freshness: FreshnessLimits = field(default_factory=FreshnessLimits)

    def on_top_of(self, catalogue: Catalogue) -> Catalogue:
        """The catalogue with every book that can be used on top; higher precedence wins, then the later name."""
        if self.carbon_signal:
            catalogue = replace(catalogue, carbon_signal=self.carbon_signal)
        commitments: list[Commitment] = []
        for book in self.each:
            if book.overrides is None:
                continue
            try:
                catalogue = catalogue.with_overrides(book.overrides)
            except ValueError:
                continue  # its carbon is of another kind; its own status says so
            commitments += book.commitments
        return replace(catalogue, commitments=in_order(commitments)) if commitments else catalogue

    def named(self, name: str) -> ReadBook | None:
        """None: there was no such book when they were read."""
        return next((book for book in self.each if book.name == name), None)


def by_precedence(books: Iterable[PriceBook]) -> list[PriceBook]:
    """The one that counts most last: of the highest precedence, then of the later name."""
    return sorted(books, key=lambda b: (b.spec.precedence, b.metadata.name))


def read_books(books: Iterable[PriceBook]) -> Books:
    """Each once. One that is wrong keeps no other from being used."""
    ordered = by_precedence(books)
    signals = [b.spec.carbon.signal for b in ordered if b.spec.carbon and b.spec.carbon.signal]
    limits = [b.spec.freshness for b in ordered if b.spec.freshness]
    fresh = limits[-1] if limits else None
    return Books(
        each=tuple(_read_book(book) for book in ordered),
        carbon_signal=signals[-1] if signals else None,
        freshness=FreshnessLimits(list_price_days=fresh.list_price_days, spot_price_days=fresh.spot_price_days)
        if fresh
        else FreshnessLimits(),
    )


def with_books(catalogue: Catalogue, books: Iterable[PriceBook]) -> Catalogue:
    """The catalogue with these books on top, where nothing else is asked of them."""
    return read_books(books).on_top_of(catalogue)


def _read_book(book: PriceBook) -> ReadBook:
    try:
        overrides = to_overrides(book)
        return ReadBook(name=book.metadata.name, overrides=overrides, commitments=to_commitments(book))
    except (InvalidInputError, ValueError) as error:
        return ReadBook(name=book.metadata.name, overrides=None, wrong=error)
