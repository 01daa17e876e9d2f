"""AWS: the price list's GetProducts, and EC2's DescribeSpotPriceHistory.

Sources: AWS Price List Query API and EC2 API references.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]
# The plain instance: Linux, shared hardware, no software, and not the price of a reservation that stands idle.
_PLAIN = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used"}


def on_demand(answer: Any) -> Iterator[Row]:
    """One row for each plain instance type of a region. `PriceList` holds JSON in strings."""
    for text in answer["PriceList"]:
        item = json.loads(text) if isinstance(text, str) else text
        about = item["product"]["attributes"]
        if any(about.get(k) != v for k, v in _PLAIN.items()):
            continue
        for term in item.get("terms", {}).get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                (currency, value), *_ = dimension["pricePerUnit"].items()  # China's is in CNY
                if dimension["unit"] != "Hrs":
                    continue
                yield {
                    "provider": "aws",
                    "region": about["regionCode"],
                    "instanceType": about["instanceType"],
                    "value": float(value),
                    "currency": currency,
                    "asOf": item.get("publicationDate") or term["effectiveDate"],
                }


def spot(answer: Any) -> Iterator[Row]:
    """One row for each change. By zone id where that is told: names differ from account to account."""
    for change in answer["SpotPriceHistory"]:
        if change["ProductDescription"] not in ("Linux/UNIX", "Linux/UNIX (Amazon VPC)"):
            continue
        zone = change["AvailabilityZone"]
        yield {
            "provider": "aws",
            "region": zone.rstrip("abcdefghij"),
            "zone": change.get("AvailabilityZoneId") or zone,
            "instanceType": change["InstanceType"],
            "capacityType": "spot",
            "value": float(change["SpotPrice"]),
            "from": change["Timestamp"],
        }
