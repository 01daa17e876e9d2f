from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from stint.api.trainingjob import Status, TrainingJob
from stint.controllers import status as told
from stint.controllers.clock import Clock
from stint.controllers.store import Store
from stint.decide import decide
from stint.model.plan import Reason, Recall
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_record, a_resource
from tests.unit.kube.test_observe import UNET, look


def build(resource: TrainingJob, **caches: object) -> Status:
    seen = look(resources=[resource], **caches)
    plan = decide(seen.situation)
    context = told.Context(now=NOW, offerings=seen.inventory.offerings, utilisation={})
    return told.build(seen.seen[UNET], told.outcomes(plan).get(UNET), context)


def conditions(status: Status) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in status.conditions}


def test_a_placed_job_shows_where_and_for_how_much():
    status = build(a_resource(budget={"usd": 1000}, within="24h"), nodes=[a_record()])
    assert (status.phase, status.gpu_model, status.gpus) == ("Starting", "A100-80GB", 8)
    assert status.nodes == {"n1": "0-1"}
    assert float(status.estimated_usd) == pytest.approx(float(status.usd_per_hour) * 10, rel=0.02)
    assert "next best" not in status.message
    assert conditions(status)["Admitted"] == ("True", "Placed")


def test_a_held_job_says_what_it_needs():
    status = build(a_resource(), nodes=[a_record(gpus=4)])
    assert (status.phase, status.reason) == ("Queued", "NotEnoughGpus")
    assert "needs 8 A100-80GB, 4 free" in status.message
    assert conditions(status)["Placed"] == ("False", "NotEnoughGpus")
    assert status.rejected[0].reason == "NotEnoughGpus"


def test_an_unusable_spec_names_field_value_and_remedy():
    status = build(a_resource(gpu={"perWorker": 1, "models": ["Voodoo2"]}))
    assert (status.phase, status.reason) == ("Invalid", "InvalidSpec")
    assert status.message.startswith("spec.gpu.models[0]: 'Voodoo2': is no GPU")


def test_a_running_job_at_risk_says_so():
    pods = [a_gang_pod(i, node="n1", phase="Running", gated=False) for i in range(2)]
    late = a_resource(within="2h", budget={"usd": 5, "onExceed": "Warn"})
    status = build(late, nodes=[a_record()], pods=pods, jobs=[a_batch_job()])
    assert status.phase == "Running"
    assert status.slack.startswith("-")
    assert conditions(status)["AtRisk"] == ("True", "OverBudget")


def test_a_condition_keeps_the_time_of_its_last_change():
    first = build(a_resource(), nodes=[a_record(gpus=4)])
    old = msgspec.to_builtins(first)
    for condition in old["conditions"]:
        condition["lastTransitionTime"] = (NOW - timedelta(hours=5)).isoformat()
    again = build(a_resource(old), nodes=[a_record(gpus=4)])
    assert {c.last_transition_time for c in again.conditions} == {NOW - timedelta(hours=5)}
    changed = build(a_resource(old), nodes=[a_record()])
    assert next(c for c in changed.conditions if c.type == "Placed").last_transition_time == NOW


def test_only_figures_that_always_move_are_not_worth_a_write_of_their_own():
    status = build(a_resource(), nodes=[a_record()])
    moved = msgspec.structs.replace(status, spent_usd="3.00", slack="1h", finish=NOW)
    assert not told.significant(status, moved)
    assert told.significant(status, msgspec.structs.replace(status, phase="Running"))


def test_a_recall_is_told_as_an_interruption():
    seen = look(resources=[a_resource()], nodes=[a_record()], jobs=[a_batch_job()])
    context = told.Context(now=NOW, offerings=seen.inventory.offerings, utilisation={})
    recall = Recall(job=UNET, reason=Reason.NODE_LOST, message="node n1 is gone")
    status = told.build(seen.seen[UNET], recall, context)
    assert conditions(status)["Interrupted"] == ("True", "NodeLost")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45, "45s"), (3600, "1h"), (4320, "1h12m"), (-90, "-1m30s"), (90061, "1d1h")],
)
def test_spans_read_at_a_glance(seconds, text):
    assert told.span(timedelta(seconds=seconds)) == text


def test_ranks_are_runs():
    assert told.ranks(["a", "a", "b", "a", "a", "a"]) == {"a": "0-1,3-5", "b": "2"}


def test_a_faster_clock_reads_faster():
    clock = Clock(start=NOW, pace=60.0)
    assert clock.of(NOW + timedelta(seconds=1)) == NOW + timedelta(minutes=1)
    assert clock.wall_seconds(timedelta(hours=1)) == 60


class TestStore:
    def _body(self, version: str, **status: object) -> dict:
        resource = msgspec.to_builtins(a_resource(status))
        resource["metadata"]["resourceVersion"] = version
        return resource

    def test_our_own_status_does_not_wake_us(self):
        store = Store(TrainingJob)
        assert store.put(self._body("1"))
        assert not store.put(self._body("2", phase="Running"))
        assert store.items["u"].status.phase == "Running"

    def test_an_older_version_that_comes_late_changes_nothing(self):
        store = Store(TrainingJob)
        store.put(self._body("5", phase="Running"))
        store.put(self._body("4", phase="Queued"))
        assert store.items["u"].status.phase == "Running"

    def test_what_a_list_no_longer_has_is_gone(self):
        store = Store(TrainingJob)
        store.put(self._body("1"))
        assert store.replace_all([])
        assert store.items == {}

    def test_an_object_that_cannot_be_read_stops_nobody(self):
        store = Store(TrainingJob)
        body = self._body("1")
        body["spec"]["workers"] = "many"
        assert not store.put(body)
        assert store.items == {}
