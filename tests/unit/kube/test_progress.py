"""What a job says of itself, what is believed of it, and what an idle one has coming."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from stint.kube.observe.progress import Told, kept, tell
from stint.kube.observe.snapshot import Seen
from stint.kube.records import UNITS_DONE, PodRecord
from stint.lifecycle.idle import acts
from stint.model.cluster import Utilisation
from stint.model.job import Phase
from stint.model.measured import Measured, Speed
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_plan, a_record, a_resource
from tests.unit.kube.test_observe import HOUR, RUNNING, UNET, look

SINCE = {"runningSince": (NOW - 2 * HOUR).isoformat()}
METRIC = {"metric": {"name": "train_steps"}}


def pods_that_say(*texts: str) -> list[PodRecord]:
    found = []
    for pod, text in zip(RUNNING, texts, strict=True):
        assert pod.gang is not None
        found.append(msgspec.structs.replace(pod, gang=msgspec.structs.replace(pod.gang, units_done=text)))
    return found


def see(
    status: dict | None = None, *, pods=RUNNING, measured: Measured | None = None, meta: dict | None = None, **spec
) -> Seen:
    resource = a_resource(status, **spec)
    if meta:
        resource = msgspec.structs.replace(resource, metadata=msgspec.structs.replace(resource.metadata, **meta))
    plan = a_plan(since=NOW - 3 * HOUR)
    seen = look(resources=[resource], nodes=[a_record()], pods=pods, jobs=[a_batch_job(plan)], measured=measured)
    return seen.seen[UNET]


def running(**progress: object) -> dict:
    return {"phase": "Running", "progress": SINCE | progress}


class TestTold:
    def test_the_pods_annotation_wins_over_the_speed(self):
        seen = see(running(), pods=pods_that_say("1500", "1498"))
        assert (seen.progress.estimate, seen.progress.source, seen.progress.told) == (1500, "Pods", 1500)
        assert seen.job is not None
        assert seen.job.work.units_done == 1500

    def test_the_trainingjobs_own_annotation_wins_over_the_speed(self):
        seen = see(running(), meta={"annotations": {UNITS_DONE: "900"}})
        assert (seen.progress.estimate, seen.progress.source) == (900, "TrainingJob")

    def test_a_metric_wins_over_annotations_and_its_silence_is_told(self):
        measured = Measured(told={UNET: 42.0}, asked=True)
        seen = see(running(), pods=pods_that_say("1500", "1498"), measured=measured, progress=METRIC)
        assert (seen.progress.estimate, seen.progress.source) == (42, "Metric")
        silent = see(running(), measured=Measured(asked=True), progress=METRIC)
        assert (silent.progress.estimate, silent.progress.source) == (pytest.approx(7200), "")
        assert silent.told.silent == "no series of train_steps belongs to it"
        assert "no Prometheus" in see(running(), progress=METRIC).told.silent

    @pytest.mark.parametrize("text", ["NaN", "-1", "inf", "36001", "half", "1e999", ""])
    def test_garbage_is_refused_with_field_value_and_remedy(self, text: str):
        seen = see(running(), pods=pods_that_say(text, text))
        assert seen.progress.estimate == pytest.approx(7200), "it goes by its speed meanwhile"
        if text:
            assert seen.told.mistake is not None
            assert "annotation stint.dev/units-done of pod unet-0-x" in str(seen.told.mistake)
            assert repr(text) in str(seen.told.mistake)
            assert "from 0 to spec.work.units (36000)" in str(seen.told.mistake)

    def test_one_worker_that_talks_nonsense_does_not_silence_the_others(self):
        assert see(running(), pods=pods_that_say("NaN", "77")).told == Told(77.0, "Pods")

    @pytest.mark.parametrize("value", [float("nan"), -1.0, 1e9])
    def test_a_metric_is_judged_alike(self, value: float):
        seen = see(running(), measured=Measured(told={UNET: value}, asked=True), progress=METRIC)
        assert seen.told.mistake is not None
        assert "spec.progress.metric train_steps" in seen.told.mistake.path

    def test_a_gang_without_a_place_is_not_asked(self):
        resource = a_resource(progress=METRIC)
        gang = look(resources=[resource]).seen[UNET].gang
        assert tell(resource, gang, Measured(asked=True)) == Told()


class TestBackwards:
    """An hour between checkpoints at 1 unit a second: 3,600 units are what one explains."""

    def test_a_counter_that_starts_anew_falls_no_further_than_to_the_last_checkpoint(self):
        before = running(told=9000, toldAt=NOW.isoformat(), source="Pods", estimate=9000)
        assert see(before, pods=pods_that_say("0", "0")).progress.estimate == 9000 - 3600
        assert see(before, pods=pods_that_say("7000", "7000")).progress.estimate == 7000

    def test_and_stays_there_until_the_counter_has_caught_up(self):
        before = running(told=9000, toldAt=NOW.isoformat(), source="Pods", estimate=9000)
        for counted, estimate in ((0, 5400), (1, 5400), (5399, 5400), (6000, 6000), (0, 5400)):
            seen = see(before, pods=pods_that_say(f"{counted}", f"{counted}"))
            assert seen.progress.estimate == estimate, counted
            before = {"phase": "Running", "progress": msgspec.to_builtins(seen.progress)}

    def test_one_that_never_checkpoints_has_lost_this_run(self):
        before = running(unitsDone=100, told=9000, toldAt=NOW.isoformat(), source="Pods", estimate=9000)
        assert see(before, pods=pods_that_say("0", "0"), checkpoint=None).progress.estimate == 100

    def test_never_below_what_survived_of_earlier_runs(self):
        before = running(unitsDone=5000, told=5100, toldAt=NOW.isoformat(), source="Pods")
        assert see(before, pods=pods_that_say("10", "10")).progress.estimate == 5000

    def test_an_estimate_by_speed_binds_nobody(self):
        before = running(estimate=20_000)
        assert see(before, pods=pods_that_say("10", "10")).progress.estimate == 10


class TestLastRun:
    """A word that outlives the pods that it was of."""

    def test_what_was_said_before_the_gang_was_taken_back_is_heeded_once_it_changes(self):
        before = running(unitsDone=2500, told=3000)
        seen = see(before, meta={"annotations": {UNITS_DONE: "3000"}})
        assert (seen.progress.estimate, seen.progress.source) == (pytest.approx(2500 + 7200), "")
        assert (seen.progress.told, seen.progress.told_at) == (3000, None), "and it is remembered as such"
        anew = see(before, meta={"annotations": {UNITS_DONE: "2600"}})
        assert (anew.progress.estimate, anew.progress.source) == (2600, "TrainingJob")

    def test_a_pods_own_word_is_always_of_this_run(self):
        seen = see(running(unitsDone=2500, told=3000), pods=pods_that_say("3000", "3000"))
        assert (seen.progress.estimate, seen.progress.source) == (3000, "Pods")


class TestSilence:
    def test_what_nobody_says_any_more_goes_on_by_speed_from_the_last_word(self):
        before = running(told=1000, toldAt=(NOW - HOUR).isoformat(), source="Metric")
        seen = see(before, measured=Measured(asked=True), progress=METRIC)
        assert (seen.progress.estimate, seen.progress.told) == (pytest.approx(4600), 1000)

    def test_the_same_word_keeps_its_time(self):
        at = NOW - HOUR
        before = running(told=1000, toldAt=at.isoformat(), source="Pods")
        assert see(before, pods=pods_that_say("1000", "1000")).progress.told_at == at
        assert see(before, pods=pods_that_say("1001", "1000")).progress.told_at == NOW


def test_what_survives_is_by_what_was_told_not_by_the_stated_speed():
    seen = see(running(unitsDone=100), pods=pods_that_say("1300", "1300"))
    assert seen.job is not None
    # 1,200 units in 2.5 h with a checkpoint each hour: those of two hours.
    assert kept(seen.job, seen.progress, ran_hours=2.5) == pytest.approx(100 + 1200 * 2 / 2.5)
    never = replace(seen.job, checkpoint=replace(seen.job.checkpoint, every=None))
    assert kept(never, seen.progress, ran_hours=2.5) == 100


SPEEDS = {UNET: {"A100-80GB": Speed(units_per_second=0.5, spread=0.01, runs=4, trusted=True, stated=1.0)}}
IDLE = Utilisation(job=UNET, gpu_ratio=0.0, watts=600.0, idle_gpus=8, gpus=8, processless_gpus=0)
LONG = {"idleSince": (NOW - HOUR).isoformat()}


class TestSpeeds:
    def test_a_measured_speed_drives_the_rest(self):
        seen = see(running(), measured=Measured(speeds=SPEEDS))
        assert seen.progress.estimate == pytest.approx(3600)
        assert seen.job is not None
        assert seen.job.work.units_per_second == {"A100-80GB": 0.5}

    def test_unless_it_is_only_to_be_shown(self):
        seen = see(running(), measured=Measured(speeds=SPEEDS, use_speeds=False))
        assert seen.progress.estimate == pytest.approx(7200)


def test_who_has_no_book_of_speeds_goes_by_those_that_decided_last():
    last = {"gpuModel": "A100-80GB", "stated": 1.0, "measured": 0.5}
    for used, estimate in ((True, 3600), (False, 7200)):
        seen = see(running() | {"calibration": [last | {"used": used}]})
        assert seen.progress.estimate == pytest.approx(estimate)


class TestIdle:
    def see(self, used: Utilisation | None, status: dict | None = None, **spec: object) -> Seen:
        return see(running() | (status or {}), measured=Measured(usage={UNET: used} if used else {}), **spec)

    def test_the_time_begins_when_all_of_them_do_nothing(self):
        assert self.see(IDLE).idle.since == NOW
        assert self.see(replace(IDLE, idle_gpus=7)).idle.since is None

    def test_it_is_due_after_the_grace_time_with_money(self):
        seen = self.see(IDLE, LONG)
        assert "done nothing for 60 min, at 10.00 USD/h: 10.00 USD" in seen.idle.due
        assert seen.job is not None
        assert not seen.job.suspended, "it is only advised by default"
        assert not self.see(IDLE, LONG, idlePolicy={"afterMinutes": 61}).idle.due

    @pytest.mark.parametrize("action", ["Checkpoint", "Stop"])
    def test_a_policy_that_acts_stops_it_and_unknown_never_does(self, action: str):
        policy = {"idlePolicy": {"action": action}}
        seen = self.see(IDLE, LONG, **policy)
        assert seen.facts is not None
        assert acts(seen.facts, NOW)
        unknown = replace(IDLE, gpus=None)
        half = replace(IDLE, gpus=4, idle_gpus=4)
        for used in (None, unknown, replace(unknown, idle_gpus=None), half):
            seen = self.see(used, LONG, **policy)
            assert seen.facts is not None
            assert not acts(seen.facts, NOW)
            assert seen.idle.since is None, "the time begins anew"

    def test_it_is_held_until_its_spec_is_edited(self):
        held = {"phase": "Suspended", "idleHeld": 3}
        parked = a_batch_job(suspended=True)
        seen = look(resources=[a_resource(held)], jobs=[parked]).seen[UNET]
        assert seen.idle_held
        assert seen.job is not None
        assert seen.job.suspended
        edited = look(resources=[a_resource(held | {"idleHeld": 2})], jobs=[parked]).seen[UNET]
        assert edited.job is not None
        assert not edited.job.suspended

    def test_stop_ends_it_once_its_pods_are_gone(self):
        held, stop = {"phase": "Queued", "idleHeld": 3}, {"idlePolicy": {"action": "Stop"}}
        leaving = look(resources=[a_resource(held, **stop)], pods=RUNNING, jobs=[a_batch_job(suspended=True)])
        assert leaving.seen[UNET].phase is None
        gone = look(resources=[a_resource(held, **stop)], jobs=[a_batch_job(suspended=True)]).seen[UNET]
        assert (gone.phase, gone.job) == (Phase.FAILED, None)


def test_waiting_less_than_the_grace_time_is_nothing():
    used = Utilisation(job=UNET, gpu_ratio=0.0, watts=None, idle_gpus=8, gpus=8)
    status = running() | {"idleSince": (NOW - timedelta(minutes=29)).isoformat()}
    assert see(status, measured=Measured(usage={UNET: used})).idle.due == ""
