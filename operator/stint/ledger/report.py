"""Who spent what, from days that were booked; and what nobody had, so that it adds up to what all nodes cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any

from stint.api.ledger import USES, Components, DaySpec, Line, Row, Uses
from stint.estimate.runtime import SECONDS_PER_HOUR
from stint.ledger.days import add

NOBODY = "(nobody)"
KEYS = ("namespace", "team", "job", "pool", "model", "capacity-type", "day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of one namespace's job; without a job, what nobody had."""

    namespace: str
    team: str
    job: str
    line: Line

    def key(self, by: str) -> str:
        """What it is summed up under."""
        line = self.line
        found = {
            "namespace": self.namespace,
            "team": self.team or "(no team)",
            "job": f"{self.namespace}/{self.job}" if self.job else NOBODY,
            "pool": line.pool,
            "model": line.gpu_model,
            "capacity-type": line.capacity_type,
            "day": line.day,
        }
        return NOBODY if not self.job and by in ("namespace", "team", "job") else found[by]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What is summed up."""

    name: str
    jobs: int
    line: Line | None  # of jobs; None: of nobody
    unallocated_usd: float = 0.0  # for GPUs that nobody had
    unallocated_gpu_hours: float = 0.0

    @property
    def usd(self) -> float:
        """All of it."""
        return self.unallocated_usd + (self.line.total_usd if self.line else 0.0)

    @property
    def gpu_hours(self) -> float:
        """All of it."""
        return self.unallocated_gpu_hours + (self.line.gpu_seconds.total / SECONDS_PER_HOUR if self.line else 0.0)

    def figures(self) -> dict[str, Any]:
        """For machines."""
        line, uses = self.line, dict.fromkeys(USES, 0.0)
        if line is not None:
            uses = {use: getattr(line.usd, use) for use in USES}
        return {
            "name": self.name,
            "jobs": self.jobs,
            "usd": self.usd,
            "usdByUse": {
                **uses,
                "transfer": line.components.transfer if line else 0.0,
                "unallocated": self.unallocated_usd,
            },
            "gpuHours": self.gpu_hours,
            "usefulGpuHours": line.gpu_seconds.useful / SECONDS_PER_HOUR if line else 0.0,
            "measuredGpuHours": line.measured_gpu_seconds / SECONDS_PER_HOUR if line else 0.0,
            "unpricedGpuHours": line.unpriced_gpu_seconds / SECONDS_PER_HOUR if line else 0.0,
            "energyKwh": line.energy_kwh if line else 0.0,
            "unratedKwh": line.unrated_kwh if line else 0.0,
            "carbonKg": line.carbon_g / 1000 if line else 0.0,
            "baselineUsd": line.baseline_usd if line else 0.0,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Groups, the dearest first; the last one is what nobody had, where it is not in the others."""

    by: str
    first: date
    last: date
    groups: tuple[Group, ...]
    total: Group
    notes: tuple[str, ...] = ()


def entries(days: Iterable[tuple[str, DaySpec]], *, first: date, last: date) -> list[Entry]:
    """The rows of these days, and for each kind of node what nobody had of it.

    Args:
        days: (namespace, day) as stored, in any order.
        first: with this day,
        last: to this day inclusive.
    """
    low, high = first.isoformat(), last.isoformat()
    found: list[Entry] = []
    nodes: dict[tuple[str, str, str, str], tuple[float, float]] = {}
    for namespace, spec in days:
        if low <= spec.day <= high:
            found += [_entry(namespace, row) for row in spec.rows]
            for node in spec.nodes:
                place = (spec.day, node.pool, node.gpu_model, node.capacity_type)
                usd, gpu_seconds = nodes.get(place, (0.0, 0.0))
                nodes[place] = usd + node.usd, gpu_seconds + node.gpu_seconds
    for entry in found:
        place = entry.line.place
        if place in nodes:
            usd, gpu_seconds = nodes[place]
            nodes[place] = usd - entry.line.components.hardware, gpu_seconds - entry.line.gpu_seconds.total
    for (day, pool, model, capacity), (usd, gpu_seconds) in sorted(nodes.items()):
        idle = Line(
            day=day,
            pool=pool,
            gpu_model=model,
            capacity_type=capacity,
            gpu_seconds=Uses(idle=max(0.0, gpu_seconds)),
            components=Components(hardware=max(0.0, usd)),
        )
        found.append(Entry(namespace="", team="", job="", line=idle))
    return found


def _entry(namespace: str, row: Row) -> Entry:
    return Entry(namespace=namespace, team=row.team, job=row.job, line=row.line)


def report(found: Sequence[Entry], by: str, *, first: date, last: date) -> Report:
    """Sum up by one of `KEYS`.

    Raises:
        ValueError: by something else.
    """
    if by not in KEYS:
        raise ValueError(f"{by} is none of {', '.join(KEYS)}")
    ordered = sorted(found, key=lambda e: e.key(by))
    groups = [_group(name, list(some)) for name, some in groupby(ordered, key=lambda e: e.key(by))]
    groups.sort(key=lambda g: (g.name == NOBODY, g.name if by == "day" else "", -g.usd, g.name))
    total = _group("TOTAL", found)
    notes = []
    if total.line is not None and total.line.unpriced_gpu_seconds > 0:
        hours = total.line.unpriced_gpu_seconds / SECONDS_PER_HOUR
        notes.append(f"{hours:.1f} GPU-hours have no price and count as 0; give one in a PriceBook")
    if total.line is not None and total.line.unrated_kwh > 0:
        notes.append(
            f"{total.line.unrated_kwh:,.1f} of the kWh are of places whose carbon intensity nobody gives, and emit "
            "nothing here; give it in a PriceBook"
        )
    if found and all(e.job for e in found):
        notes.append("what nobody had is not known: no DailySpend of the operator's own namespace was read")
    return Report(by=by, first=first, last=last, groups=tuple(groups), total=total, notes=tuple(notes))


def _group(name: str, some: Sequence[Entry]) -> Group:
    line: Line | None = None
    for entry in some:
        if entry.job:
            line = entry.line if line is None else add(line, entry.line)
    idle = [e.line for e in some if not e.job]
    return Group(
        name=name,
        jobs=len({(e.namespace, e.job) for e in some if e.job}),
        line=line,
        unallocated_usd=sum(i.components.hardware for i in idle),
        unallocated_gpu_hours=sum(i.gpu_seconds.idle for i in idle) / SECONDS_PER_HOUR,
    )


FOCUS = (
    "BilledCost",
    "EffectiveCost",
    "BillingCurrency",
    "ChargeCategory",
    "ChargeDescription",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ServiceCategory",
    "ServiceName",
    "SubAccountId",
    "ResourceName",
    "SkuId",
    "Tags",
    "x_GpuModel",
    "x_CapacityType",
    "x_Pool",
    *(f"x_{use.capitalize()}Cost" for use in USES),
    "x_TransferCost",
    "x_EnergyKwh",
    "x_CarbonGrams",
    "x_BaselineCost",
)


def focus_rows(found: Iterable[Entry]) -> Iterator[dict[str, str]]:
    """Every line, under the names of the FinOps Open Cost and Usage Specification (FOCUS 1.2); `x_` where it has none.

    Costs are US dollars at the prices that Stint knows, before tax: not an invoice.
    """
    for e in found:
        line = e.line
        start = date.fromisoformat(line.day)
        what = f"{e.namespace}/{e.job}" if e.job else "GPUs that nobody had"
        uses = {f"x_{use.capitalize()}Cost": f"{getattr(line.usd, use):.6f}" for use in USES}
        cost = f"{line.total_usd:.6f}"
        yield {
            "BilledCost": cost,
            "EffectiveCost": cost,
            "BillingCurrency": "USD",
            "ChargeCategory": "Usage",
            "ChargeDescription": f"{what} on {line.gpu_model} ({line.capacity_type}) in {line.pool}",
            "ChargePeriodStart": f"{start.isoformat()}T00:00:00Z",
            "ChargePeriodEnd": f"{(start + timedelta(days=1)).isoformat()}T00:00:00Z",
            "ConsumedQuantity": f"{line.gpu_seconds.total / SECONDS_PER_HOUR:.6f}",
            "ConsumedUnit": "GPU Hours",
            "ServiceCategory": "AI and Machine Learning",
            "ServiceName": "Stint",
            "SubAccountId": e.namespace,
            "ResourceName": e.job,
            "SkuId": f"{line.pool}/{line.gpu_model}/{line.capacity_type}",
            "Tags": json.dumps({"team": e.team} if e.team else {}),
            "x_GpuModel": line.gpu_model,
            "x_CapacityType": line.capacity_type,
            "x_Pool": line.pool,
            **uses,
            "x_TransferCost": f"{line.components.transfer:.6f}",
            "x_EnergyKwh": f"{line.energy_kwh:.6f}",
            "x_CarbonGrams": f"{line.carbon_g:.3f}",
            "x_BaselineCost": f"{line.baseline_usd:.6f}",
        }
