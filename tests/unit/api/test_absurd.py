"""Whatever is written into an object: it is observed without an error, and the good job beside it gets its place."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.api.pricebook import PriceBook
from stint.api.trainingjob import TrainingJob
from stint.decide import decide
from stint.model.job import Phase
from tests import absurd
from tests.unit.kube.objects import a_record, a_resource
from tests.unit.kube.test_observe import UNET, look

KINDS: dict[str, Any] = {"TrainingJob": TrainingJob, "GPUPool": GPUPool, "PriceBook": PriceBook}


def typed(thing: dict[str, Any]) -> Any | None:
    """As the operator reads it; None: it is of a shape that no schema lets through."""
    meta = {"uid": thing["metadata"]["name"], "resourceVersion": "1", "generation": 1, **thing["metadata"]}
    try:
        return msgspec.convert({**thing, "metadata": meta, "status": {}}, KINDS[thing["kind"]])
    except msgspec.ValidationError:
        return None


def test_there_are_two_hundred_and_they_differ():
    made = absurd.objects("team")
    assert len(made) == 200
    assert len({msgspec.json.encode([m["kind"], m["spec"]]) for m in made}) > 180


@pytest.mark.parametrize("seed", range(5))
def test_none_of_them_keeps_a_good_job_from_its_place(seed):
    read = [t for thing in absurd.objects("team", seed=seed) if (t := typed(thing)) is not None]
    jobs = [t for t in read if isinstance(t, TrainingJob)]
    assert len(jobs) > 25
    seen = look(
        resources=[a_resource(), *jobs],
        pools=[t for t in read if isinstance(t, GPUPool)],
        books=[t for t in read if isinstance(t, PriceBook)],
        nodes=[a_record()],
    )
    decided = {j.id for j in seen.situation.jobs}
    for key, one in seen.seen.items():
        if one.phase is Phase.INVALID:
            assert key not in decided
            assert one.invalid is not None
            for mistake in one.invalid.mistakes:
                assert mistake.path.startswith(("spec", "metadata")), mistake
                assert mistake.remedy, mistake
                assert "mistake of Stint" not in mistake.remedy, mistake
    plan = decide(seen.situation)
    assert UNET in [p.job for p in plan.placements]
