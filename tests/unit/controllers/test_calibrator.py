"""What runs teach: learnt while they go on, kept in a ConfigMap, and there again after a restart."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from stint.controllers import calibrator
from stint.controllers.calibrator import Calibrator
from stint.feeds import bundled
from stint.kube.client.api import MERGE, Api, ApiError
from stint.model.cluster import Utilisation
from stint.model.measured import Speed
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_plan, a_record, a_resource
from tests.unit.kube.test_observe import UNET, look
from tests.unit.kube.test_progress import pods_that_say

USED = Utilisation(job=UNET, gpu_ratio=0.9, watts=2400.0, idle_gpus=0, gpus=8)


class Kept(Api):
    """ConfigMaps instead of an API server."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {}
        self.writes = 0

    async def find(self, path: str, *, fenced: bool = True) -> Any | None:
        assert fenced
        return self.stored.get(path)

    async def patch(self, path: str, body: Any, *, content_type: str = MERGE) -> Any:
        assert content_type == MERGE
        if path not in self.stored:
            raise ApiError(404, "NotFound", path)
        self.writes += 1
        self.stored[path] |= body
        return self.stored[path]

    async def create(self, path: str, body: Any) -> Any:
        self.writes += 1
        self.stored[f"{path}/{body['metadata']['name']}"] = body
        return body


def a_calibrator(api: Api | None = None) -> Calibrator:
    return Calibrator(api=api or Kept(), namespace="x", leads=lambda: True, canonical=bundled.load().canonical_gpu)


def learn(
    into: Calibrator, units: float, *, now: datetime, since: datetime = NOW, told: dict[str, Any] | None = None
) -> None:
    progress = {"runningSince": since.isoformat(), **(told or {})}
    status = {"phase": "Running", "progress": progress}
    resource = a_resource(status)
    observation = look(
        now=now,
        resources=[resource],
        nodes=[a_record()],
        pods=pods_that_say(f"{units}", f"{units}"),
        jobs=[a_batch_job(a_plan(since=since))],
    )
    into.learn(observation, {UNET: USED})


def learnt(from_: Calibrator) -> Speed | None:
    return from_.speeds([a_resource()]).get(UNET, {}).get("A100-80GB")


def test_a_run_counts_once_it_is_long_enough_from_its_first_word_on():
    it = a_calibrator()
    learn(it, 500, now=NOW)
    learn(it, 700, now=NOW + timedelta(minutes=9))
    assert learnt(it) is None
    learn(it, 500 + 0.5 * 1200, now=NOW + timedelta(minutes=20))
    speed = learnt(it)
    assert speed is not None
    assert speed.units_per_second == pytest.approx(0.5, rel=1e-4)
    assert (speed.runs, speed.own, speed.trusted, speed.watts_per_gpu, speed.stated) == (1, True, True, 300.0, 1.0)


def test_a_counter_that_falls_is_measured_anew():
    it = a_calibrator()
    learn(it, 500, now=NOW)
    learn(it, 100, now=NOW + timedelta(minutes=15))
    assert learnt(it) is None
    learn(it, 100 + 900, now=NOW + timedelta(minutes=30))
    speed = learnt(it)
    assert speed is not None
    assert speed.units_per_second == pytest.approx(1.0, rel=1e-4)


def test_a_run_that_hangs_says_nothing_of_its_family():
    it = a_calibrator()
    learn(it, 0, now=NOW)
    learn(it, 1200, now=NOW + timedelta(minutes=20))
    last = {"told": 1200, "toldAt": (NOW + timedelta(minutes=20)).isoformat(), "source": "Pods"}
    learn(it, 1200, now=NOW + timedelta(hours=9), told=last)
    speed = learnt(it)
    assert speed is not None
    assert speed.units_per_second == pytest.approx(1.0, rel=1e-4)


def test_three_runs_are_enough_for_the_next_job_of_the_family_and_one_is_not():
    it = a_calibrator()
    for i in range(3):
        start = NOW + timedelta(hours=i)
        learn(it, 0, now=start, since=start)
        learn(it, 360, now=start + timedelta(minutes=20), since=start)
        it._anchors.clear()  # it has ended
        speed = learnt(it)
        assert speed is not None
        assert (speed.runs, speed.trusted, speed.own) == (i + 1, i == 2, False)


async def test_it_survives_a_restart_and_is_written_only_where_it_changed():
    api = Kept()
    first = a_calibrator(api)
    await first._load()
    learn(first, 0, now=NOW)
    learn(first, 600, now=NOW + timedelta(minutes=20))
    await first._save()
    assert not first._dirty
    learn(first, 900, now=NOW + timedelta(minutes=30))  # as fast as before
    assert not first._dirty
    second = a_calibrator(api)
    learn(second, 900, now=NOW + timedelta(minutes=30))
    learn(second, 1500, now=NOW + timedelta(minutes=50))  # before it has read what there was
    await second._load()
    speed = learnt(second)
    assert speed is not None
    assert speed.runs == 1, "the same run, told by two operators"
    assert api.writes == 1


async def test_what_cannot_be_read_begins_anew_and_loses_no_decision():
    api = Kept()
    api.stored["/api/v1/namespaces/x/configmaps/stint-calibration"] = {"data": {"calibration.json": "{broken"}}
    it = a_calibrator(api)
    await it._load()
    assert it._loaded
    assert learnt(it) is None


def test_the_family_is_the_label_else_image_and_queue_and_a_full_book_fits_into_a_configmap():
    resource = a_resource()
    assert calibrator.family(resource) == "x default"
    labelled = msgspec.structs.replace(resource.metadata, labels={"stint.dev/family": "llama"})
    assert calibrator.family(msgspec.structs.replace(resource, metadata=labelled)) == "llama"
    it = a_calibrator()
    for key in range(500):
        for run in range(20):
            name = calibrator.Key(
                "a-team-of-people", f"registry.example.com/team/train-{key} default", "step", "H100-SXM"
            )
            it.book.note(name, calibrator.Run(f"0123456789abc@20261126T1200{run:02}", 1.2345 + run, 612.5))
    assert len(calibrator.encode(it.book)) < 900_000
