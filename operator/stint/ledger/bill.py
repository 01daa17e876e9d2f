"""A provider's bill, read from its export, beside the ledger: where they drift apart, and which price would mend it.

Four shapes are known by their columns: FOCUS (FinOps Open Cost and Usage Specification, 1.0 and later), AWS's Cost and
Usage Report (CUR, both spellings), Google Cloud's billing export, and Azure's cost export. A line is a node's if it
names an instance type that the ledger knows; it belongs to the pool that its tags name, or to those that have such
nodes there.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from stint.api.ledger import DaySpec
from stint.errors import InvalidInputError, Mistake
from stint.estimate.runtime import SECONDS_PER_HOUR
from stint.model.offering import CapacityType

TOLERANCE = 0.02  # of the bill: less is rounding, and hours that begin and end elsewhere
_POOL_TAGS = (
    "stint.dev/pool",
    "karpenter.sh/nodepool",
    "eks:nodegroup-name",
    "goog-k8s-node-pool-name",
    "aks-managed-poolname",
)


class Shape(StrEnum):
    """Whose export it is."""

    FOCUS = "FOCUS"
    CUR = "AWS CUR"
    GCP = "Google Cloud"
    AZURE = "Azure"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Where a shape has what; of several the first that is there."""

    cost: tuple[str, ...]
    start: tuple[str, ...]
    currency: tuple[str, ...]
    hours: tuple[str, ...]
    what: tuple[str, ...]  # columns in which the instance type is named, more or less
    place: tuple[str, ...]
    tags: tuple[str, ...]


_SHAPES: Mapping[Shape, _Columns] = {
    Shape.FOCUS: _Columns(
        cost=("EffectiveCost", "BilledCost"),
        start=("ChargePeriodStart",),
        currency=("BillingCurrency",),
        hours=("ConsumedQuantity", "PricingQuantity"),
        what=("x_InstanceType", "x_UsageType", "SkuMeter", "SkuId", "SkuPriceDetails", "ChargeDescription"),
        place=("AvailabilityZone", "RegionId"),
        tags=("Tags",),
    ),
    Shape.CUR: _Columns(
        cost=("lineItem/UnblendedCost", "line_item_unblended_cost"),
        start=("lineItem/UsageStartDate", "line_item_usage_start_date"),
        currency=("lineItem/CurrencyCode", "line_item_currency_code"),
        hours=("lineItem/UsageAmount", "line_item_usage_amount"),
        what=(
            "product/instanceType",
            "product_instance_type",
            "lineItem/UsageType",
            "line_item_usage_type",
            "lineItem/LineItemDescription",
            "line_item_line_item_description",
        ),
        place=("lineItem/AvailabilityZone", "line_item_availability_zone", "product/region", "product_region_code"),
        tags=("resource_tags",),
    ),
    Shape.GCP: _Columns(
        cost=("cost",),
        start=("usage_start_time",),
        currency=("currency",),
        hours=("usage.amount_in_pricing_units", "usage.amount"),
        what=("system_labels", "system_labels.value", "sku.description"),
        place=("location.zone", "location.region"),
        tags=("labels",),
    ),
    Shape.AZURE: _Columns(
        cost=("CostInBillingCurrency", "costInBillingCurrency", "Cost"),
        start=("Date", "date", "UsageDateTime"),
        currency=("BillingCurrencyCode", "BillingCurrency", "billingCurrency"),
        hours=("Quantity", "quantity", "UsageQuantity"),
        what=("AdditionalInfo", "additionalInfo", "MeterName", "meterName", "MeterSubCategory"),
        place=("ResourceLocation", "resourceLocation"),
        tags=("Tags", "tags"),
    ),
}
_SPOT_WORDS = ("spot", "preemptible")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One line that is a node's."""

    day: str
    pool: str  # where several pools may be meant, all of them
    instance_type: str
    capacity: str
    usd: float
    hours: float


@dataclass(slots=True, kw_only=True)
class Bill:
    """What was read."""

    shape: Shape
    charges: list[Charge] = field(default_factory=list)
    strange_usd: dict[str, float] = field(default_factory=dict)  # machines that no pool has, by instance type
    others: int = 0  # lines that are no machines'


def read(
    rows: Iterable[Mapping[str, str]],
    days: Sequence[DaySpec],
    *,
    machines: Mapping[str, float],
    usd_per: Mapping[str, float],
    name: str = "the bill",
) -> Bill:
    """Read an export.

    Args:
        rows: as `csv.DictReader` gives them.
        days: of the ledger: their prices tell which pool has which machines.
        machines: names of machines with GPUs, whether a pool has them or not, and how many GPUs they have.
        usd_per: what a unit of another currency is in US dollars.

    Raises:
        InvalidInputError: columns that no shape has; a cost or a day that is none; a currency without a rate.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise InvalidInputError(name, [Mistake("", "no lines", "must have a line for each charge")])
    shape = _shape_of(first, name)
    columns = _SHAPES[shape]
    known = _pools(days)
    names = {name.lower(): name for name in sorted({*machines, *(machine for machine, _, _ in known)})}
    longest_first = sorted(names, key=lambda n: (-len(n), n))
    # Whole words: a T4 is no t4g.large.
    named = re.compile(rf"(?<![a-z0-9])(?:{'|'.join(map(re.escape, longest_first))})(?![a-z0-9])")
    bill = Bill(shape=shape)
    for number, row in enumerate([first, *rows], start=2):
        text = " ".join(row.get(column) or "" for column in columns.what).lower()
        found = max(named.findall(text), key=len, default="")
        if not found:
            bill.others += 1
            continue
        machine = names[found]
        where = f"{name} line {number}"
        usd = _number(row, columns.cost, where) * _rate(row, columns.currency, usd_per, where)
        spot = any(word in text for word in _SPOT_WORDS)
        place = next((row[c] for c in columns.place if row.get(c)), "")
        pool = _tagged(row, columns.tags) or "+".join(sorted(_with(known, machine, spot=spot, place=place)))
        if not pool:
            bill.strange_usd[machine] = bill.strange_usd.get(machine, 0.0) + usd
            continue
        bill.charges.append(
            Charge(
                day=_day(row, columns.start, where),
                pool=pool,
                instance_type=machine,
                capacity="spot" if spot else "other",
                usd=usd,
                # What takes dollars back gives no hours: credits, refunds, the other half of a savings plan.
                hours=0.0 if usd < 0 else _hours(row, shape, columns, machines.get(machine, 0.0), where),
            )
        )
    return bill


def _hours(row: Mapping[str, str], shape: Shape, columns: _Columns, gpus: float, where: str) -> float:
    """Node-hours. Google bills cores, memory and GPUs each by itself: only the GPUs are counted."""
    amount = _number(row, columns.hours, where)
    if shape is not Shape.GCP:
        return amount
    return amount / gpus if gpus and "gpu" in row.get("sku.description", "").lower() else 0.0


def _shape_of(row: Mapping[str, str], name: str) -> Shape:
    for shape, columns in _SHAPES.items():
        if all(any(c in row for c in some) for some in (columns.cost, columns.start, columns.currency)):
            return shape
    need = "; or ".join(f"{c.cost[0]}, {c.start[0]} and {c.currency[0]} ({s})" for s, c in _SHAPES.items())
    given = ", ".join(map(str, list(row)[:8]))
    raise InvalidInputError(name, [Mistake("columns", given, f"are of no export that is known; it takes {need}")])


Known = dict[tuple[str, str, bool], set[str]]  # instance type, zone, whether spot -> pools


def _pools(days: Iterable[DaySpec]) -> Known:
    known: Known = defaultdict(set)
    for day in days:
        for step in day.prices:
            pool, machine, zone, capacity = step.offering.split("/")
            known[machine.partition(":")[0], zone, capacity == CapacityType.SPOT.value].add(pool)
    return known


def _with(known: Known, machine: str, *, spot: bool, place: str) -> set[str]:
    """Pools with such machines there; a zone's name begins with its region's."""
    found: set[str] = set()
    for (name, zone, is_spot), pools in known.items():
        near = not place or zone == "-" or zone.startswith(place) or place.startswith(zone)
        if name == machine and is_spot == spot and near:
            found |= pools
    return found


def _tagged(row: Mapping[str, str], columns: Iterable[str]) -> str:
    for tag in _POOL_TAGS:
        for prefix in ("", "resourceTags/user:", "resource_tags_user_", "x_Tags/"):
            if row.get(prefix + tag):
                return row[prefix + tag]
    for column in columns:
        try:
            tags = json.loads(row.get(column) or "{}")
        except ValueError:
            continue
        if isinstance(tags, list):  # as BigQuery writes labels
            tags = {t.get("key"): t.get("value") for t in tags if isinstance(t, dict)}
        if isinstance(tags, dict):
            for tag in _POOL_TAGS:
                if isinstance(tags.get(tag), str) and tags[tag]:
                    return str(tags[tag])
    return ""


def _number(row: Mapping[str, str], columns: Iterable[str], where: str) -> float:
    column = next((c for c in columns if row.get(c)), None)
    if column is None:
        return 0.0
    try:
        number = float(row[column].replace(",", ""))
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e15:
        raise InvalidInputError(where, [Mistake(column, repr(row[column]), "must be a number")])
    return number


def _rate(row: Mapping[str, str], columns: Iterable[str], usd_per: Mapping[str, float], where: str) -> float:
    column = next((c for c in columns if row.get(c)), "currency")
    currency = row.get(column) or "USD"
    if currency == "USD":
        return 1.0
    if currency not in usd_per:
        text = f"is not US dollars; say what one is worth: --usd-per {currency}=1.08"
        raise InvalidInputError(where, [Mistake(column, currency, text)])
    return usd_per[currency]


def _day(row: Mapping[str, str], columns: Iterable[str], where: str) -> str:
    column = next((c for c in columns if row.get(c)), "")
    text = row.get(column, "")
    for form in ("%Y-%m-%d", "%m/%d/%Y", "%Y%m%d"):
        try:
            day = datetime.strptime(text[:10] if form != "%Y%m%d" else text[:8], form)  # noqa: DTZ007  # a day has no zone
            return day.date().isoformat()
        except ValueError:
            continue
    raise InvalidInputError(where, [Mistake(column, repr(text), "must be a day, as 2026-11-26")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One day of one pool, here and there."""

    day: str
    pool: str
    booked_usd: float
    billed_usd: float
    booked_hours: float
    billed_hours: float

    @property
    def usd(self) -> float:
        """What the bill has more."""
        return self.billed_usd - self.booked_usd

    @property
    def ratio(self) -> float:
        """Of the bill."""
        return abs(self.usd / self.billed_usd) if self.billed_usd else float(self.booked_usd != 0)

    @property
    def cause(self) -> str:
        """What it is, as far as figures can tell."""
        if self.ratio <= TOLERANCE:
            return ""
        if self.booked_usd == 0 and self.booked_hours == 0:
            return "not in the ledger"
        if self.billed_usd == 0 and self.billed_hours == 0:
            return "not in the bill"
        if self.billed_hours and abs(self.booked_hours / self.billed_hours - 1) > TOLERANCE:
            return f"hours: {self.booked_hours:.1f} booked, {self.billed_hours:.1f} billed"
        return "price"


def drifts(bill: Bill, days: Iterable[DaySpec], *, first: date, last: date) -> list[Drift]:
    """By day and pool, without machines of one's own. Pools that a line cannot tell apart are compared together."""
    groups = {c.pool for c in bill.charges}
    within = {pool: group for group in sorted(groups) for pool in group.split("+")}
    booked: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    billed: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for day in days:
        for node in day.nodes:
            if node.capacity_type == CapacityType.OWNED.value:
                continue
            sums = booked[day.day, within.get(node.pool, node.pool)]
            sums[0] += node.usd
            sums[1] += node.node_seconds / SECONDS_PER_HOUR
    for charge in bill.charges:
        sums = billed[charge.day, within.get(charge.pool, charge.pool)]
        sums[0] += charge.usd
        sums[1] += charge.hours
    keys = [k for k in sorted({*booked, *billed}) if first.isoformat() <= k[0] <= last.isoformat()]
    return [
        Drift(
            day=day,
            pool=pool,
            booked_usd=booked[day, pool][0],
            billed_usd=billed[day, pool][0],
            booked_hours=booked[day, pool][1],
            billed_hours=billed[day, pool][1],
        )
        for day, pool in keys
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A price that would have made ledger and bill agree."""

    pool: str
    instance_type: str
    capacity: str
    usd_per_node_hour: float
    booked_usd_per_node_hour: float


def corrections(bill: Bill, found: Iterable[Drift]) -> list[Correction]:
    """For pools whose hours agree and whose dollars do not: what an hour was billed at."""
    by_pool: dict[str, list[Drift]] = defaultdict(list)
    for drift in found:
        if drift.booked_hours and drift.billed_hours:
            by_pool[drift.pool].append(drift)
    proposed = []
    for pool, some in sorted(by_pool.items()):
        booked_usd, billed_usd = sum(d.booked_usd for d in some), sum(d.billed_usd for d in some)
        booked_h, billed_h = sum(d.booked_hours for d in some), sum(d.billed_hours for d in some)
        same_hours = abs(booked_h / billed_h - 1) <= TOLERANCE
        kinds = {(c.instance_type, c.capacity) for c in bill.charges if c.pool == pool}
        if same_hours and billed_usd > 0 and abs(booked_usd / billed_usd - 1) > TOLERANCE and len(kinds) == 1:
            ((machine, capacity),) = kinds
            proposed.append(
                Correction(
                    pool=pool,
                    instance_type=machine,
                    capacity=capacity,
                    usd_per_node_hour=billed_usd / billed_h,
                    booked_usd_per_node_hour=booked_usd / booked_h,
                )
            )
    return proposed
