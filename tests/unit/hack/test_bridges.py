"""Bridges read what the clouds' APIs answer, in shapes as their references show them, and Stint believes the rows."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from hack.bridges.__main__ import KINDS, bridged, server
from stint.catalogue.layer import PriceKey
from stint.feeds import bundled, rows
from stint.feeds.feed import FeedError
from stint.feeds.feed_trust import FeedState, Terms, take
from stint.feeds.fetch import Where
from stint.feeds.http import HttpFeed
from stint.model.offering import CapacityType
from stint.testing.builders import NOW

ON_DEMAND, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT


def product(value: str = "55.04", currency: str = "USD", unit: str = "Hrs", **changes: str) -> str:
    attributes = {
        "instanceType": "p5.48xlarge",
        "regionCode": "us-east-1",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        **changes,
    }
    dimension = {"unit": unit, "endRange": "Inf", "beginRange": "0", "pricePerUnit": {currency: value}}
    term = {"priceDimensions": {"X.Y.Z": dimension}, "effectiveDate": "2026-11-01T00:00:00Z", "sku": "X"}
    item = {
        "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": "X"},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {"X.Y": term}},
        "version": "20261120",
        "publicationDate": "2026-11-20T00:00:00Z",
    }
    return json.dumps(item)


AWS = {
    "FormatVersion": "aws_v1",
    "PriceList": [
        product(),
        product("9.9", operatingSystem="Windows"),
        product("9.9", tenancy="Dedicated"),
        product("9.9", preInstalledSw="SQL Std"),
        product("0.0", capacitystatus="UnusedCapacityReservation"),
        product("98.0", unit="Quantity"),
    ],
}


def change(hour: int, price: str, **more: str) -> dict[str, str]:
    return {
        "AvailabilityZone": "us-east-1a",
        "AvailabilityZoneId": "use1-az4",
        "InstanceType": "p5.48xlarge",
        "ProductDescription": "Linux/UNIX",
        "SpotPrice": price,
        "Timestamp": f"2026-11-23T{hour:02}:00:00+00:00",
        **more,
    }


AWS_SPOT = {"SpotPriceHistory": [change(11, "21.7"), change(9, "20.1"), change(10, "3", ProductDescription="Windows")]}


def size(
    price: float, sku: str = "ND96isr H100 v5", product: str = "NDsr H100 v5 Series", **more: Any
) -> dict[str, Any]:
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": "eastus",
        "location": "US East",
        "effectiveStartDate": "2026-08-01T00:00:00Z",
        "meterName": sku,
        "productName": f"Virtual Machines {product}",
        "skuName": sku,
        "serviceName": "Virtual Machines",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": "Standard_ND96isr_H100_v5",
        **more,
    }


AZURE = {
    "BillingCurrency": "USD",
    "Items": [
        size(98.32),
        size(40.5, "ND96isr H100 v5 Spot"),
        size(19.7, "ND96isr H100 v5 Low Priority"),
        size(102.7, product="NDsr H100 v5 Series Windows"),
        size(500_000, type="Reservation", reservationTerm="1 Year"),
    ],
    "NextPageLink": None,
}


def sku(description: str, usage: str, units: str, nanos: int) -> dict[str, Any]:
    rate = {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": units, "nanos": nanos}}
    info = {
        "effectiveTime": "2026-11-20T08:00:00Z",
        "pricingExpression": {"usageUnit": "h", "tieredRates": [rate]},
    }
    return {
        "skuId": "0000-1111-2222",
        "description": description,
        "category": {"resourceFamily": "Compute", "usageType": usage},
        "serviceRegions": ["us-central1"],
        "pricingInfo": [info],
    }


GCP = {
    "skus": [
        sku("A2 Instance Core running in Americas", "OnDemand", "0", 31_611_000),
        sku("A2 Instance Ram running in Americas", "OnDemand", "0", 4_237_000),
        sku("Nvidia Tesla A100 GPU running in Americas", "OnDemand", "2", 933_908_000),
        sku("Spot Preemptible A2 Instance Core running in Americas", "Preemptible", "0", 15_000_000),
        sku("Spot Preemptible A2 Instance Ram running in Americas", "Preemptible", "0", 2_000_000),
        sku(
            "Nvidia Tesla A100 GPU attached to Spot Preemptible VMs running in Americas",
            "Preemptible",
            "1",
            500_000_000,
        ),
        sku("Commitment v1: A2 Cpu in Americas", "Commit1Yr", "0", 1),
        sku("A2 Instance Core running in Tokyo", "OnDemand", "0", 1) | {"serviceRegions": ["asia-northeast1"]},
    ]
}


def prices(kind: str, answer: Any, tmp_path: Path) -> dict[PriceKey, list[float]]:
    """As Stint reads and believes them."""
    file = tmp_path / "page.json"
    file.write_text(json.dumps(answer))
    reading = rows.read_json(bridged(kind, [file]), kind, NOW)
    assert reading.mistakes == ()
    state = take(FeedState(name=kind), reading, Terms(base=bundled.load()))
    assert state.refused == ()
    return {k: [f.value for f in series] for (_, k), series in state.held.items() if isinstance(k, PriceKey)}


def test_aws_gives_plain_linux_by_the_hour(tmp_path):
    assert prices("aws", AWS, tmp_path) == {PriceKey("aws", "us-east-1", "p5.48xlarge", ON_DEMAND): [55.04]}


def test_aws_spot_history_is_a_series_by_zone_id(tmp_path):
    assert prices("aws-spot", AWS_SPOT, tmp_path) == {
        PriceKey("aws", "us-east-1", "p5.48xlarge", SPOT, "use1-az4"): [20.1, 21.7]
    }


def test_azure_gives_linux_on_demand_and_spot(tmp_path):
    key = PriceKey("azure", "eastus", "Standard_ND96isr_H100_v5", ON_DEMAND)
    assert prices("azure", AZURE, tmp_path) == {key: [98.32], key._replace(capacity_type=SPOT): [40.5]}


def test_google_gives_machines_as_the_sum_of_their_parts_where_every_part_has_a_price(tmp_path):
    found = prices("gcp", GCP, tmp_path)
    assert {k.region for k in found} == {"us-central1"}
    key = PriceKey("gcp", "us-central1", "a2-highgpu-1g", ON_DEMAND)
    assert found[key] == [pytest.approx(12 * 0.031611 + 85 * 0.004237 + 2.933908, abs=1e-6)]
    listed = bundled.load().price(*key[:4])
    assert listed is not None
    assert found[key][0] == pytest.approx(listed.value, abs=1e-4), "as the shipped table has it, from another source"
    assert found[key._replace(capacity_type=SPOT)] == [pytest.approx(12 * 0.015 + 85 * 0.002 + 1.5)]


def test_money_of_another_country_keeps_its_name(tmp_path):
    file = tmp_path / "page.json"
    file.write_text(json.dumps({"PriceList": [product("400", "CNY")]}))
    (row,) = json.loads(bridged("aws", [file]))["rows"]
    assert (row["value"], row["currency"]) == (400, "CNY")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_served_is_a_feed_and_a_file_that_is_being_written_is_no_price(kind, tmp_path):
    answers = {"aws": AWS, "aws-spot": AWS_SPOT, "azure": AZURE, "gcp": GCP}
    file = tmp_path / "page.json"
    file.write_text(json.dumps(answers[kind]))
    serving = server(kind, [file], 0)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{serving.server_address[1]}"
    try:
        assert asyncio.run(HttpFeed("it", Where(url=url)).read(NOW)).facts
        file.write_text('{"PriceList": [')
        with pytest.raises(FeedError, match="503"):
            asyncio.run(HttpFeed("it", Where(url=url)).read(NOW))
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(url)
    finally:
        serving.shutdown()
        serving.server_close()
