"""What one observation leaves to the next."""

from __future__ import annotations

from datetime import timedelta

from stint.kube.observe.memory import Memory, remembered
from stint.model.market import Taint
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_plan, a_record, a_resource
from tests.unit.kube.test_observe import RUNNING, UNET, look

MINUTE = timedelta(minutes=1)


def unready(memory: Memory, *records, now=NOW) -> Memory:
    return remembered(memory, records, now=now, of=lambda at: at)


class TestSinceWhenANodeIsNotReady:
    def test_after_a_start_its_condition_tells(self):
        node = a_record(ready=False, ready_since=NOW - MINUTE)
        assert unready(Memory(), node).unready_since == {"n1": NOW - MINUTE}
        assert unready(Memory(), a_record(ready=False)).unready_since == {"n1": NOW}

    def test_a_kubelets_clock_that_is_behind_takes_nothing_off(self):
        begun = unready(Memory(), a_record())
        late = a_record(ready=False, ready_since=NOW - 60 * MINUTE)
        first = unready(begun, late)
        assert first.unready_since == {"n1": NOW}
        assert unready(first, late, now=NOW + MINUTE).unready_since == {"n1": NOW}

    def test_one_that_is_ahead_is_not_believed(self):
        ahead = a_record(ready=False, ready_since=NOW + 60 * MINUTE)
        first = unready(Memory(), ahead)
        assert unready(first, ahead, now=NOW + MINUTE).unready_since == {"n1": NOW}

    def test_a_second_time_counts_from_then(self):
        """Between two observations it was ready."""
        first = unready(Memory(), a_record(ready=False, ready_since=NOW))
        again = a_record(ready=False, ready_since=NOW + 5 * MINUTE)
        assert unready(first, again, now=NOW + 6 * MINUTE).unready_since == {"n1": NOW + 5 * MINUTE}

    def test_a_ready_node_is_forgotten(self):
        assert unready(unready(Memory(), a_record(ready=False)), a_record()).unready_since == {}

    def test_a_taint_of_a_node_that_is_not_there_yet_counts_too(self):
        node = a_record(taints=(Taint(key="karpenter.sh/unregistered", effect="NoExecute"),), ready_since=NOW - MINUTE)
        assert unready(Memory(), node).unready_since == {"n1": NOW}


class TestPodsOnANodeThatIsNotReady:
    def seen(self, seconds: float, status: dict | None = None, pods=RUNNING, **spec):
        memory = Memory(begun=True, unready_since={"n1": NOW - timedelta(seconds=seconds)})
        plan = a_plan(since=NOW - 60 * MINUTE)
        return look(
            resources=[a_resource(status, **spec)],
            nodes=[a_record(ready=False)],
            pods=pods,
            jobs=[a_batch_job(plan)],
            memory=memory,
        )

    def test_they_run_until_its_grace_period_is_over(self):
        gang = self.seen(59).seen[UNET].gang
        assert (len(gang.pods), gang.lost, gang.running) == (2, (), True)
        gang = self.seen(60).seen[UNET].gang
        assert (gang.pods, len(gang.lost)) == ((), 2)

    def test_the_job_may_say_otherwise(self):
        assert self.seen(59, nodeGraceSeconds=10).seen[UNET].gang.lost
        assert not self.seen(600, nodeGraceSeconds=900).seen[UNET].gang.lost

    def test_a_gang_that_has_run_is_waited_for_although_a_worker_has_failed_to_report(self):
        ran = {"phase": "Running", "progress": {"runningSince": (NOW - 5 * MINUTE).isoformat()}}
        assert not self.seen(5, ran, pods=RUNNING[:1]).seen[UNET].gang.lost
        assert self.seen(5, pods=RUNNING[:1]).seen[UNET].gang.lost, "it does not run yet"

    def test_nothing_new_is_placed_there(self):
        observation = self.seen(5)
        (node,) = observation.situation.nodes
        assert (node.ready, node.usable, node.unready_since) == (False, False, NOW - timedelta(seconds=5))

    def test_its_progress_goes_on(self):
        ran = {"phase": "Running", "progress": {"runningSince": (NOW - 5 * MINUTE).isoformat()}}
        progress = self.seen(30, ran).seen[UNET].progress
        assert progress.running_since == NOW - 5 * MINUTE
        assert progress.estimate > 0
