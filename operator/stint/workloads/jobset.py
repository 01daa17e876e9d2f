"""JobSet. Its Jobs are labelled, and so label their pods; see `jobset_types.go` for the labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stint.workloads.job import INDEX_ANNOTATION, pods_of_job
from stint.workloads.kind import Belonging, Kind, Object, at, by_conditions, count
from stint.workloads.label import LabelTemplates


def _pods(spec: Object) -> Iterator[tuple[int, Any]]:
    for each in spec.get("replicatedJobs") or ():
        for number, pod in pods_of_job(at(each, "template", "spec") or {}):
            yield count(each.get("replicas")) * number, pod


JOBSET = Kind(
    kind="JobSet",
    group="jobset.x-k8s.io",
    version="v1alpha2",
    plural="jobsets",
    pods=_pods,
    ended=by_conditions("Completed", "Failed"),
    suspend=("spec", "suspend"),
    belonging=Belonging(
        label="jobset.sigs.k8s.io/jobset-name",
        order=("jobset.sigs.k8s.io/job-global-index", INDEX_ANNOTATION),
        role="jobset.sigs.k8s.io/replicatedjob-name",
    ),
    hands_down=LabelTemplates(templates=("spec.replicatedJobs[].template",), while_suspended=True),
)
