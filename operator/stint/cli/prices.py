"""`stint prices`: every figure that costs money or carbon, as decisions use it, with its source, age and faults."""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

from stint.api.pricebook import PriceBook
from stint.catalogue.catalogue import Catalogue
from stint.catalogue.layer import ANY, CarbonSignal, Concern, Place, PriceKey, SpotKey
from stint.cli import tables
from stint.cli.sources import look, situation_of
from stint.feeds import bundled
from stint.feeds.feed import Key, about
from stint.model.figure import Figure
from stint.model.market import Offering
from stint.model.offering import CapacityType
from stint.model.situation import Situation

Cells = Mapping[str, object]  # by column; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure."""

    what: str
    where: str
    figure: Figure | None
    unit: str
    marks: tuple[str, ...] = ()

    def cells(self, today: date) -> Cells:
        """As it is shown."""
        f = self.figure
        age = f.age_days(today) if f else None
        return {
            "what": self.what,
            "where": self.where,
            "value": None if f is None else float(f"{f.value:.6g}"),
            "unit": self.unit,
            "source": f.source if f else None,
            "as_of": str(f.as_of) if f and f.as_of else None,
            "age_days": age,
            "confidence": f.confidence.value if f else None,
            "marks": ",".join(self.marks if f else ("unknown", *self.marks)),
        }


def prices(options: argparse.Namespace) -> int:
    """`stint prices`"""
    if options.catalogue or options.gpus:
        catalogue, today = bundled.load(), datetime.now(UTC).date()
        _write(_gpu_rows(catalogue) if options.gpus else _price_rows(catalogue, options, today), None, options.output)
        return 0
    books: list[PriceBook] = []
    if options.file is None:
        seen, books = asyncio.run(look(options.kubeconfig))
        situation = seen.situation
    else:
        situation = situation_of(options)
    today = situation.now.date()
    _write([line.cells(today) for line in lines(_only(situation, options), books)], sources(books), options.output)
    return 0


def lines(situation: Situation, books: Sequence[PriceBook]) -> Iterator[Line]:
    """Of offerings, of places, and the rates that hold for all."""
    bad = frozenset(q.what for book in books for s in book.status.sources for q in s.quarantined)

    def marks(concern: Concern, *keys: Key, besides: Iterable[str] = ()) -> tuple[str, ...]:
        quarantined = any(about(concern, key) in bad for key in keys)
        return (*besides, *(("quarantined",) if quarantined else ()))

    for o in situation.offerings:
        places = [(r, z) for r in (o.region, ANY) for z in (o.zone, "")]
        keys = [PriceKey(o.provider, r, o.instance_type, o.capacity_type, z) for r, z in places]
        committed = ("committed",) if o.billed_usd_per_node_hour else ()
        told = marks(Concern.PRICE, *keys, besides=(*(("stale",) if "price" in o.stale else ()), *committed))
        yield Line(what="price", where=o.id, figure=o.usd_per_node_hour, unit="USD/node-h", marks=told)
        if o.billed_usd_per_node_hour:
            yield Line(what="billed", where=o.id, figure=o.billed_usd_per_node_hour, unit="USD/node-h", marks=committed)
        if o.usd_per_new_node_hour:
            yield Line(what="price of new", where=o.id, figure=o.usd_per_new_node_hour, unit="USD/node-h")
        if o.capacity_type is CapacityType.SPOT:
            asked = [SpotKey(o.provider, r, w, z) for r, z in places for w in (o.instance_type, o.gpu_model, ANY)]
            told = marks(Concern.INTERRUPTIONS, *asked)
            yield Line(what="interruptions", where=o.id, figure=o.interruptions_per_hour, unit="1/node-h", marks=told)
    yield from _of_places(situation.offerings, marks)
    for rate in situation.rates.egress:
        route = f"{rate.from_provider}/{rate.from_region} -> {rate.to_provider}/{rate.to_region}"
        yield Line(what="egress", where=route, figure=rate.usd_per_gb, unit="USD/GB")
    for name, figure in situation.rates.licence_usd_per_gpu_hour.items():
        yield Line(what="licence", where=name, figure=figure, unit="USD/GPU-h")
    if labour := situation.rates.labour_usd_per_job_hour:
        yield Line(what="labour", where=ANY, figure=labour, unit="USD/job-h")
    if tonne := situation.rates.carbon_usd_per_tonne:
        yield Line(what="carbon price", where=ANY, figure=tonne, unit="USD/t")


def _of_places(offerings: Iterable[Offering], marks: Callable[..., tuple[str, ...]]) -> Iterator[Line]:
    """What a whole region has alike, once for each figure that differs."""
    seen: dict[Line, None] = {}
    for o in offerings:
        place, here = f"{o.provider}/{o.region}", (Place(o.provider, o.region), Place(o.provider))
        if o.capacity_type is CapacityType.OWNED:
            told = marks(Concern.TARIFF, o.region, ANY)
            seen[Line(what="tariff", where=place, figure=o.usd_per_kwh, unit="USD/kWh", marks=told)] = None
        told = marks(Concern.PUE, *here)
        seen[Line(what="pue", where=place, figure=o.pue, unit="ratio", marks=told)] = None
        told = marks(Concern.CARBON, *((signal, p) for signal in CarbonSignal for p in here))
        seen[Line(what="carbon", where=place, figure=o.g_co2_per_kwh, unit="g/kWh", marks=told)] = None
        figure = o.usd_per_storage_gb_month
        seen[Line(what="storage", where=place, figure=figure, unit="USD/GB-month")] = None
    yield from sorted(seen, key=lambda line: (line.what, line.where))


def sources(books: Iterable[PriceBook]) -> list[Cells]:
    """How the sources of PriceBooks are, as the operator has told."""
    return [
        {
            "source": f"{book.metadata.name}/{s.name}",
            "up": "yes" if s.up else "no",
            "last_good": s.last_good.isoformat() if s.last_good else None,
            "figures": s.figures,
            "quarantined": s.refused,
            "message": s.message,
        }
        for book in books
        for s in book.status.sources
    ]


def _only(situation: Situation, options: argparse.Namespace) -> Situation:
    """Of the offerings those that were asked for."""
    model = bundled.load().canonical_gpu(options.gpu) if options.gpu else None
    chosen = tuple(
        o
        for o in situation.offerings
        if options.provider in (None, o.provider)
        and options.region in (None, o.region)
        and (not options.gpu or o.gpu_model == model)
    )
    return replace(situation, offerings=chosen)


def _write(rows: Sequence[Cells], told: Sequence[Cells] | None, output: str) -> None:
    """`told`: of sources; None: there are none to speak of."""
    if output == "json":
        print(json.dumps(rows if told is None else {"figures": rows, "sources": told}, indent=1))
        return
    if output == "csv":
        writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else ["what"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return
    if not rows:
        print("nothing that fits; try fewer filters")
    for part in (rows, told or ()):
        if part:
            table = tables.table(*(k.upper() for k in part[0]), right=("VALUE",))
            for row in part:
                table.add_row(
                    *("-" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in row.values())
                )
            tables.console().print(table)


def _price_rows(catalogue: Catalogue, options: argparse.Namespace, today: date) -> list[Cells]:
    model = catalogue.canonical_gpu(options.gpu) if options.gpu else None
    rows: list[Cells] = []
    keys = sorted({k for layer in catalogue.layers for k in layer.prices if not k.zone}, key=str)
    for key in keys:
        machine = catalogue.instance_type(key.provider, key.instance_type)
        figure = catalogue.price(key.provider, key.region, key.instance_type, key.capacity_type)
        unwanted = (
            machine is None
            or figure is None
            or key.capacity_type not in (CapacityType.ON_DEMAND, CapacityType.SPOT)
            or (options.provider and key.provider != options.provider)
            or (options.region and key.region != options.region)
            or (options.gpu and machine.gpu_model != model)
        )
        if unwanted or machine is None or figure is None:
            continue
        age = figure.age_days(today)
        rows.append(
            {
                "provider": key.provider,
                "region": key.region,
                "instance": key.instance_type,
                "gpus": f"{machine.gpu_count:g} x {machine.gpu_model}",
                "terms": key.capacity_type.value,
                "usd/h": f"{figure.value:.4f}",
                "usd/gpu-h": f"{figure.value / machine.gpu_count:.4f}",
                "age": "unknown" if age is None else f"{age:.0f} d",
                "source": figure.source,
            }
        )
    return rows


def _gpu_rows(catalogue: Catalogue) -> list[Cells]:
    names = ("memory_gib", "tdp_watts", "bf16_tflops")
    rows: list[Cells] = []
    for gpu in sorted(catalogue.gpus.values(), key=lambda g: g.model):
        figures = {n: getattr(gpu, n) for n in names}
        rows.append({"model": gpu.model, **{n: None if f is None else f.value for n, f in figures.items()}})
    return rows
