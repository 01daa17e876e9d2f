"""A TrainingJob that stands for somebody else's pods, in the situation that is decided about."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from stint.decide import decide
from stint.kube.plan_note import PLAN_ANNOTATION, note
from stint.model.gang import GangState
from stint.model.job import Phase, job_id
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_plan, a_record, a_resource
from tests.unit.kube.test_observe import HOUR, look
from tests.unit.kube.theirs import let_go, pod, workload

JOB = job_id("team", "job-train")
THEIR_JOB = (workload(),)
TOLERATES = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
WAITING = [pod(n, tolerations=TOLERATES) for n in "ab"]
RUNNING = [let_go(n, i, tolerations=TOLERATES) for i, n in enumerate("ab")]


def a_stand_in(plan=None, *, status=None, **spec):
    resource = a_resource(status, template=None, steers={"kind": "Job", "name": "train"}, gpu={"perWorker": 2}, **spec)
    annotations = {PLAN_ANNOTATION: note(plan)} if plan else {}
    meta = msgspec.structs.replace(resource.metadata, name="job-train", annotations=annotations)
    return msgspec.structs.replace(resource, metadata=meta)


def observe(*pods, plan=None, workloads=THEIR_JOB, status=None, now=NOW, nodes=("n1",), **spec):
    return look(
        resources=[a_stand_in(plan, status=status, **spec)],
        nodes=[a_record(n) for n in nodes],
        pods=pods,
        workloads=workloads,
        now=now,
    )


def test_a_complete_group_is_placed_like_any_other_job():
    seen = observe(*WAITING)
    (placement,) = decide(seen.situation).placements
    assert (placement.job, placement.nodes) == (JOB, ("n1", "n1"))
    assert placement.chosen.cost.usd > 0


@pytest.mark.parametrize("workloads", [THEIR_JOB, ()], ids=["its Job says how many", "only its TrainingJob does"])
def test_an_incomplete_one_is_held_and_takes_nothing(workloads):
    seen = observe(WAITING[0], workloads=workloads)
    plan = decide(seen.situation)
    (hold,) = plan.holds
    assert (hold.reason, plan.placements) == (Reason.INCOMPLETE, ())
    assert hold.message.startswith("1 of the 2 GPU pods of Job train are there")


def test_a_placed_one_takes_its_nodes_once_whether_its_pods_are_let_go_or_not():
    for pods in (WAITING, RUNNING, RUNNING[:1]):
        (node,) = observe(*pods, plan=a_plan()).situation.nodes
        assert node.used.gpus == 4


def test_what_was_let_go_and_is_taken_back_still_fills_its_node():
    seen = observe(*RUNNING, plan=a_plan(), status={"takenBack": NOW.isoformat()})
    assert seen.seen[JOB].gang.state is GangState.TAKEN_BACK
    (node,) = seen.situation.nodes
    assert node.used.gpus == 4


def test_a_pod_that_tolerates_no_gpu_taint_is_told_so():
    (hold,) = decide(observe(pod("a"), pod("b")).situation).holds
    assert hold.reason is Reason.TAINT_NOT_TOLERATED


def test_workers_are_as_large_as_their_pods_are_not_as_the_spec_says():
    large = [pod(n, gpus=8, tolerations=TOLERATES) for n in "ab"]
    (job,) = observe(*large).situation.jobs
    assert job.per_worker == Resources(gpus=8, pods=1)


def test_its_progress_follows_its_speed_as_that_of_a_gang_of_ours_does():
    status = {"phase": "Running", "progress": {"runningSince": NOW.isoformat()}}
    seen = observe(*RUNNING, plan=a_plan(usd_per_hour=10.0), status=status, now=NOW + HOUR).seen[JOB]
    assert seen.progress.estimate == pytest.approx(3600, rel=0.05)


def test_progress_that_a_trainjob_tells_beats_the_clock():
    label = {"jobset.sigs.k8s.io/jobset-name": "train"}
    chain = (
        workload("JobSet", owner="top", spec={"replicatedJobs": []}),
        workload("TrainJob", "top", spec={}, status={"trainerStatus": {"progressPercentage": 50}}),
    )
    pods = [let_go(n, i, labels=label) for i, n in enumerate("ab")]
    status = {"phase": "Running", "progress": {"runningSince": NOW.isoformat()}}
    resource = a_stand_in(a_plan(), status=status)
    spec = msgspec.structs.replace(resource.spec, steers=msgspec.structs.replace(resource.spec.steers, kind="JobSet"))
    meta = msgspec.structs.replace(resource.metadata, name="jobset-train")
    resource = msgspec.structs.replace(resource, spec=spec, metadata=meta)
    later = NOW + timedelta(minutes=1)
    seen = look(resources=[resource], nodes=[a_record("n1")], pods=pods, workloads=chain, now=later)
    assert seen.seen[job_id("team", "jobset-train")].progress.estimate == pytest.approx(18_000)


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ({"conditions": [{"type": "Complete", "status": "True"}]}, Phase.SUCCEEDED),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}, Phase.FAILED),
    ],
)
def test_it_ends_as_what_makes_its_pods_says(status, phase):
    assert observe(plan=a_plan(), workloads=(workload(status=status),)).seen[JOB].phase is phase


def test_pods_of_another_group_of_that_name_are_not_its_own():
    other = pod("a", labels={"stint.dev/group": "train"})
    seen = observe(other).seen[JOB]
    assert seen.gang.pods == ()


def test_our_own_job_of_that_name_has_none_of_their_pods():
    own = a_resource()
    meta = msgspec.structs.replace(own.metadata, name="job-train")
    seen = look(resources=[msgspec.structs.replace(own, metadata=meta)], nodes=[a_record()], pods=WAITING)
    assert seen.seen[JOB].gang.pods == ()
