"""PriceBook: your own prices, tariffs and rates. They beat everything that comes with the package."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec

from stint.api.meta import Camel, Conditions, Meta
from stint.api.schema import doc
from stint.catalogue.freshness import LIST_LIMIT_DAYS, SPOT_LIMIT_DAYS
from stint.model.offering import CapacityType

_USD = {"ge": 0, "le": 1e6}
_PLACE = "^[a-z0-9-]+/([a-z0-9-]+|[*])$"


def _place(text: str) -> msgspec.Meta:
    return doc(text, max_length=128, pattern=_PLACE)


class Price(Camel, kw_only=True):
    """spec.prices[]"""

    provider: Annotated[str, doc("Who sells it.", min_length=1, max_length=64)]
    region: Annotated[str, doc("Where; * for everywhere.", max_length=64)] = "*"
    zone: Annotated[str, doc("In this zone only.", max_length=64)] = ""
    instance_type: Annotated[str, doc("What.", min_length=1, max_length=64)]
    capacity_type: Annotated[CapacityType, doc("Under which terms.")] = CapacityType.ON_DEMAND
    usd_per_node_hour: Annotated[float, doc("US dollars for a node and an hour.", **_USD)]


class Tariff(Camel, kw_only=True):
    """spec.energy.tariffs[]"""

    region: Annotated[str, doc("Region of owned machines.", min_length=1, max_length=64)]
    usd_per_kwh: Annotated[float, doc("US dollars for a kilowatt-hour.", ge=0, le=100)]


class Pue(Camel, kw_only=True):
    """spec.energy.pue[]"""

    at: Annotated[str, _place("provider/region, or provider/*.")]
    ratio: Annotated[float, doc("Power usage effectiveness of the site.", ge=1, le=5)]


class Energy(Camel, kw_only=True):
    """spec.energy"""

    tariffs: Annotated[list[Tariff], doc("What a kilowatt-hour costs.", max_length=256)] = []
    pue: Annotated[list[Pue], doc("How much the site adds.", max_length=256)] = []


class Intensity(Camel, kw_only=True):
    """spec.carbon.intensities[]"""

    at: Annotated[str, _place("provider/region, or provider/*.")]
    g_per_kwh: Annotated[float, doc("Grams of CO2-equivalent for a kilowatt-hour.", ge=0, le=5000)]


class Carbon(Camel, kw_only=True):
    """spec.carbon"""

    usd_per_tonne: Annotated[
        Annotated[float, msgspec.Meta(**_USD)] | None,
        doc("What you charge yourself for a tonne; it is added to costs."),
    ] = None
    intensities: Annotated[list[Intensity], doc("Carbon intensity of the grid.", max_length=256)] = []


class Egress(Camel, kw_only=True):
    """spec.egress[]"""

    source: Annotated[str, doc("From provider/region.", max_length=128, pattern=_PLACE)] = msgspec.field(name="from")
    to: Annotated[str, _place("To provider/region.")]
    usd_per_gb: Annotated[float, doc("US dollars for a gigabyte.", ge=0, le=100)] = msgspec.field(name="usdPerGB")


class Storage(Camel, kw_only=True):
    """spec.storage[]"""

    at: Annotated[str, _place("provider/region, or provider/*.")]
    usd_per_gb_month: Annotated[float, doc("US dollars for a gigabyte and a month.", ge=0, le=100)] = msgspec.field(
        name="usdPerGBMonth"
    )


class Interruption(Camel, kw_only=True):
    """spec.interruptions[]"""

    provider: Annotated[str, doc("Whose spot capacity.", min_length=1, max_length=64)]
    region: Annotated[str, doc("Where; * for everywhere.", max_length=64)] = "*"
    what: Annotated[str, doc("Instance type or GPU model; * for all.", max_length=64)] = "*"
    zone: Annotated[str, doc("In this zone only.", max_length=64)] = ""
    per_hour: Annotated[float, doc("How often a node is taken, per hour that it runs.", ge=0, le=60)]


class Licence(Camel, kw_only=True):
    """spec.licences[]"""

    name: Annotated[str, doc("As jobs name it in spec.licences.", min_length=1, max_length=63)]
    usd_per_gpu_hour: Annotated[float, doc("US dollars for a GPU and an hour.", **_USD)]


class Labour(Camel, kw_only=True):
    """spec.labour"""

    usd_per_job_hour: Annotated[float, doc("What people cost for each hour that a job runs.", **_USD)]


class Freshness(Camel, kw_only=True):
    """spec.freshness"""

    list_price_days: Annotated[float, doc("A list price older than this is reported as stale.", ge=0, le=36_500)] = (
        LIST_LIMIT_DAYS
    )
    spot_price_days: Annotated[float, doc("A spot price older than this is reported as stale.", ge=0, le=36_500)] = (
        SPOT_LIMIT_DAYS
    )


class Spec(Camel, kw_only=True):
    """spec"""

    as_of: Annotated[
        str,
        doc("When these numbers were true, as 2026-11-01.", max_length=10, pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?$"),
    ] = ""
    precedence: Annotated[int, doc("Of several books the higher one wins; then the later name.", ge=-1000, le=1000)] = 0
    prices: Annotated[list[Price], doc("Prices of nodes.", max_length=2000)] = []
    energy: Annotated[Energy | None, doc("Energy of owned machines.")] = None
    carbon: Annotated[Carbon | None, doc("Carbon and what it costs you.")] = None
    egress: Annotated[list[Egress], doc("Moving data.", max_length=500)] = []
    storage: Annotated[list[Storage], doc("Block storage.", max_length=500)] = []
    interruptions: Annotated[list[Interruption], doc("How often spot nodes are taken.", max_length=500)] = []
    licences: Annotated[list[Licence], doc("Licences that jobs name.", max_length=100)] = []
    labour: Annotated[Labour | None, doc("People.")] = None
    freshness: Annotated[Freshness | None, doc("From when on a figure counts as stale.")] = None


class Status(Camel, kw_only=True):
    """status"""

    observed_generation: Annotated[int, doc("Of the spec that this status speaks of.")] = 0
    entries: Annotated[int, doc("Figures that it gives.")] = 0
    stale: Annotated[int, doc("Offerings in this cluster with a figure that is too old.")] = 0
    unpriced: Annotated[int, doc("Offerings in this cluster without a price.")] = 0
    offerings: Annotated[int, doc("Offerings in this cluster.")] = 0
    updated: Annotated[str, doc("spec.asOf.")] = ""
    conditions: Conditions = []


class PriceBook(Camel, kw_only=True):
    """One object as the API server hands it over."""

    metadata: Meta
    spec: Spec
    status: Status = msgspec.field(default_factory=Status)


def as_of(book: PriceBook) -> date | None:
    """The date its numbers were true on; None: not said, or no date."""
    try:
        return date.fromisoformat(book.spec.as_of)
    except ValueError:
        return None
