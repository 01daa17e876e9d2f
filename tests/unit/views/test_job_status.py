from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from stint.api.trainingjob import TrainingJob
from stint.api.trainingjob_status import Status, Usage
from stint.controllers.clock import Clock
from stint.controllers.store import Store
from stint.decide import decide
from stint.lifecycle import phases
from stint.model.cluster import Utilisation
from stint.model.job import Phase
from stint.model.measured import Measured
from stint.model.plan import Reason, Requeue
from stint.testing.builders import NOW
from stint.views import job_status
from tests.unit.kube.objects import P4DE, a_batch_job, a_gang_pod, a_plan, a_record, a_resource
from tests.unit.kube.test_observe import UNET, look


def build(resource: TrainingJob, *, booking: tuple[str, str] | None = None, **caches: object) -> Status:
    seen = look(resources=[resource], **caches)
    plan = decide(seen.situation)
    context = job_status.Context(now=NOW, offerings=seen.inventory.offerings, booking=booking)
    return job_status.build(seen.seen[UNET], phases.outcomes(plan).get(UNET), context)


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


def test_books_that_are_wrong_are_a_condition_until_they_are_right():
    assert "Booked" not in conditions(build(a_resource()))
    wrong = build(a_resource(), booking=("ClockDiffers", "the operator's clock is 60 s behind"))
    assert conditions(wrong)["Booked"] == ("False", "ClockDiffers")
    assert conditions(build(a_resource(msgspec.to_builtins(wrong))))["Booked"] == ("True", "Booked")
    place = {"day": "2026-11-26", "pool": "p", "gpuModel": "L4", "capacityType": "spot"}
    free = {"ledger": {"lines": [{**place, "gpuSeconds": {"useful": 7200}, "unpricedGpuSeconds": 3600}]}}
    status = build(a_resource(free))
    (booked,) = [c for c in status.conditions if c.type == "Booked"]
    assert (booked.status, booked.reason) == ("False", "NoPrice")
    assert booked.message.startswith("1.00 GPU-hours had no price")
    assert status.ledger.waste == "0"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_after_its_end_only_what_it_cost_is_told_anew(phase):
    finish = (NOW - timedelta(hours=1)).isoformat()
    old = {"phase": phase, "reason": "WorkerFailed", "message": "gave up after 1.00 USD: exit 3", "finish": finish}
    status = build(a_resource({**old, "spentExactly": 2.5}))
    assert (status.phase, status.reason, status.spent_usd) == (phase, "WorkerFailed", "2.50")
    assert status.finish == NOW - timedelta(hours=1)
    text = "finished for 2.50 USD" if phase == "Succeeded" else "gave up after 1.00 USD: exit 3"
    assert status.message == text


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
    assert not job_status.significant(status, moved)
    assert job_status.significant(status, msgspec.structs.replace(status, phase="Running"))


def test_a_requeue_is_told_as_an_interruption():
    seen = look(resources=[a_resource()], nodes=[a_record()], jobs=[a_batch_job()])
    context = job_status.Context(now=NOW, offerings=seen.inventory.offerings)
    requeue = Requeue(job=UNET, reason=Reason.NODE_LOST, message="node n1 is gone")
    status = job_status.build(seen.seen[UNET], requeue, context)
    assert conditions(status)["Interrupted"] == ("True", "NodeLost")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45, "45s"), (3600, "1h"), (4320, "1h12m"), (-90, "-1m30s"), (90061, "1d1h")],
)
def test_spans_read_at_a_glance(seconds, text):
    assert job_status.span(timedelta(seconds=seconds)) == text


def test_ranks_are_runs():
    assert job_status.ranks(["a", "a", "b", "a", "a", "a"]) == {"a": "0-1,3-5", "b": "2"}


def test_a_faster_clock_reads_faster():
    clock = Clock(start=NOW, pace=60.0)
    assert clock.of(NOW + timedelta(seconds=1)) == NOW + timedelta(minutes=1)
    assert clock.wall_seconds(timedelta(hours=1)) == 60


def page(*bodies: dict) -> list[msgspec.Raw]:
    return [msgspec.Raw(msgspec.json.encode(body)) for body in bodies]


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
        assert store.keep_only(set(), "9")
        assert store.items == {}

    def test_what_is_newer_than_a_list_may_be_missing_in_it(self):
        store = Store(TrainingJob)
        store.put(self._body("10"))
        assert not store.keep_only(set(), "9")
        assert "u" in store.items

    def test_a_page_brings_what_is_new_and_the_rest_is_not_even_decoded(self):
        store = Store(TrainingJob)
        store.put(self._body("1"))
        known = store.items["u"]
        assert store.put_page(page(self._body("1"))) == ({"u"}, False)
        assert store.items["u"] is known
        new = self._body("2") | {"spec": self._body("2")["spec"] | {"priority": 7}}
        assert store.put_page(page(new)) == ({"u"}, True)
        assert store.items["u"].spec.priority == 7

    def test_an_unreadable_object_in_a_page_is_there_and_hides_no_other(self):
        store = Store(TrainingJob)
        broken, whole = self._body("1"), self._body("1")
        broken["metadata"]["uid"] = "broken"
        broken["spec"]["workers"] = "many"
        assert store.put_page(page(broken, whole)) == ({"broken", "u"}, True)
        assert list(store.items) == ["u"]

    def test_an_object_that_cannot_be_read_stops_nobody(self):
        store = Store(TrainingJob)
        body = self._body("1")
        body["spec"]["workers"] = "many"
        assert not store.put(body)
        assert store.items == {}


def test_the_columns_of_a_placed_job_add_up():
    spent = {"spentExactly": 12.0, "spentThrough": NOW.isoformat()}
    status = build(a_resource(spent, budget={"usd": 1000}, within="24h"), nodes=[a_record()])
    assert (status.spent_usd, status.budget_usd, status.workers) == ("12.00", "1000.00", 2)
    rate, estimate = float(status.usd_per_hour), float(status.estimated_usd)
    assert estimate == pytest.approx(12 + rate * 10, rel=0.002)
    assert status.finish is not None
    assert status.deadline is not None
    assert status.slack == job_status.span(status.deadline - status.finish)
    assert status.observed_generation == 3
    assert status.selector == "stint.dev/trainingjob=unet"
    assert float(status.energy_kwh) > 0
    assert float(status.carbon_kg) > 0


def test_the_runner_up_is_told_with_what_it_would_have_cost():
    dear = {**P4DE, "karpenter.sh/nodepool": "far", "topology.kubernetes.io/zone": "us-east-1b"}
    status = build(a_resource(), nodes=[a_record("n1"), a_record("n2", labels=dear)])
    assert status.next_best is not None
    assert f"next best {status.next_best.offering}: " in status.message
    assert float(status.saved_usd) >= 0
    assert status.rejected == []


def test_a_finished_job_has_its_bill_and_holds_nothing():
    spent = {"phase": "Running", "spentExactly": 42.0, "spentThrough": NOW.isoformat()}
    status = build(a_resource(spent), nodes=[a_record()], jobs=[a_batch_job(complete=True)])
    assert (status.phase, status.message) == ("Succeeded", "finished for 42.00 USD")
    assert (status.estimated_usd, status.usd_per_hour, status.nodes, status.ready_workers) == ("42.00", "0.00", {}, 0)
    assert conditions(status)["Finished"] == ("True", "Succeeded")
    assert conditions(status)["Running"] == ("False", "Succeeded")


def test_when_a_job_ended_does_not_move_while_its_ledger_is_still_open():
    ended = {"phase": "Succeeded", "finish": "2026-01-02T03:04:05Z"}
    status = build(a_resource(ended), nodes=[a_record()], jobs=[a_batch_job(complete=True)])
    assert (status.phase, status.finish) == ("Succeeded", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def test_a_job_that_was_given_up_says_what_its_worker_said():
    job = a_batch_job(a_plan(attempt=3), failed_message="exit code 137")
    status = build(a_resource(), nodes=[a_record()], jobs=[job])
    assert (status.phase, status.reason) == ("Failed", "WorkerFailed")
    assert "gave up after 3 retries" in status.message
    assert "exit code 137" in status.message


def test_a_suspended_job_says_that_it_is_and_keeps_no_nodes():
    status = build(a_resource(suspend=True), nodes=[a_record()])
    assert (status.phase, status.reason, status.nodes) == ("Suspended", "Suspended", {})
    assert conditions(status)["Placed"] == ("False", "Suspended")


def test_the_reason_why_a_job_backs_off_says_more_than_that_it_does():
    lost = {"phase": "Queued", "reason": "NodeLost", "message": "node n1 is gone"}
    later = {"notBefore": (NOW + timedelta(minutes=1)).isoformat()}
    status = build(a_resource({**lost, **later}), nodes=[a_record()])
    assert (status.reason, status.message) == ("NodeLost", "node n1 is gone")
    other = build(a_resource({"phase": "Queued", "reason": "NotEnoughGpus", **later}), nodes=[a_record()])
    assert other.reason == "BackingOff"


def test_what_has_ended_never_comes_back():
    seen = look(resources=[a_resource({"phase": "Succeeded"})], nodes=[a_record()]).seen[UNET]
    context = job_status.Context(now=NOW, offerings={})
    assert job_status.build(seen, None, context).phase == "Succeeded"
    wrong = dataclasses.replace(seen, phase=Phase.RUNNING)
    assert job_status.build(wrong, None, context).phase == "Succeeded"


def test_unknown_utilisation_is_absent_and_not_zero():
    seen = look(resources=[a_resource()], nodes=[a_record()])
    known = Utilisation(job=UNET, gpu_ratio=0.51239, watts=None, idle_gpus=0)
    outcome = phases.outcomes(decide(seen.situation)).get(UNET)
    context = job_status.Context(now=NOW, offerings=seen.inventory.offerings, measured=Measured(usage={UNET: known}))
    usage = job_status.build(seen.seen[UNET], outcome, context).usage
    assert usage is not None
    assert (usage.gpu_ratio, usage.watts, usage.idle_gpus) == (0.512, None, 0)
    assert build(a_resource(), nodes=[a_record()]).usage is None


def test_an_old_price_is_told_beside_the_price():
    spot = {**P4DE, "karpenter.sh/capacity-type": "spot"}
    priced = {c.type: c for c in build(a_resource(), nodes=[a_record(labels=spot)]).conditions}["Priced"]
    assert (priced.status, priced.reason) == ("True", "StalePrice")
    assert "confirm it in a PriceBook" in priced.message


def test_the_step_to_running_is_worth_a_write_though_only_progress_moved():
    status = build(a_resource(), nodes=[a_record()])
    started = msgspec.structs.replace(status.progress, running_since=NOW)
    assert job_status.significant(status, msgspec.structs.replace(status, progress=started))
    further = msgspec.structs.replace(status.progress, estimate=5.0)
    assert not job_status.significant(status, msgspec.structs.replace(status, progress=further))


def test_what_is_written_is_status_only():
    resource = a_resource()
    body = job_status.body(resource, build(resource, nodes=[a_record()]))
    assert set(body) == {"apiVersion", "kind", "metadata", "status"}
    assert body["metadata"] == {"name": "unet", "namespace": "team"}


def test_the_ordinary_clock_keeps_pace_with_the_wall():
    clock = Clock(start=NOW)
    assert clock.of(NOW + timedelta(hours=1)) == NOW + timedelta(hours=1)
    assert clock.of(NOW - timedelta(hours=1)) == NOW - timedelta(hours=1)
    assert clock.wall_seconds(timedelta(minutes=2)) == 120


class TestWhatPeopleWriteWakesUs:
    def _body(self, version: str, spec: dict | None = None, **meta: object) -> dict:
        resource = msgspec.to_builtins(a_resource(**(spec or {})))
        resource["metadata"] |= {"resourceVersion": version, **meta}
        return resource

    @pytest.mark.parametrize(
        "change",
        [
            {"spec": {"priority": 7}},
            {"annotations": {"stint.dev/x": "y"}},
            {"deletionTimestamp": "2026-11-23T12:00:00Z"},
        ],
        ids=lambda c: next(iter(c)),
    )
    def test_a_change_of(self, change):
        store = Store(TrainingJob)
        store.put(self._body("1"))
        assert store.put(self._body("2", **change))

    def test_being_told_twice_is_no_change(self):
        store = Store(TrainingJob)
        store.put(self._body("1"))
        assert not store.put(self._body("1"))
        assert store.put_page(page(self._body("1"))) == ({"u"}, False)

    def test_a_deletion_is_one_once(self):
        store = Store(TrainingJob)
        store.put(self._body("9"))
        assert store.drop("u", "9")
        assert not store.drop("u", "9")
        assert not store.put(self._body("3"))  # the answer to an earlier write comes after the news of its end
        assert store.items == {}


def test_figures_that_always_move_are_quiet_and_idle_gpus_are_not():
    old = build(a_resource(), nodes=[a_record()])
    moved = msgspec.structs.replace(old, spent_usd="1.00", ready_workers=1)
    assert not job_status.significant(old, moved)
    measured = msgspec.structs.replace(old, usage=Usage(gpu_ratio=0.1, watts=90.0, idle_gpus=8))
    assert job_status.significant(old, measured)
    busier = msgspec.structs.replace(measured, usage=Usage(gpu_ratio=0.2, watts=99.0, idle_gpus=8))
    assert not job_status.significant(measured, busier)


def test_a_gang_that_was_edited_since_it_was_placed_says_what_waits_for_its_next_start():
    plan = msgspec.structs.replace(a_plan(), made_from="something else")
    pods = [a_gang_pod(i, node="n1", phase="Running", gated=False) for i in range(2)]
    status = build(a_resource(workers=3), nodes=[a_record()], pods=pods, jobs=[a_batch_job(plan)])
    assert conditions(status)["UpToDate"] == ("False", "SpecChanged")
    same = build(a_resource(), nodes=[a_record()], pods=pods, jobs=[a_batch_job()])
    assert conditions(same)["UpToDate"] == ("True", "UpToDate")


def test_an_operator_that_was_killed_before_it_told_of_a_placement_tells_it_from_the_plan():
    plan = msgspec.structs.replace(a_plan(), message="placed on 8 A100-80GB for 3 USD/h")
    pods = [a_gang_pod(i, node="n1", phase="Running", gated=False) for i in range(2)]
    status = build(a_resource(), nodes=[a_record()], pods=pods, jobs=[a_batch_job(plan)])
    assert (status.phase, status.message, status.gpu_model) == ("Running", plan.message, "A100-80GB")
    assert (status.workers, status.gpus, status.offering) == (2, 8, plan.offering)
