"""Azure: the retail prices API. Source: its reference (`/api/retail/prices`); it needs no account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hack.bridges.aws import Row


def retail(answer: Any) -> Iterator[Row]:
    """One row for each Linux size of a region, on demand and spot. Low-priority and reserved prices are left out."""
    for item in answer["Items"]:
        plain = (
            item["serviceName"] == "Virtual Machines"
            and item["type"] == "Consumption"
            and item["unitOfMeasure"] == "1 Hour"
            and item.get("armSkuName")
            and "Windows" not in item["productName"]
            and "Low Priority" not in item["skuName"]
            and not item.get("tierMinimumUnits")
        )
        if plain:
            yield {
                "provider": "azure",
                "region": item["armRegionName"],
                "instanceType": item["armSkuName"],
                "capacityType": "spot" if item["skuName"].endswith("Spot") else "on-demand",
                "value": item["retailPrice"],
                "currency": item["currencyCode"],
            }
