"""The catalogue that ships with the package. It works without a network, and it ages: see each figure's `as_of`.

The tables in `data/` are written by `hack/make_catalogue.py`, which says what each is made of; `data/sources.csv` and
NOTICE say from whom. Nothing is computed here that is not in a row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache
from importlib import resources

from stint.catalogue.catalogue import Assumptions, Catalogue
from stint.catalogue.hardware import GpuFacts, InstanceType
from stint.catalogue.layer import CarbonSignal, Concern, Layer, Place, PriceKey, Route, SpotKey
from stint.feeds.feed import Fact, Reading
from stint.model.figure import Confidence, Figure
from stint.model.offering import CapacityType


@dataclass(frozen=True, slots=True)
class Shipped:
    """The same prices as a feed, for whoever treats all sources alike. Their dates are years old at times."""

    name: str = "shipped"

    async def read(self, now: datetime) -> Reading:
        """See `Feed`."""
        facts = [
            Fact(
                concern=Concern.PRICE,
                key=key,
                value=figure.value,
                as_of=datetime.combine(figure.as_of, time(), UTC) if figure.as_of else None,
            )
            for key, figure in load().layers[0].prices.items()
            if figure is not None
        ]
        return Reading(source=self.name, read_at=now, facts=tuple(facts), complete=True)


_UNVERIFIED = frozenset({"vendor-unverified", "stint-assumption"})
_ZONE_SOURCE = "skypilot-catalog"  # all of spot_zones.csv, one instant
_ZONE_AS_OF = date(2026, 1, 1)  # "2026, not later than August": the oldest day it can be

Row = dict[str, str]


def load(carbon_signal: CarbonSignal = CarbonSignal.AVERAGE_LIFECYCLE) -> Catalogue:
    """Read the tables.

    Lifecycle averages are of whole countries and known for every region; operational averages tell the grids of a
    large country apart, but not every region has one. Marginal figures do not ship.
    """
    places = _places()
    return Catalogue(
        gpus={row["model"]: _gpu(row) for row in _rows("gpus.csv")},
        instances={(row["provider"], row["name"]): _instance(row) for row in _rows("instance_types.csv")},
        layers=(
            Layer(
                prices=_prices(),
                egress=_egress(),
                storage=places.get("storage", {}),
                carbon={
                    (signal, place): figure
                    for signal in CarbonSignal
                    for place, figure in places.get(signal.value, {}).items()
                },
                pue=places.get("pue", {}),
                tariffs={place.region: figure for place, figure in places.get("tariff", {}).items()},
                interruptions=_interruptions(),
                licences={place.region: figure for place, figure in places.get("licence", {}).items()},
            ),
        ),
        assumptions=Assumptions(
            host_watts_per_gpu=places["host-watts-per-gpu"][Place("*")],
            training_load_fraction=places["training-load-fraction"][Place("*")],
            amortisation_years=places["amortisation-years"][Place("*")],
        ),
        carbon_signal=carbon_signal,
    )


def _gpu(row: Row) -> GpuFacts:
    return GpuFacts(
        model=row["model"],
        vendor=row["vendor"],
        product=row["product"],
        memory_gib=_specification(row["memory_gib"]),
        tdp_watts=_specification(row["tdp_watts"]),
        idle_watts=_specification(row["idle_watts"]),
        bf16_tflops=_specification(row["bf16_tflops"]),
        fp8_tflops=_specification(row["fp8_tflops"]),
        memory_gb_per_s=_specification(row["memory_gb_per_s"]),
        link_gb_per_s=_specification(row["link_gb_per_s"]),
        capex_usd=_specification(row["capex_usd"]),
        aliases=tuple(row["aliases"].split()),
    )


def _specification(cell: str) -> Figure | None:
    if not cell:
        return None
    value, _, source = cell.partition("@")
    confidence = Confidence.ESTIMATE if source in _UNVERIFIED else Confidence.PUBLISHED
    return Figure(value=float(value), source=source, as_of=None, confidence=confidence)


def _instance(row: Row) -> InstanceType:
    return InstanceType(
        provider=row["provider"],
        name=row["name"],
        gpu_model=row["gpu_model"],
        gpu_count=float(row["gpu_count"]),
        gpu_memory_gib=_maybe(row["gpu_memory_gib"]),
        vcpu=_maybe(row["vcpu"]),
        memory_gib=_maybe(row["memory_gib"]),
        local_disk_gb=_maybe(row["local_disk_gb"]),
        network_gbps=_maybe(row["network_gbps"]),
        source=row["source"],
    )


def _prices() -> dict[PriceKey, Figure | None]:
    prices: dict[PriceKey, Figure | None] = {}
    for row in _rows("prices.csv"):
        for capacity_type, column in ((CapacityType.ON_DEMAND, "on_demand"), (CapacityType.SPOT, "spot")):
            if row[column]:
                key = PriceKey(row["provider"], row["region"], row["instance_type"], capacity_type)
                # AWS's regional spot figure is a median over zones; all other rows are what a price list says.
                median = capacity_type is CapacityType.SPOT and row["provider"] == "aws"
                prices[key] = Figure(
                    value=float(row[column]),
                    source=row[f"{column}_source"],
                    as_of=_day(row[f"{column}_as_of"]),
                    confidence=Confidence.DERIVED if median else Confidence.LIST_PRICE,
                )
    for row in _rows("spot_zones.csv"):
        zone = PriceKey("aws", row["region"], row["instance_type"], CapacityType.SPOT, row["zone"])
        prices[zone] = (
            Figure(value=float(row["spot"]), source=_ZONE_SOURCE, as_of=_ZONE_AS_OF, confidence=Confidence.LIST_PRICE)
            if row["spot"]
            else None  # no spot market in this zone
        )
    return prices


def _egress() -> dict[Route, Figure]:
    egress: dict[Route, Figure] = {}
    for row in _rows("egress.csv"):
        figure = _figure(row)
        for to_region in row["to_regions"].split():
            egress[Route(row["provider"], row["from_region"], row["to_provider"], to_region)] = figure
    return egress


def _interruptions() -> dict[SpotKey, Figure]:
    return {
        SpotKey(row["provider"], row["region"], row["gpu_model"], row["zone"]): _figure(row)
        for row in _rows("interruptions.csv")
    }


def _places() -> dict[str, dict[Place, Figure]]:
    places: dict[str, dict[Place, Figure]] = {}
    for row in _rows("places.csv"):
        places.setdefault(row["concern"], {})[Place(row["provider"], row["region"])] = _figure(row)
    return places


def _figure(row: Row) -> Figure:
    return Figure(
        value=float(row["value"]),
        source=row["source"],
        as_of=_day(row["as_of"]),
        confidence=Confidence(row["confidence"]),
    )


def _rows(name: str) -> Iterator[Row]:
    text = resources.files("stint.feeds").joinpath("data", name).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())


def _maybe(cell: str) -> float | None:
    return float(cell) if cell else None


@cache
def _day(cell: str) -> date | None:
    return date.fromisoformat(cell) if cell else None
