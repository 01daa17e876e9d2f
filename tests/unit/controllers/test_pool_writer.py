"""Orders are noted before they are made; what became of them, and nodes that no GPUPool speaks for, is told."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from unittest.mock import create_autospec

import msgspec
import pytest

from stint.api.gpupool import GPUPool, Status
from stint.api.meta import Meta
from stint.controllers.feeds import Feeds
from stint.controllers.pool_writer import PoolWriter
from stint.decide import decide
from stint.errors import ApiError
from stint.kube.client.api import Api
from stint.kube.client.events import Recorder
from stint.model.plan import Reason
from stint.testing.builders import NOW
from tests.unit.kube import test_purchases as purchases
from tests.unit.kube.objects import a_record, a_resource
from tests.unit.kube.test_blame import refuse
from tests.unit.kube.test_observe import look


def blaming(namespace: str):
    made = a_resource(msgspec.to_builtins(refuse("n1", reason=Reason.NODE_REJECTED)))
    return msgspec.structs.replace(made, metadata=Meta(name="a", namespace=namespace, uid=namespace, generation=3))


async def test_a_suspect_node_is_told_of_once():
    events = create_autospec(Recorder, instance=True)
    api, feeds = create_autospec(Api, instance=True), create_autospec(Feeds, instance=True)
    writer = PoolWriter(api, events, pools=list, books=list, absorb={}, feeds=feeds)
    seen = look(resources=[blaming("one"), blaming("two")], nodes=[a_record()], now=NOW)
    for _ in range(2):
        await writer.tell(seen, decide(seen.situation))
    ((about, reason, note),) = [call.args for call in events.tell.await_args_list]
    assert (about.kind, about.name, reason) == ("Node", "n1", "SuspectNode")
    assert "nothing is placed on it until 13:00 UTC: drain it" in note


class Shop:
    """A writer with one pool, whose statuses are taken in as they are written."""

    def __init__(self, pool: GPUPool, *, refuses: bool = False) -> None:
        self.pool, self.statuses = pool, list[dict[str, Any]]()
        self.events = create_autospec(Recorder, instance=True)
        api, feeds = create_autospec(Api, instance=True), create_autospec(Feeds, instance=True)
        api.get.return_value = {"items": []}
        api.create.side_effect = ApiError(403, "Forbidden", "quota") if refuses else None
        api.apply_status.side_effect = lambda _, body: body
        self.api = api
        self.writer = PoolWriter(
            api, self.events, pools=lambda: [self.pool], books=list, absorb={"gpupools": self.absorb}, feeds=feeds
        )

    def absorb(self, body: dict[str, Any]) -> None:
        self.statuses.append(body["status"])
        self.pool = msgspec.structs.replace(self.pool, status=msgspec.convert(body["status"], Status))

    async def cycle(self, *jobs: Any, after: timedelta = timedelta(0), **more: Any) -> None:
        seen = purchases.look(self.pool, *jobs, after=after, **more)
        plan = decide(seen.situation)
        await self.writer.act(seen, plan, now=seen.situation.now)
        await self.writer.tell(seen, plan)

    def told(self, reason: str) -> list[str]:
        return [str(c.args[0].kind) for c in self.events.tell.await_args_list if c.args[1] == reason]


async def test_an_order_is_noted_with_its_jobs_before_it_is_made():
    shop = Shop(purchases.a_pool())
    await shop.cycle(purchases.a_job())
    (order,) = shop.statuses[0]["orders"]
    assert (order["offering"], order["nodes"], order["jobs"]) == (purchases.OFFERING, 1, ["team/large"])
    assert [o.jobs for o in shop.pool.status.orders] == [["team/large"]], "telling the pool keeps it"
    shop.api.create.reset_mock()
    await shop.cycle(purchases.a_job(), after=timedelta(seconds=5))
    shop.api.create.assert_not_called()


async def test_an_order_tells_who_pays_for_what_it_brings_by_what_each_gang_takes():
    shop = Shop(purchases.a_pool())
    small = {"gpu": {"perWorker": 2}, "template": {"spec": {"containers": [purchases.CONTAINER | {"resources": {}}]}}}
    await shop.cycle(purchases.a_job(), purchases.a_job("small", **small), purchases.a_job("tiny", **small))
    (order,) = shop.pool.status.orders
    assert {p.job: (p.uid, p.share) for p in order.payers} == {
        "team/large": ("large", pytest.approx(8 / 12)),
        "team/small": ("small", pytest.approx(2 / 12)),
        "team/tiny": ("tiny", pytest.approx(2 / 12)),
    }


async def test_nobody_pays_for_nodes_that_are_paid_for_anyway():
    reserved = {"provider": "aws", "zone": "us-east-1a", "instanceType": "p4de.24xlarge", "capacityType": "reserved"}
    shop = Shop(purchases.a_pool(offerings=[reserved]))
    await shop.cycle(purchases.a_job(capacityTypes=["reserved"]))
    (order,) = shop.pool.status.orders
    assert (order.jobs, order.payers) == (["team/large"], [])


async def test_an_order_that_the_adapter_refuses_backs_off():
    shop = Shop(purchases.a_pool(), refuses=True)
    await shop.cycle(purchases.a_job())
    status = shop.pool.status
    assert (status.orders, status.wanted_nodes) == ([], None)
    (late,) = status.late
    assert "ordered and refused: " in late.message
    assert late.until == NOW + timedelta(minutes=3)
    shop.api.create.reset_mock()
    await shop.cycle(purchases.a_job(), after=timedelta(minutes=1))
    shop.api.create.assert_not_called()
    await shop.cycle(purchases.a_job(), after=timedelta(minutes=4))
    assert shop.pool.status.late[0].times == 2


async def test_a_purchase_that_did_not_help_is_told_once_at_the_pool_and_at_the_job():
    shop = Shop(purchases.ordered("large"))
    for minutes in (2, 3):
        await shop.cycle(
            purchases.a_job(),
            after=timedelta(minutes=minutes),
            nodes=[purchases.bought()],
            pods=[purchases.an_agent()],
        )
    assert sorted(shop.told("PurchaseDidNotHelp")) == ["GPUPool", "TrainingJob"]
    shop.api.create.assert_not_called()


@pytest.mark.parametrize("jobs", [1, 3])
async def test_forty_minutes_of_nodes_that_are_too_small_costs_a_handful(jobs):
    """Each cycle is another operator's: only the pool's status is kept. Nodes come with an agent and are given back."""
    shop = Shop(purchases.a_pool(giveBackAfterSeconds=60))
    waiting = [purchases.a_job(f"j{i}") for i in range(jobs)]
    there: dict[str, datetime] = {}
    made: list[tuple[str, datetime]] = []
    most = 0
    for step in range(80):
        after = timedelta(seconds=30 * step)
        now = NOW + after
        old = shop
        shop = Shop(old.pool)
        nodes = [purchases.bought(n, at=at, ready=now - at >= timedelta(minutes=1)) for n, at in there.items()]
        agents = [purchases.an_agent(node=n) for n in there]
        empty = min((now - at for at in there.values()), default=timedelta(0)) - timedelta(minutes=1)
        await shop.cycle(*waiting, after=after, nodes=nodes, pods=agents, empty=max(empty, timedelta(0)))
        for call in shop.api.create.await_args_list:
            name = f"{call.args[1]['metadata']['name']}-{len(made)}"
            made.append((name, now))
            there[name] = now
        for call in shop.api.delete.await_args_list:
            there.pop(call.args[0].rpartition("/")[2])
        most = max(most, len(there))
    assert most <= jobs, "at most one node for each worker's need is there at a time"
    assert 3 <= len(made) <= 5 * jobs
    waits = [b - a for (_, a), (_, b) in pairwise(made) if b > a]
    assert waits == sorted(waits), "each pause is longer than the one before"
