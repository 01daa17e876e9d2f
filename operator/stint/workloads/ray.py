"""KubeRay's RayCluster, and RayJob, which makes one with its own labels; see `constant.go` for those of pods.

Ray's own suspend ends the head and with it all that it knows. Ray survives pods that go one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stint.workloads.kind import Belonging, Ended, Kind, Object, at, count
from stint.workloads.label import LabelTemplates


def _pods(spec: Object) -> Iterator[tuple[int, Any]]:
    yield 1, at(spec, "headGroupSpec", "template", "spec")
    for each in spec.get("workerGroupSpecs") or ():
        if not each.get("suspend"):
            hosts = count(each.get("numOfHosts"))
            yield _replicas(each) * hosts, at(each, "template", "spec")


def _replicas(group: Object) -> int:
    """As `GetWorkerGroupDesiredReplicas` of KubeRay has it: `replicas` between `minReplicas` and `maxReplicas`."""
    least = count(group.get("minReplicas"), 0)
    wanted = max(count(group.get("replicas"), least), least)
    return min(wanted, count(group.get("maxReplicas"), wanted))


def _ended(status: Object) -> Ended:
    stands = status.get("jobDeploymentStatus")
    failure = str(status.get("message") or "Failed") if stands == "Failed" else ""
    return Ended(complete=stands == "Complete", failure=failure)


RAYCLUSTER = Kind(
    kind="RayCluster",
    group="ray.io",
    version="v1",
    plural="rayclusters",
    pods=_pods,
    belonging=Belonging(label="ray.io/cluster", order=("ray.io/group",), role="ray.io/group"),
    hands_down=LabelTemplates(templates=("spec.headGroupSpec.template", "spec.workerGroupSpecs?[].template")),
)

RAYJOB = Kind(kind="RayJob", group="ray.io", version="v1", plural="rayjobs", ended=_ended)
