"""Google: the billing catalogue. It prices cores, memory and GPUs, so that a machine is the sum of its parts.

Source: Cloud Billing Catalog API reference. The parts of each machine are from Google's page of A2 machines; other
families need their own lines, and local SSDs where they come with them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hack.bridges.aws import Row

# Machine: (what its SKUs are called, how many) for cores, GiB of memory and GPUs.
A2 = ("A2 Instance Core", "A2 Instance Ram", "Nvidia Tesla A100 GPU")
MACHINES: dict[str, tuple[tuple[str, int], ...]] = {
    f"a2-highgpu-{gpus}g": tuple(zip(A2, (12 * gpus, 85 * gpus, gpus), strict=True)) for gpus in (1, 2, 4, 8)
} | {"a2-megagpu-16g": tuple(zip(A2, (96, 1360, 16), strict=True))}
_TERMS = {"OnDemand": "on-demand", "Preemptible": "spot"}
_SPOT_WORDS = (" attached to Spot Preemptible VMs", "Spot Preemptible ")


def skus(answer: Any) -> Iterator[Row]:
    """One row for each machine of a region of which every part has a price."""
    parts: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    currency, as_of = "USD", ""
    for sku in answer["skus"]:
        terms = _TERMS.get(sku["category"]["usageType"])
        if terms is None or not sku.get("pricingInfo"):
            continue
        name = sku["description"].partition(" running in ")[0]
        for word in _SPOT_WORDS:
            name = name.replace(word, "")
        info = sku["pricingInfo"][-1]
        price = info["pricingExpression"]["tieredRates"][-1]["unitPrice"]
        currency, as_of = price["currencyCode"], max(as_of, info["effectiveTime"])
        for region in sku["serviceRegions"]:
            parts[region, terms][name] = int(price.get("units") or 0) + price.get("nanos", 0) / 1e9
    for (region, terms), prices in sorted(parts.items()):
        for machine, needs in MACHINES.items():
            if all(name in prices for name, _ in needs):
                yield {
                    "provider": "gcp",
                    "region": region,
                    "instanceType": machine,
                    "capacityType": terms,
                    "value": round(sum(prices[name] * count for name, count in needs), 6),
                    "currency": currency,
                    "asOf": as_of,
                }
