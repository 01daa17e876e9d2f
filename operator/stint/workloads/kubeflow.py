"""The jobs of Kubeflow's training-operator: one label for the pods of all, and the pod's owner tells which it is.

See its `common_types.go` for the labels, and the `*job_types.go` for what holds the replicas of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stint.workloads.kind import Belonging, Kind, Object, Pods, at, by_conditions, count
from stint.workloads.label import LabelTemplates

JOB_NAME, REPLICA_INDEX = "training.kubeflow.org/job-name", "training.kubeflow.org/replica-index"
_GROUP = "kubeflow.org"


def replicas_in(field: str, **defaults: int) -> Pods:
    """The pods of all replica types in a field of the spec.

    Args:
        defaults: how many pods a type has that does not say; one, where it is not named.
    """

    def pods(spec: Object) -> Iterator[tuple[int, Any]]:
        for kind, each in (spec.get(field) or {}).items():
            yield count(at(each, "replicas"), defaults.get(kind, 1)), at(each, "template", "spec")

    return pods


def _kind(kind: str, field: str) -> Kind:
    return Kind(
        kind=kind,
        group=_GROUP,
        version="v1",
        plural=f"{kind.lower()}s",
        pods=replicas_in(field),
        ended=by_conditions("Succeeded", "Failed"),
        suspend=("spec", "runPolicy", "suspend"),
        belonging=Belonging(
            label=JOB_NAME,
            order=("training.kubeflow.org/replica-type", REPLICA_INDEX),
            role="training.kubeflow.org/replica-type",
            of_a_family=True,
            makers=((_GROUP, kind),),
        ),
        hands_down=LabelTemplates(templates=(f"spec.{field}{{}}.template",)),
    )


PYTORCHJOB = _kind("PyTorchJob", "pytorchReplicaSpecs")
TFJOB = _kind("TFJob", "tfReplicaSpecs")
XGBOOSTJOB = _kind("XGBoostJob", "xgbReplicaSpecs")
PADDLEJOB = _kind("PaddleJob", "paddleReplicaSpecs")
JAXJOB = _kind("JAXJob", "jaxReplicaSpecs")
