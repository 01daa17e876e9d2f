"""What users of other systems report, a row a kind: on a real API server, against the real kube-scheduler.

Each row has nodes of its own and one right outcome. In none of them is a running gang ended, or a node bought in vain.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack.cluster import eventually

pytestmark = pytest.mark.e2e


def with_pods(world: Any, name: str, pods: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A TrainingJob whose worker's pod spec has these fields, and the label app=NAME."""
    job = world.job(name, **spec)
    del job["spec"]["template"]
    container = {"name": "train", "image": "registry.example.com/train:1"}
    spec_of_pod = {"nodeSelector": {"test": world.name}, "containers": [container], **(pods or {})}
    job["spec"]["podTemplate"] = {"metadata": {"labels": {"app": name}}, "spec": spec_of_pod}
    return job


def used(status: dict[str, Any]) -> set[str]:
    return set(status["nodes"])


def by(key: str, *values: str, operator: str = "In") -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def away_from(app: str, key: str = "kubernetes.io/hostname") -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def near(app: str, key: str) -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def patch_status(world: Any, node: str, **status: Any) -> None:
    body = json.dumps({"status": status})
    world.cluster.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", body)


def conditions(world: Any, node: str) -> list[dict[str, Any]]:
    return json.loads(world.kubectl("get", "node", node, "-o", "json"))["status"].get("conditions", [])


def ask(**requests: str) -> dict[str, Any]:
    container = {"name": "train", "image": "registry.example.com/train:1", "resources": {"requests": requests}}
    return {"containers": [container]}


def test_a_required_node_affinity_chooses_among_nodes_of_one_offering(world):
    world.node("a", labels={"generation": "3"})
    right = world.node("b", labels={"generation": "5"})
    world.apply(with_pods(world, "aff", {"affinity": by("generation", "4", operator="Gt")}, workers=1))
    assert used(world.until("Running", "aff")) == {right}


def test_a_selector_on_a_label_that_only_the_node_has(world):
    world.node("a", labels={"kubernetes.io/arch": "arm64"})
    right = world.node("b", labels={"kubernetes.io/arch": "amd64", "cloud.google.com/gke-nodepool": "train"})
    selector = {"test": world.name, "kubernetes.io/arch": "amd64", "cloud.google.com/gke-nodepool": "train"}
    world.apply(with_pods(world, "arch", {"nodeSelector": selector}, workers=1))
    assert used(world.until("Running", "arch")) == {right}


def test_workers_that_keep_apart_get_a_host_each_and_are_told_when_there_are_too_few(world):
    nodes = {world.node("a"), world.node("b")}
    world.apply(with_pods(world, "anti", {"affinity": away_from("anti")}, workers=2, gpus=2))
    assert used(world.until("Running", "anti")) == nodes
    world.apply(with_pods(world, "three", {"affinity": away_from("three")}, workers=3, gpus=1))
    assert "podAntiAffinity" in world.until("Queued", "three", reason="BesideOthers")["message"]


def test_pods_of_no_gang_keep_their_node_to_themselves(world):
    shy, right = world.node("a"), world.node("b")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "shy", "namespace": world.name, "labels": {"app": "shy"}},
        "spec": {
            "nodeName": shy,
            "affinity": away_from("train"),
            "containers": [{"name": "x", "image": "registry.example.com/x:1"}],
        },
    }
    world.apply(pod)
    world.apply(with_pods(world, "train", workers=2, gpus=4))
    assert used(world.until("Running", "train")) == {right}


def test_a_gang_goes_beside_the_pods_that_it_asks_for(world):
    zone = "example.com/row"
    world.node("a", labels={zone: "1"})
    cache, right = world.node("b", gpus=4, labels={zone: "2"}), world.node("c", labels={zone: "2"})
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "cache", "namespace": world.name, "labels": {"app": "cache"}},
        "spec": {"nodeName": cache, "containers": [{"name": "x", "image": "registry.example.com/x:1"}]},
    }
    world.apply(pod)
    world.apply(with_pods(world, "near", {"affinity": near("cache", zone)}, workers=1, gpus=8))
    assert used(world.until("Running", "near")) == {right}


def test_workers_are_spread_as_evenly_as_their_constraint_says(world):
    world.node("a"), world.node("b")
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "spread"}},
    }
    world.apply(with_pods(world, "spread", {"topologySpreadConstraints": [spread]}, workers=4, gpus=2))
    ranks = world.until("Running", "spread")["nodes"]
    assert sorted(len(str(r).split(",")) if "-" not in str(r) else 2 for r in ranks.values()) == [2, 2], ranks


def test_two_workers_with_one_host_port_share_no_host(world):
    nodes = {world.node("a"), world.node("b")}
    port = {"containerPort": 29400, "hostPort": 29400}
    container = {"name": "train", "image": "registry.example.com/train:1", "ports": [port]}
    world.apply(with_pods(world, "ports", {"containers": [container]}, workers=2, gpus=2))
    assert used(world.until("Running", "ports")) == nodes


def test_a_bound_volume_draws_its_gang_to_its_zone(world):
    world.node("a")
    right = world.node("b", labels={"topology.kubernetes.io/zone": "us-east-1c"})
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["us-east-1c"]}
    name = f"{world.name}-data"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "claimRef": {"namespace": world.name, "name": "data"},
            "csi": {"driver": "example.com", "volumeHandle": name},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": world.name},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    world.made.append(("pv", name))
    pods = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    world.apply(with_pods(world, "pvc", pods, workers=1))
    assert "PersistentVolumeClaim data" in world.until("Queued", "pvc", reason="Incomplete")["message"]
    world.apply(volume, claim)
    assert used(world.until("Running", "pvc")) == {right}


def test_a_device_that_one_node_has(world):
    pool = world.pool("buys", most=3)
    world.node("a")
    right = world.node("b", parts={"rdma/hca": "2"})
    pods = ask(**{"rdma/hca": "1"})
    pods["containers"][0]["resources"]["limits"] = {"rdma/hca": "1"}
    world.apply(with_pods(world, "rdma", pods, workers=2, gpus=2))
    assert used(world.until("Running", "rdma")) == {right}
    many = ask(**{"rdma/hca": "3"})
    many["containers"][0]["resources"]["limits"] = {"rdma/hca": "3"}
    world.apply(with_pods(world, "more", many, workers=1, gpus=1))
    message = world.until("Queued", "more", reason="WorkerExceedsNode")["message"]
    assert "asks for 3 rdma/hca" in message
    assert ordered(world, pool) == 0


def ordered(world: Any, pool: str) -> int:
    return int(json.loads(world.kubectl("get", "gpupool", pool, "-o", "json"))["status"].get("wantedNodes") or 0)


def test_pod_level_resources_count(world):
    nodes = {world.node("a"), world.node("b")}
    pods = {"resources": {"requests": {"cpu": "60"}, "limits": {"cpu": "60"}}}
    world.apply(with_pods(world, "podlevel", pods, workers=2, gpus=1))
    assert used(world.until("Running", "podlevel")) == nodes


def test_what_a_limit_range_adds_is_reckoned_with(world):
    nodes = {world.node("a"), world.node("b")}
    limits = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "large", "namespace": world.name},
        "spec": {"limits": [{"type": "Container", "default": {"cpu": "50"}, "defaultRequest": {"cpu": "50"}}]},
    }
    world.apply(limits)
    world.apply(with_pods(world, "limited", workers=2, gpus=1))
    status = world.until("Running", "limited")
    assert used(status) == nodes
    assert status.get("rollbacks", 0) == 0, "no pod of it was ever let go onto a node without room"


def test_what_a_policy_of_the_cluster_adds_is_seen_before_a_pod_is_let_go(world):
    world.node("a", labels={"generation": "3"})
    right = world.node("b", labels={"generation": "5"})
    name = f"{world.name}-generation"
    patch = '[JSONPatch{op: "add", path: "/spec/nodeSelector/generation", value: "5"}]'
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    group = "admissionregistration.k8s.io/v1"
    policy = {
        "apiVersion": group,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [pods],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.name}},
            },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
        },
    }
    binding = {
        "apiVersion": group,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name},
    }
    world.made += [("mutatingadmissionpolicy", name), ("mutatingadmissionpolicybinding", name)]
    world.apply(policy, binding)
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": world.name},
        "spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "x", "image": "registry.example.com/x:1"}]},
    }

    def works() -> bool:
        body = json.dumps(probe)
        made = world.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=body)
        return "generation" in json.loads(made)["spec"]["nodeSelector"]

    eventually(works, what="the policy to be in force")
    world.apply(with_pods(world, "changed", workers=1))
    status = world.until("Running", "changed")
    assert used(status) == {right}
    assert status["admitted"]["nodeSelector"]["generation"] == "5"
    assert "generation=5" in world.event("AdmittedOtherwise", "changed")
    assert status.get("rollbacks", 0) == 0, "no pod of it was ever let go onto a node that does not do"


def test_the_overhead_of_a_runtime_class_counts(world):
    nodes = {world.node("a"), world.node("b")}
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": f"{world.name}-vm"},
        "handler": "vm",
        "overhead": {"podFixed": {"cpu": "20"}},
    }
    world.made.append(("runtimeclass", f"{world.name}-vm"))
    world.apply(runtime)
    world.apply(with_pods(world, "vm", {"runtimeClassName": f"{world.name}-vm", **ask(cpu="30")}, workers=2, gpus=1))
    assert used(world.until("Running", "vm")) == nodes
    world.apply(with_pods(world, "huge", {"runtimeClassName": f"{world.name}-vm", **ask(cpu="90")}, workers=1, gpus=1))
    assert "asks for 110 CPU cores" in world.until("Queued", "huge", reason="WorkerExceedsNode")["message"]


def test_a_tainted_node_does_not_shut_its_healthy_siblings(world):
    tainted, right = world.node("a"), world.node("b")
    world.cluster.kubectl("taint", "node", tainted, "maintenance=planned:NoSchedule")
    world.apply(with_pods(world, "first", workers=1, gpus=8))
    assert used(world.until("Running", "first")) == {right}
    world.apply(with_pods(world, "second", workers=2, gpus=8))
    assert f"{tainted} has the taint maintenance=planned:NoSchedule" in world.until("Queued", "second")["message"]


def test_a_node_under_pressure_takes_no_gang(world):
    pressed, right = world.node("a"), world.node("b")
    patch_status(world, pressed, conditions=[*conditions(world, pressed), {"type": "DiskPressure", "status": "True"}])
    eventually(lambda: "disk-pressure" in world.kubectl("get", "node", pressed, "-o", "yaml"), what="the taint")
    world.apply(with_pods(world, "pressed", workers=1, gpus=8))
    assert used(world.until("Running", "pressed")) == {right}
    world.apply(with_pods(world, "both", workers=2, gpus=8))
    assert "disk-pressure" in world.until("Queued", "both")["message"]


def test_a_ready_node_whose_device_plugin_restarts_has_no_gpu_for_now(world):
    node = world.node("a")
    patch_status(world, node, allocatable={"nvidia.com/gpu": "0"})
    world.apply(with_pods(world, "waits", workers=1, gpus=8))
    world.until("Queued", "waits")
    patch_status(world, node, allocatable={"nvidia.com/gpu": "8"})
    assert used(world.until("Running", "waits")) == {node}


def test_gpus_that_fail_on_one_node_change_neither_its_siblings_nor_its_price(world):
    sick, right = world.node("a"), world.node("b")
    world.apply(with_pods(world, "six", {"nodeSelector": {"kubernetes.io/hostname": sick}}, workers=1, gpus=6))
    before = world.until("Running", "six")["usdPerHour"]
    patch_status(world, sick, allocatable={"nvidia.com/gpu": "2"})
    world.apply(with_pods(world, "eight", workers=1, gpus=8))
    assert used(world.until("Running", "eight")) == {right}
    status = world.until("Running", "six")
    assert (used(status), status["usdPerHour"]) == ({sick}, before)


def test_what_daemon_sets_take_of_a_new_node_is_known_before_it_is_bought(world):
    pool = world.pool("small", most=3)
    daemons = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": world.name},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {
                    "nodeSelector": {"test": world.name},
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [
                        {
                            "name": "x",
                            "image": "registry.example.com/x:1",
                            "resources": {"requests": {"cpu": "2"}},
                        }
                    ],
                },
            },
        },
    }
    world.apply(daemons)
    world.apply(with_pods(world, "big", ask(cpu="46"), workers=1, gpus=1))
    message = world.until("Queued", "big", reason="WorkerExceedsNode")["message"]
    assert "CPU cores" in message
    assert ordered(world, pool) == 0
    world.apply(with_pods(world, "fits", ask(cpu="40"), workers=1, gpus=1))
    world.until("Running", "fits")
    assert ordered(world, pool) == 1
    eventually(
        lambda: json.loads(world.kubectl("get", "gpupool", pool, "-o", "json"))["status"].get("newNodes"),
        what="what was seen of the new node",
    )
