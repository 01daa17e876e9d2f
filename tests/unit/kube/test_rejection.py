"""What kube-scheduler and kubelets say of a pod, from the wire to facts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from stint.decide import decide
from stint.kube.observe.memory import Memory
from stint.kube.records import GangPod
from stint.kube.reduce import reduce_pod
from stint.kube.rejection import ADMISSION, MOST_SAID, passes, rejects, said
from stint.kube.wire import WirePod
from stint.model.gang import GangState, NodeRejection
from stint.model.plan import Reason
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_plan, a_record, a_resource
from tests.unit.kube.test_observe import RUNNING, UNET, look

LOW = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51200Ki. Container x was using 9Gi"
OWN = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "


class TestRejects:
    @pytest.mark.parametrize("reason", [*sorted(ADMISSION), "OutOfcpu", "OutOfpods", "OutOfnvidia.com/gpu", "OutOf..."])
    @pytest.mark.parametrize("began", [True, False])
    def test_what_the_kubelet_does_not_admit(self, reason, began):
        assert rejects(reason, "", began=began)

    @pytest.mark.parametrize("reason", ["Evicted", "Preempting", "Terminated", "NodeShutdown", "Shutdown"])
    def test_what_the_node_ends_while_it_runs(self, reason):
        assert rejects(reason, LOW, began=True)

    @pytest.mark.parametrize("text", [OWN, 'Usage of EmptyDir volume "x" exceeds the limit "1Gi". ',
                                      "Container x exceeded its local ephemeral storage limit \"1Gi\". "])  # fmt: skip
    def test_a_pod_that_exceeds_its_own_limit_would_do_so_anywhere(self, text):
        assert not rejects("Evicted", text, began=True)

    def test_what_fails_by_itself_has_no_reason(self):
        assert not rejects("", "", began=True)
        assert not rejects("DeadlineExceeded", "", began=False)
        assert not rejects("Error", "", began=True)

    def test_a_reason_that_nobody_knows_of_a_pod_that_never_began(self):
        assert rejects("SomethingNew", "", began=False)


class TestWords:
    def test_they_are_one_line_without_control_characters(self):
        assert said("0/3 nodes\n\x1b[31mare\x00 \u202eavailable\t:  x") == "0/3 nodes [31mare available : x"

    def test_they_are_bounded(self):
        assert len(said("x" * 10_000)) == MOST_SAID
        assert said("x" * MOST_SAID) == "x" * MOST_SAID

    @pytest.mark.parametrize(
        "text",
        [
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            "waiting for ephemeral volume controller to create the persistentvolumeclaim",
            "1 node(s) had untolerated taint(s) {node.kubernetes.io/not-ready: }",
        ],
    )
    def test_what_may_be_over_in_a_moment_blames_nobody(self, text):
        assert passes(text)
        assert not passes("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")


def pod(**status: Any) -> GangPod:
    meta = {
        "name": "p",
        "uid": "u",
        "namespace": "team",
        "labels": {"stint.dev/trainingjob": "unet", "batch.kubernetes.io/job-name": "unet"},
        "annotations": {"batch.kubernetes.io/job-completion-index": "1"},
    }
    found = reduce_pod(msgspec.convert({"metadata": meta, "spec": {"nodeName": "n1"}, "status": status}, WirePod))[2]
    assert found.gang is not None
    return found.gang


def condition(reason: str, message: str = "0/1 nodes") -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]}


def test_from_the_wire():
    assert pod(**condition("Unschedulable")).refusal == "0/1 nodes"
    assert pod(**condition("Unschedulable", "")).refusal == "it gives no reason"
    assert pod(**condition("SchedulingGated")).refusal == ""
    assert pod(**condition("SchedulerError")).refusal == ""
    sick = pod(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate\nfailed")
    assert (sick.rejected, sick.rejection) == ("UnexpectedAdmissionError", "Allocate failed")
    assert pod(phase="Running", reason="NodeLost").rejected == ""
    ended = [{"state": {"terminated": {"startedAt": NOW.isoformat(), "finishedAt": NOW.isoformat()}}}]
    assert pod(phase="Failed", containerStatuses=ended).rejected == ""


SICK = a_gang_pod(1, node="n1", phase="Failed", gated=False, rejected="OutOfcpu", rejection="too few", run="j")
REJECTED = NodeRejection(rank=1, node="n1", reason="OutOfcpu", message="too few")


class TestRejectedWorkers:
    def seen(self, *pods: Any, **job: Any):
        seen = look(resources=[a_resource()], nodes=[a_record()], pods=[RUNNING[0], *pods], jobs=[a_batch_job(**job)])
        return seen.seen[UNET]

    def test_they_are_facts_whether_the_job_has_failed_or_not(self):
        for job in ({}, {"failed_message": "BackoffLimitExceeded"}):
            found = self.seen(SICK, **job)
            assert found.facts is not None
            assert found.facts.rejections == (REJECTED,)

    def test_the_job_goes_on_although_no_retry_is_left(self):
        plan = a_plan(attempt=3)
        found = look(
            resources=[a_resource()],
            nodes=[a_record()],
            pods=[SICK],
            jobs=[a_batch_job(plan, failed_message="BackoffLimitExceeded")],
        )
        assert found.seen[UNET].phase is None
        assert [r.reason for r in decide(found.situation).requeues] == [Reason.NODE_REJECTED]

    @pytest.mark.parametrize(
        "other",
        [
            a_gang_pod(1, node="n1", phase="Failed", rejected="OutOfcpu", run="an earlier Job"),
            a_gang_pod(1, node="n2", phase="Failed", rejected="OutOfcpu", run="j"),
            a_gang_pod(5, node="n1", phase="Failed", rejected="OutOfcpu", run="j"),
        ],
        ids=["of an earlier Job", "on another node", "of no rank"],
    )
    def test_pods_of_another_placement_tell_nothing(self, other):
        assert self.seen(other).gang.rejections == ()

    def test_a_gang_that_leaves_is_asked_nothing(self):
        found = self.seen(SICK, suspended=True)
        assert (found.gang.state, found.gang.rejections) == (GangState.LEAVING, ())


class TestRefusedWorkers:
    SAYS = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."

    def since(self, memory: Memory | None = None, **pod: Any):
        stuck = a_gang_pod(1, gated=False, unschedulable=True, **{"refusal": self.SAYS, **pod})
        seen = look(
            resources=[a_resource()], nodes=[a_record()], pods=[RUNNING[0], stuck], jobs=[a_batch_job()], memory=memory
        )
        facts = seen.seen[UNET].facts
        assert facts is not None
        return facts.refused_since, facts.refusal

    def test_since_they_were_first_seen_so(self):
        ago = NOW - timedelta(seconds=9)
        assert self.since() == (NOW, self.SAYS)
        assert self.since(Memory(refused_since={"p1": ago})) == (ago, self.SAYS)

    def test_what_may_pass_and_what_concerns_the_group_is_left_to_the_time_out(self):
        passing = "pod has unbound immediate PersistentVolumeClaims"
        assert self.since(refusal=passing) == (None, passing)
        assert self.since(for_its_group=True) == (None, self.SAYS)
        assert self.since(refusal="")[0] is None

    def test_room_that_is_being_made_is_waited_for(self):
        stuck = msgspec.structs.replace(
            a_gang_pod(1, gated=False, unschedulable=True, refusal=self.SAYS), nominated="n1"
        )
        seen = look(resources=[a_resource()], nodes=[a_record()], pods=[RUNNING[0], stuck], jobs=[a_batch_job()])
        assert seen.seen[UNET].facts is not None
        assert seen.seen[UNET].facts.refused_since is None
