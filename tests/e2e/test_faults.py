"""What people, nodes and other controllers do to a gang: it is taken back whole and placed elsewhere, or left whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack.cluster import eventually

pytestmark = pytest.mark.e2e

OTHERS_GATE = "example.com/wait"


def held_back(world, **spec: Any) -> dict[str, Any]:
    """A job whose pods wait for another controller's gate once Stint has let them go: between plan and bind."""
    job = world.job(**spec)
    job["spec"]["podTemplate"] = job["spec"].pop("template")
    job["spec"]["podTemplate"]["spec"]["schedulingGates"] = [{"name": OTHERS_GATE}]
    return job


def pinned(world, count: int = 2, name: str = "job") -> list[dict[str, Any]]:
    """Its pods, once Stint has released them all."""

    def released() -> list[dict[str, Any]]:
        pods = world.pods(name)
        gates = [[g["name"] for g in p["spec"].get("schedulingGates", [])] for p in pods]
        return pods if gates == [[OTHERS_GATE]] * count else []

    return eventually(released, what="the gang to be released by Stint")


def open_gates(world, name: str = "job") -> None:
    for pod in world.pods(name):
        if pod["spec"].get("schedulingGates"):
            patch = {"spec": {"schedulingGates": [{"$patch": "delete", "name": OTHERS_GATE}]}}
            world.kubectl("patch", "pod", pod["metadata"]["name"], "-p", json.dumps(patch))


def runs_on(world, nodes: set[str], *, name: str = "job", timeout: float = 40, step=lambda: None) -> dict[str, Any]:
    def there() -> dict[str, Any]:
        step()
        status = world.status(name)
        return status if status.get("phase") == "Running" and set(status["nodes"]) == nodes else {}

    return eventually(there, timeout=timeout, what=f"{name} to run on {nodes}; it is {world.status(name)}")


def node_is_deleted(world, node: str) -> None:
    world.cluster.kubectl("delete", "node", node, "--wait=false")


def node_is_not_ready(world, node: str) -> None:
    """As its kubelet would say. KWOK, which would say otherwise at once, has to let go of it first."""
    world.cluster.kubectl("annotate", "node", node, "kwok.x-k8s.io/node-")
    condition = {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "for a test"}
    patch = json.dumps({"status": {"conditions": [condition]}})
    world.cluster.kubectl("patch", "node", node, "--subresource=status", "--type=strategic", "-p", patch)


def node_is_cordoned(world, node: str) -> None:
    world.cluster.kubectl("cordon", node)


NODE_FAULTS = [node_is_deleted, node_is_not_ready, node_is_cordoned]


@pytest.mark.parametrize("fault", NODE_FAULTS)
def test_a_node_that_goes_before_the_release_is_replaced_and_nobody_is_let_go_onto_it(world, fault):
    """A quota keeps half of the pods from being created, so that the gang is placed and not yet released."""
    node = world.node("a", gpus=4)
    quota = {"requests.nvidia.com/gpu": "2"}
    meta = {"name": "few", "namespace": world.name}
    world.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": quota}})
    eventually(lambda: "hard" in json.loads(world.kubectl("get", "quota", "few", "-o", "json"))["status"], what="quota")
    world.apply(world.job(workers=2, gpus=2))
    eventually(lambda: len(world.pods()) == 1, what="half of the gang's pods")
    assert world.pods()[0]["spec"]["schedulingGates"]
    spare = world.node("b", gpus=4)
    fault(world, node)
    eventually(lambda: set(world.status().get("nodes", {})) == {spare}, what="another place")
    world.kubectl("delete", "quota", "few")
    runs_on(world, {spare})


@pytest.mark.parametrize("fault", NODE_FAULTS)
def test_a_node_that_goes_between_release_and_bind_is_replaced(world, fault):
    node = world.node("a", gpus=4)
    world.apply(held_back(world, workers=2, gpus=2))
    pinned(world)
    spare = world.node("b", gpus=4)
    fault(world, node)
    runs_on(world, {spare}, step=lambda: open_gates(world))
    assert world.event("NodeLost")


@pytest.mark.parametrize("fault", [node_is_deleted, node_is_not_ready])
def test_half_a_gangs_nodes_going_takes_all_of_it_elsewhere(world, fault):
    first, second = world.node("a", gpus=4), world.node("b", gpus=4)
    world.apply(world.job(workers=4, gpus=2, nodeGraceSeconds=1))
    runs_on(world, {first, second})
    before = {p["metadata"]["uid"] for p in world.pods()}
    spare = world.node("c", gpus=4)
    fault(world, first)
    runs_on(world, {second, spare})
    after = {p["metadata"]["uid"] for p in world.pods()}
    assert len(after) == 4
    assert not before & after, "a worker of the old gang runs among the new ones"
    assert world.status().get("retries", 0) == 0


def test_a_cordon_after_the_bind_leaves_a_running_gang_alone(world):
    node = world.node("a", gpus=4)
    world.apply(world.job("first", workers=2, gpus=1), world.job("second", workers=2, gpus=1))
    runs_on(world, {node}, name="first")
    runs_on(world, {node}, name="second")
    before = [p["metadata"]["uid"] for p in world.pods("first")]
    node_is_cordoned(world, node)
    world.kubectl("delete", "tj", "second")
    world.apply(world.job("third", workers=2, gpus=1))
    world.until("Queued", "third", reason="NotEnoughGpus")  # so a whole cycle has seen the cordon
    assert [p["metadata"]["uid"] for p in world.pods("first")] == before


def test_an_elastic_gang_that_loses_a_node_goes_on_smaller(world):
    first, second = world.node("a", gpus=4), world.node("b", gpus=4)
    hurry = {"usdPerHour": 1000}  # so that it is worth its while to be as wide as it can
    world.apply(world.job(workers=4, gpus=2, elastic={"min": 2, "max": 4}, objective=hurry))
    assert runs_on(world, {first, second})["workers"] == 4
    node_is_deleted(world, first)
    assert runs_on(world, {second})["workers"] == 2


def test_a_rigid_gang_that_loses_a_node_waits_whole_and_says_what_it_needs(world):
    first, second = world.node("a", gpus=4), world.node("b", gpus=4)
    world.apply(world.job(workers=4, gpus=2))
    runs_on(world, {first, second})
    node_is_deleted(world, first)
    world.until("Queued")
    eventually(lambda: world.pods() == [], what="every worker to go")
    held = eventually(
        lambda: m if "4 free" in (m := world.status()["message"]) else "", what="to be told what it needs"
    )
    assert "needs 8 A100-80GB" in held


def test_a_thief_between_plan_and_bind_costs_the_gang_its_place_and_the_node_its_trust(world):
    """A pod that asks nobody takes a slot. Its worker would wait for ever, and so would the others, for it."""
    node, spare = world.node("a", gpus=4), world.node("b", gpus=4)
    world.apply(held_back(world, workers=2, gpus=2, placementTimeoutSeconds=5))
    (planned,) = {p["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"][0]["matchFields"][0]["values"][0] for p in pinned(world)}  # fmt: skip
    other = ({node, spare} - {planned}).pop()
    thief = {
        "nodeSelector": {"kubernetes.io/hostname": planned},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
    }
    world.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "thief", "namespace": world.name}, "spec": thief}
    )
    eventually(
        lambda: json.loads(world.kubectl("get", "pod", "thief", "-o", "json"))["spec"].get("nodeName") == planned,
        what="the theft",
    )
    open_gates(world)
    back = world.until("Queued", reason="DidNotStart", timeout=40)
    assert f"none started on {planned}" in back["message"]
    assert back["avoid"] == [planned]
    assert back["rollbacks"] == 1
    world.kubectl("delete", "pod", "thief", "--grace-period=0", "--force")  # and still its node is not trusted
    runs_on(world, {other}, step=lambda: open_gates(world))


class TestPeople:
    def test_deleting_the_batch_job_starts_the_gang_again_and_keeps_the_work_done(self, world):
        world.node("a")
        world.apply(world.job())
        before = world.until("Running")
        world.kubectl("delete", "job", "job", "--wait=false")
        eventually(lambda: "Disrupted" in world.events(), what="to be told")
        eventually(
            lambda: (
                (s := world.status())["phase"] == "Running"
                and s["progress"]["runningSince"] != before["progress"]["runningSince"]
            ),
            what="the gang to run again",
        )
        assert world.status().get("retries", 0) == 0

    def test_suspending_the_batch_job_behind_our_back_starts_the_gang_again(self, world):
        world.node("a")
        world.apply(world.job())
        world.until("Running")
        uids = {p["metadata"]["uid"] for p in world.pods()}
        world.kubectl("patch", "job", "job", "--type=merge", "-p", '{"spec":{"suspend":true}}')

        def again() -> bool:
            there = {p["metadata"]["uid"] for p in world.pods()}
            return len(there) == 2 and uids.isdisjoint(there) and world.status()["phase"] == "Running"

        eventually(again, what="the gang to run again")
        assert "deleted or suspended by something else" in world.event("Disrupted")

    def test_a_deleted_service_is_created_again(self, world):
        world.node("a")
        world.apply(world.job())
        world.until("Running")
        uid = world.kubectl("get", "service", "stint-workers", "-o", "jsonpath={.metadata.uid}")
        world.kubectl("delete", "service", "stint-workers")
        eventually(
            lambda: world.kubectl("get", "service", "stint-workers", "-o", "jsonpath={.metadata.uid}") not in ("", uid),
            what="another Service",
        )
        assert world.status()["phase"] == "Running"

    def test_three_hundred_jobs_deleted_at_once_leave_nothing(self, world):
        nodes = [world.node(str(i)) for i in range(8)]
        assert nodes
        world.apply(*(world.job(f"job-{i}", workers=1, gpus=1) for i in range(300)))
        eventually(lambda: len(running(world)) == 64, timeout=60, what="64 jobs to run on 64 GPUs")
        world.kubectl("delete", "tj", "--all", "--wait=false")
        for kind in ("tj", "pods", "jobs"):
            eventually(
                lambda kind=kind: not json.loads(world.kubectl("get", kind, "-o", "json"))["items"],
                timeout=60,
                what=f"all {kind} to go",
            )
        world.apply(world.job("after", workers=8, gpus=8))
        assert len(world.until("Running", "after")["nodes"]) == 8

    def test_an_edit_of_a_running_job_waits_for_its_next_start_and_says_so(self, world):
        world.node("a")
        world.apply(world.job(workers=2, gpus=2))
        world.until("Running")
        edited = world.job(workers=3, gpus=2)
        edited["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.com/train:2"
        world.apply(edited)
        condition = eventually(lambda: c if (c := up_to_date(world))["status"] == "False" else {}, what="a condition")
        assert condition["reason"] == "SpecChanged"
        assert "spec.template or spec.gpu and spec.workers changed" in condition["message"]
        assert len(world.pods()) == 2
        world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":true}}')
        world.until("Suspended")
        world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":false}}')
        world.until("Running")
        assert [p["spec"]["containers"][0]["image"] for p in world.pods()] == ["registry.example.com/train:2"] * 3
        assert up_to_date(world)["status"] == "True"

    def test_a_new_image_alone_is_taken_up_after_a_suspension(self, world):
        """The parked Job has as many workers as before, and still is not resumed with its old image."""
        world.node("a")
        world.apply(world.job(workers=2, gpus=2))
        world.until("Running")
        world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":true}}')
        world.until("Suspended")
        edited = world.job(workers=2, gpus=2)
        edited["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.com/train:2"
        world.apply(edited)
        world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":false}}')
        world.until("Running")
        assert [p["spec"]["containers"][0]["image"] for p in world.pods()] == ["registry.example.com/train:2"] * 2

    @pytest.mark.parametrize("phase", ["Queued", "Provisioning", "Starting", "Running"])
    def test_a_job_can_be_suspended_in_every_phase(self, world, phase):
        annotations = {"sim.stint.dev/start-after": "10m"} if phase == "Starting" else {}
        if phase in ("Starting", "Running"):
            world.node("a")
        elif phase == "Provisioning":
            world.pool("slow", most=2, coldStartSeconds=600)
        world.apply(world.job(annotations=annotations))
        world.until(phase)
        world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":true}}')
        world.until("Suspended")
        eventually(lambda: world.pods() == [], timeout=90, what="its pods to go")

    def test_a_job_that_has_ended_stays_ended_when_it_is_suspended(self, world):
        world.node("a")
        world.apply(world.job(annotations={"sim.stint.dev/run-for": "200ms"}))
        done = world.until("Succeeded")
        world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec":{"suspend":true}}')
        world.apply(world.job("other", workers=1))
        world.until("Running", "other")  # so the suspension has been looked at, too
        assert world.status() == done


def running(world) -> list[str]:
    listed = json.loads(world.kubectl("get", "tj", "-o", "json"))["items"]
    return [t["metadata"]["name"] for t in listed if t.get("status", {}).get("phase") == "Running"]


def up_to_date(world) -> dict[str, str]:
    found: dict[str, str] = {c["type"]: c for c in world.status()["conditions"]}.get("UpToDate", {"status": ""})
    return found


class TestOthersInTheWay:
    def test_a_limit_range_that_refuses_the_pods_is_pointed_at(self, world):
        world.node("a")
        limit = {"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}}
        meta = {"name": "small", "namespace": world.name}
        world.apply({"apiVersion": "v1", "kind": "LimitRange", "metadata": meta, "spec": {"limits": [limit]}})
        job = world.job(placementTimeoutSeconds=5)
        job["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "8"}}
        world.apply(job)
        back = world.until("Queued", reason="DidNotStart")
        assert "2 of its pods were never created, `kubectl describe job job` says why" in back["message"]
        assert "avoid" not in back or back["avoid"] == []

    def test_a_webhook_that_does_not_answer_holds_up_only_its_own_namespace(self, world):
        world.node("a")
        there = {"name": f"{world.name}-broken", "labels": {"broken": world.name}}
        world.cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": there}])
        webhook = {
            "name": "nobody.example.com",
            "clientConfig": {"url": "https://127.0.0.1:9/refuse"},
            "rules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}],
            "namespaceSelector": {"matchLabels": {"broken": world.name}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 1,
        }
        meta = {"name": world.name}
        kind = "ValidatingWebhookConfiguration"
        world.cluster.apply(
            [{"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": meta, "webhooks": [webhook]}]
        )
        try:
            stuck = world.job("stuck", workers=1)
            stuck["metadata"]["namespace"] = there["name"]
            world.cluster.apply([stuck])

            def told() -> str:
                found = world.cluster.get("tj", "stuck", "-n", there["name"]).get("status", {})
                return found.get("message", "") if found.get("reason") == "Refused" else ""

            assert "nobody.example.com" in eventually(told, what="the refusal to be told")
            world.apply(world.job(workers=1))
            world.until("Running")
        finally:
            world.cluster.kubectl("delete", kind.lower(), world.name)
            world.cluster.kubectl("delete", "namespace", there["name"], "--wait=false")

    @staticmethod
    def await_policy(world) -> None:
        """Policies take effect a moment after they were made."""
        meta = {
            "name": "probe",
            "namespace": world.name,
            "annotations": {"batch.kubernetes.io/job-completion-index": "1"},
        }
        spec = {"schedulingGates": [{"name": OTHERS_GATE}], "containers": [{"name": "c", "image": "x"}]}
        world.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        patch = json.dumps({"spec": {"schedulingGates": None}})

        def refused() -> bool:
            try:
                world.kubectl("patch", "pod", "probe", "--dry-run=server", "--type=merge", "-p", patch)
            except RuntimeError as error:
                return "stays where it is" in str(error)
            return False

        eventually(refused, what="the policy to take effect")

    def test_a_policy_that_forbids_the_release_brings_the_gang_back_whole(self, world):
        """One worker may be let go and the other may not."""
        world.node("a")
        policy = {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.name}},
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
                ],
            },
            "validations": [
                {
                    "expression": "object.metadata.annotations['batch.kubernetes.io/job-completion-index'] != '1' "
                    "|| has(object.spec.schedulingGates) || !has(oldObject.spec.schedulingGates)",
                    "message": "worker 1 stays where it is",
                }
            ],
        }
        admission = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": world.name}}
        binding = {"policyName": world.name, "validationActions": ["Deny"]}
        world.cluster.apply(
            [
                {**admission, "kind": "ValidatingAdmissionPolicy", "spec": policy},
                {**admission, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
            ]
        )
        try:
            self.await_policy(world)
            world.apply(world.job(placementTimeoutSeconds=5))
            back = world.until("Queued", reason="DidNotStart", timeout=40)
            assert back["rollbacks"] == 1
            eventually(lambda: world.pods() == [], what="the worker that was let go to go, too")
        finally:
            world.cluster.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", world.name)
