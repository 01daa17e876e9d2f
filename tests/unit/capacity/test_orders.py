"""From a plan to what a pool's adapter is told and asked, and from there to what the next cycle sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.controllers.feeds import Feeds
from stint.controllers.pool_writer import PoolWriter, order_of
from stint.decide import decide
from stint.errors import ApiError
from stint.feeds import bundled
from stint.kube.client.api import Api
from stint.kube.client.events import About, Recorder
from stint.kube.observe.snapshot import Caches, Observation, observe
from stint.kube.records import NodeRecord, PodRecord
from stint.model.job import NodeName, Toleration
from stint.model.market import PoolName
from stint.model.offering import OfferingId
from stint.model.plan import Plan, Resize
from stint.model.resources import Resources
from stint.model.situation import Settings
from stint.testing.builders import NOW, a_job
from tests.unit.capacity.worlds import Replicas
from tests.unit.kube.objects import a_record

CATALOGUE = bundled.load()
HERE, ELSEWHERE = "us-east-1a", "us-east-1b"


def a_pool(*zones: str, adapter: str = "Scale", **status: Any) -> GPUPool:
    t = Replicas.target
    assert t is not None
    target = {"apiVersion": t.api_version, "resource": t.resource, "namespace": t.namespace, "name": t.name}
    spec = {
        "nodeSelector": {"pool": "p"},
        "limits": {"maxNodes": 9},
        "scaler": {"adapter": adapter, "mode": "Act", "target": target},
        "offerings": [{"provider": "aws", "zone": z, "instanceType": "p4de.24xlarge"} for z in zones],
    }
    return msgspec.convert({"metadata": {"name": "p", "uid": "p"}, "spec": spec, "status": status}, GPUPool)


def a_node(name: str, zone: str = HERE, **changes: Any) -> NodeRecord:
    labels = {**a_record().labels, "topology.kubernetes.io/zone": zone, "pool": "p"}
    return a_record(name, **{"labels": labels, **changes})


def a_busy_pod(node: str) -> PodRecord:
    return PodRecord(uid=node, node=node, nominated="", phase="Running", requests=Resources(gpus=8, pods=1), gang=None)


def look(pool: GPUPool, *nodes: NodeRecord, pods: tuple[PodRecord, ...] = ()) -> Observation:
    caches = Caches(trainingjobs=(), gpu_pools=[pool], price_books=(), nodes=nodes, pods=pods, jobs=())
    return observe(caches, CATALOGUE, Settings(), now=NOW, created={}, empty_since={n.name: NOW for n in nodes})


def a_resize(observation: Observation, zone: str, before: int, after: int) -> Resize:
    offering = OfferingId(f"p/p4de.24xlarge/{zone}/on-demand")
    assert offering in observation.inventory.offerings
    return Resize(pool=PoolName("p"), offering=offering, from_nodes=before, to_nodes=after)


def an_order(pool: GPUPool, observation: Observation, *resizes: Resize):
    assert pool.spec.scaler is not None
    return order_of(pool, pool.spec.scaler, observation, resizes, now=NOW)


BUSY_ELSEWHERE = [a_node(f"n{i}", ELSEWHERE) for i in range(3)]
THEIR_PODS = tuple(a_busy_pod(n.name) for n in BUSY_ELSEWHERE)


def test_the_whole_pool_is_counted_whatever_the_offering_of_its_nodes():
    pool = a_pool(HERE)
    seen = look(pool, *BUSY_ELSEWHERE, pods=THEIR_PODS)
    order = an_order(pool, seen, a_resize(seen, HERE, 0, 1))
    assert (order.from_nodes, order.to_nodes, len(order.busy)) == (3, 4, 3)


@pytest.mark.parametrize(
    "stranger",
    [a_node("cpu", labels={"pool": "p"}, gpus=0), a_node("odd", labels={"pool": "p", "x": "y"})],
    ids=["no GPU to be seen", "unknown GPU"],
)
def test_nodes_of_the_pool_that_are_no_offering_are_counted_too(stranger):
    """The target counts them, and may take them away."""
    pool = a_pool(HERE)
    seen = look(pool, a_node("n1"), stranger, pods=(a_busy_pod(stranger.name),))
    order = an_order(pool, seen, a_resize(seen, HERE, 1, 2))
    assert (order.from_nodes, order.to_nodes) == (2, 3)
    assert order.busy == {stranger.name}
    assert not any(n.removable for n in seen.situation.nodes), "the target might choose the busy one"


def test_changes_of_one_pool_are_summed():
    pool = a_pool(HERE, ELSEWHERE, adapter="Kwok")
    seen = look(pool, a_node("n1"), a_node("n2", ELSEWHERE))
    order = an_order(pool, seen, a_resize(seen, HERE, 1, 3), a_resize(seen, ELSEWHERE, 1, 2))
    assert (order.from_nodes, order.to_nodes) == (2, 5)


def test_what_was_ordered_and_is_not_there_yet_is_coming_whatever_the_offering_of_the_others():
    pool = a_pool(HERE, wantedNodes=4, orderedAt=NOW.isoformat())
    seen = look(pool, *BUSY_ELSEWHERE, pods=THEIR_PODS)
    coming = [n for n in seen.situation.nodes if n.ready_at is not None]
    assert [n.offering for n in coming] == [OfferingId(f"p/p4de.24xlarge/{HERE}/on-demand")]
    order = an_order(pool, seen, a_resize(seen, HERE, 1, 2))
    assert (order.coming, order.from_nodes, order.to_nodes) == (1, 4, 5)


class NotingApi(Api):
    """Statuses that are applied, and the scale of one target."""

    def __init__(self, world: Replicas) -> None:
        self.world = world
        self.statuses: list[dict[str, Any]] = []
        self.get = world.api.get  # type: ignore[method-assign]
        self.patch = world.api.patch  # type: ignore[method-assign]

    async def apply_status(self, path: str, body: Any) -> Any:
        assert path.endswith("/gpupools/p")
        self.statuses.append(body["status"])
        return body


class NotingRecorder(Recorder):
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    async def tell(self, about: About, reason: str, note: str, *, action: str, warning: bool = False) -> None:
        assert (about.name, action, warning) == ("p", "Resize", reason == "ResizeRefused")
        self.events.append((reason, note))


async def act(
    pool: GPUPool, seen: Observation, world: Replicas, *resizes: Resize
) -> tuple[NotingApi, list[tuple[str, str]]]:
    api, recorder = NotingApi(world), NotingRecorder()
    absorbed: list[dict[str, Any]] = []
    writer = PoolWriter(api, recorder, lambda: [pool], list, {"gpupools": absorbed.append}, Feeds.__new__(Feeds))
    await writer.act(seen, Plan(decided_at=NOW, resizes=resizes), now=NOW)
    return api, recorder.events


async def test_three_busy_nodes_in_another_zone_are_not_traded_for_a_new_one():
    pool, world = a_pool(HERE, wantedNodes=3), Replicas(3)
    seen = look(pool, *BUSY_ELSEWHERE, pods=THEIR_PODS)
    api, events = await act(pool, seen, world, a_resize(seen, HERE, 0, 1))
    assert world.replicas == 4
    assert [s["wantedNodes"] for s in api.statuses] == [4]
    assert [reason for reason, _ in events] == ["Ordered"]


async def test_two_resizes_of_one_pool_are_noted_once_and_written_once():
    pool, world = a_pool(HERE, ELSEWHERE), Replicas(2)
    seen = look(pool, a_node("n1"), a_node("n2", ELSEWHERE))
    api, events = await act(pool, seen, world, a_resize(seen, HERE, 1, 3), a_resize(seen, ELSEWHERE, 1, 2))
    assert world.replicas == 5
    assert [s["wantedNodes"] for s in api.statuses] == [5]
    assert [verb for verb, _ in world.api.requests] == ["get", "patch"]
    assert len(events) == 2


async def test_a_refusal_is_told_of_each_change_and_raises_nothing():
    pool, world = a_pool(HERE), Replicas(0)
    world.api.objects.clear()
    seen = look(pool)
    _, events = await act(pool, seen, world, a_resize(seen, HERE, 0, 1))
    ((reason, note),) = events
    assert reason == "ResizeRefused"
    assert "404" in note


async def test_advice_is_not_carried_out():
    pool, world = a_pool(HERE), Replicas(0)
    seen = look(pool)
    api, _ = await act(pool, seen, world, replace(a_resize(seen, HERE, 0, 1), advise_only=True))
    assert (api.statuses, world.api.requests) == ([], [])


def test_nodes_that_are_named_to_go_are_handed_on():
    pool = a_pool(HERE, adapter="Kwok")
    seen = look(pool, a_node("n1"), a_node("n2"))
    resize = replace(a_resize(seen, HERE, 2, 1), give_back=(NodeName("n2"),))
    assert an_order(pool, seen, resize).changes[0].going == ("n2",)


async def test_nodes_that_the_target_does_not_make_are_not_ordered_from_it():
    """The selector also matches eight nodes without GPUs, or nodes that the target is removing."""
    pool, world = a_pool(HERE), Replicas(0)
    seen = look(pool, *(a_node(f"cpu{i}", labels={"pool": "p"}, gpus=0) for i in range(8)))
    _, events = await act(pool, seen, world, a_resize(seen, HERE, 0, 2))
    assert world.replicas == 2
    ((reason, note),) = events
    assert reason == "Ordered"
    assert "makes 0 of the 8 nodes seen" in note


async def test_a_pool_that_grows_for_one_offering_does_not_shrink_for_another():
    pool, world = a_pool(HERE, ELSEWHERE), Replicas(1)
    seen = look(pool, a_node("n1", ELSEWHERE))
    await act(pool, seen, world, a_resize(seen, HERE, 0, 1), a_resize(seen, ELSEWHERE, 1, 0))
    assert world.replicas == 2


async def test_where_a_gang_is_placed_nothing_goes_that_the_target_would_choose():
    pool, world = a_pool(HERE), Replicas(3)
    seen = look(pool, *(a_node(f"n{i}") for i in range(3)))
    resize = a_resize(seen, HERE, 3, 1)
    api, recorder = NotingApi(world), NotingRecorder()
    writer = PoolWriter(api, recorder, lambda: [pool], list, {"gpupools": list}, Feeds.__new__(Feeds))
    job = replace(a_job("llama"), tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists"),))
    plan = decide(replace(seen.situation, jobs=(job,)))
    assert [p.job for p in plan.placements] == [job.id]
    await writer.act(seen, replace(plan, resizes=(resize,)), now=NOW)
    assert (world.replicas, recorder.events) == (3, [])


async def test_an_order_that_other_writers_kept_from_being_made_is_not_on_order():
    pool, world = a_pool(HERE), Replicas(0)
    world.api.refuses = ApiError(409, "Conflict", "somebody was quicker")
    seen = look(pool)
    api, events = await act(pool, seen, world, a_resize(seen, HERE, 0, 1))
    assert [s.get("wantedNodes") for s in api.statuses] == [1, None]
    assert [reason for reason, _ in events] == ["ResizeRefused"]


def test_nodes_that_are_going_are_no_part_of_the_pool():
    pool = a_pool(HERE)
    leaving = [a_node(f"n{i}", deleting=True) for i in range(5)]
    seen = look(pool, *leaving)
    assert an_order(pool, seen, a_resize(seen, HERE, 0, 1)).to_nodes == 1
