from __future__ import annotations

import csv
import io
from datetime import date
from typing import Any

import pytest

from stint.api.ledger import DaySpec, NodeRow, PriceStep
from stint.errors import InvalidInputError
from stint.ledger.bill import Bill, Shape, corrections, drifts, read
from stint.testing.builders import NOW

DAY = "2026-11-26"
MACHINES = {"p5.48xlarge": 8.0, "g6e.12xlarge": 4.0, "a2-ultragpu-8g": 8.0, "Standard_ND96isr_H100_v5": 8.0}


def nodes(pool: str, usd: float, hours: float, capacity: str = "on-demand") -> NodeRow:
    return NodeRow(pool=pool, gpu_model="H100", capacity_type=capacity, node_seconds=hours * 3600, usd=usd)


def a_day(*rows: NodeRow, offerings: tuple[str, ...] = ("h100/p5.48xlarge/us-east-1a/on-demand",)) -> DaySpec:
    prices = [PriceStep(offering=o, since=NOW) for o in offerings]
    return DaySpec(day=DAY, nodes=list(rows), prices=prices)


def the_bill(text: str, *days: DaySpec, **more: Any) -> Bill:
    rows = csv.DictReader(io.StringIO(text))
    return read(rows, days or (a_day(),), machines=MACHINES, **{"usd_per": {}, **more})


CUR = (
    "identity/LineItemId,lineItem/UsageStartDate,lineItem/UsageType,product/instanceType,lineItem/UsageAmount,"
    "lineItem/UnblendedCost,lineItem/CurrencyCode,lineItem/AvailabilityZone,resourceTags/user:karpenter.sh/nodepool\n"
    "1,2026-11-26T00:00:00Z,USE1-BoxUsage:p5.48xlarge,p5.48xlarge,24,2400.00,USD,us-east-1a,\n"
    "2,2026-11-26T00:00:00Z,USE1-EBS:VolumeUsage.gp3,,100,8.00,USD,,\n"
)
FOCUS = (
    "BilledCost,EffectiveCost,BillingCurrency,ChargePeriodStart,ConsumedQuantity,SkuId,ChargeDescription,RegionId,Tags\n"
    '2600,2400,USD,2026-11-26T00:00:00Z,24,X1,"On Demand Linux p5.48xlarge Instance Hour",us-east-1,{}\n'
)
GCP = (
    "usage_start_time,sku.description,system_labels,usage.amount,cost,currency,location.zone,labels\n"
    '2026-11-26 00:00:00 UTC,Nvidia A100 80GB GPU running,"[{""key"":""compute.googleapis.com/machine_spec"",'
    '""value"":""a2-ultragpu-8g""}]",192,800,USD,us-central1-a,"[{""key"":""goog-k8s-node-pool-name"",""value"":""a100""}]"\n'
    '2026-11-26 00:00:00 UTC,A2 Instance Core running,"[{""key"":""compute.googleapis.com/machine_spec"",'
    '""value"":""a2-ultragpu-8g""}]",2304,160,USD,us-central1-a,"[{""key"":""goog-k8s-node-pool-name"",""value"":""a100""}]"\n'
)
AZURE = (
    "Date,MeterName,AdditionalInfo,Quantity,CostInBillingCurrency,BillingCurrencyCode,ResourceLocation,Tags\n"
    '11/26/2026,ND96isr H100 v5 Spot,"{""ServiceType"":""Standard_ND96isr_H100_v5""}",24,500,EUR,eastus,'
    '"{""aks-managed-poolname"":""nd""}"\n'
)


@pytest.mark.parametrize(
    ("text", "shape", "pool", "usd", "hours"),
    [
        (CUR, Shape.CUR, "h100", 2400.0, 24.0),
        (FOCUS, Shape.FOCUS, "h100", 2400.0, 24.0),
        (GCP, Shape.GCP, "a100", 960.0, 24.0),
        (AZURE, Shape.AZURE, "nd", 550.0, 24.0),
    ],
    ids=["cur", "focus", "gcp", "azure"],
)
def test_every_shape_is_read(text, shape, pool, usd, hours):
    bill = the_bill(text, usd_per={"EUR": 1.1})
    assert bill.shape is shape
    assert {c.pool for c in bill.charges} == {pool}
    assert {c.day for c in bill.charges} == {DAY}
    assert sum(c.usd for c in bill.charges) == pytest.approx(usd)
    assert sum(c.hours for c in bill.charges) == pytest.approx(hours)


def all_drifts(bill: Bill, *days: DaySpec):
    return drifts(bill, days, first=date.min, last=date.max)


def test_a_price_that_is_wrong_is_told_from_hours_that_are():
    bill = the_bill(CUR)
    day = a_day(nodes("h100", 2359.68, 24.0))
    (fine,) = all_drifts(bill, day)
    assert fine.cause == ""
    assert corrections(bill, [fine]) == []
    (dear,) = all_drifts(bill, a_day(nodes("h100", 1200.0, 24.0)))
    assert (dear.cause, dear.usd) == ("price", 1200.0)
    (proposed,) = corrections(bill, [dear])
    assert (proposed.usd_per_node_hour, proposed.booked_usd_per_node_hour) == (100.0, 50.0)
    assert (proposed.instance_type, proposed.capacity) == ("p5.48xlarge", "other")
    (short,) = all_drifts(bill, a_day(nodes("h100", 1200.0, 12.0)))
    assert short.cause == "hours: 12.0 booked, 24.0 billed"
    assert corrections(bill, [short]) == []


def test_what_only_one_side_knows_is_named_and_what_one_owns_is_on_no_bill():
    bill = the_bill(CUR)
    day = a_day(nodes("other", 10.0, 1.0), nodes("dc1", 99.0, 9.0, "owned"))
    assert {d.pool: d.cause for d in all_drifts(bill, day)} == {"h100": "not in the ledger", "other": "not in the bill"}


def test_pools_that_a_line_cannot_tell_apart_are_compared_together():
    offerings = ("a/p5.48xlarge/us-east-1a/on-demand", "b/p5.48xlarge/us-east-1a/on-demand")
    day = a_day(nodes("a", 1400.0, 14.0), nodes("b", 1000.0, 10.0), offerings=offerings)
    bill = the_bill(CUR, day)
    (drift,) = all_drifts(bill, day)
    assert (drift.pool, drift.usd) == ("a+b", 0.0)
    tagged = the_bill(CUR.replace("us-east-1a,\n", "us-east-1a,b\n", 1), day)
    assert {c.pool for c in tagged.charges} == {"b"}


def test_spot_is_another_price_and_machines_of_no_pool_are_named():
    spot = the_bill(CUR.replace("BoxUsage", "SpotUsage"))
    assert spot.charges == []
    assert (spot.strange_usd, spot.others) == ({"p5.48xlarge": 2400.0}, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no lines"),
        ("a,b,c\n1,2,3\n", "columns: a, b, c: are of no export that is known"),
        (CUR.replace(",USD,", ",EUR,", 1), "--usd-per EUR=1.08"),
        (CUR.replace("2400.00", "lots"), "line 2 has 1 mistake:\n  lineItem/UnblendedCost: 'lots': must be a number"),
        (CUR.replace("2400.00", "nan"), "must be a number"),
        (CUR.replace("2026-11-26T", "yesterday", 1), "must be a day"),
    ],
    ids=["empty", "columns", "currency", "words", "nan", "no day"],
)
def test_what_cannot_be_read_is_named_with_its_line_and_what_to_do(text, told):
    with pytest.raises(InvalidInputError) as error:
        the_bill(text)
    assert told in str(error.value)


def test_a_machine_is_named_by_a_whole_word():
    """A node without an instance type goes by its GPU model."""
    day = a_day(nodes("own", 1.0, 1.0), offerings=("own/T4/-/on-demand",))
    bill = the_bill(FOCUS.replace("p5.48xlarge", "t4g.large") + FOCUS.splitlines()[1].replace("p5.48xlarge", "T4"), day)
    assert (bill.others, [c.pool for c in bill.charges]) == (1, ["own"])


def test_what_takes_dollars_back_gives_no_hours():
    back = CUR.splitlines()[1].replace("2400.00", "-3000.00") + "\n"
    (drift,) = all_drifts(the_bill(CUR + back), a_day(nodes("h100", 2400.0, 24.0)))
    assert (drift.billed_usd, drift.billed_hours, drift.ratio) == (-600.0, 24.0, 5.0)


def test_a_first_line_that_is_too_long_is_no_reason_to_break():
    with pytest.raises(InvalidInputError, match="no export that is known"):
        the_bill("a,b\n1,2,3\n")
