"""Workloads of others, and their pods as their controllers make them: those controllers do not run here.

Labels, owners and names are those of JobSet v0.11 (`labelAndAnnotateObject`), training-operator v1.9
(`pkg/apis/kubeflow.org/v1/common_types.go`), Trainer v2.2 (one JobSet of the same name) and KubeRay v1.6
(`controllers/ray/common/pod.go`, `rayjob_controller.go`). Pods are made from the templates as the API server has them,
so that what admission did to them counts.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

SPEC = "work: {units: 3600, unitsPerSecond: {A100-80GB: 1.0, L40S: 0.5}}\ncheckpoint: {everyMinutes: 10}\n"
MANAGED = {"stint.dev/managed": "true"}


def template(world, gpus: int, **annotations: str) -> dict[str, Any]:
    """A pod template of somebody who knows nothing of Stint."""
    container = {"name": "main", "image": "registry.example.com/train:1"}
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": str(gpus)}}
    return {
        "metadata": {"annotations": {f"sim.stint.dev/{k.replace('_', '-')}": v for k, v in annotations.items()}},
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"test": world.name},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "containers": [container],
        },
    }


def _object(world, api: str, kind: str, name: str, spec: dict[str, Any], said: str, **meta: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": world.name, "labels": dict(MANAGED), **meta}
    if said:
        meta["annotations"] = {"stint.dev/spec": said}
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}


def job(world, name: str = "train", *, said: str = SPEC, **spec: Any) -> dict[str, Any]:
    """Two pods with four GPUs each. Its controller is there."""
    made = {"parallelism": 2, "completions": 2, "completionMode": "Indexed", "backoffLimit": 0}
    return _object(world, "batch/v1", "Job", name, {**made, "template": template(world, 4), **spec}, said)


def pytorchjob(world, name: str = "train", *, said: str = SPEC) -> dict[str, Any]:
    """A master and two workers."""
    replicas = {
        kind: {"replicas": count, "restartPolicy": "OnFailure", "template": _containers(template(world, 2), "pytorch")}
        for kind, count in (("Master", 1), ("Worker", 2))
    }
    return _object(world, "kubeflow.org/v1", "PyTorchJob", name, {"pytorchReplicaSpecs": replicas}, said)


KUBEFLOW = {
    "TFJob": "tfReplicaSpecs",
    "XGBoostJob": "xgbReplicaSpecs",
    "PaddleJob": "paddleReplicaSpecs",
    "JAXJob": "jaxReplicaSpecs",
    "MPIJob": "mpiReplicaSpecs",
}


def kubeflowjob(world, kind: str, name: str = "train", *, said: str = SPEC) -> dict[str, Any]:
    """Two workers of one of Kubeflow's other kinds."""
    version = "v2beta1" if kind == "MPIJob" else "v1"
    spec = {KUBEFLOW[kind]: {"Worker": {"replicas": 2, "template": template(world, 2)}}}
    return _object(world, f"kubeflow.org/{version}", kind, name, spec, said)


def _containers(made: dict[str, Any], name: str) -> dict[str, Any]:
    made["spec"]["containers"][0]["name"] = name
    return made


def jobset(world, name: str = "train", *, said: str = SPEC, **meta: Any) -> dict[str, Any]:
    """A coordinator without GPUs, and two Jobs of two pods with."""
    replicated = [
        {
            "name": part,
            "replicas": replicas,
            "template": {"spec": {"parallelism": n, "completions": n, "template": template(world, gpus)}},
        }
        for part, replicas, n, gpus in (("lead", 1, 1, 0), ("node", 2, 2, 2))
    ]
    return _object(world, "jobset.x-k8s.io/v1alpha2", "JobSet", name, {"replicatedJobs": replicated}, said, **meta)


def trainjob(world, name: str = "train", *, said: str = SPEC) -> dict[str, Any]:
    """Its pods come by way of a JobSet."""
    spec = {"runtimeRef": {"name": "torch-distributed"}, "trainer": {"numNodes": 2}}
    return _object(world, "trainer.kubeflow.org/v1alpha1", "TrainJob", name, spec, said)


def _ray(world) -> dict[str, Any]:
    head = {"rayStartParams": {}, "template": _containers(template(world, 0), "ray-head")}
    group = {
        "groupName": "gpus",
        "replicas": 3,
        "minReplicas": 0,
        "maxReplicas": 4,
        "rayStartParams": {},
        "template": _containers(template(world, 2), "ray-worker"),
    }
    return {"rayVersion": "2.52.0", "headGroupSpec": head, "workerGroupSpecs": [group]}


def raycluster(world, name: str = "train", *, said: str = SPEC, **meta: Any) -> dict[str, Any]:
    """A head without GPUs, and three workers with two each."""
    return _object(world, "ray.io/v1", "RayCluster", name, _ray(world), said, **meta)


def rayjob(world, name: str = "train", *, said: str = SPEC) -> dict[str, Any]:
    """Its pods come by way of a RayCluster."""
    spec = {"entrypoint": "python train.py", "rayClusterSpec": _ray(world)}
    return _object(world, "ray.io/v1", "RayJob", name, spec, said)


# What their controllers do ----------------------------------------------------------------------------------------


def _owner(thing: dict[str, Any]) -> list[dict[str, Any]]:
    meta = thing["metadata"]
    named = {"apiVersion": thing["apiVersion"], "kind": thing["kind"], "name": meta["name"], "uid": meta["uid"]}
    return [{**named, "controller": True, "blockOwnerDeletion": False}]


def _pod(thing: dict[str, Any], made: dict[str, Any], name: str, labels: dict[str, str]) -> dict[str, Any]:
    meta = made.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": thing["metadata"]["namespace"],
            "labels": {**meta.get("labels", {}), **labels},
            "annotations": meta.get("annotations", {}),
            "ownerReferences": _owner(thing),
        },
        "spec": copy.deepcopy(made["spec"]),
    }


def _of_kubeflowjob(thing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    name = thing["metadata"]["name"]
    replicas = next(value for key, value in thing["spec"].items() if key.endswith("ReplicaSpecs"))
    for kind, replica in replicas.items():
        for i in range(replica["replicas"]):
            labels = {
                "training.kubeflow.org/job-name": name,
                "training.kubeflow.org/replica-type": kind.lower(),
                "training.kubeflow.org/replica-index": str(i),
                "training.kubeflow.org/operator-name": f"{thing['kind'].lower()}-controller",
            }
            yield _pod(thing, replica["template"], f"{name}-{kind.lower()}-{i}", labels)


def _of_raycluster(thing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    name, spec = thing["metadata"]["name"], thing["spec"]
    labels = {"ray.io/cluster": name, "ray.io/is-ray-node": "yes"}
    head = {"ray.io/node-type": "head", "ray.io/group": "headgroup"}
    yield _pod(thing, spec["headGroupSpec"]["template"], f"{name}-head", {**labels, **head})
    for group in spec["workerGroupSpecs"]:
        for i in range(group["replicas"]):
            mine = {"ray.io/node-type": "worker", "ray.io/group": group["groupName"]}
            yield _pod(thing, group["template"], f"{name}-{group['groupName']}-worker-{i}", {**labels, **mine})


def _of_jobset(thing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Jobs, whose own controller is there."""
    name, at = thing["metadata"]["name"], 0
    for part in thing["spec"]["replicatedJobs"]:
        for i in range(part["replicas"]):
            made = copy.deepcopy(part["template"])
            labels = {
                "jobset.sigs.k8s.io/jobset-name": name,
                "jobset.sigs.k8s.io/replicatedjob-name": part["name"],
                "jobset.sigs.k8s.io/job-index": str(i),
                "jobset.sigs.k8s.io/job-global-index": str(at),
            }
            at += 1
            pod_meta = made["spec"]["template"].setdefault("metadata", {})
            pod_meta["labels"] = {**pod_meta.get("labels", {}), **labels}
            made["spec"]["completionMode"] = "Indexed"
            yield {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {
                    "name": f"{name}-{part['name']}-{i}",
                    "namespace": thing["metadata"]["namespace"],
                    "labels": {**(made.get("metadata") or {}).get("labels", {}), **labels},
                    "ownerReferences": _owner(thing),
                },
                "spec": made["spec"],
            }


def _of_trainjob(world, thing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A JobSet of the same name, with the labels of its runtime and of the patches to it."""
    labels: dict[str, str] = {}
    for patch in thing["spec"].get("runtimePatches", []):
        labels |= patch.get("trainingRuntimeSpec", {}).get("template", {}).get("metadata", {}).get("labels", {})
    made = jobset(world, thing["metadata"]["name"], said="")
    made["metadata"] |= {"labels": labels, "ownerReferences": _owner(thing)}
    yield made


def _of_rayjob(thing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A RayCluster with the job's labels and annotations."""
    meta = thing["metadata"]
    annotations = {k: v for k, v in meta.get("annotations", {}).items() if not k.startswith("kubectl")}
    yield {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": f"{meta['name']}-x7k2p",
            "namespace": meta["namespace"],
            "labels": {**meta["labels"], "ray.io/originated-from-cr-name": meta["name"]},
            "annotations": annotations,
            "ownerReferences": _owner(thing),
        },
        "spec": thing["spec"]["rayClusterSpec"],
    }


def control(world, kind: str, name: str, *, leave_out: int = 0) -> None:
    """One pass of a kind's controller: what is missing is made; what is suspended is taken away.

    Args:
        leave_out: so many of its objects are not made yet.
    """
    thing = json.loads(world.kubectl("get", kind, name, "-o", "json"))
    makers = {
        **dict.fromkeys(("PyTorchJob", *KUBEFLOW), _of_kubeflowjob),
        "RayCluster": _of_raycluster,
        "JobSet": _of_jobset,
        "TrainJob": lambda t: _of_trainjob(world, t),
        "RayJob": _of_rayjob,
    }
    made = list(makers[kind](thing))
    spec = thing["spec"]
    suspended = spec.get("suspend") or spec.get("runPolicy", {}).get("suspend")
    there = {
        (t["kind"], t["metadata"]["name"]): t
        for t in json.loads(world.kubectl("get", "pods,jobs,jobsets,rayclusters", "-o", "json"))["items"]
    }
    indirect = kind in ("TrainJob", "RayJob")
    for each in made if indirect else made[: len(made) - leave_out]:
        key = (each["kind"], each["metadata"]["name"])
        if suspended and key in there:
            if each["kind"] == "Pod":
                world.kubectl("delete", "pod", key[1], "--wait=false")
            else:
                world.kubectl("patch", key[0], key[1], "--type=merge", "-p", '{"spec":{"suspend":true}}')
        elif not suspended and key not in there:
            world.kubectl("create", "-f", "-", stdin=json.dumps(each))
        elif not suspended and there[key].get("spec", {}).get("suspend"):
            world.kubectl("patch", key[0], key[1], "--type=merge", "-p", '{"spec":{"suspend":false}}')
    if indirect:
        control(world, made[0]["kind"], made[0]["metadata"]["name"], leave_out=leave_out)


# Kinds whose real CRDs are not fetched ---------------------------------------------------------------------------

_MINIMAL = (
    ("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets"),
    ("kubeflow.org", "v2beta1", "MPIJob", "mpijobs"),
    ("kubeflow.org", "v1", "TFJob", "tfjobs"),
    ("kubeflow.org", "v1", "XGBoostJob", "xgboostjobs"),
    ("kubeflow.org", "v1", "PaddleJob", "paddlejobs"),
    ("kubeflow.org", "v1", "JAXJob", "jaxjobs"),
    ("batch.volcano.sh", "v1alpha1", "Job", "jobs"),
)


def _crd(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower() if plural != "jobs" else "vcjob"},
            "versions": [served],
        },
    }


def minimal_crds() -> list[dict[str, Any]]:
    """CRDs that take any spec."""
    return [_crd(*served) for served in _MINIMAL]
