"""TrainJob of Kubeflow's Trainer 2. It makes a JobSet from a runtime, and labels that by a patch of the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stint.workloads.kind import Kind, by_conditions
from stint.workloads.label import MANAGED, Ops

_PATCHED_BY = "stint.dev/steering"  # the manager of our runtime patch: they are keyed by it


class PatchRuntime:
    """It has no templates: the JobSet that is made for it gets the label by a patch of its runtime."""

    operations: Sequence[str] = ("CREATE",)
    condition = (
        f"!has(object.spec.runtimePatches) || !object.spec.runtimePatches.exists(p, p.manager == '{_PATCHED_BY}')"
    )

    @property
    def expression(self) -> str:
        """See `HandsDown`."""
        labels = f'{{"labels": {{"{MANAGED}": "true"}}}}'
        runtime = f'dyn({{"template": {{"metadata": {labels}}}}})'
        patch = f'{{"manager": dyn("{_PATCHED_BY}"), "trainingRuntimeSpec": {runtime}}}'
        return (
            "has(object.spec.runtimePatches) ?\n"
            f'  [JSONPatch{{op: "add", path: "/spec/runtimePatches/-", value: {patch}}}] :\n'
            f'  [JSONPatch{{op: "add", path: "/spec/runtimePatches", value: [{patch}]}}]'
        )

    def ops(self, operation: str, thing: Mapping[str, Any]) -> Ops:
        """See `HandsDown`."""
        if operation != "CREATE":
            return []
        there = thing["spec"].get("runtimePatches")
        if there is not None and any(p.get("manager") == _PATCHED_BY for p in there):
            return []
        ours = {
            "manager": _PATCHED_BY,
            "trainingRuntimeSpec": {"template": {"metadata": {"labels": {MANAGED: "true"}}}},
        }
        if there is None:
            return [{"op": "add", "path": "/spec/runtimePatches", "value": [ours]}]
        return [{"op": "add", "path": "/spec/runtimePatches/-", "value": ours}]


TRAINJOB = Kind(
    kind="TrainJob",
    group="trainer.kubeflow.org",
    version="v1alpha1",
    plural="trainjobs",
    ended=by_conditions("Complete", "Failed"),
    suspend=("spec", "suspend"),
    hands_down=PatchRuntime(),
)
