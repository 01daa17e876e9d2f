"""What a tenant with the rights of `edit` in one namespace may try against the others, an attack a function.

Each attack does its worst and returns what must hold of the tenant's own objects afterwards. Whether others are hurt is
looked at by whoever runs it: `tests/e2e/test_hostile.py` and `hack/bench.py hostile`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hack.cluster import Cluster, eventually

Body = dict[str, Any]
Check = Callable[[], object]  # raises AssertionError until all is as it should be
GATE = "stint.dev/placement"
MANAGED = {"stint.dev/managed": "true"}
GROUP = {"stint.dev/group": "g"}
IMAGE = "registry.example.com/train:1"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody with the role `edit` in one namespace, and no other rights."""

    cluster: Cluster
    namespace: str

    @classmethod
    def settle(cls, cluster: Cluster, namespace: str, **labels: str) -> Tenant:
        """In a namespace of his own, which an administrator makes; `labels` of it."""
        meta = {"name": namespace, "labels": {k.replace("__", "/"): v for k, v in labels.items()}}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
        who = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"tenant-{namespace}"}
        cluster.apply(
            [
                {"apiVersion": "v1", "kind": "Namespace", "metadata": meta},
                {
                    "apiVersion": "rbac.authorization.k8s.io/v1",
                    "kind": "RoleBinding",
                    "metadata": {"name": "tenant", "namespace": namespace},
                    "roleRef": role,
                    "subjects": [who],
                },
            ]
        )
        tenant = cls(cluster, namespace)
        eventually(
            lambda: cluster.kubectl("-n", namespace, "get", "serviceaccount", "default"), what="its ServiceAccount"
        )
        eventually(lambda: tenant.may("patch", "jobs"), what="the role edit to be granted")
        return tenant

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """By his own rights."""
        who = f"--as=tenant-{self.namespace}"
        return self.cluster.kubectl(
            who, "--as-group=system:authenticated", "-n", self.namespace, *arguments, stdin=stdin
        )

    def may(self, verb: str, what: str) -> bool:
        """Whether the API server lets him."""
        try:
            return self.kubectl("auth", "can-i", verb, what).strip() == "yes"
        except RuntimeError:
            return False

    def apply(self, *objects: Body) -> None:
        """By his own rights."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("create", "-f", "-", stdin=json.dumps(listed))

    def get(self, *arguments: str) -> Any:
        """An object or a list of his."""
        return self.cluster.get("-n", self.namespace, *arguments)

    def events(self, kind: str, name: str) -> Mapping[str, str]:
        """Of one of his objects: reason to note."""
        listed = self.get("events.events.k8s.io")["items"]
        about = [e for e in listed if (e["regarding"]["kind"], e["regarding"]["name"]) == (kind, name)]
        return {e["reason"]: e["note"] for e in about}

    def told(self, kind: str, name: str, reason: str, text: str) -> Check:
        """That an event about one of his objects says so."""

        def check() -> None:
            found = self.events(kind, name).get(reason, "")
            assert text in found, found or f"no event {reason} of {kind} {name}"

        return check

    def status(self, name: str) -> Body:
        """Of a TrainingJob of his."""
        found: Body = self.get("tj", name).get("status", {})
        return found


@dataclass(frozen=True, slots=True)
class Target:
    """What the others have: a node for their next job, and where an attack needs it a cheaper one beside it."""

    node: str
    labels: Mapping[str, str]  # of them
    cheaper: str = ""


Attack = Callable[[Tenant, Target], Check]


def gated_pod(name: str, target: Target, *, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Body:
    """One that brings Stint's gate and label itself."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {**MANAGED, **labels}, "annotations": dict(annotations)},
        "spec": {
            "schedulingGates": [{"name": GATE}],
            "nodeSelector": dict(target.labels),
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": IMAGE, "resources": {"limits": {"nvidia.com/gpu": "8"}}}],
        },
    }


def training_job(name: str, target: Target, *, workers: int = 2, gpus: int = 4, **spec: Any) -> Body:
    """One that wants the target's node."""
    container = {"name": "train", "image": IMAGE}
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "workers": workers,
            "gpu": {"perWorker": gpus},
            "work": {"units": 3600, "unitsPerSecond": {"A100-80GB": 1.0}},
            "template": {"spec": {"nodeSelector": dict(target.labels), "containers": [container]}},
            **spec,
        },
    }


# -- what is written on pods


SAID = {
    "a number as a key": ("work: {unitsPerSecond: {4090: 2}}", "key 4090 is a number; write it in quotes"),
    "an alias to itself": ("work: &a [*a]", "anchor &a is not read"),
    "a tag": ('work: !!bool "x"', "is not read; leave it out"),
    "an empty number": ('work: !!int ""', "is not read; leave it out"),
    "an alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "\n".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise("abcdefg")),
        "anchor &a is not read",
    ),
    "deep nesting": ("work: " + "[" * 16_000, "nested more than 16 levels deep"),
    "a huge number": ("work: {units: " + "9" * 400 + "}", "more than 64 bits"),
    "too long": ("x" * 20_000, "it may have 16384"),
}


def _saying(text: str) -> dict[str, str]:
    return {"stint.dev/spec": text, "stint.dev/group-size": "1"}


def pod_says(text: str) -> Attack:
    """A pod with that annotation, in a namespace that never opted in."""

    def attack(tenant: Tenant, target: Target) -> Check:
        labels = {"stint.dev/group": "g"}
        tenant.apply(
            gated_pod("odd", target, labels=labels, annotations={"stint.dev/spec": text, "stint.dev/group-size": "1"})
        )
        return tenant.told("Pod", "odd", "NotSteered", "is not labelled stint.dev/managed=true")

    return attack


def opted_in_pod_says(text: str, answer: str) -> Attack:
    """The same, where an administrator has labelled the namespace."""

    def attack(tenant: Tenant, target: Target) -> Check:
        tenant.cluster.kubectl("label", "namespace", tenant.namespace, "stint.dev/managed=true")
        labels = {"stint.dev/group": "g"}
        tenant.apply(
            gated_pod("odd", target, labels=labels, annotations={"stint.dev/spec": text, "stint.dev/group-size": "1"})
        )
        return tenant.told("Pod", "odd", "NotSteered", answer)

    return attack


def endless_grace(tenant: Tenant, target: Target) -> Check:
    """A pod whose grace period is longer than there are dates, on its way out."""
    pod = gated_pod("slow", target, labels=GROUP, annotations={})
    pod["spec"]["terminationGracePeriodSeconds"] = 2**62
    pod["metadata"]["finalizers"] = ["example.com/stay"]
    tenant.apply(pod)
    tenant.kubectl("delete", "pod", "slow", "--wait=false")
    return lambda: None


# -- Jobs and plans in Stint's name


NOWHERE = Target("", {"test": "nowhere"})  # for a job that gets no place by right


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _plan(*nodes: str, gpus: int = 8, since: str = "9999-12-31T23:59:59Z") -> str:
    asked = {"gpus": gpus, "cpu": gpus, "memory_gib": gpus, "pods": 1}
    note = {
        "offering": "p4de.24xlarge-us-east-1a-on-demand/p4de.24xlarge/us-east-1a/on-demand",
        "gpuModel": "A100-80GB",
        "nodes": list(nodes),
        "since": since,
        "finish": since,
        "usdPerHour": 1.0,
        "perWorker": asked,
    }
    return json.dumps(note)


def _job(name: str, plan: str, **meta: Any) -> Body:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": IMAGE}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": {"stint.dev/trainingjob": name},
            "annotations": {"stint.dev/plan": plan, "stint.dev/plan-signature": "0" * 64},
            **meta,
        },
        "spec": {"parallelism": 0, "completions": 1, "completionMode": "Indexed", "template": template},
    }


def plan_of(gpus: int, since: str, *, owned: bool) -> Attack:
    """A Job that carries a plan for the target's node, beside a TrainingJob of that name, or as if that had made it."""

    def attack(tenant: Tenant, target: Target) -> Check:
        tenant.apply(training_job("mine", NOWHERE))
        uid = tenant.get("tj", "mine")["metadata"]["uid"]
        own = {
            "apiVersion": "stint.dev/v1alpha1",
            "kind": "TrainingJob",
            "name": "mine",
            "uid": uid,
            "controller": True,
        }
        owners = {"ownerReferences": [own]} if owned else {}
        tenant.apply(_job("mine", _plan(target.node, gpus=gpus, since=since or _now()), **owners))

        def check() -> None:
            phase = tenant.status("mine").get("phase")
            assert phase == "Queued", phase

        return check

    return attack


def workers(tenant: Tenant, target: Target) -> Check:
    """Pods that look like workers of his TrainingJob, on a node that they fill."""
    tenant.apply(training_job("mine", NOWHERE))
    uid = tenant.get("tj", "mine")["metadata"]["uid"]
    who = {"apiVersion": "stint.dev/v1alpha1", "kind": "TrainingJob", "name": "mine", "uid": uid, "controller": True}
    tenant.apply(_job("mine", _plan(target.cheaper, gpus=0, since=_now()), ownerReferences=[who]))
    for i in range(2):
        pod = gated_pod(
            f"mine-{i}", target, labels={}, annotations={"batch.kubernetes.io/job-completion-index": str(i)}
        )
        pod["metadata"]["labels"] = {"stint.dev/trainingjob": "mine", "batch.kubernetes.io/job-name": "mine"}
        pod["spec"] |= {"schedulingGates": [], "nodeName": target.cheaper}
        pod["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "4"}}
        tenant.apply(pod)

    def check() -> bool:
        running = [p["status"].get("phase") for p in tenant.get("pods")["items"]]
        assert running == ["Running", "Running"], running
        return True

    eventually(check, what="the pods to run")
    return check


def large_specs(tenant: Tenant, target: Target) -> Check:
    """Suspended TrainingJobs with half a megabyte each."""
    for i in range(20):
        job = training_job(f"large-{i}", target, suspend=True)
        template = job["spec"].pop("template")
        template["metadata"] = {"annotations": {f"a{k}": "x" * 50_000 for k in range(10)}}
        job["spec"]["podTemplate"] = template
        tenant.apply(job)
    return tenant.told("TrainingJob", "large-19", "CannotBeRead", "put large data into a ConfigMap")


def priority_and_worth(tenant: Tenant, target: Target) -> Check:
    """A job that is worth everything, with a deadline that it misses unless the node is emptied for it."""
    objective = {"performance": 1000, "cost": 1000, "usdPerHour": 1e6, "latenessUsdPerHour": 1e6}
    job = training_job("dear", target, priority=1000, within="70m", objective=objective)
    job["spec"]["checkpoint"] = {"everyMinutes": 1}
    tenant.apply(job)

    def check() -> None:
        found = tenant.status("dear")
        limits = [c for c in found.get("conditions", []) if c["type"] == "WithinLimits"]
        assert [c["status"] for c in limits] == ["False"], found.get("message")
        assert "spec.priority 1000 counts as 100" in limits[0]["message"]

    return check


# Those that are aimed at a job of others that runs already.
ON_RUNNING: Mapping[str, Attack] = {"a job that is worth everything": priority_and_worth}
NEED_A_CHEAPER_NODE = frozenset({"pods that look like workers"})
ATTACKS: Mapping[str, Attack] = {
    "pod outside: a number as a key": pod_says(SAID["a number as a key"][0]),
    **{f"pod: {name}": opted_in_pod_says(*said) for name, said in SAID.items()},
    "pod: an endless grace period": endless_grace,
    "a plan without an owner, in 9999": plan_of(8, "9999-12-31T23:59:59Z", owned=False),
    "a plan in our name, in 9999": plan_of(8, "9999-12-31T23:59:59Z", owned=True),
    "a plan in our name, in 1": plan_of(8, "0001-01-01T00:00:00+14:00", owned=True),
    "a plan in our name, today": plan_of(8, "", owned=True),
    "a plan in our name, of -8 GPUs": plan_of(-8, "", owned=True),
    "pods that look like workers": workers,
    "large specs": large_specs,
}
