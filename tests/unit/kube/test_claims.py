"""Pods with devices by claims (Dynamic Resource Allocation): until claims are read, their nodes are full."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.decide import decide
from stint.feeds import bundled
from stint.kube.observe.snapshot import Caches, Observation, observe, since_empty
from stint.kube.records import PodRecord
from stint.kube.reduce import reduce_pod
from stint.kube.wire import WirePod
from stint.model.cluster import Node
from stint.model.resources import Resources
from stint.model.situation import Settings
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_record, a_resource

LONG_AGO = NOW - timedelta(hours=5)
BOUGHT = {"stint.dev/bought-by": "stint"}
CATALOGUE = bundled.load()

TEMPLATE = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}
NAMED = {"resourceClaims": [{"name": "gpu", "resourceClaimName": "shared"}]}
BY_CONTAINER = {"containers": [{"name": "c", "resources": {"claims": [{"name": "gpu"}]}}]}
BY_INIT_CONTAINER = {"containers": [], "initContainers": [{"name": "i", "resources": {"claims": [{"name": "gpu"}]}}]}
BY_CLASS = {"containers": [{"resources": {"requests": {"deviceclass.resource.kubernetes.io/gpu.amd.com": "1"}}}]}
NIC = {"resourceClaims": [{"name": "nic", "resourceClaimTemplateName": "dra.net"}]}
KINDS_OF_CLAIM = {
    "template": TEMPLATE,
    "named claim": NAMED,
    "container": BY_CONTAINER,
    "init container": BY_INIT_CONTAINER,
    "DeviceClass as a resource": BY_CLASS,
    "another vendor's device": NIC,
}
BESIDE_A_GPU = {"containers": [{"resources": {"requests": {"nvidia.com/gpu": "1"}}}], **NIC}
CLAIMING = pytest.mark.parametrize("spec", KINDS_OF_CLAIM.values(), ids=KINDS_OF_CLAIM)


def a_pod(spec: dict[str, object], *, node: str = "n1", nominated: str = "", phase: str = "Running") -> PodRecord:
    status = {"phase": phase, "nominatedNodeName": nominated}
    body = {"metadata": {"name": "p", "uid": "p"}, "spec": {"nodeName": node, **spec}, "status": status}
    return reduce_pod(msgspec.convert(body, WirePod))[2]


def a_pool(adapter: str) -> GPUPool:
    target = {"apiVersion": "x/v1", "resource": "sets", "name": "s"}
    spec = {
        "nodeSelector": {"pool": "p"},
        "limits": {"maxNodes": 4},
        "scaler": {"adapter": adapter, "mode": "Act", **({"target": target} if adapter == "Scale" else {})},
        "offerings": [{"provider": "aws", "zone": "us-east-1a", "instanceType": "p4de.24xlarge"}],
    }
    return msgspec.convert({"metadata": {"name": "p", "uid": "p"}, "spec": spec}, GPUPool)


def a_cluster(
    pods: list[PodRecord], *, adapter: str = "Kwok", gpus: int = 8, nodes: int = 1, trainingjobs=(), jobs=()
) -> Observation:
    labels = {**a_record().labels, "pool": "p"}
    records = [a_record(f"n{i + 1}", annotations=BOUGHT, gpus=gpus, labels=labels) for i in range(nodes)]
    caches = Caches(
        trainingjobs=trainingjobs,
        gpu_pools=[a_pool(adapter)],
        price_books=[],
        nodes=records,
        pods=pods,
        jobs=jobs,
    )
    empty = since_empty(caches, {r.name: LONG_AGO for r in records}, now=NOW)
    created = {t.metadata.uid: LONG_AGO for t in trainingjobs}
    # Whatever the controller's clock says, the pods decide.
    for since in (empty, {r.name: LONG_AGO for r in records}):
        found = observe(caches, CATALOGUE, Settings(), now=NOW, created=created, empty_since=since)
    return found


def is_full(node: Node) -> bool:
    return node.used.gpus >= node.allocatable.gpus and node.empty_since is None and not node.removable


def gives_back(observation: Observation) -> bool:
    return any(r.give_back for r in decide(observation.situation).resizes)


@pytest.mark.parametrize("adapter", ["Kwok", "Scale"])
def test_an_empty_node_is_given_back(adapter):
    assert gives_back(a_cluster([], adapter=adapter))


@CLAIMING
@pytest.mark.parametrize("adapter", ["Kwok", "Scale"])
def test_a_node_with_claimed_devices_is_full_and_never_given_back(adapter, spec):
    seen = a_cluster([a_pod(spec)], adapter=adapter)
    assert is_full(seen.situation.nodes[0])
    assert not gives_back(seen)


@CLAIMING
def test_the_controller_counts_no_empty_time_of_it(spec):
    caches = Caches(
        trainingjobs=[], gpu_pools=[], price_books=[], nodes=[a_record()], pods=[a_pod(spec)], jobs=[], workloads=[]
    )
    assert since_empty(caches, {"n1": LONG_AGO}, now=NOW) == {}


@CLAIMING
@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_takes_nothing(spec, phase):
    seen = a_cluster([a_pod(spec, phase=phase)])
    assert seen.situation.nodes[0].empty_since == LONG_AGO
    assert gives_back(seen)


@CLAIMING
def test_room_that_the_scheduler_makes_for_claims_is_taken(spec):
    assert is_full(a_cluster([a_pod(spec, node="", nominated="n1", phase="Pending")]).situation.nodes[0])


@CLAIMING
def test_a_pod_that_waits_for_a_node_takes_none(spec):
    assert not is_full(a_cluster([a_pod(spec, node="", phase="Pending")]).situation.nodes[0])


def test_a_scale_target_with_one_claiming_pod_shrinks_by_none_of_its_nodes():
    seen = a_cluster([a_pod(TEMPLATE)], adapter="Scale", nodes=3)
    assert not any(n.removable for n in seen.situation.nodes)
    assert not gives_back(seen)


def test_a_node_that_tells_of_no_gpus_is_not_empty_either():
    """DRA's driver lists devices in ResourceSlices, so the node's own status has none."""
    seen = a_cluster([a_pod(TEMPLATE)], gpus=0)
    assert is_full(seen.situation.nodes[0])
    assert not gives_back(seen)


def test_no_gang_is_placed_beside_claimed_devices():
    waiting = a_resource(workers=1)
    free = decide(a_cluster([], trainingjobs=[waiting]).situation)
    assert [set(p.nodes) for p in free.placements] == [{"n1"}]
    beside = decide(a_cluster([a_pod(TEMPLATE)], trainingjobs=[waiting]).situation)
    assert beside.placements == ()


@pytest.mark.parametrize("node", ["n1", ""], ids=["bound", "gated"])
def test_claims_of_our_own_gang_take_its_nodes_and_leave_it_there(node):
    pods = [
        msgspec.structs.replace(
            a_gang_pod(i, node=node, phase="Running" if node else "Pending", gated=not node), claims=True
        )
        for i in range(2)
    ]
    seen = a_cluster(pods, trainingjobs=[a_resource(workers=2, gpu={"perWorker": 2})], jobs=[a_batch_job()])
    assert is_full(seen.situation.nodes[0])
    assert not decide(seen.situation).requeues


def test_an_extended_resource_that_dra_serves_counts_once():
    """kube-scheduler writes a claim for `nvidia.com/gpu` where no device plugin offers it."""
    status = {"phase": "Running", "extendedResourceClaimStatus": {"resourceClaimName": "p-x", "requestMappings": []}}
    spec = {"nodeName": "n1", "containers": [{"resources": {"requests": {"nvidia.com/gpu": "3"}}}]}
    body = {"metadata": {"name": "p", "uid": "p"}, "spec": spec, "status": status}
    pod = reduce_pod(msgspec.convert(body, WirePod))[2]
    assert (pod.requests, pod.claims) == (Resources(gpus=3, pods=1), False)
    assert a_cluster([pod]).situation.nodes[0].used.gpus == 3


def test_what_is_claimed_beside_gpus_by_name_is_no_gpu():
    """A NIC, or a channel between nodes: the other seven GPUs are free, and the node is not empty."""
    seen = a_cluster([a_pod(BESIDE_A_GPU)])
    (node,) = seen.situation.nodes
    assert (node.used.gpus, node.empty_since) == (1, None)
    assert not gives_back(seen)


@CLAIMING
def test_a_daemon_set_that_watches_devices_takes_none(spec):
    """With adminAccess it claims the devices of every node."""
    owner = {"kind": "DaemonSet", "name": "monitor", "uid": "d", "controller": True}
    meta = {"name": "p", "uid": "p", "ownerReferences": [owner]}
    body = {"metadata": meta, "spec": {"nodeName": "n1", **spec}, "status": {"phase": "Running"}}
    assert not reduce_pod(msgspec.convert(body, WirePod))[2].claims
    by_hand = {**body, "metadata": {**meta, "ownerReferences": [{**owner, "kind": "ReplicaSet"}]}}
    assert reduce_pod(msgspec.convert(by_hand, WirePod))[2].claims
