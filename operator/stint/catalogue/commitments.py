"""What is paid for anyway: reserved nodes, savings plans, capacity blocks, machines of our own.

Sunk cost is sunk: within a commitment one more node-hour costs a decision nothing (machines of our own: only the power
beyond what they draw idle), and `billed_usd_per_node_hour` says what the books get. Beyond it a node has its ordinary
price. An offering has one price for all its nodes, so where it has more nodes than are committed, or a savings plan
covers a part of what runs, the price is the mean over the nodes that are there:

    price  = ordinary * (1 - f)              f: the part of the nodes that is covered, 1 while none is there yet
    billed = committed * f + ordinary * (1 - f)
    new    = ordinary * (1 - g)              g: the part of the nodes that may still be bought that is covered
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from stint.catalogue.layer import ANY
from stint.model.figure import Confidence, Figure
from stint.model.market import Offering
from stint.model.offering import CapacityType, OfferingId

if TYPE_CHECKING:
    from stint.catalogue.catalogue import Catalogue

HOURS_PER_YEAR = 8760.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedMachine:
    """What one machine of our own cost and draws."""

    capex_usd: float
    depreciation_years: float
    idle_watts: float
    usd_per_kwh: float | None = None  # None: the region's tariff
    pue: float | None = None  # None: the region's


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """One of them. Exactly one of `usd_per_node_hour`, `plan_usd_per_hour` and `owned` is there."""

    name: str
    source: str
    provider: str
    region: str = ANY
    zone: str = ""
    instance_type: str = ANY
    nodes: int = 0
    usd_per_node_hour: float | None = None
    plan_usd_per_hour: float | None = None
    plan_discount: float = 0.0
    owned: OwnedMachine | None = None
    start: datetime | None = None
    end: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """From its start until before its end."""
        return (self.start is None or self.start <= now) and (self.end is None or now < self.end)

    def covers(self, offering: Offering) -> bool:
        """Whether nodes of that offering can be part of it. Spot is never committed."""
        terms = offering.capacity_type
        if self.owned is not None:
            fits = terms is CapacityType.OWNED
        elif self.plan_usd_per_hour is not None:
            fits = terms is CapacityType.ON_DEMAND
        else:
            fits = terms in (CapacityType.RESERVED, CapacityType.ON_DEMAND)
        return (
            fits
            and offering.provider == self.provider
            and self.region in (ANY, offering.region)
            and self.instance_type in (ANY, offering.instance_type)
            and self.zone in ("", offering.zone)
        )


def with_commitments(
    offerings: Mapping[OfferingId, Offering],
    nodes: Mapping[OfferingId, int],
    room: Mapping[OfferingId, int],
    catalogue: Catalogue,
    now: datetime,
) -> dict[OfferingId, Offering]:
    """The offerings at what one more hour of them costs.

    A commitment is used up in the order in which the catalogue has them, by nodes that are there before those that may
    come; one that covers several offerings is shared out over their nodes alike. A reserved node whose commitment has
    ended, or not begun, has the price on demand.

    Args:
        nodes: how many there are of each.
        room: how many more of each may be bought.
    """
    found = dict(offerings)
    ordinary = {o.id: _ordinary(o, catalogue) for o in offerings.values()}
    open_ = {o: float(nodes.get(o, 0)) for o in offerings}  # nodes that nobody has paid for yet
    buyable = {o: float(room.get(o, 0)) for o in offerings}
    covered = dict.fromkeys(offerings, 0.0)  # the part for which somebody has, and what was paid for that part
    billed = dict.fromkeys(offerings, 0.0)
    for commitment in catalogue.commitments:
        mine = [o for o in offerings.values() if commitment.covers(o)]
        if not commitment.holds(now):
            for o in mine:
                if o.capacity_type is CapacityType.RESERVED and not covered[o.id]:
                    price = ordinary[o.id]
                    found[o.id] = replace(found[o.id], usd_per_node_hour=price, billed_usd_per_node_hour=price)
            continue
        ids = [o.id for o in mine]
        part, used = _part(commitment, {o: open_[o] for o in ids}, ordinary, 0.0)
        of_new, _ = _part(commitment, {o: buyable[o] for o in ids}, ordinary, used)
        for o in mine:
            full = _rate(commitment, o, ordinary[o.id], catalogue, now)
            if full is None:
                continue
            free = 1 - covered[o.id]
            covered[o.id] += free * part
            billed[o.id] += free * part * full
            open_[o.id] *= 1 - part
            buyable[o.id] *= 1 - of_new
            found[o.id] = _priced(found[o.id], commitment, covered[o.id], billed[o.id], ordinary[o.id])
            if room.get(o.id):
                found[o.id] = _for_new(found[o.id], buyable[o.id] / room[o.id], ordinary[o.id])
    return found


def _part(
    commitment: Commitment,
    wanted: Mapping[OfferingId, float],
    ordinary: Mapping[OfferingId, Figure | None],
    used: float,
) -> tuple[float, float]:
    """Which part of the nodes it covers, from 0 to 1, after so much of it has been used; and how much is used then.

    It is measured in nodes, and a savings plan in dollars an hour.
    """
    if commitment.plan_usd_per_hour is None:
        have, need = float(commitment.nodes), sum(wanted.values())
    else:
        keep = 1 - commitment.plan_discount
        have = commitment.plan_usd_per_hour
        need = sum(count * price.value * keep for o, count in wanted.items() if (price := ordinary[o]) is not None)
    left = max(0.0, have - used)
    return (min(1.0, left / need) if need else 1.0), used + min(left, need)


def _for_new(offering: Offering, beyond: float, ordinary: Figure | None) -> Offering:
    """`beyond`: the part of the nodes that may be bought that nobody has paid for."""
    if ordinary is None or offering.usd_per_node_hour is None:
        return offering
    new = replace(ordinary, value=ordinary.value * beyond)
    return replace(offering, usd_per_new_node_hour=None if new.value == offering.usd_per_node_hour.value else new)


def _ordinary(offering: Offering, catalogue: Catalogue) -> Figure | None:
    """What a node costs without any commitment."""
    if offering.capacity_type is CapacityType.RESERVED:
        return catalogue.list_price(offering.provider, offering.region, offering.instance_type)
    return offering.usd_per_node_hour


def _rate(
    commitment: Commitment, offering: Offering, ordinary: Figure | None, catalogue: Catalogue, now: datetime
) -> float | None:
    """USD per hour of a node that is covered, as the books see it; None: what it would be off is not known."""
    if commitment.usd_per_node_hour is not None:
        return commitment.usd_per_node_hour
    if commitment.owned is None:
        return None if ordinary is None else ordinary.value * (1 - commitment.plan_discount)
    machine = commitment.owned
    years = machine.depreciation_years
    written_off = commitment.start is not None and now >= commitment.start + timedelta(days=365 * years)
    hourly = 0.0 if written_off else machine.capex_usd / (years * HOURS_PER_YEAR)
    tariff, pue = machine.usd_per_kwh, machine.pue
    if tariff is None:
        known = catalogue.tariff_usd_per_kwh(offering.region)
        tariff = known.value if known else 0.0
    if pue is None:
        pue = offering.pue.value if offering.pue else 1.0
    return hourly + machine.idle_watts / 1000 * pue * tariff


def _priced(
    offering: Offering, commitment: Commitment, part: float, billed: float, ordinary: Figure | None
) -> Offering:
    source = f"{commitment.source}: {commitment.name}"
    sunk = Figure(value=0.0, source=f"{source}, paid for anyway", as_of=None, confidence=Confidence.DEFINITION)
    books = Figure(value=billed, source=source, as_of=None, confidence=Confidence.OVERRIDE)
    price: Figure | None = sunk
    if part < 1 - 1e-9:
        beyond = f" for {part:.0%} of the nodes"
        if ordinary is None:
            return replace(offering, usd_per_node_hour=None, billed_usd_per_node_hour=None)
        price = replace(ordinary, value=ordinary.value * (1 - part), source=f"{ordinary.source}, {source}{beyond}")
        books = replace(
            books, value=billed + ordinary.value * (1 - part), source=f"{source}{beyond}, {ordinary.source}"
        )
    old = offering.stale if part < 1 - 1e-9 else tuple(s for s in offering.stale if s != "price")
    offering = replace(offering, usd_per_node_hour=price, billed_usd_per_node_hour=books, stale=old)
    machine = commitment.owned
    if machine is None:
        return offering
    own = Figure(value=0.0, source=source, as_of=None, confidence=Confidence.OVERRIDE)
    watts = offering.watts_per_node
    return replace(
        offering,
        # Idle power is drawn whether or not a job runs: it is in the books' price.
        watts_per_node=watts and replace(watts, value=max(0.0, watts.value - machine.idle_watts)),
        usd_per_kwh=offering.usd_per_kwh if machine.usd_per_kwh is None else replace(own, value=machine.usd_per_kwh),
        pue=offering.pue if machine.pue is None else replace(own, value=machine.pue),
    )


def in_order(commitments: Iterable[Commitment]) -> tuple[Commitment, ...]:
    """What expires unused if it is not used comes first: nodes, then machines of our own, then savings plans."""
    return tuple(sorted(commitments, key=lambda c: (c.plan_usd_per_hour is not None, c.owned is not None)))
