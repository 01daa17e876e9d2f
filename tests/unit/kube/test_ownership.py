"""Names, labels and annotations are anybody's: only owners by uid and plans that we have signed count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from stint.api.trainingjob import TrainingJob
from stint.decide import decide
from stint.feeds import bundled
from stint.kube.observe.snapshot import Caches, Observation, Seen, observe
from stint.kube.plan_note import (
    PLAN_ANNOTATION,
    SIGNATURE_ANNOTATION,
    PlanNote,
    note,
    read_note,
    signature,
    signed_note,
)
from stint.kube.records import JobRecord, PodRecord
from stint.model.gang import GangState
from stint.model.job import JobId, Phase
from stint.model.resources import Resources
from stint.model.situation import Settings
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_plan, a_record, a_resource
from tests.unit.kube.theirs import let_go, pod, workload

KEY = b"k" * 32
UNET = JobId("team/unet")


def seen(
    *,
    resource: TrainingJob | None = None,
    jobs: tuple[JobRecord, ...] = (),
    pods: tuple[PodRecord, ...] = (),
    **more: Any,
) -> Observation:
    resource = resource or a_resource()
    caches = Caches(
        trainingjobs=[resource],
        gpu_pools=[],
        price_books=[],
        nodes=[a_record("n1"), a_record("n2")],
        pods=pods,
        jobs=jobs,
        plan_key=KEY,
        **more,
    )
    return observe(caches, bundled.load(), Settings(), now=NOW, created={"u": NOW}, empty_since={})


def unet(observation: Observation) -> Seen:
    return observation.seen[UNET]


def used(observation: Observation) -> dict[str, int]:
    return {n.name: n.used.gpus for n in observation.situation.nodes}


def a_signed_job(plan: PlanNote | None = None, *, uid: str = "u", **changes: Any) -> JobRecord:
    plan = plan or a_plan()
    return a_batch_job(plan, plan_signature=signature(note(plan), uid, KEY), **changes)


def test_our_own_plan_counts():
    found = seen(jobs=(a_signed_job(),))
    assert unet(found).gang.state is GangState.PLACED
    assert used(found) == {"n1": 8, "n2": 0}


@pytest.mark.parametrize(
    "job",
    [
        a_batch_job(),
        a_signed_job(uid="another"),
        msgspec.structs.replace(a_signed_job(), plan=note(a_plan(("n1", "n2")))),
        msgspec.structs.replace(a_signed_job(), plan_signature="é"),
    ],
    ids=["not signed", "of another job", "changed", "no signature at all"],
)
def test_a_plan_that_we_have_not_written_holds_no_node_and_the_job_is_taken_back(job):
    found = seen(jobs=(job,), pods=(a_gang_pod(0), a_gang_pod(1)))
    assert used(found) == {"n1": 0, "n2": 0}
    assert unet(found).gang.state is GangState.TAKEN_BACK


def test_a_gang_that_has_all_its_nodes_keeps_them_whoever_wrote_that_down():
    far = datetime(2999, 1, 1, tzinfo=UTC)
    plan = msgspec.structs.replace(a_plan(since=far), finish=far, per_worker=Resources(gpus=1), cost_usd=1e9)
    pods = tuple(a_gang_pod(i, node="n1", phase="Running", gated=False) for i in (0, 1))
    found = seen(jobs=(a_batch_job(plan),), pods=pods)
    gang = unet(found).gang
    assert gang.state is GangState.PLACED
    assert gang.plan is not None
    assert (gang.plan.since, gang.plan.finish, gang.plan.per_worker) == (NOW, None, None)
    assert used(found) == {"n1": 8, "n2": 0}
    half = seen(jobs=(a_batch_job(plan),), pods=pods[:1])
    assert unet(half).gang.state is GangState.TAKEN_BACK
    assert used(half) == {"n1": 4, "n2": 0}


@pytest.mark.parametrize(
    "job",
    [
        a_signed_job(owner="", complete=True),
        a_signed_job(owner="an earlier one", complete=True),
        a_signed_job(owner="an earlier one", failed_message="no"),
        a_signed_job(owner="an earlier one", job=""),
    ],
    ids=["orphaned", "of an earlier TrainingJob", "that failed", "without our label"],
)
def test_a_job_of_the_same_name_that_is_not_ours_is_told_and_ends_nothing(job):
    found = unet(seen(jobs=(job,), pods=(a_gang_pod(0, node="n1", gated=False, phase="Running"),)))
    assert found.phase is None
    assert found.job is not None
    assert "delete it (kubectl delete job unet -n team), or give the TrainingJob another name" in found.job.lacking
    assert found.gang.pods == ()


def test_a_complete_job_that_only_has_our_label_ends_nothing():
    other = a_signed_job(name="other", uid="x", owner="", complete=True)
    running = tuple(a_gang_pod(i, node="n1", phase="Running", gated=False) for i in (0, 1))
    found = unet(seen(jobs=(a_signed_job(), other), pods=running))
    assert (found.phase, found.gang.state) == (None, GangState.PLACED)


def test_one_that_is_being_deleted_is_waited_for():
    found = unet(seen(jobs=(a_signed_job(owner="an earlier one", deleting=True),)))
    assert found.job is not None
    assert "is being deleted; a new one is created once it has gone" in found.job.lacking


def test_pods_that_pretend_to_be_workers_count_where_they_are_bound():
    forged = [
        a_gang_pod(0, node="n2", phase="Running", gated=False, run=""),
        a_gang_pod(1, node="n2", phase="Running", gated=False, run="another job"),
    ]
    found = seen(jobs=(a_signed_job(),), pods=tuple(forged))
    assert used(found) == {"n1": 8, "n2": 8}
    assert unet(found).gang.pods == ()


def test_more_workers_than_planned_count_by_what_they_have():
    more = tuple(
        msgspec.structs.replace(a_gang_pod(0, node="n1", phase="Running", gated=False), uid=f"p{i}") for i in range(3)
    )
    assert used(seen(jobs=(a_signed_job(a_plan(("n1",))),), pods=more))["n1"] == 12


@pytest.mark.parametrize(
    "change",
    [
        {"since": datetime(1, 1, 1, tzinfo=UTC)},
        {"since": datetime(9999, 12, 31, tzinfo=UTC)},
        {"finish": datetime(9999, 12, 31, tzinfo=UTC)},
        {"per_worker": Resources(gpus=-8)},
        {"per_worker": Resources(gpus=1, extended=(("rdma/hca", -1.0),))},
        {"usd_per_hour": 1e300},
        {"cost_usd": -1e300},
        {"nodes": ("n1",) * 5000},
    ],
    ids=lambda c: next(iter(c)),
)
def test_figures_and_dates_that_no_plan_of_ours_has_make_none(change):
    assert read_note(note(msgspec.structs.replace(a_plan(), **change))) is None


def test_a_date_beyond_utc_is_no_plan():
    text = note(a_plan()).replace("2026-11-23T12:00:00Z", "0001-01-01T00:00:00+14:00")
    assert "0001" in text
    assert read_note(text) is None


def steered(plan: PlanNote, *, signed: bool) -> TrainingJob:
    said = signed_note(plan, "u", KEY)
    if not signed:
        said[SIGNATURE_ANNOTATION] = "0" * 64
    body = msgspec.to_builtins(a_resource(template=None, steers={"kind": "Job", "name": "train"}))
    meta = {**body["metadata"], "name": "job-train", "annotations": said}
    assert set(said) == {PLAN_ANNOTATION, SIGNATURE_ANNOTATION}
    return msgspec.convert({**body, "metadata": meta}, TrainingJob)


@pytest.mark.parametrize(("signed", "gpus"), [(True, 8), (False, 0)])
def test_of_a_workload_of_others_a_plan_counts_that_we_have_signed(signed, gpus):
    found = seen(
        resource=steered(a_plan(), signed=signed), pods=(pod("a", gpus=4), pod("b", gpus=4)), workloads=[workload()]
    )
    assert used(found)["n1"] == gpus
    state = found.seen[JobId("team/job-train")].gang.state
    assert state is (GangState.PLACED if signed else GangState.ABSENT)


def test_what_others_run_keeps_its_nodes_after_the_key_was_lost():
    running = (let_go("a", 0, gpus=4), let_go("b", 1, gpus=4))
    found = seen(resource=steered(a_plan(), signed=False), pods=running, workloads=[workload()])
    assert found.seen[JobId("team/job-train")].gang.state is GangState.PLACED
    assert used(found)["n1"] == 8


def test_a_job_made_again_under_its_name_is_not_what_the_first_one_was():
    first = a_signed_job(complete=True, ended=NOW - timedelta(hours=1))
    assert unet(seen(jobs=(first,))).phase is Phase.SUCCEEDED
    again = msgspec.structs.replace(a_resource(), metadata=msgspec.structs.replace(a_resource().metadata, uid="u2"))
    caches = Caches(
        trainingjobs=[again], gpu_pools=[], price_books=[], nodes=[a_record()], pods=[], jobs=[first], plan_key=KEY
    )
    found = observe(caches, bundled.load(), Settings(), now=NOW, created={"u2": NOW}, empty_since={}).seen[UNET]
    assert found.phase is None


def leaving(*finalizers: str) -> TrainingJob:
    meta = msgspec.structs.replace(a_resource().metadata, deletion_timestamp=NOW, finalizers=list(finalizers))
    return msgspec.structs.replace(a_resource(), metadata=meta)


@pytest.mark.parametrize("jobs", [(), (a_signed_job(),)], ids=["waiting", "placed"])
def test_one_that_is_being_deleted_is_not_placed_and_gives_back_what_it_has(jobs):
    found = seen(resource=leaving("example.com/stay"), jobs=jobs)
    (job,) = found.situation.jobs
    assert job.suspended
    requeued = decide(found.situation).requeues
    assert [r.message for r in requeued] == ["its TrainingJob is being deleted"] * len(jobs)


def test_workers_that_are_to_outlive_it_go_on():
    assert not seen(resource=leaving("orphan"), jobs=(a_signed_job(),)).situation.jobs[0].suspended
    assert seen(resource=leaving("orphan")).situation.jobs[0].suspended
