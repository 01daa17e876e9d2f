"""A node that was bought and is of no use is bought once: nodes here come otherwise than their pool describes them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from hack.cluster import Cluster, eventually, running_cluster
from hack.cluster.operators import ProcessOperator
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e

LIMIT_USD_PER_HOUR = 60.0
DEAR = {"provider": "aws", "zone": "us-east-1b", "instanceType": "g6e.12xlarge", "capacityType": "on-demand"}
SEEN_LATE_S = 4.0  # the test looks now and then, and the API server tells whole seconds
_numbers = itertools.count()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("purchases")) as cluster:
        cluster.install_chart("pools.kwok.enabled=true")
        yield cluster


@pytest.fixture(scope="module")
def operator(alone: Cluster) -> ProcessOperator:
    return alone.start_operator(f"--max-unused-usd-per-hour={LIMIT_USD_PER_HOUR}")


@pytest.fixture
def here(alone: Cluster, operator: ProcessOperator) -> Iterator[World]:
    name = f"p{next(_numbers)}"
    alone.kubectl("create", "namespace", name)
    world = World(alone, name)
    eventually(lambda: world.kubectl("get", "serviceaccount", "default"), what="the namespace's ServiceAccount")
    yield world
    world.kubectl("delete", "tj", "--all", "--wait=false")
    for kind, thing in [*world.made, *(("node", n["metadata"]["name"]) for n in nodes(world))]:
        alone.kubectl("delete", kind, thing, "--ignore-not-found", "--wait=false")
    assert operator.failed() == ""


def nodes(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.cluster.get("nodes", "-l", f"test={world.name}")["items"]
    return found


def the_node(world: World, pool: str) -> str:
    """The first node of a pool, once it is ordered."""

    def there() -> str:
        of_pool = (n["metadata"] for n in nodes(world) if n["metadata"]["labels"]["stint.dev/pool"] == pool)
        return next((meta["name"] for meta in of_pool), "")

    return str(eventually(there, what=f"a node of {pool}"))


def told_of(world: World, pool: str) -> dict[str, Any]:
    found: dict[str, Any] = world.cluster.get("gpupool", pool).get("status", {})
    return found


def orders(world: World, pool: str) -> int:
    """Nodes ordered for a pool so far, by its events: one for each order, or one that counts them."""
    items = json.loads(world.cluster.kubectl("get", "events.events.k8s.io", "-A", "-o", "json"))["items"]
    mine = [e for e in items if e["regarding"]["name"] == pool and e["reason"] == "Ordered"]
    return sum(e.get("series", {}).get("count", 1) for e in mine)


def held_usd(world: World, name: str) -> float:
    """What a job has spent on nodes that it held without working on them."""
    lines = world.status(name).get("ledger", {}).get("lines", [])
    return float(sum(line["usd"]["held"] for line in lines))


def all_booked(world: World, pool: str, pod: str) -> bool:
    """Whether nothing is left to be booked of bought nodes. Time is booked once the API server has told of pods."""
    world.kubectl("label", "pod", pod, f"seen={next(_numbers)}", "--overwrite")
    return not told_of(world, pool).get("bought")


def asking(world: World, name: str, cpu: str, **spec: Any) -> dict[str, Any]:
    made = world.job(name, workers=1, gpus=4, **spec)
    made["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return made


def an_agent(world: World, node: str, cpu: str) -> dict[str, Any]:
    """A pod that nothing announced, as a vendor's agent that comes with the machine."""
    container = {"name": "agent", "image": "registry.example.com/agent:1", "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"agent-{node}", "namespace": world.name},
        "spec": {"nodeName": node, "containers": [container], "tolerations": [{"operator": "Exists"}]},
    }


def test_a_node_that_turned_out_too_small_is_bought_once(here: World, operator: ProcessOperator):
    pool = here.pool("small", most=4, coldStartSeconds=3, giveBackAfterSeconds=25)
    here.apply(asking(here, "large", "44"))
    node = the_node(here, pool)
    created = datetime.fromisoformat(here.cluster.get("node", node)["metadata"]["creationTimestamp"])
    here.apply(an_agent(here, node, "10"))
    held = here.until("Queued", "large", reason="PurchaseDidNotHelp")
    assert "a worker asks for 44 CPU cores" in held["message"], held["message"]
    assert "none is ordered again before" in held["message"]
    assert f"node {node} has" in here.event("PurchaseDidNotHelp", "large")
    (refused,) = eventually(lambda: told_of(here, pool).get("refused"), what="the pool to tell it, a moment later")
    assert (refused["job"], refused["cpu"], refused["times"]) == (f"{here.name}/large", 44, 1)

    paid = eventually(lambda: float(here.status("large")["spentUsd"]), what="SPENT of the job that cannot use its node")
    (bought,) = told_of(here, pool)["bought"]
    assert [(p["job"], p["share"]) for p in bought["payers"]] == [(f"{here.name}/large", 1.0)]

    operator.crash()  # what was learnt outlasts it
    here.apply(asking(here, "alike", "44"))
    assert f"job {here.name}/large" in here.until("Queued", "alike", reason="PurchaseDidNotHelp", timeout=60)["message"]
    eventually(lambda: not nodes(here), what="the node to be given back", timeout=60)
    stood_s = (datetime.now(UTC) - created).total_seconds()
    eventually(lambda: all_booked(here, pool, f"agent-{node}"), what="all of the node's time to be booked")
    here.kubectl("delete", "pod", f"agent-{node}", "--wait=false", "--grace-period=0", "--force")
    spent = here.status("large")["spentExactly"]
    usd_per_s = 4 * float(told_of(here, pool)["usdPerGpuHour"]) / 3600
    assert paid < spent == pytest.approx(held_usd(here, "large"))
    assert usd_per_s * (stood_s - SEEN_LATE_S) < spent < usd_per_s * (stood_s + 1), "all of its time, once"
    assert not here.status("alike").get("spentExactly"), "nothing was bought for this one"
    assert orders(here, pool) == 1
    for name in ("large", "alike"):
        assert here.status(name)["reason"] == "PurchaseDidNotHelp"

    here.kubectl("delete", "tj", "large", "alike")  # they would take the next node before its agent is there
    here.apply(asking(here, "smaller", "30"))
    here.until("Running", "smaller")
    assert orders(here, pool) == 2


def test_a_pool_that_delivers_nothing_is_not_asked_again_and_the_next_best_is_used(here: World):
    cheap = here.pool("cheap", most=4, coldStartSeconds=4)
    dear = here.pool("dear", most=4, offerings=[DEAR])
    here.apply(here.job(workers=1))
    node = the_node(here, cheap)
    # Its cloud never says that the machine is one of its own.
    here.cluster.kubectl("taint", "node", node, "node.cloudprovider.kubernetes.io/uninitialized=true:NoSchedule")
    running = here.until("Running")
    assert running["pool"] == dear
    (late,) = told_of(here, cheap)["late"]
    assert "0 ready after" in late["message"]
    assert (orders(here, cheap), orders(here, dear)) == (1, 1)


def test_the_breaker_stops_and_tells(here: World, operator: ProcessOperator):
    h100 = {"provider": "aws", "zone": "us-east-1a", "instanceType": "p5.48xlarge", "capacityType": "on-demand"}
    pool = here.pool("h100", most=8, offerings=[h100])
    work = {"units": 3600, "unitsPerSecond": {"H100-SXM": 1.0}}
    here.apply(here.job("huge", workers=2, gpus=8, work=work))
    held = here.until("Queued", "huge", reason="ScaleUpStopped")
    assert "scaleUp.maxUnusedUsdPerHour, which is 60.00" in held["message"]
    assert "no node is ordered" in here.event("ScaleUpStopped", "huge")
    conditions = {c["type"]: c for c in told_of(here, pool)["conditions"]}
    assert conditions["ScaleUp"]["reason"] == "ScaleUpStopped"
    eventually(lambda: "stint_scale_up_stopped 1.0" in operator.metrics(), what="the metric, at the end of the cycle")
    assert orders(here, pool) == 0
    here.apply(here.job("modest", workers=1, gpus=8, work=work))
    here.until("Running", "modest")
    assert orders(here, pool) == 1
