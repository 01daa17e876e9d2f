"""The prices that Karpenter goes by, as its metrics tell them: one for each type, terms and zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from stint.catalogue.layer import Concern, PriceKey
from stint.feeds.feed import Fact, Reading
from stint.feeds.fetch import Where
from stint.feeds.samples import samples
from stint.model.offering import CapacityType

METRIC = "karpenter_cloudprovider_instance_type_offering_price_estimate"


@dataclass(frozen=True, slots=True)
class KarpenterFeed:
    """One Karpenter, or a Prometheus that scrapes it."""

    name: str
    where: Where
    prometheus: bool = False
    provider: str = "aws"

    async def read(self, now: datetime) -> Reading:
        """See `Feed`."""
        facts, mistakes = [], []
        for sample in await samples(self.where, (METRIC,), prometheus=self.prometheus):
            labels = sample.labels
            terms = labels.get("capacity_type", "")
            if terms == "reserved":
                continue  # it tells next to nothing for them, so as to prefer them; they are free by definition here
            if terms not in (CapacityType.ON_DEMAND, CapacityType.SPOT) or not labels.get("instance_type"):
                mistakes.append(
                    f"{sample.metric} with instance_type={labels.get('instance_type', '')!r} and "
                    f"capacity_type={terms!r}"
                )
                continue
            zone = labels.get("zone", "")
            region = labels.get("region") or zone.rstrip("abcdef")
            key = PriceKey(self.provider, region, labels["instance_type"], CapacityType(terms), zone)
            facts.append(Fact(concern=Concern.PRICE, key=key, value=sample.value))
        return Reading(source=self.name, read_at=now, as_of=now, facts=tuple(facts), mistakes=tuple(mistakes))
