"""A running gang outlasts what passes by itself; one that cannot start is requeued at once, and its node is blamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack.cluster import eventually
from tests.e2e.test_faults import held_back, node_is_not_ready, open_gates, pinned, runs_on

pytestmark = pytest.mark.e2e

OWNED = {"node.kubernetes.io/instance-type": "of-our-own", "stint.dev/capacity-type": "owned"}
PRODUCT = "nvidia.com/gpu.product"


def uids(world, name: str = "job") -> set[str]:
    return {p["metadata"]["uid"] for p in world.pods(name)}


def condition(world, kind: str, status: str, name: str = "job") -> dict[str, Any]:
    def told() -> dict[str, Any]:
        found = {c["type"]: c for c in world.status(name).get("conditions", [])}
        assert found.get(kind, {}).get("status") == status, found.get(kind)
        return found[kind]

    return eventually(told, what=f"{kind} of {name} to be {status}")


def goes_on(world, before: set[str], name: str = "job") -> None:
    status = world.status(name)
    assert (status["phase"], status.get("rollbacks", 0), status.get("retries", 0)) == ("Running", 0, 0)
    assert uids(world, name) == before, "the gang was ended"


def node_is_ready(world, node: str) -> None:
    """Its kubelet is back."""
    condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "for a test"}
    patch = json.dumps({"status": {"conditions": [condition]}})
    world.cluster.kubectl("patch", "node", node, "--subresource=status", "--type=strategic", "-p", patch)
    world.cluster.kubectl("annotate", "node", node, "kwok.x-k8s.io/node=fake")


class TestARunningGangOutlasts:
    def test_a_kubelet_that_restarts(self, world):
        first, second = world.node("a", gpus=4), world.node("b", gpus=4)
        world.apply(world.job(workers=4, gpus=2))
        runs_on(world, {first, second})
        before = uids(world)
        node_is_not_ready(world, first)
        told = condition(world, "NodesReady", "False")
        assert told["reason"] == "NodeNotReady"
        assert f"node {first} has not been ready since" in told["message"]
        assert "the gang keeps its placement until" in world.event("NodeNotReady")
        goes_on(world, before)
        world.apply(world.job("late", workers=1, gpus=1))
        world.until("Queued", "late", reason="NotEnoughGpus")
        node_is_ready(world, first)
        condition(world, "NodesReady", "True")
        goes_on(world, before)

    def test_its_grace_period_and_no_more(self, world):
        node = world.node("a", gpus=4)
        world.apply(world.job(workers=2, gpus=2, nodeGraceSeconds=2))
        runs_on(world, {node})
        spare = world.node("b", gpus=4)
        node_is_not_ready(world, node)
        runs_on(world, {spare})
        assert "for more than 2 s" in world.event("NodeLost")

    def test_labels_that_are_gone_for_a_moment(self, world):
        node = world.node("a", labels=OWNED)
        world.apply(world.job(workers=2, gpus=2))
        status = world.until("Running")
        before = uids(world)
        product = json.loads(world.cluster.kubectl("get", "node", node, "-o", "json"))["metadata"]["labels"][PRODUCT]
        world.cluster.kubectl("label", "node", node, f"{PRODUCT}-")
        told = condition(world, "NodesReady", "False")
        assert told["reason"] == "NodeUnidentified"
        assert f"goes on at the price of {status['offering']}" in told["message"]
        world.apply(world.job("late", workers=1, gpus=1))  # half of the node is free
        world.until("Queued", "late")
        goes_on(world, before)
        assert world.status()["usdPerHour"] == status["usdPerHour"]
        world.cluster.kubectl("label", "node", node, f"{PRODUCT}={product}")
        condition(world, "NodesReady", "True")
        world.until("Running", "late")
        goes_on(world, before)

    def test_a_second_pool_that_claims_its_node(self, world):
        node = world.node("a", labels={"rack": world.name})

        def pool(name: str, **selector: str) -> str:
            full = f"{world.name}-{name}"
            kind = {"apiVersion": "stint.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": full}}
            world.apply({**kind, "spec": {"nodeSelector": selector}})
            return full

        def valid(name: str) -> str:
            conditions = world.cluster.get("gpupool", name)["status"]["conditions"]
            return next(c["reason"] for c in conditions if c["type"] == "Valid")

        own = pool("own", test=world.name)
        eventually(lambda: valid(own) == "Valid", what="the pool")
        world.apply(world.job(workers=2, gpus=2))
        runs_on(world, {node})
        before = uids(world)
        other = pool("other", rack=world.name)
        eventually(lambda: {valid(own), valid(other)} == {"ClaimedTwice"}, what="both pools to say so")
        assert condition(world, "NodesReady", "False")["reason"] == "NodeUnidentified"
        goes_on(world, before)
        world.cluster.kubectl("delete", "gpupool", other)
        condition(world, "NodesReady", "True")
        goes_on(world, before)

    def test_those_who_consolidate_nodes(self, world):
        world.node("a")
        world.apply(world.job(workers=2, gpus=2, annotations={"karpenter.sh/do-not-disrupt": "false"}))
        world.until("Running")
        for pod in world.pods():
            annotations = pod["metadata"]["annotations"]
            assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
            assert annotations["karpenter.sh/do-not-disrupt"] == "false", "what the template says stays"


class TestAGangThatCannotStart:
    def test_is_not_tried_again_on_the_node_whose_kubelet_rejects_it(self, world):
        node = world.node("a", gpus=4)
        eventually(lambda: world.cluster.get("node", node)["status"].get("conditions"), what="the node")
        # Nobody plays its kubelet from now on: the test does.
        world.cluster.kubectl("annotate", "node", node, "kwok.x-k8s.io/node-")
        world.apply(world.job(workers=2, gpus=2))

        def bound() -> list[str]:
            pods = [p for p in world.pods() if p["spec"].get("nodeName") == node]
            return [p["metadata"]["name"] for p in pods] if len(pods) == 2 else []

        first, _ = eventually(bound, what="both workers to be bound")
        spare = world.node("b", gpus=4)
        status = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed: no\ndevice"}
        world.kubectl(
            "patch", "pod", first, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
        )
        note = world.event("NodeRejected")
        assert f"node {node} rejected worker 0 (UnexpectedAdmissionError: Allocate failed: no device)" in note
        told = runs_on(world, {spare})
        assert told.get("retries", 0) == 0
        assert [(b["node"], b["said"]) for b in told["blamed"]] == [(node, "UnexpectedAdmissionError")]

    def test_does_not_wait_for_its_time_out_once_kube_scheduler_has_spoken(self, world):
        node = world.node("a", gpus=4)
        world.apply(held_back(world, workers=2, gpus=2))  # placementTimeoutSeconds is 120
        pinned(world)
        thief = {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        }
        meta = {"name": "thief", "namespace": world.name}
        world.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": thief})
        open_gates(world)
        back = world.until("Queued", reason="DidNotStart", timeout=40)
        assert f"1 of 2 workers ran; none started on {node}: kube-scheduler says" in back["message"]
        assert "Insufficient nvidia.com/gpu" in back["message"]
        assert "Insufficient nvidia.com/gpu" in world.event("DidNotStart")
        # It was the only node: the offering is out for a while, and no longer taken to be merely full.
        out = world.until("Queued", reason="NodesRefused", timeout=40)
        assert node in out["message"]
