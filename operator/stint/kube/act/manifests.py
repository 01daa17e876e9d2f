"""What a gang looks like to Kubernetes: an Indexed Job whose pods wait behind our gate; and how its ranks meet.

The Job is created when its place is decided. Its annotation holds the plan, rank by rank, so that creating it is the
one write that makes a placement durable; letting pods go afterwards only carries it out.
"""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import msgspec

from stint.kube.plan_note import PlanNote, signed_note
from stint.kube.records import GROUP_INFIX, JOB_LABEL
from stint.kube.steered import GATE, INDEX_ANNOTATION, RANK

MASTER_PORT = 29500
GROUP_VERSION = "stint.dev/v1alpha1"
MANAGED_BY = "app.kubernetes.io/managed-by"
SERVICE = "stint-workers"
SERVICE_LABELS = {MANAGED_BY: "stint", "app.kubernetes.io/component": "workers"}
# Other controllers leave pods with these alone: they would end a gang to pack nodes more densely. Stint plans its own
# moves, deletes or suspends by itself, and is not held back by them.
KEEP = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
_NAME_LIMIT = 63


def longest_name(workers: int) -> int:
    """How long a TrainingJob's name may be, so that the pods' host names `<name>-<index>` fit into a label."""
    return _NAME_LIMIT - 1 - len(str(max(workers - 1, 0)))


def service() -> dict[str, Any]:
    """By which the ranks of every gang of a namespace find each other, from before they are ready.

    One for each gang would cost the cluster seven requests a gang, for endpoints that differ in nothing but their
    Service: `<job>-<index>` is unique in its namespace.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "labels": SERVICE_LABELS},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {MANAGED_BY: "stint"},
            "ports": [{"name": "rendezvous", "port": MASTER_PORT}],
        },
    }


def indexed_job(
    name: str,
    uid: str,
    template: dict[str, Any],
    *,
    workers: int,
    gpus_per_worker: int,
    gpu_resource: str,
    plan: PlanNote,
    key: bytes,
    grouped: bool = False,
    keep: bool = True,
) -> dict[str, Any]:
    """The gang. `template` is a PodTemplateSpec; what it says stays, what a gang needs is added.

    Args:
        key: by which the plan is signed.
        grouped: its pods name a PodGroup (see `pod_group`), unless the template names one.
        keep: its pods ask Karpenter and cluster-autoscaler to leave them where they are, unless the template says
            otherwise.
    """
    pods = _pod_template(name, template, workers, gpus_per_worker, gpu_resource, plan.gpu_resource or gpu_resource)
    if keep:
        pods["metadata"]["annotations"] = KEEP | (pods["metadata"].get("annotations") or {})
    if grouped and not has_own_group(template):
        pods["spec"]["schedulingGroup"] = {"podGroupName": group_name(name, plan)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": _labels(name),
            "annotations": signed_note(plan, uid, key),
            "ownerReferences": [_owner(name, uid)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": workers,
            "parallelism": workers,
            # One failed rank fails the gang: the operator starts it again whole, from its last checkpoint.
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": pods,
        },
    }


def has_own_group(template: dict[str, Any]) -> bool:
    """Whether a PodTemplateSpec names a PodGroup that is its author's affair."""
    return bool(template.get("spec", {}).get("schedulingGroup"))


def group_name(name: str, plan: PlanNote) -> str:
    """Another one for each Job, so that a gang of another size never meets the group of the Job before."""
    return name + GROUP_INFIX + hashlib.sha256(plan.since.isoformat().encode()).hexdigest()[:8]


def pod_group(name: str, job: str, uid: str, *, workers: int, priority_class: str) -> dict[str, Any]:
    """By which a scheduler that knows it binds all of a gang or nobody.

    It belongs to the batch Job and goes with it; a Job that is parked and resumed finds it again.

    Args:
        job: the batch Job's name, `uid` is its uid.
        priority_class: of the pods: the scheduler refuses a group whose priority is another than theirs.
    """
    spec: dict[str, Any] = {"schedulingPolicy": {"gang": {"minCount": workers}}}
    if priority_class:
        spec["priorityClassName"] = priority_class
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": uid, "controller": True}
    return {
        "apiVersion": "scheduling.k8s.io/v1beta1",
        "kind": "PodGroup",
        "metadata": {
            "name": name,
            "labels": _labels(job),
            "ownerReferences": [{**owner, "blockOwnerDeletion": False}],
        },
        "spec": spec,
    }


def _labels(name: str) -> dict[str, str]:
    return {JOB_LABEL: name, MANAGED_BY: "stint"}


def _owner(name: str, uid: str) -> dict[str, Any]:
    return {
        "apiVersion": GROUP_VERSION,
        "kind": "TrainingJob",
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _pod_template(
    name: str, given: dict[str, Any], workers: int, gpus_per_worker: int, gpu_resource: str, asked_for: str
) -> dict[str, Any]:
    template = copy.deepcopy(given)
    meta = template.setdefault("metadata", {})
    meta["labels"] = {**meta.get("labels", {}), **_labels(name)}
    spec = template.setdefault("spec", {})
    gates = [g for g in spec.get("schedulingGates", []) if g.get("name") != GATE]
    spec["schedulingGates"] = [*gates, {"name": GATE}]
    spec["restartPolicy"] = "Never"
    spec["subdomain"] = SERVICE
    tolerated = {t.get("key") for t in spec.get("tolerations", [])}
    if gpu_resource not in tolerated:
        own = {"key": gpu_resource, "operator": "Exists", "effect": "NoSchedule"}
        spec["tolerations"] = [*spec.get("tolerations", []), own]
    first = spec["containers"][0]
    asked = first.setdefault("resources", {})
    for kind in ("limits", "requests"):
        others = {k: v for k, v in asked.get(kind, {}).items() if k != gpu_resource}
        asked[kind] = {**others, asked_for: str(gpus_per_worker)}
    for container in spec["containers"]:
        container["env"] = _torchrun(name, workers, gpus_per_worker, container.get("env", []))
    return template


def _torchrun(name: str, workers: int, gpus_per_worker: int, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What torchrun and torch.distributed read. What the user has set himself stays as it is."""
    rank = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX_ANNOTATION}']"}}
    address = f"{name}-0.{SERVICE}"
    values: dict[str, Any] = {
        "MASTER_ADDR": address,
        "MASTER_PORT": str(MASTER_PORT),
        "WORLD_SIZE": str(workers * gpus_per_worker),
        "NODE_RANK": rank,
        "PET_NNODES": str(workers),
        "PET_NPROC_PER_NODE": str(gpus_per_worker),
        "PET_NODE_RANK": rank,
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": str(MASTER_PORT),
    }
    set_already = {e.get("name") for e in given}
    added = [
        {"name": key, "valueFrom": value} if isinstance(value, dict) else {"name": key, "value": value}
        for key, value in values.items()
        if key not in set_already
    ]
    return [*given, *added]


def release_patch(uid: str, node: str, affinity: bytes, *, rank: int | None = None) -> dict[str, Any]:
    """Pin a gated pod to a node and open our gate, in one strategic-merge patch.

    The terms that are there are sent again with our requirement appended to each (the API server allows nothing
    else on a gated pod); other controllers' gates stay. The uid makes sure that it is still the same pod.

    Args:
        rank: noted on a pod that nobody else has given one.
    """
    pin = {"key": "metadata.name", "operator": "In", "values": [node]}
    known = msgspec.json.decode(affinity) or {}
    required = (known.get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or [{}]
    pinned = [{**term, "matchFields": [*term.get("matchFields", []), pin]} for term in terms]
    return {
        "metadata": {"uid": uid} | ({} if rank is None else {"annotations": {RANK: str(rank)}}),
        "spec": {
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": pinned}}
            },
            "schedulingGates": [{"$patch": "delete", "name": GATE}],
        },
    }


def let_go_patch(uid: str) -> dict[str, Any]:
    """Open our gate and do no more: whoever asked for that has the pod scheduled anywhere, as if we were not there."""
    return {"metadata": {"uid": uid}, "spec": {"schedulingGates": [{"$patch": "delete", "name": GATE}]}}
