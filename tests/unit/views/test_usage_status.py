"""What status says of what was measured, and when that is worth an event."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from stint.api.trainingjob_status import Status
from stint.decide import decide
from stint.kube.observe.snapshot import Observation
from stint.lifecycle import phases
from stint.lifecycle.requeue import requeues
from stint.model.cluster import Utilisation
from stint.model.measured import Measured, Speed
from stint.model.plan import Reason
from stint.testing.builders import NOW
from stint.views import job_status, usage_status
from tests.unit.kube.objects import a_batch_job, a_plan, a_record, a_resource
from tests.unit.kube.test_observe import HOUR, RUNNING, UNET, look
from tests.unit.kube.test_progress import IDLE, LONG, METRIC, pods_that_say, running

BUSY = replace(IDLE, gpu_ratio=0.9, idle_gpus=0, memory_gib=60.0, work_ratio=0.41239, measured_at=NOW)


def observed(measured: Measured, status: dict | None = None, *, pods=RUNNING, job=None, **spec) -> Observation:
    resource = a_resource(running() | (status or {}), **spec)
    plan = a_plan(since=NOW - 3 * HOUR)
    return look(resources=[resource], nodes=[a_record()], pods=pods, jobs=[job or a_batch_job(plan)], measured=measured)


def build(measured: Measured, status: dict | None = None, **more) -> Status:
    seen = observed(measured, status, **more)
    context = job_status.Context(now=NOW, offerings=seen.inventory.offerings, measured=measured)
    return job_status.build(seen.seen[UNET], phases.outcomes(decide(seen.situation)).get(UNET), context)


def of(used: Utilisation | None, **more) -> Measured:
    return Measured(usage={} if used is None else {UNET: used}, asked=True, **more)


def conditions(status: Status) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in status.conditions}


def test_all_that_is_known_is_shown_and_the_rest_is_absent():
    usage = build(of(BUSY)).usage
    assert usage is not None
    assert (usage.gpu_ratio, usage.work_ratio, usage.memory_gi_b) == (0.9, 0.412, 60.0)
    assert (usage.processless_gpus, usage.measured_at) == (0, NOW)


def test_unknown_utilisation_is_a_condition_with_its_reason():
    assert conditions(build(of(BUSY)))["Measured"] == ("True", "Measured")
    status = build(of(None, wrong="utilisation is unknown: http://p: TimeoutError"))
    assert conditions(status)["Measured"] == ("Unknown", "NoMeasurement")
    assert "TimeoutError" in next(c.message for c in status.conditions if c.type == "Measured")
    assert "Measured" not in conditions(build(Measured())), "nobody was asked"
    just = {"progress": {"runningSince": NOW.isoformat()}}
    assert "Measured" not in conditions(build(of(None), just)), "the first scrapes are still to come"


def test_garbage_and_silence_are_conditions():
    refused = build(Measured(), pods=pods_that_say("NaN", "NaN"))
    assert conditions(refused)["ProgressTold"] == ("False", "Refused")
    assert list(usage_status.news(Status(), refused)) == [
        ("ProgressRefused", next(c.message for c in refused.conditions if c.type == "ProgressTold"))
    ]
    assert list(usage_status.news(refused, refused)) == []
    assert conditions(build(of(None), progress=METRIC))["ProgressTold"] == ("Unknown", "Silent")
    assert conditions(build(Measured(), pods=pods_that_say("5", "5")))["ProgressTold"] == ("True", "Pods")
    assert "ProgressTold" not in conditions(build(Measured()))


def test_the_speed_as_stated_and_as_measured_with_what_counts():
    speed = Speed(units_per_second=3.21, spread=0.2, runs=5, watts_per_gpu=612.34, trusted=True, stated=4.1)
    (found,) = build(Measured(speeds={UNET: {"A100-80GB": speed}})).calibration
    assert found.text == "stated 4.1, measured 3.21 ± 0.2 over 5 runs; decisions go by what was measured"
    assert (found.used, found.watts_per_gpu) == (True, 612.3)
    few = replace(speed, runs=1, spread=0.0, trusted=False)
    (found,) = build(Measured(speeds={UNET: {"A100-80GB": few}})).calibration
    assert found.text == "stated 4.1, measured 3.21 ± 0 over 1 run; decisions go by what was stated"
    own = replace(few, trusted=True, own=True)
    (found,) = build(Measured(speeds={UNET: {"A100-80GB": own}}, use_speeds=False)).calibration
    assert (found.used, "in this run" in found.text) == (False, True)


def test_a_live_speed_moves_the_finish():
    slow = Speed(units_per_second=0.5, spread=0.0, runs=3, trusted=True, stated=1.0)
    stated, measured = build(of(BUSY)), build(of(BUSY, speeds={UNET: {"A100-80GB": slow}}))
    assert stated.finish is not None
    assert measured.finish is not None
    assert measured.finish - stated.finish > timedelta(hours=8)


def test_advice_is_an_event_once():
    first = build(of(replace(BUSY, gpu_ratio=0.3)))
    assert [a.what for a in first.advice] == ["FewerWorkers"]
    ((reason, note),) = usage_status.news(Status(), first)
    assert reason == "Advice"
    assert note.endswith("5.00 USD/h less")
    assert list(usage_status.news(first, first)) == []
    assert job_status.significant(Status(phase=first.phase), first)


def test_idle_gpus_are_a_condition_an_event_and_by_default_no_more():
    status = build(of(IDLE), LONG)
    assert (status.phase, conditions(status)["Idle"]) == ("Running", ("True", "GpusDoNothing"))
    notes = dict(usage_status.news(Status(), status))
    assert "10.00 USD/h: 10.00 USD; end it" in notes["GpusIdle"]
    works = build(of(BUSY), {"conditions": [{**_idle_condition(), "status": "True"}]})
    assert conditions(works)["Idle"] == ("False", "Works")


def _idle_condition() -> dict[str, str]:
    return {"type": "Idle", "status": "True", "reason": "GpusDoNothing", "lastTransitionTime": NOW.isoformat()}


@pytest.mark.parametrize(("action", "says"), [("Checkpoint", "held until its spec is edited"), ("Stop", "ends it")])
def test_taken_back_it_says_why_in_money_and_is_held(action: str, says: str):
    policy = {"idlePolicy": {"action": action}}
    seen = observed(of(IDLE), LONG, **policy).seen[UNET]
    (requeue,) = requeues(observed(of(IDLE), LONG, **policy).situation)
    message = requeue.message
    assert requeue.reason is Reason.IDLE
    assert "10.00 USD" in message
    assert says in message
    context = job_status.Context(now=NOW, offerings={}, measured=of(IDLE))
    back = job_status.build(replace(seen, idle_held=True), requeue, context)
    assert (back.phase, back.reason, back.message, back.nodes) == ("Suspended", "Idle", message, {})
    held = {"phase": "Suspended", "reason": "Idle", "message": message, "idleHeld": 3}
    after = build(of(None), held, job=a_batch_job(suspended=True), pods=(), **policy)
    if action == "Checkpoint":
        assert (after.phase, after.reason, after.message) == ("Suspended", "Idle", message)
    else:
        assert (after.phase, after.reason) == ("Failed", "IdleStopped")
        assert message in after.message
