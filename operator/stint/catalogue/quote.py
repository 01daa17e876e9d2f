"""An offering with every figure that prices it, looked up once, each with its source and age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from stint.catalogue.catalogue import Catalogue
from stint.catalogue.freshness import LIST_LIMIT_DAYS, SPOT_LIMIT_DAYS, stale
from stint.model.figure import Confidence, Figure
from stint.model.market import Offering, PoolName, Slices, Taint, offering_id
from stint.model.offering import CapacityType, OfferingId
from stint.model.resources import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessLimits:
    """From how many days on a figure counts as stale."""

    list_price_days: float = LIST_LIMIT_DAYS
    spot_price_days: float = SPOT_LIMIT_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is known of an offering before it has a price."""

    pool: PoolName
    provider: str
    region: str
    zone: str
    zone_id: str = ""  # where the provider's zone names differ from account to account
    instance_type: str
    capacity_type: CapacityType
    gpu_model: str  # canonical
    gpu_memory_gib: float
    per_node: Resources
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    slices: Slices | None = None  # `gpu_memory_gib` and `per_node.gpus` are then those of the parts

    @property
    def offering(self) -> OfferingId:
        """The key of what it comes to."""
        return offering_id(self.pool, self.instance_type, self.zone, self.capacity_type, self.slices)


def quote(machine: Machine, catalogue: Catalogue, *, today: date, limits: FreshnessLimits) -> Offering:
    """Return the offering. What the catalogue does not know is None, never a default."""
    m = machine
    gpus = m.per_node.gpus / m.slices.per_gpu if m.slices else float(m.per_node.gpus)
    price = catalogue.price(m.provider, m.region, m.instance_type, m.capacity_type, m.zone_id or m.zone or None, m.zone)
    owned = m.capacity_type is CapacityType.OWNED
    if price is None and owned:
        price = catalogue.owned_usd_per_node_hour(m.gpu_model, gpus)
    spot = m.capacity_type is CapacityType.SPOT
    price_limit = limits.spot_price_days if spot else limits.list_price_days
    old = ("price",) if price is not None and stale(price, today, price_limit) else ()
    peak = catalogue.node_watts(m.provider, m.instance_type) or catalogue.watts_of(m.gpu_model, gpus)
    return Offering(
        id=m.offering,
        pool=m.pool,
        provider=m.provider,
        region=m.region,
        zone=m.zone,
        instance_type=m.instance_type,
        capacity_type=m.capacity_type,
        gpu_model=m.gpu_model,
        gpu_memory_gib=m.gpu_memory_gib,
        per_node=m.per_node,
        labels=m.labels,
        taints=m.taints,
        usd_per_node_hour=price,
        watts_per_node=_at_load(peak, catalogue.assumptions.training_load_fraction),
        pue=catalogue.pue(m.provider, m.region),
        usd_per_kwh=catalogue.tariff_usd_per_kwh(m.region) if owned else None,
        g_co2_per_kwh=catalogue.carbon_g_per_kwh(m.provider, m.region),
        interruptions_per_hour=(
            catalogue.interruptions_per_hour(m.provider, m.region, m.instance_type, m.zone_id or m.zone or None)
            if spot
            else None
        ),
        usd_per_storage_gb_month=catalogue.storage_usd_per_gb_month(m.provider, m.region),
        stale=old,
        slices=m.slices,
    )


def _at_load(peak: Figure | None, fraction: Figure) -> Figure | None:
    if peak is None:
        return None
    return replace(peak, value=peak.value * fraction.value, confidence=Confidence.DERIVED)
