"""What OpenCost thinks nodes cost.

It has a series for each node. Nodes of one type, region and terms should cost the same; where they do not, the median
counts. OpenCost falls back on flat rates where it knows no price, and does not say so: take it where it has a billing
export to go by. OpenShift renames labels that clash: `exported_instance_type` and the like are read, too.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from stint.catalogue.layer import Concern, PriceKey
from stint.feeds.feed import Fact, Reading
from stint.feeds.fetch import Where
from stint.feeds.samples import samples
from stint.model.figure import Confidence
from stint.model.offering import CapacityType

TOTAL, SPOT = "node_total_hourly_cost", "kubecost_node_is_spot"
_PROVIDERS = {"aws": "aws", "gce": "gcp", "azure": "azure", "oci": "oci"}
_AWS_INSTANCE = re.compile(r"i-[0-9a-f]{8,}$")


@dataclass(frozen=True, slots=True)
class OpenCostFeed:
    """One OpenCost, or a Prometheus that scrapes it."""

    name: str
    where: Where
    prometheus: bool = False
    provider: str = ""  # of nodes whose provider_id does not say

    async def read(self, now: datetime) -> Reading:
        """See `Feed`."""
        found = await samples(self.where, (TOTAL, SPOT), prometheus=self.prometheus)
        spot = {_label(s.labels, "node", "instance") for s in found if s.metric == SPOT and s.value == 1}
        costs: dict[PriceKey, list[float]] = defaultdict(list)
        mistakes = []
        for sample in found:
            if sample.metric != TOTAL:
                continue
            node, kind = _label(sample.labels, "node", "instance"), _label(sample.labels, "instance_type")
            provider = self._provider(_label(sample.labels, "provider_id"))
            region = _label(sample.labels, "region")
            if not (kind and provider and region):
                lacks = (
                    "instance_type" if not kind else "region" if not region else "a provider_id that says whose it is"
                )
                mistakes.append(f"node {node} has no {lacks}")
                continue
            terms = CapacityType.SPOT if node in spot else CapacityType.ON_DEMAND
            costs[PriceKey(provider, region, kind, terms)].append(sample.value)
        facts = []
        for key, values in costs.items():
            good = [v for v in values if math.isfinite(v) and v > 0]
            facts.append(Fact(concern=Concern.PRICE, key=key, value=median(good) if good else values[0]))
        return Reading(
            source=self.name,
            read_at=now,
            as_of=now,
            facts=tuple(facts),
            mistakes=tuple(mistakes),
            confidence=Confidence.DERIVED,
        )

    def _provider(self, provider_id: str) -> str:
        scheme = provider_id.partition("://")[0] if "://" in provider_id else ""
        # Older ones tell the bare instance id.
        bare = "aws" if _AWS_INSTANCE.fullmatch(provider_id) else ""
        return _PROVIDERS.get(scheme) or bare or self.provider


def _label(labels: dict[str, str], *names: str) -> str:
    return next((labels[k] for name in names for k in (name, f"exported_{name}") if labels.get(k)), "")
