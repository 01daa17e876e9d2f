"""A node that does not say what it is for a moment: the gang there goes on, at the same price."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.api.pricebook import PriceBook
from stint.decide import decide
from stint.kube.observe.memory import Memory
from stint.kube.observe.snapshot import Caches, Observation, with_what_was_seen
from stint.kube.records import NodeRecord
from stint.lifecycle import phases
from stint.model.job import job_id
from stint.model.resources import Resources
from stint.testing.builders import NOW
from stint.views import job_status
from tests.unit.controllers.test_bookkeeper import HOUR, Books, two
from tests.unit.kube.objects import a_batch_job, a_plan, a_record, a_resource
from tests.unit.kube.test_observe import RUNNING, UNET, look

OWNED = {
    "node.kubernetes.io/instance-type": "dgx-of-ours",
    "topology.kubernetes.io/zone": "hall-1",
    "stint.dev/capacity-type": "owned",
    "stint.dev/pool": "dc",
}
PRODUCT = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.memory": "81920"}
HALF = Resources(gpus=4, pods=1)


def pool(name: str, **selector: str) -> GPUPool:
    return msgspec.convert({"metadata": {"name": name, "uid": name}, "spec": {"nodeSelector": selector}}, GPUPool)


def a_dgx(**changes: Any) -> NodeRecord:
    """A machine that no table knows: only feature discovery says which GPU it has."""
    return a_record(**{"labels": OWNED | PRODUCT, "provider_id": "", **changes})


LABELS_GONE = {"nodes": [a_dgx(labels=OWNED)]}
PLUGIN_GONE = {"nodes": [a_dgx(labels=OWNED, allocatable=Resources(cpu=96, memory_gib=1000, pods=110))]}
CLAIMED_TWICE = {"nodes": [a_dgx()], "pools": [pool("a", **OWNED), pool("b", **OWNED)]}
SHARED = {"nodes": [a_dgx(labels=OWNED | PRODUCT | {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-SHARED"})]}
TROUBLES = [LABELS_GONE, PLUGIN_GONE, CLAIMED_TWICE, SHARED]
NAMES = ["labels gone", "plug-in gone", "claimed twice", "sharing unclear"]


def gang(nodes: tuple[str, ...] = ("n1", "n1")) -> Any:
    plan = msgspec.structs.replace(a_plan(nodes), offering="dc/dgx-of-ours/hall-1/owned", per_worker=HALF)
    return a_batch_job(plan)


def seen(memory: Memory | None = None, **caches: Any) -> tuple[Observation, Memory]:
    full = {"resources": [a_resource()], "pods": RUNNING, "jobs": [gang()], **caches}
    found = look(memory=memory, **full)
    of = Caches(trainingjobs=[], gpu_pools=[], price_books=[], nodes=caches["nodes"], pods=[], jobs=[])
    return found, with_what_was_seen(memory or Memory(), found, of)


@pytest.mark.parametrize("trouble", TROUBLES, ids=NAMES)
class TestAGangThereGoesOn:
    @pytest.mark.parametrize("restarted", [False, True], ids=["as it was seen", "after a restart"])
    def test_it_keeps_its_placement_its_offering_and_its_price(self, trouble, restarted):
        before, memory = seen(nodes=[a_dgx()])
        after, _ = seen(None if restarted else memory, **trouble)
        assert decide(after.situation).requeues == ()
        (node,) = after.situation.nodes
        (was,) = before.situation.nodes
        assert (node.offering, node.used, node.unidentified) == (was.offering, was.used, True)
        one, two_ = before.inventory.offerings[was.offering], after.inventory.offerings[was.offering]
        assert one.usd_per_node_hour == two_.usd_per_node_hour
        assert decide(before.situation).stays == decide(after.situation).stays

    def test_nobody_else_is_placed_there(self, trouble):
        """Half of the node is free."""
        small = msgspec.structs.replace(a_resource(workers=1), status=a_resource().status)
        other = msgspec.structs.replace(small, metadata=msgspec.structs.replace(small.metadata, name="bert", uid="u2"))
        found, _ = seen(**{"jobs": [gang(("n1",))], "pods": RUNNING[:1], "resources": [small, other], **trouble})
        assert [s.job for s in decide(found.situation).stays] == [UNET]
        assert [h.job for h in decide(found.situation).holds] == [job_id("team", "bert")]
        well, _ = seen(nodes=[a_dgx()], jobs=[gang(("n1",))], pods=RUNNING[:1], resources=[small, other])
        assert [p.job for p in decide(well.situation).placements] == [job_id("team", "bert")]

    def test_it_is_told_what_is_wrong_with_its_node_until_that_is_right(self, trouble):
        found, memory = seen(**trouble)

        def told(found: Observation, resource=None) -> Any:
            context = job_status.Context(
                now=NOW, offerings=found.inventory.offerings, nodes=found.nodes, kept=found.inventory.kept
            )
            outcome = phases.outcomes(decide(found.situation)).get(UNET)
            return job_status.build(found.seen[UNET], outcome, context)

        status = told(found)
        (ready,) = [c for c in status.conditions if c.type == "NodesReady"]
        assert (ready.status, ready.reason) == ("False", "NodeUnidentified")
        assert "node n1 cannot be identified" in ready.message
        assert "goes on at the price of dc/dgx-of-ours/hall-1/owned" in ready.message
        resource = a_resource(msgspec.to_builtins(status))
        found, _ = seen(memory, nodes=[a_dgx()], resources=[resource])
        assert [c.status for c in told(found).conditions if c.type == "NodesReady"] == ["True"]

    def test_once_the_gang_is_gone_the_node_is_nothing_any_more(self, trouble):
        _, memory = seen(nodes=[a_dgx()])
        found, after = seen(memory, **{**trouble, "jobs": [], "pods": []})
        assert (found.situation.nodes, found.inventory.kept, after.machines) == ((), {}, {})


def test_the_pool_still_tells_what_is_wrong():
    found, _ = seen(**CLAIMED_TWICE)
    (problem,) = found.inventory.problems
    assert (problem.reason, problem.pools) == ("ClaimedTwice", ("a", "b"))


def test_a_node_that_is_gone_ends_its_gang_at_once():
    _, memory = seen(nodes=[a_dgx()])
    found, _ = seen(memory, nodes=[])
    assert "node n1 is gone" in decide(found.situation).requeues[0].message


def test_a_plan_whose_offering_is_no_name_of_ours_keeps_nothing():
    odd = a_batch_job(msgspec.structs.replace(a_plan(), offering="odd"))
    found, _ = seen(nodes=[a_dgx(labels=OWNED)], jobs=[odd])
    assert found.inventory.kept == {}


class TestTheBooks:
    @pytest.mark.parametrize("restarted", [False, True], ids=["as it was seen", "after a restart"])
    def test_they_go_on_unchanged(self, restarted):
        """Its label and instance type go; the price is that of the offering that the plan names."""
        bare = {"topology.kubernetes.io/zone": "us-east-1a", "stint.dev/provider": "aws"}

        def hours(nodes: list[NodeRecord]) -> list[float]:
            books, pods, spent, memory = Books(), two(NOW, NOW), [], Memory()
            for i, node in enumerate(nodes, 1):
                if restarted and i > 1:
                    books.restart()
                    memory = Memory()
                spent.append(books.look(NOW + i * HOUR, pods, nodes=[node], memory=memory)[UNET].usd)
                memory = books.memory
            return spent

        well = a_record(created=NOW - 9 * HOUR)
        flapped = a_record(created=NOW - 9 * HOUR, labels=bare)
        assert hours([well, flapped, flapped, well]) == hours([well] * 4) == pytest.approx([10, 20, 30, 40])


def test_a_commitment_counts_a_node_whether_it_says_what_it_is_or_not():
    ri = {"name": "ri", "provider": "aws", "instanceType": "p4de.24xlarge", "nodes": 1, "usdPerNodeHour": 20}
    book = msgspec.convert({"metadata": {"name": "b"}, "spec": {"commitments": [ri]}}, PriceBook)
    there = [a_record("n1"), a_record("n2")]
    flapped = [a_record("n1", labels={"stint.dev/provider": "aws"}), a_record("n2")]
    plain = {"jobs": [a_batch_job()], "books": [book]}
    one, memory = seen(nodes=there, **plain)
    two_, _ = seen(memory, nodes=flapped, **plain)
    assert one.situation.offerings == two_.situation.offerings
