"""With PodGroups on, the scheduler binds all of a gang or nobody. `make e2e K8S=1.37.2 POD_GROUPS=1` runs these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from hack.cluster import eventually
from tests.e2e.test_faults import held_back, open_gates, pinned, runs_on

pytestmark = pytest.mark.e2e


def groups(world) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(world.kubectl("get", "podgroups", "-o", "json"))["items"]
    return found


def the_group(world) -> dict[str, Any]:
    (found,) = groups(world)
    return found


def size(group: Mapping[str, Any]) -> int:
    count: int = group["spec"]["schedulingPolicy"]["gang"]["minCount"]
    return count


def bound(world) -> set[str]:
    """Every pod of this namespace that a scheduler has ever bound, by the audit log."""
    log = world.cluster.provider.audit_log.read_text().splitlines()
    refs = [json.loads(line).get("objectRef", {}) for line in log]
    return {r["name"] for r in refs if r.get("subresource") == "binding" and r["namespace"] == world.name}


def plan_of(world) -> list[str]:
    job = json.loads(world.kubectl("get", "job", "job", "-o", "json"))
    nodes: list[str] = json.loads(job["metadata"]["annotations"]["stint.dev/plan"])["nodes"]
    return nodes


def test_a_thief_between_plan_and_bind_binds_nobody_and_the_gang_goes_elsewhere_whole(world):
    """Without a PodGroup three of these four would be bound, and wait for the fourth until they are taken back."""
    nodes = {world.node(name, gpus=4) for name in "abc"}
    world.apply(held_back(world, workers=4, gpus=2, placementTimeoutSeconds=6))
    first = {p["metadata"]["name"] for p in pinned(world, 4)}
    robbed, spared = sorted(set(plan_of(world)))
    (spare,) = nodes - {robbed, spared}
    thief = {
        "nodeSelector": {"kubernetes.io/hostname": robbed},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
    }
    world.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "thief", "namespace": world.name}, "spec": thief}
    )
    eventually(lambda: bound(world) == {"thief"}, what="the theft")
    open_gates(world)
    back = world.until("Queued", reason="DidNotStart", timeout=40)
    assert bound(world) == {"thief"}, "some of the gang were bound and the others were not"
    assert back["rollbacks"] == 1
    assert back["avoid"] == [robbed], "nodes are blamed on which nothing was wrong"
    runs_on(world, {spared, spare}, step=lambda: open_gates(world))
    after = {p["metadata"]["name"] for p in world.pods()}
    assert bound(world) == {"thief"} | after
    assert not first & after


def test_a_gang_has_one_group_of_its_size_which_goes_with_it(world):
    world.node("a")
    world.apply(world.job(workers=4, gpus=2))
    world.until("Running")
    group = the_group(world)
    assert size(group) == 4
    assert [(o["kind"], o["name"]) for o in group["metadata"]["ownerReferences"]] == [("Job", "job")]
    named = {p["spec"]["schedulingGroup"]["podGroupName"] for p in world.pods()}
    assert named == {group["metadata"]["name"]}
    world.kubectl("delete", "tj", "job")
    eventually(lambda: groups(world) == [], what="the group to go")


def test_a_gang_that_is_suspended_and_resumed_has_its_group_still_or_again(world):
    world.node("a")
    world.apply(world.job(workers=2, gpus=2))
    world.until("Running")
    before = the_group(world)["metadata"]
    for deleted in (False, True):
        world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":true}}')
        world.until("Suspended")
        if deleted:
            world.kubectl("delete", "podgroup", before["name"])
        world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":false}}')
        world.until("Running")
        after = the_group(world)["metadata"]
        assert after["name"] == before["name"]
        assert (after["uid"] != before["uid"]) is deleted


def test_a_gang_of_another_size_has_a_group_of_that_size(world):
    first, second = world.node("a", gpus=4), world.node("b", gpus=4)
    hurry = {"usdPerHour": 1000}
    world.apply(world.job(workers=4, gpus=2, elastic={"min": 2, "max": 4}, objective=hurry))
    assert runs_on(world, {first, second})["workers"] == 4
    before = the_group(world)
    world.cluster.kubectl("delete", "node", first, "--wait=false")
    assert runs_on(world, {second})["workers"] == 2
    eventually(lambda: [size(g) for g in groups(world)] == [2], what="the larger group to go")
    assert (size(before), before["metadata"]["name"] != the_group(world)["metadata"]["name"]) == (4, True)


def test_a_gang_of_a_priority_class_is_scheduled(world):
    """The scheduler refuses a group whose priority is not that of its pods."""
    world.node("a")
    urgent = {"metadata": {"name": f"{world.name}-urgent"}, "value": 1000}
    world.cluster.apply([{"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", **urgent}])
    job = world.job(workers=2, gpus=2)
    job["spec"]["podTemplate"] = job["spec"].pop("template")
    job["spec"]["podTemplate"]["spec"]["priorityClassName"] = f"{world.name}-urgent"
    world.apply(job)
    world.until("Running")
    assert the_group(world)["spec"]["priorityClassName"] == f"{world.name}-urgent"
    world.cluster.kubectl("delete", "priorityclass", f"{world.name}-urgent")


def test_a_gang_whose_template_names_a_group_gets_none_from_us(world):
    world.node("a")
    theirs = {"schedulingPolicy": {"gang": {"minCount": 2}}}
    meta = {"name": "theirs", "namespace": world.name}
    world.apply({"apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "metadata": meta, "spec": theirs})
    job = world.job(workers=2, gpus=2)
    job["spec"]["podTemplate"] = job["spec"].pop("template")
    job["spec"]["podTemplate"]["spec"]["schedulingGroup"] = {"podGroupName": "theirs"}
    world.apply(job)
    world.until("Running")
    assert [g["metadata"]["name"] for g in groups(world)] == ["theirs"]
