"""PyTorchJob of Kubeflow's training-operator, whose other kinds label pods alike; see its `common_types.go`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stint.workloads.kind import Belonging, Kind, Object, at, by_conditions, count
from stint.workloads.label import LabelTemplates


def _pods(spec: Object) -> Iterator[tuple[int, Any]]:
    for each in (spec.get("pytorchReplicaSpecs") or {}).values():
        yield count(each.get("replicas")), at(each, "template", "spec")


PYTORCHJOB = Kind(
    kind="PyTorchJob",
    group="kubeflow.org",
    version="v1",
    plural="pytorchjobs",
    pods=_pods,
    ended=by_conditions("Succeeded", "Failed"),
    suspend=("spec", "runPolicy", "suspend"),
    belonging=Belonging(
        label="training.kubeflow.org/job-name",
        order=("training.kubeflow.org/replica-type", "training.kubeflow.org/replica-index"),
        of_a_family=True,
    ),
    hands_down=LabelTemplates(templates=("spec.pytorchReplicaSpecs{}.template",)),
)
