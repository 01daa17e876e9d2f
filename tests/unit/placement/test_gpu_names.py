"""Messages say what a name of a GPU was understood as, where another one may have been meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stint.api.parse.job import Known, to_job
from stint.feeds import bundled
from stint.model.plan import Reason
from stint.placement.fit import why_not
from stint.testing.builders import NOW, an_offering
from tests.unit.kube.objects import a_resource

CATALOGUE = bundled.load()


def told(
    model: str, *, models: list[str] | None = None, speeds: tuple[str, ...] = ("A100-40GB",)
) -> tuple[Reason, str]:
    work = {"units": 3600, "unitsPerSecond": dict.fromkeys(speeds, 1.0)}
    resource = a_resource(work=work, gpu={"perWorker": 1, "models": models or []})
    job = to_job(resource, CATALOGUE, Known(), created=NOW)
    found = why_not(job, replace(an_offering(), gpu_model=model))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("written", "offered", "note"),
    [
        ("A100", "A100-80GB", "; A100 is read as A100-40GB; did you mean A100-80GB?"),
        ("a100", "A100-80GB-PCIe", "; a100 is read as A100-40GB; did you mean A100-80GB-PCIe?"),
        ("H100", "H100-PCIe", "; H100 is read as H100-SXM; did you mean H100-PCIe?"),
        ("V100", "V100-32GB", "; V100 is read as V100-16GB; did you mean V100-32GB?"),
        ("A100", "A10G", ""),
        ("A100", "RTX A6000", ""),
        ("A100-40GB", "A100-80GB", ""),
    ],
)
def test_a_name_that_was_taken_for_another_model_is_told(written, offered, note):
    reason, text = told(offered, speeds=(written,))
    assert reason is Reason.NO_SPEED_FOR_MODEL
    assert text == f"spec.work.unitsPerSecond has no speed for {offered}{note}"
    reason, text = told(offered, models=[written], speeds=(written, offered))
    assert reason is Reason.MODEL_NOT_ALLOWED
    assert text.endswith(note)
    assert ("is read as" in text) == bool(note)
