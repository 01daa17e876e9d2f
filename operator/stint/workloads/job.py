"""batch/v1 Job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stint.workloads.kind import Belonging, Kind, Object, at, by_conditions, count
from stint.workloads.label import LabelTemplates

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"


def pods_of_job(spec: Object) -> Iterator[tuple[int, Any]]:
    """Those that it runs at a time."""
    parallelism = count(spec.get("parallelism"))
    yield min(parallelism, count(spec.get("completions"), parallelism)), at(spec, "template", "spec")


JOB = Kind(
    kind="Job",
    group="batch",
    version="v1",
    plural="jobs",
    pods=pods_of_job,
    ended=by_conditions("Complete", "Failed"),
    suspend=("spec", "suspend"),
    belonging=Belonging(label=JOB_NAME_LABEL, order=(INDEX_ANNOTATION,)),
    hands_down=LabelTemplates(templates=("spec.template",)),
)
