"""LeaderWorkerSet: groups of a leader and its workers, each of which is a gang of its own.

See its `leaderworkerset_types.go` for the labels. It has no suspend: a group whose pod is deleted makes all its pods
anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stint.workloads.kind import AsksForGpus, Belonging, Kind, Object, at, count
from stint.workloads.label import LabelTemplates

_TEMPLATE = "leaderWorkerTemplate"


def _pods(spec: Object) -> Iterator[tuple[int, Any]]:
    """Those of one group."""
    yield 1, _leader(spec)
    yield max(0, count(at(spec, _TEMPLATE, "size")) - 1), at(spec, _TEMPLATE, "workerTemplate", "spec")


def _leader(spec: Object) -> Any:
    return at(spec, _TEMPLATE, "leaderTemplate", "spec") or at(spec, _TEMPLATE, "workerTemplate", "spec")


def _one_by_one(spec: Object, asks: AsksForGpus) -> str:
    if spec.get("startupPolicy") != "LeaderReady" or not asks(_leader(spec)):
        return ""
    return (
        "its leaders ask for GPUs and its workers are made only when a leader is ready; set spec.startupPolicy to "
        "LeaderCreated"
    )


LEADERWORKERSET = Kind(
    kind="LeaderWorkerSet",
    group="leaderworkerset.x-k8s.io",
    version="v1",
    plural="leaderworkersets",
    pods=_pods,
    belonging=Belonging(
        label="leaderworkerset.sigs.k8s.io/name",
        order=("leaderworkerset.sigs.k8s.io/worker-index",),
        part="leaderworkerset.sigs.k8s.io/group-index",
        size="leaderworkerset.sigs.k8s.io/size",
    ),
    hands_down=LabelTemplates(
        templates=("spec.leaderWorkerTemplate.workerTemplate", "spec.leaderWorkerTemplate.leaderTemplate?")
    ),
    groups=lambda spec: count(spec.get("replicas")),
    one_by_one=_one_by_one,
)
