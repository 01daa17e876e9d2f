"""Each reason to requeue a gang: from facts to the verdict, with its retry and its back-off."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from stint.decide import decide
from stint.lifecycle.requeue import REASONS, requeues
from stint.lifecycle.retries import BACKOFF_S, MOST_BACKOFF_S, next_try
from stint.model.gang import GangFacts, GangState, Idle, NodeRejection
from stint.model.job import Job, OnIdle
from stint.model.plan import Plan, Reason, Requeue
from stint.model.situation import Settings, Situation
from stint.testing.builders import NOW, a_gang, a_job, a_node, a_situation, an_offering, running_on
from tests.golden.situations import every_requeue

A100 = an_offering()
NODES = (a_node("n0", A100, used_gpus=8), a_node("n1", A100, used_gpus=8))
RUNS = running_on(a_job("llama", workers=2), *NODES, offering=A100, hours_left=5)
assert RUNS.assignment is not None
STARTS = replace(RUNS, assignment=replace(RUNS.assignment, running=False))
LATE = NOW - timedelta(seconds=121)


def of(job: Job = RUNS, *, settings: Settings | None = None, **facts: object) -> Situation:
    return a_situation(offerings=[A100], nodes=NODES, jobs=[job], gangs=[a_gang(job, **facts)], settings=settings)


def the(situation: Situation) -> Requeue:
    (requeue,) = requeues(situation)
    return requeue


def test_a_gang_that_runs_well_stays():
    plan = decide(of())
    assert plan.requeues == ()
    assert [s.job for s in plan.stays] == [RUNS.id]


@pytest.mark.parametrize(
    ("facts", "reason", "says"),
    [
        ({"state": GangState.ABSENT}, Reason.DISRUPTED, "its Job was deleted or suspended"),
        ({"state": GangState.PARKED}, Reason.DISRUPTED, "its Job was deleted or suspended"),
        ({"made_by": "PyTorchJob m", "pods": 0}, Reason.DISRUPTED, "all pods of PyTorchJob m were deleted"),
        ({"disruption": "llama-1 on n1 is taken away"}, Reason.DISRUPTED, "llama-1 on n1 is taken away"),
        ({"gone": (1,)}, Reason.DISRUPTED, "worker 1 on n1 was evicted or deleted"),
        ({"state": GangState.FAILED, "failure": "exit code 1"}, Reason.WORKER_FAILED, "exit code 1"),
        ({"idle_held": True}, Reason.IDLE, "held until its spec is edited"),
    ],
)
def test_what_the_cluster_shows_gives_the_reason(facts, reason, says):
    requeue = the(of(**facts))
    assert requeue.reason is reason
    assert says in requeue.message


def test_a_gang_never_placed_has_nothing_to_be_requeued_from():
    waits = a_job("waits")
    situation = a_situation(offerings=[A100], nodes=NODES, jobs=[waits], gangs=[a_gang(waits)])
    assert requeues(situation) == ()


def test_a_disruption_is_told_before_the_failure_that_it_caused_and_uses_no_retry():
    requeue = the(of(state=GangState.FAILED, failure="exit code 1", disruption="llama-0 is preempted"))
    assert (requeue.reason, requeue.retries) == (Reason.DISRUPTED, None)


def test_a_gang_that_was_requeued_and_whose_pods_are_leaving_is_not_requeued_again():
    assert requeues(of(state=GangState.TAKEN_BACK, disruption="llama-0 is preempted")) == ()


def test_a_failure_uses_a_retry():
    assert the(of(state=GangState.FAILED, attempt=2)).retries == 3


class TestDidNotStart:
    def late(self, **facts: object) -> GangFacts:
        return a_gang(STARTS, **{"since": LATE, "ready": 1, "unschedulable": (1,)} | facts)

    def situation(self, pace: float = 1.0, **facts: object) -> Situation:
        settings = Settings(pace=pace)
        return a_situation(offerings=[A100], nodes=NODES, jobs=[STARTS], gangs=[self.late(**facts)], settings=settings)

    def test_it_blames_the_nodes_that_refused_and_backs_off(self):
        requeue = the(self.situation(failed_starts=2))
        assert requeue.reason is Reason.DID_NOT_START
        assert requeue.avoid == ("n1",)
        assert requeue.failed_starts == 3
        assert requeue.not_before == NOW + timedelta(seconds=4 * BACKOFF_S)
        assert "1 of 2 workers ran after 121 s; none started on n1" in requeue.message

    def test_the_time_out_is_on_the_walls_clock(self):
        assert requeues(self.situation(pace=60.0)) == ()
        assert requeues(self.situation(placement_timeout=timedelta(seconds=200))) == ()

    def test_it_says_what_no_scheduler_looked_at_and_what_was_never_created(self):
        text = the(self.situation(unschedulable=(), ignored=1, pods=1, ready=0)).message
        assert "no scheduler has looked at 1 of its pods" in text
        assert "1 of its pods were never created, `kubectl describe job llama` says why" in text

    def test_a_gang_whose_workers_have_all_run_or_finished_is_left_alone(self):
        assert requeues(self.situation(ready=1, done=1)) == ()
        assert requeues(self.situation(running_since=LATE)) == ()


class TestUnschedulable:
    """kube-scheduler's word is enough, once it has stood for some seconds."""

    SAYS = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node affinity/selector."

    def facts(self, seconds: float, *, pace: float = 1.0, **more: object) -> Situation:
        told = {
            "since": NOW - timedelta(seconds=30),
            "ready": 1,
            "unschedulable": (1,),
            "refusal": self.SAYS,
            "refused_since": NOW - timedelta(seconds=seconds),
        }
        gang = a_gang(STARTS, **told | more)
        settings = Settings(pace=pace)
        return a_situation(offerings=[A100], nodes=NODES, jobs=[STARTS], gangs=[gang], settings=settings)

    def test_the_gang_is_requeued_whole_long_before_its_time_out(self):
        assert requeues(self.facts(4)) == ()
        requeue = the(self.facts(5))
        assert (requeue.reason, requeue.avoid, requeue.retries) == (Reason.DID_NOT_START, ("n1",), None)
        assert "1 of 2 workers ran; none started on n1" in requeue.message
        assert self.SAYS in requeue.message

    def test_it_backs_off_and_the_blame_outlasts_the_pause(self):
        requeue = the(self.facts(5, failed_starts=1))
        assert requeue.not_before == NOW + timedelta(seconds=20)
        assert requeue.avoid_until == requeue.not_before + timedelta(minutes=10)
        assert (requeue.failed_starts, requeue.avoid_for) == (2, "Unschedulable")

    def test_it_settles_on_the_walls_clock(self):
        assert requeues(self.facts(20, pace=60.0)) == ()
        assert requeues(self.facts(300, pace=60.0))

    def test_a_gang_that_has_run_is_no_matter_of_starting(self):
        assert requeues(self.facts(60, running_since=NOW)) == ()


class TestNodeRejected:
    SICK = NodeRejection(rank=1, node=NODES[1].name, reason="UnexpectedAdmissionError", message="no device plugin")

    def test_the_node_is_blamed_and_no_retry_is_used_although_the_job_has_failed(self):
        requeue = the(of(STARTS, state=GangState.FAILED, failure="BackoffLimitExceeded", rejections=(self.SICK,)))
        assert requeue.reason is Reason.NODE_REJECTED
        assert (requeue.avoid, requeue.retries, requeue.failed_starts) == (("n1",), None, 1)
        assert "node n1 rejected worker 1 (UnexpectedAdmissionError: no device plugin)" in requeue.message
        assert requeue.avoid_for == "UnexpectedAdmissionError"

    def test_a_gang_half_of_which_runs_ends_at_once(self):
        assert the(of(STARTS, ready=1, since=NOW, rejections=(self.SICK,))).reason is Reason.NODE_REJECTED

    def test_every_node_that_rejected_one_is_blamed(self):
        other = replace(self.SICK, rank=0, node=NODES[0].name)
        requeue = the(of(STARTS, rejections=(other, self.SICK)))
        assert requeue.avoid == ("n0", "n1")
        assert "so did n1" in requeue.message

    def test_after_a_run_the_pause_begins_small(self):
        assert the(of(rejections=(self.SICK,), failed_starts=5)).not_before == NOW + timedelta(seconds=BACKOFF_S)
        assert the(of(STARTS, rejections=(self.SICK,), failed_starts=1)).not_before == NOW + timedelta(seconds=20)

    def test_one_that_was_requeued_already_is_left_alone(self):
        assert requeues(of(STARTS, state=GangState.TAKEN_BACK, rejections=(self.SICK,))) == ()


class TestIdle:
    IDLE = Idle(since=NOW - timedelta(minutes=60), gpus=16, usd_per_hour=10.0)

    def test_it_is_stopped_only_where_its_policy_acts_and_its_time_is_over(self):
        for action, after, stops in (
            (OnIdle.CHECKPOINT, 30, True),
            (OnIdle.STOP, 60, True),
            (OnIdle.CHECKPOINT, 61, False),
            (OnIdle.ADVISE, 30, False),
        ):
            facts = {"idle": self.IDLE, "on_idle": action, "idle_after": timedelta(minutes=after)}
            assert bool(requeues(of(**facts))) is stops, (action, after)

    def test_the_reason_has_money_in_it(self):
        text = the(of(idle=self.IDLE, on_idle=OnIdle.STOP)).message
        assert "all of its GPUs have done nothing for 60 min, at 10.00 USD/h: 10.00 USD" in text

    def test_spec_suspend_comes_first(self):
        suspended = replace(RUNS, suspended=True)
        requeue = the(of(suspended, idle=self.IDLE, on_idle=OnIdle.STOP, suspend=True))
        assert requeue.reason is Reason.SUSPENDED


def test_a_requeued_gang_is_told_once_and_competes_only_in_the_next_decision():
    """Also where it has no place any more: nodes are free, and still it is not placed in the same plan."""
    free = [a_node("n0", A100), a_node("n1", A100)]
    waits = a_job("llama", workers=2)
    facts = a_gang(RUNS, state=GangState.ABSENT)
    plan = decide(a_situation(offerings=[A100], nodes=free, jobs=[waits], gangs=[facts]))
    assert [r.job for r in plan.requeues] == [waits.id]
    assert (plan.placements, plan.holds, plan.stays) == ((), (), ())
    again = decide(a_situation(offerings=[A100], nodes=free, jobs=[waits]))
    assert [p.job for p in again.placements] == [waits.id]


def test_the_back_off_doubles_up_to_ten_minutes():
    pauses = [(next_try(NOW, n) - NOW).total_seconds() for n in (0, 1, 2, 6, 1024)]
    assert pauses == [10, 20, 40, MOST_BACKOFF_S, MOST_BACKOFF_S]
    assert next_try(NOW, 0, pace=60.0) == NOW + timedelta(minutes=10)


def test_the_stored_decision_with_every_requeue_has_every_reason():
    plan: Plan = decide(every_requeue())
    moves = {Reason.CHEAPER_ELSEWHERE, Reason.MAKES_ROOM}  # theirs are the stored moves
    assert {r.reason for r in plan.requeues} == set(REASONS) - moves
