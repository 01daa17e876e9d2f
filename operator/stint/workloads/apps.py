"""What the API group `apps` makes pods with: StatefulSets are placed; Deployments and DaemonSets are refused by name.

No label of a StatefulSet's pods has its name; the pod's owner does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stint.workloads.kind import AsksForGpus, Belonging, Kind, Object, at, count
from stint.workloads.label import LabelTemplates


def _pods(spec: Object) -> Iterator[tuple[int, Any]]:
    yield count(spec.get("replicas")), at(spec, "template", "spec")


def _one_by_one(spec: Object, asks: AsksForGpus) -> str:
    del asks
    if spec.get("podManagementPolicy") == "Parallel" or count(spec.get("replicas")) <= 1:
        return ""
    return (
        "its pods are made one after the other, each when the one before is ready; make it anew with "
        "spec.podManagementPolicy: Parallel"
    )


STATEFULSET = Kind(
    kind="StatefulSet",
    group="apps",
    version="v1",
    plural="statefulsets",
    pods=_pods,
    belonging=Belonging(order=("apps.kubernetes.io/pod-index",), makers=(("apps", "StatefulSet"),)),
    hands_down=LabelTemplates(templates=("spec.template",)),
    one_by_one=_one_by_one,
)

DEPLOYMENT = Kind(
    kind="Deployment",
    group="apps",
    version="v1",
    plural="deployments",
    belonging=Belonging(makers=(("apps", "ReplicaSet"),), suffix="pod-template-hash"),
    refused=(
        "Stint does not place Deployments: their pods come and go one by one and never end. They start at once, "
        "wherever kube-scheduler puts them. Make a Job, a JobSet or a StatefulSet of it, or remove the label "
        "stint.dev/managed"
    ),
)

DAEMONSET = Kind(
    kind="DaemonSet",
    group="apps",
    version="v1",
    plural="daemonsets",
    belonging=Belonging(makers=(("apps", "DaemonSet"),)),
    refused=(
        "Stint does not place DaemonSets: each pod has its node already. They start at once. Remove the label "
        "stint.dev/managed"
    ),
)
