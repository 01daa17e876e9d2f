"""Blame in statuses: it adds up, ends, and rules out offerings and nodes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.api.meta import Meta
from stint.api.trainingjob import TrainingJob
from stint.api.trainingjob_status import Status
from stint.decide import decide
from stint.kube.observe.snapshot import Observation
from stint.model.job import job_id
from stint.model.plan import Reason, Requeue
from stint.testing.builders import NOW
from stint.views.requeue_status import requeued
from tests.unit.kube.objects import a_batch_job, a_record, a_resource
from tests.unit.kube.test_observe import RUNNING, UNET, look

MINUTE = timedelta(minutes=1)
OFFERING = "p4de.24xlarge-us-east-1a-on-demand/p4de.24xlarge/us-east-1a/on-demand"


def refuse(
    *nodes: str, at: datetime = NOW, status: Status | None = None, reason: Reason = Reason.DID_NOT_START, **more: Any
) -> Status:
    """The status after these nodes have refused the gang."""
    resource = a_resource(msgspec.to_builtins(status) if status else None, **more)
    seen = look(resources=[resource], nodes=[a_record()], pods=RUNNING, jobs=[a_batch_job()], now=at)
    until = at + 10 * MINUTE
    requeue = Requeue(
        job=UNET,
        reason=reason,
        message="",
        avoid=nodes,
        avoid_until=until,
        avoid_for="OutOfcpu",
        failed_starts=1,
        not_before=at + timedelta(seconds=10),
    )
    return requeued(seen.seen[UNET], requeue, at, ended=None)


def told(status: Status, *, at: datetime = NOW, nodes: tuple[str, ...] = ("n1", "n2"), generation: int = 3) -> Any:
    resource = a_resource(msgspec.to_builtins(status))
    meta = msgspec.structs.replace(resource.metadata, generation=generation)
    resource = msgspec.structs.replace(resource, metadata=meta)
    return look(resources=[resource], nodes=[a_record(n) for n in nodes], now=at)


def avoided(found: Observation) -> tuple[str, ...]:
    job = found.seen[UNET].job
    assert job is not None
    return job.avoid


class TestItAddsUp:
    def test_two_bad_nodes_are_not_tried_in_turn(self):
        first = refuse("n1")
        second = refuse("n2", at=NOW + 5 * MINUTE, status=first)
        assert [b.node for b in second.blamed] == ["n1", "n2"]
        assert second.avoid == ["n1", "n2"]
        later = told(second, at=NOW + 14 * MINUTE)
        assert avoided(later) == ("n1", "n2"), "a further refusal renews the blame of those before it"
        assert avoided(told(second, at=NOW + 16 * MINUTE)) == ()

    def test_a_start_without_anybody_to_blame_takes_no_blame_away(self):
        assert refuse(status=refuse("n1")).avoid == ["n1"]

    def test_it_is_bounded_and_the_last_ones_stay(self):
        many = refuse(*(f"n{i:02}" for i in range(60)))
        more = refuse(*(f"m{i:02}" for i in range(60)), at=NOW + MINUTE, status=many)
        assert len(more.blamed) == 64
        assert sum(b.node.startswith("m") for b in more.blamed) == 60

    def test_an_edit_of_the_spec_clears_it(self):
        status = refuse("n1")
        assert avoided(told(status)) == ("n1",)
        assert avoided(told(status, generation=4)) == ()

    def test_a_move_blames_nobody_for_good(self):
        moved = refuse("n1", reason=Reason.CHEAPER_ELSEWHERE)
        assert (moved.moved, moved.not_before, moved.avoid) == (NOW, NOW, ["n1"])
        found = told(moved, nodes=("n1",))
        assert found.seen[UNET].job.refusals == ()

    def test_what_an_earlier_version_wrote_still_counts(self):
        old = Status(avoid=["n1"], not_before=NOW - 9 * MINUTE)
        assert avoided(told(old)) == ("n1",)

    @pytest.mark.parametrize("until", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
    def test_times_that_nobody_of_us_wrote_stop_nobody(self, until):
        one = {"node": "n1", "since": until, "until": until, "generation": 3}
        status = msgspec.convert({"blamed": [one]}, Status)
        assert told(status).seen[UNET].job is not None
        assert refuse("n2", status=status).avoid


class TestAnOfferingThatRefused:
    def test_once_all_its_nodes_have_it_is_out_and_says_so(self):
        status = refuse("n1", "n2")
        (hold,) = decide(told(status, at=NOW + MINUTE).situation).holds
        assert hold.reason is Reason.NODES_REFUSED
        assert "every node of it that the job could use has refused its workers (OutOfcpu): n1, n2" in hold.message
        assert "tried again after 12:10:00 UTC, or once the spec is edited" in hold.message

    def test_while_one_is_left_that_one_is_tried(self):
        (placement,) = decide(told(refuse("n1"), at=NOW + MINUTE).situation).placements
        assert set(placement.nodes) == {"n2"}

    def test_afterwards_it_is_tried_again(self):
        assert decide(told(refuse("n1", "n2"), at=NOW + 11 * MINUTE).situation).placements

    def test_a_node_that_it_could_not_use_does_not_count(self):
        status = refuse("n1")
        resource = a_resource(msgspec.to_builtins(status), gpu={"perWorker": 8}, workers=1)
        nodes = [a_record("n1"), a_record("n2", gpus=4)]
        (hold,) = decide(look(resources=[resource], nodes=nodes, now=NOW + MINUTE).situation).holds
        assert hold.reason is Reason.NODES_REFUSED

    def test_no_further_node_is_ordered_where_the_one_that_refused_is_gone(self):
        spec = {
            "nodeSelector": {"pool": "p"},
            "limits": {"maxNodes": 4},
            "scaler": {"adapter": "Kwok", "mode": "Act"},
            "offerings": [{"provider": "aws", "zone": "us-east-1a", "instanceType": "p4de.24xlarge"}],
        }
        pool = msgspec.convert({"metadata": {"name": "p", "uid": "p"}, "spec": spec}, GPUPool)
        status = refuse("n1")
        (one,) = status.blamed
        there = msgspec.structs.replace(one, offering="p/p4de.24xlarge/us-east-1a/on-demand")
        status = msgspec.structs.replace(status, blamed=[there])
        resource = a_resource(msgspec.to_builtins(status))
        plan = decide(look(resources=[resource], pools=[pool], now=NOW + MINUTE).situation)
        assert (plan.resizes, [h.reason for h in plan.holds]) == ((), [Reason.NODES_REFUSED])
        assert decide(look(resources=[a_resource()], pools=[pool], now=NOW + MINUTE).situation).resizes


class TestSuspects:
    def resource(self, name: str, namespace: str, status: Status | None) -> TrainingJob:
        made = a_resource(msgspec.to_builtins(status) if status else None)
        meta = Meta(name=name, namespace=namespace, uid=f"{namespace}/{name}", generation=3)
        return msgspec.structs.replace(made, metadata=meta)

    def seen(self, *resources: TrainingJob) -> Observation:
        return look(resources=resources, nodes=[a_record("n1"), a_record("n2")])

    def test_nothing_is_placed_on_a_node_that_two_teams_blame(self):
        status = refuse("n1", reason=Reason.NODE_REJECTED)
        found = self.seen(
            self.resource("a", "one", status), self.resource("b", "two", status), self.resource("c", "three", None)
        )
        plan = decide(found.situation)
        assert {n for p in plan.placements for n in p.nodes} == {"n2"}
        assert {n.name: n.suspect for n in found.situation.nodes} == {"n1": True, "n2": False}
        (issue,) = found.suspects
        assert (issue.reason, issue.about) == ("SuspectNode", "node n1")
        assert "one/a, two/b" in issue.message

    def test_a_job_that_has_ended_elsewhere_still_counts(self):
        status = msgspec.structs.replace(refuse("n1"), phase="Succeeded")
        assert self.seen(self.resource("a", "one", status), self.resource("b", "two", refuse("n1"))).suspects

    def test_a_gang_that_runs_there_goes_on(self):
        status = refuse("n1")
        found = look(
            resources=[a_resource(), self.resource("a", "one", status), self.resource("b", "two", status)],
            nodes=[a_record("n1")],
            pods=RUNNING,
            jobs=[a_batch_job()],
        )
        assert found.situation.nodes[0].suspect
        assert [s.job for s in decide(found.situation).stays] == [job_id("team", "unet")]

    def test_one_namespace_cannot_shut_the_others_out(self):
        status = refuse("n1")
        assert not self.seen(self.resource("a", "one", status), self.resource("b", "one", status)).suspects
