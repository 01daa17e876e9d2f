"""Volcano's Job, which Stint calls VolcanoJob; see Volcano's `labels.go` for those of pods.

It is suspended by a Command object, not by a field: its gang is taken back by deleting its pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stint.workloads.kind import AsksForGpus, Belonging, Ended, Kind, Object, at, count
from stint.workloads.label import LabelTemplates

_FAILED = ("Failed", "Aborted", "Terminated")


def _pods(spec: Object) -> Iterator[tuple[int, Any]]:
    for each in spec.get("tasks") or ():
        yield count(at(each, "replicas")), at(each, "template", "spec")


def _ended(status: Object) -> Ended:
    state = at(status, "state")
    phase = at(state, "phase")
    text = f"{at(state, 'reason') or phase}: {at(state, 'message') or ''}".strip(": ")
    return Ended(complete=phase == "Completed", failure=text if phase in _FAILED else "")


def _one_by_one(spec: Object, asks: AsksForGpus) -> str:
    tasks = [task for task in spec.get("tasks") or () if isinstance(task, dict)]
    with_gpus = {task.get("name") for task in tasks if asks(at(task, "template", "spec"))}
    for task in tasks:
        others = with_gpus & set(at(task, "dependsOn", "name") or ())
        if task.get("name") in with_gpus and others:
            other = ", ".join(sorted(map(str, others)))
            return f"its task {task.get('name')} waits for {other}, and both ask for GPUs; leave dependsOn out"
    return ""


VOLCANOJOB = Kind(
    kind="VolcanoJob",
    called="Job",
    group="batch.volcano.sh",
    version="v1alpha1",
    plural="jobs",
    pods=_pods,
    ended=_ended,
    belonging=Belonging(
        label="volcano.sh/job-name",
        order=("volcano.sh/task-spec", "volcano.sh/task-index"),
        role="volcano.sh/task-spec",
    ),
    hands_down=LabelTemplates(templates=("spec.tasks?[].template",)),
    one_by_one=_one_by_one,
)
