"""What users of such systems report, a row a case, on the sample fleet: how long until the right outcome is seen, how
many nodes were bought meanwhile, and how many running gangs were ended.

None of these cases needs a node bought or a running gang ended. Once the right outcome is seen, two more decisions are
awaited, and it has to hold still.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from hack import fleet
from hack.bench.scene import IMAGE, OWN, Body, Scene, Witness, brief, stage
from hack.cluster import Cluster, Operator, eventually
from hack.processes import NotYetError

Check = Callable[[], None]  # raises AssertionError, with what is seen instead, until all is as it should be
Case = Callable[[Scene], Check]

_PATIENCE_S = 25.0
_ZONE, _HOST, _TYPE = "topology.kubernetes.io/zone", "kubernetes.io/hostname", "node.kubernetes.io/instance-type"
_PRODUCT = "nvidia.com/gpu.product"
A100, H100 = {"A100-80GB": 1.0}, {"H100-SXM": 2.0}
_EXISTS = [{"operator": "Exists"}]


# -- checks and parts of pods


def on(scene: Scene, name: str, *nodes: str) -> Check:
    """It runs on these nodes, one entry a worker, and has never been requeued."""

    def check() -> None:
        status = scene.status(name)
        assert status.get("phase") == "Running", brief(status)
        assert scene.hosts(name) == sorted(nodes), f"on {scene.hosts(name)}"
        assert not any(status.get(k) for k in ("rollbacks", "retries")), f"requeued: {brief(status)}"

    return check


def held(scene: Scene, name: str, *words: str) -> Check:
    """It waits, and its reason and message have these words."""

    def check() -> None:
        status = scene.status(name)
        assert status.get("phase") == "Queued", brief(status)
        assert all(w in brief(status) for w in words), brief(status)

    return check


def both(*checks: Check) -> Check:
    """All of them."""

    def check() -> None:
        for one in checks:
            one()

    return check


def keeps(scene: Scene, name: str, reason: str) -> Check:
    """It runs on with the same pods, and NodesReady tells why its node is not as it should be."""
    before = {p["metadata"]["uid"] for p in scene.pods(name)}

    def check() -> None:
        told = scene.condition("NodesReady", name)
        assert told.get("reason") == reason, told or "no condition NodesReady"
        assert {p["metadata"]["uid"] for p in scene.pods(name)} == before, "its pods have been replaced"
        assert scene.status(name).get("phase") == "Running", brief(scene.status(name))

    return check


def affinity(key: str, operator: str, *values: str) -> Body:
    """Required, of nodes."""
    terms = [{"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}]
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    }


def apart(app: str) -> Body:
    """Required anti-affinity among its own workers, by host."""
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": _HOST}
    return {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def asks(requests: Body | None = None, limits: Body | None = None) -> Body:
    """A container with these."""
    resources = {"requests": requests or {}, "limits": limits or {}}
    return {"containers": [{"name": "train", "image": IMAGE, "resources": resources}]}


# -- constraints of the pod


def aff(scene: Scene) -> Check:
    """Required node affinity: neither our own machines nor Google's."""
    speeds = {"A100-80GB": 1.0, "L40S": 0.6, "L4": 0.2}
    scene.job("aff", speeds=speeds, gpus=2, pods=affinity(_ZONE, "NotIn", "dc1", "us-central1-a"))

    def check() -> None:
        status = scene.status("aff")
        assert status.get("phase") == "Running", brief(status)
        assert all(h.startswith("l40s") for h in scene.hosts("aff")), f"on {scene.hosts('aff')}"
        assert not status.get("rollbacks"), brief(status)

    return check


def anti(scene: Scene) -> Check:
    """Workers that keep apart by host."""
    scene.job("anti", speeds=A100, workers=2, gpus=3, pods={**apart("anti"), "nodeSelector": OWN})
    return on(scene, "anti", "a100-onprem-0", "a100-onprem-1")


def spread(scene: Scene) -> Check:
    """Six workers, as evenly on the hosts as they go."""
    even = {
        "maxSkew": 1,
        "topologyKey": _HOST,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "spread"}},
    }
    pods = {"topologySpreadConstraints": [even], "nodeSelector": OWN}
    scene.job("spread", speeds=A100, workers=6, gpus=1, pods=pods)
    return on(scene, "spread", *["a100-onprem-0"] * 3, *["a100-onprem-1"] * 3)


def pvc(scene: Scene) -> Check:
    """A volume that is bound to the zone of the dearer pool."""
    scene.pool_that_is_quick()
    zone = {"key": _ZONE, "operator": "In", "values": ["us-east-1a"]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "case-weights"},
        "spec": {
            "capacity": {"storage": "500Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "claimRef": {"namespace": scene.namespace, "name": "weights"},
            "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-case"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "weights", "namespace": scene.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "volumeName": "case-weights",
            "resources": {"requests": {"storage": "500Gi"}},
        },
    }
    scene.add(volume, claim)
    pods = {"volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}]}
    scene.job("pvc", speeds=H100, pods=pods)
    return on(scene, "pvc", "h100-eks-0")


# -- what a worker needs beside GPUs


def bigcpu(scene: Scene) -> Check:
    """Nearly all CPUs of a node, of which a DaemonSet takes some on every node that would come."""
    scene.pool_that_is_quick()
    agent = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": scene.namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"tolerations": _EXISTS, **asks({"cpu": "6"})},
            },
        },
    }
    scene.add(agent)
    eventually(lambda: len(scene.kubectl("get", "pods", "-o", "name").split()) >= 9, what="the DaemonSet's pods")
    scene.job("bigcpu", speeds=H100, pods=asks({"cpu": "188"}))
    return held(scene, "bigcpu", "WorkerExceedsNode", "CPU")


def rdma(scene: Scene) -> Check:
    """A device that only one node has."""
    scene.pool_that_is_quick()
    scene.patch_status("h100-eks-0", capacity={"rdma/hca": "4"}, allocatable={"rdma/hca": "4"})
    scene.job("rdma", speeds=H100, pods=asks(limits={"rdma/hca": "2"}))
    return on(scene, "rdma", "h100-eks-0")


def podlevel(scene: Scene) -> Check:
    """Resources of the pod as a whole: one worker a node."""
    pods = {"resources": {"requests": {"cpu": "90", "memory": "100Gi"}}, "nodeSelector": OWN}
    scene.job("podlevel", speeds=A100, workers=2, gpus=2, pods=pods)
    return on(scene, "podlevel", "a100-onprem-0", "a100-onprem-1")


def limitrange(scene: Scene) -> Check:
    """A LimitRange gives each worker 30 CPUs: four a node."""
    limits = {"type": "Container", "defaultRequest": {"cpu": "30"}, "default": {"cpu": "60"}}
    scene.add(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "cpus", "namespace": scene.namespace},
            "spec": {"limits": [limits]},
        }
    )
    scene.job("limitrange", speeds=A100, workers=8, gpus=1, pods={"nodeSelector": OWN})
    return on(scene, "limitrange", *["a100-onprem-0"] * 4, *["a100-onprem-1"] * 4)


def overhead(scene: Scene) -> Check:
    """108 CPUs and 24 of the RuntimeClass: more than any node has."""
    scene.add(
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": "case-vm"},
            "handler": "vm",
            "overhead": {"podFixed": {"cpu": "24", "memory": "4Gi"}},
        }
    )
    scene.job("overhead", speeds=A100, pods={"runtimeClassName": "case-vm", **asks({"cpu": "108"})})
    return held(scene, "overhead", "WorkerExceedsNode", "132 CPU")


def het(scene: Scene) -> Check:
    """Pods of one group that are not alike: 8 GPUs and 1, where exactly that is free."""
    scene.job("fill", speeds=A100, gpus=7, pods={"nodeSelector": OWN})
    filled = scene.runs("fill")
    spec = "work: {units: 28800, unitsPerSecond: {A100-80GB: 1.0}}\nplacementTimeoutSeconds: 12\n"
    group = {
        "labels": {"stint.dev/managed": "true", "stint.dev/group": "het"},
        "annotations": {"stint.dev/group-size": "2", "stint.dev/spec": spec},
    }

    def member(name: str, gpus: str) -> Body:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": scene.namespace, **group},
            "spec": {"tolerations": _EXISTS, "nodeSelector": OWN, **asks(limits={"nvidia.com/gpu": gpus})},
        }

    scene.cluster.kubectl("label", "namespace", scene.namespace, "stint.dev/managed=true")
    scene.add(member("trainer", "8"), member("rollout", "1"))
    scene.started = time.monotonic()

    def check() -> None:
        status = scene.status("group-het")
        assert status.get("phase") == "Running", brief(status)
        phases = [
            json.loads(scene.kubectl("get", "pod", p, "-o", "json"))["status"].get("phase")
            for p in ("trainer", "rollout")
        ]
        assert phases == ["Running", "Running"], str(phases)
        rate = float(status["usdPerHour"]) / float(filled["usdPerHour"])
        assert abs(rate - 9 / 7) < 0.01, f"9 GPUs cost {rate:.2f} times what 7 do"

    return check


# -- nodes of one offering that differ


def arch(scene: Scene) -> Check:
    """Labels that the nodes of a GPUPool have and its offering does not name."""
    scene.job("arm", speeds=A100, gpus=4, pods={"nodeSelector": {"kubernetes.io/arch": "arm64"}})
    scene.job("os", speeds=H100, pods={"nodeSelector": {"kubernetes.io/os": "linux"}}, capacityTypes=["on-demand"])
    scene.job("nodepool", speeds=A100, pods={"nodeSelector": {"cloud.google.com/gke-nodepool": "a100-gke"}})
    return both(
        on(scene, "os", "h100-eks-0"),
        on(scene, "nodepool", "a100-gke-0"),
        held(scene, "arm", "NodeSelectorMismatch", "arch=arm64"),
    )


def tainted(scene: Scene) -> Check:
    """One of two like nodes has a taint."""
    scene.cluster.kubectl("taint", "node", "a100-onprem-1", "repair=today:NoSchedule")
    scene.job("tainted", speeds=A100)
    return on(scene, "tainted", "a100-onprem-0")


def pressure(scene: Scene) -> Check:
    """A ready node that is short of memory, and says so."""
    scene.patch_status("a100-onprem-0", conditions=[{"type": "MemoryPressure", "status": "True", "reason": "Short"}])
    taints = ("get", "node", "a100-onprem-0", "-o", "jsonpath={.spec.taints[*].key}")
    eventually(lambda: "memory-pressure" in scene.cluster.kubectl(*taints), what="the taint")
    scene.job("pressed", speeds=A100, workers=2, pods={"nodeSelector": OWN})
    return held(scene, "pressed", "a100-onprem-0", "memory-pressure")


def pluginrestart(scene: Scene) -> Check:
    """A ready node whose device plugin restarts has no GPUs for a while."""
    scene.patch_status("a100-onprem-0", allocatable={"nvidia.com/gpu": "0"})
    scene.job("before", speeds=A100, gpus=7, pods={"nodeSelector": OWN})
    scene.runs("before")
    scene.job("waits", speeds=A100, workers=4, gpus=2, pods={"nodeSelector": OWN})
    eventually(lambda: held(scene, "waits")() or True, timeout=_PATIENCE_S, what="the gang to wait")
    scene.decided()
    held(scene, "waits")()
    scene.patch_status("a100-onprem-0", allocatable={"nvidia.com/gpu": "8"})
    return on(scene, "waits", *["a100-onprem-0"] * 4)


def xid(scene: Scene) -> Check:
    """GPUs of one node fail under a running job; its sibling is whole, and costs what it did."""
    scene.job("small", speeds=A100, gpus=5, pods={"nodeSelector": {_HOST: "a100-onprem-0"}})
    price = scene.runs("small")["usdPerHour"]
    scene.patch_status("a100-onprem-0", allocatable={"nvidia.com/gpu": "3"})
    scene.job("whole", speeds=A100)

    def same_price() -> None:
        now = scene.status("small").get("usdPerHour")
        assert now == price, f"the running job costs {now} instead of {price} USD/h"

    return both(on(scene, "whole", "a100-onprem-1"), on(scene, "small", "a100-onprem-0"), same_price)


def gpumodel(scene: Scene) -> Check:
    """GPUs that the catalogue does not know, at a price of one's own."""
    amounts = {"cpu": "96", "memory": "900Gi", "pods": "110", "nvidia.com/gpu": "4"}
    labels = {
        _HOST: "case-odd",
        _TYPE: "our-own",
        _ZONE: "dc2",
        _PRODUCT: "NVIDIA-B777-NVL",
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.memory": "143771",
        "stint.dev/capacity-type": "owned",
    }
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "case-odd", "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": amounts, "allocatable": amounts},
    }
    price = {"provider": "*", "gpuModel": "B777-NVL", "capacityType": "owned", "usdPerGpuHour": 1.75}
    book = {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "PriceBook",
        "metadata": {"name": "case-odd"},
        "spec": {"prices": [price]},
    }
    scene.add(node, book)
    scene.job("odd", speeds={"B777-NVL": 1.0}, gpus=4)
    runs = on(scene, "odd", "case-odd")

    def priced() -> None:
        assert scene.status("odd").get("usdPerHour") in ("7", "7.00", 7), scene.status("odd").get("usdPerHour")

    return both(runs, priced)


def hami(scene: Scene) -> Check:
    """A node that offers five times the GPUs it has."""
    shared = fleet.a100("case-shared", gpus=40, labels={"nvidia.com/gpu.count": "8", "only": "shared"})
    scene.add(shared)
    scene.job("hami", speeds=A100, workers=3, pods={"nodeSelector": {"only": "shared"}})
    told = ("get", "events", "-n", "default", "-o", "jsonpath={.items[*].reason}")
    of_it = ("--field-selector", "involvedObject.name=case-shared")

    def warned() -> None:
        reasons = scene.cluster.kubectl(*told, *of_it)
        assert "SharedGpus" in reasons, f"events of the node: {reasons or 'none'}"

    return both(held(scene, "hami"), warned)


# -- nodes that fail for a moment, or for good


def _gang_of_own(scene: Scene) -> None:
    scene.job("gang", speeds=A100, workers=4, gpus=4, pods={"nodeSelector": OWN})
    scene.runs("gang")


def blip(scene: Scene) -> Check:
    """A node is not ready for some seconds."""
    _gang_of_own(scene)
    scene.unplayed("a100-onprem-0")
    scene.patch_status("a100-onprem-0", conditions=[{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}])
    return keeps(scene, "gang", "NodeNotReady")


def labelflap(scene: Scene) -> Check:
    """The label that says which GPU it is, is gone for a moment."""
    _gang_of_own(scene)
    scene.cluster.kubectl("label", "node", "a100-onprem-0", f"{_PRODUCT}-", f"{_TYPE}-")
    scene.started = time.monotonic()
    return keeps(scene, "gang", "NodeUnidentified")


def overlap(scene: Scene) -> Check:
    """A second pool selects the nodes of the first, too."""
    scene.job("gang", speeds=H100, capacityTypes=["on-demand"])
    scene.runs("gang")
    again = fleet.Group(pool="again", provider="aws", instance_type="p5.48xlarge", zone="us-east-1a")
    pool = fleet.pool(again)
    pool["spec"] = {"nodeSelector": {_TYPE: "p5.48xlarge"}, "offerings": pool["spec"]["offerings"]}
    scene.add(pool)
    scene.started = time.monotonic()

    def told() -> None:
        conditions = scene.cluster.get("gpupool", "again").get("status", {}).get("conditions", [])
        reasons = {c["type"]: c["reason"] for c in conditions}
        assert reasons.get("Valid") == "ClaimedTwice", reasons

    return both(told, keeps(scene, "gang", "NodeUnidentified"))


def uae(scene: Scene) -> Check:
    """A kubelet rejects the worker that was bound to its node."""
    node, other = "a100-onprem-1", "a100-onprem-0"
    scene.unplayed(node)
    scene.cluster.kubectl("cordon", other)
    scene.job("uae", speeds=A100, retries=1, pods={"nodeSelector": OWN})
    eventually(lambda: scene.hosts("uae") == [node], timeout=_PATIENCE_S, what="the worker to be bound")
    scene.cluster.kubectl("uncordon", other)
    status = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed: 0 devices healthy"}
    pod = scene.pods("uae")[0]["metadata"]["name"]
    scene.kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    scene.started = time.monotonic()

    def check() -> None:
        told = scene.status("uae")
        assert told.get("phase") == "Running", brief(told)
        assert scene.hosts("uae") == [other], f"on {scene.hosts('uae')}"
        assert not told.get("retries"), f"{told['retries']} retries used"
        assert [b["node"] for b in told.get("blamed", [])] == [node], told.get("blamed")

    return check


def consolidation(scene: Scene) -> Check:
    """Pods of a gang ask those who consolidate nodes to leave them alone."""
    scene.job("calm", speeds={"L4": 1.0}, workers=2, gpus=1)
    asked = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}

    def check() -> None:
        assert scene.status("calm").get("phase") == "Running", brief(scene.status("calm"))
        for pod in scene.pods("calm"):
            told = pod["metadata"].get("annotations", {})
            assert asked.items() <= told.items(), sorted(told)

    return check


CASES: tuple[Case, ...] = (
    aff,
    anti,
    arch,
    bigcpu,
    blip,
    consolidation,
    gpumodel,
    hami,
    het,
    labelflap,
    limitrange,
    overhead,
    overlap,
    pluginrestart,
    podlevel,
    pressure,
    pvc,
    rdma,
    spread,
    tainted,
    uae,
    xid,
)
_NODES_OF_OURS = frozenset(("case-odd", "case-shared"))


def one(case: Case, cluster: Cluster, operator: Operator, witness: Witness) -> dict[str, Any]:
    """A row."""
    name = case.__name__
    scene = Scene(cluster, operator, name)
    cluster.kubectl("create", "namespace", scene.namespace)
    eventually(lambda: scene.kubectl("get", "serviceaccount", "default"), what="the namespace's ServiceAccount")
    witness.begin(nodes_of_ours=_NODES_OF_OURS)
    seconds, seen = None, ""
    try:
        check = case(scene)
        eventually(lambda: check() or True, timeout=_PATIENCE_S, what="the right outcome", every=0.1)
        seconds = round(time.monotonic() - scene.started, 1)
        scene.decided()
        check()
    except (NotYetError, AssertionError) as error:
        seen = str(error)[-300:]
    witness.look_away()
    row = {
        "case": name,
        "purchases": len(witness.bought),
        "seconds_to_right": seconds,
        "ended_gangs": len(witness.ended),
        "ok": not (seen or witness.bought or witness.ended),
    }
    if not row["ok"]:
        row["seen"] = seen or f"bought {sorted(witness.bought)}, ended {sorted(witness.ended)}"
    scene.clear()
    return row


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a case; with `--workload`, that one alone. The version of Kubernetes is that of the variable K8S."""
    chosen = [c for c in CASES if options.workload in (None, c.__name__)]
    with stage() as (cluster, operator, witness):
        return [one(case, cluster, operator, witness) for case in chosen]
