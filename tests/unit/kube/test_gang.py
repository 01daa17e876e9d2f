from __future__ import annotations

import msgspec
import pytest

from stint.kube.observe.gang import look
from stint.model.gang import GangState
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_plan

NONE: frozenset[str] = frozenset()
GATED = [a_gang_pod(0), a_gang_pod(1)]
RUNNING = [a_gang_pod(i, node="n1", phase="Running", gated=False) for i in range(2)]


@pytest.mark.parametrize(
    ("job", "pods", "state"),
    [
        (None, [], GangState.ABSENT),
        (None, RUNNING, GangState.LEAVING),
        (a_batch_job(), GATED, GangState.PLACED),
        (a_batch_job(suspended=True), [], GangState.PARKED),
        (a_batch_job(suspended=True), RUNNING, GangState.LEAVING),
        (a_batch_job(deleting=True), [], GangState.LEAVING),
        (a_batch_job(complete=True), [], GangState.SUCCEEDED),
        (a_batch_job(failed_message="no"), RUNNING, GangState.FAILED),
    ],
)
def test_states(job, pods, state):
    assert look(job, pods, lost_nodes=NONE).state is state


def test_pods_are_released_only_when_all_of_them_are_there():
    assert look(a_batch_job(), GATED[:1], lost_nodes=NONE).to_release() == ()
    assert len(look(a_batch_job(), GATED, lost_nodes=NONE).to_release()) == 2


def test_a_release_that_was_broken_off_goes_on_with_the_rest():
    half = [a_gang_pod(0, node="n1", phase="Running", gated=False), a_gang_pod(1)]
    gang = look(a_batch_job(), half, lost_nodes=NONE)
    assert [p.gang.index for p in gang.to_release() if p.gang] == [1]
    assert not gang.released
    assert not gang.running


def test_a_gang_runs_while_its_workers_finish_one_by_one():
    done = [RUNNING[0], a_gang_pod(1, node="n1", phase="Succeeded", gated=False)]
    assert look(a_batch_job(), done, lost_nodes=NONE).running


def test_pods_on_a_node_that_is_gone_are_told_apart_and_still_keep_the_job_from_starting_anew():
    gang = look(a_batch_job(suspended=True), RUNNING, lost_nodes=frozenset({"n1"}))
    assert (len(gang.lost), gang.pods, gang.state) == (2, (), GangState.LEAVING)


def test_the_assignment_is_what_the_annotation_says():
    assignment = look(a_batch_job(a_plan(("a", "b"))), RUNNING, lost_nodes=NONE).assignment()
    assert assignment is not None
    assert (assignment.nodes, assignment.released, assignment.running) == (("a", "b"), True, True)


@pytest.mark.parametrize(
    ("job", "pods", "state"),
    [
        (None, GATED, GangState.LEAVING),
        (None, [a_gang_pod(0, node="n1", phase="Failed", gated=False)], GangState.ABSENT),
        (msgspec.structs.replace(a_batch_job(), plan="somebody else's"), [], GangState.TAKEN_BACK),
        (msgspec.structs.replace(a_batch_job(suspended=True), plan="somebody else's"), [], GangState.PARKED),
        (a_batch_job(), [], GangState.PLACED),
        (a_batch_job(deleting=True, complete=True), [], GangState.SUCCEEDED),
        (a_batch_job(suspended=True, failed_message="no"), [], GangState.FAILED),
    ],
)
def test_states_that_are_met_for_a_moment_only(job, pods, state):
    assert look(job, pods, lost_nodes=NONE).state is state


def test_a_pod_that_is_being_deleted_is_no_worker_any_more():
    pods = [RUNNING[0], a_gang_pod(1, node="n1", phase="Running", gated=False, deleting=True)]
    gang = look(a_batch_job(), pods, lost_nodes=NONE)
    assert gang.ready_workers == 1
    assert not gang.running
    assert not gang.released


def test_released_workers_that_a_scheduler_found_no_room_for_are_stuck_and_others_ignored_by_schedulers():
    pods = [a_gang_pod(0, gated=False), a_gang_pod(1, gated=False, unschedulable=True)]
    gang = look(a_batch_job(), pods, lost_nodes=NONE)
    assert [p.gang.index for p in gang.stuck() if p.gang] == [1]
    assert [p.gang.index for p in gang.ignored_by_schedulers() if p.gang] == [0]
    assert gang.released
    assert not gang.running


def test_of_a_pod_group_only_the_worker_that_there_is_no_room_for_is_stuck():
    """A scheduler refuses all of them for its sake. Where it does not say whose, each may be the one."""
    first = a_gang_pod(0, gated=False, unschedulable=True, for_its_group=True)
    own = a_gang_pod(1, gated=False, unschedulable=True)
    gang = look(a_batch_job(), [first, own], lost_nodes=NONE)
    assert [p.gang.index for p in gang.stuck() if p.gang] == [1]
    other = a_gang_pod(1, gated=False, unschedulable=True, for_its_group=True)
    gang = look(a_batch_job(), [first, other], lost_nodes=NONE)
    assert [p.gang.index for p in gang.stuck() if p.gang] == [0, 1]


def test_workers_are_kept_by_rank_whatever_order_they_are_seen_in():
    gang = look(a_batch_job(), RUNNING[::-1], lost_nodes=NONE)
    assert [p.gang.index for p in gang.pods if p.gang] == [0, 1]


def test_workers_that_are_done_and_cleared_away_count_as_done():
    assert look(a_batch_job(succeeded=1), RUNNING[:1], lost_nodes=NONE).running


@pytest.mark.parametrize("job", [a_batch_job(suspended=True), a_batch_job(deleting=True), None])
def test_only_a_placed_gang_has_a_place(job):
    gang = look(job, RUNNING, lost_nodes=NONE)
    assert gang.assignment() is None
    assert gang.to_release() == ()


EVICTED = [
    RUNNING[0],
    a_gang_pod(1, node="n1", phase="Running", gated=False, deleting=True, disrupted="EvictionByEvictionAPI"),
]


@pytest.mark.parametrize("job", [a_batch_job(), a_batch_job(failed_message="exit code 75")])
def test_a_gang_knows_which_of_its_workers_is_taken_away_and_why(job):
    gang = look(job, EVICTED, lost_nodes=NONE)
    assert gang.disrupted == "unet-1-x on n1 is taken away (EvictionByEvictionAPI)"


def test_a_gang_that_went_back_already_is_not_disrupted_again():
    assert look(a_batch_job(suspended=True), EVICTED, lost_nodes=NONE).disrupted == ""
    assert look(a_batch_job(), RUNNING, lost_nodes=NONE).disrupted == ""


FAILED = a_gang_pod(1, node="n1", phase="Failed", gated=False)
ENDED = a_gang_pod(1, node="n1", phase="Succeeded", gated=False)
ENDED_EVICTED = a_gang_pod(1, node="n1", phase="Failed", gated=False, disrupted="TerminationByKubelet")
DELETED = a_gang_pod(1, node="n1", phase="Failed", gated=False, deleting=True)
REPLACED = a_gang_pod(1)


@pytest.mark.parametrize(
    ("job", "pods", "gone"),
    [
        (a_batch_job(), RUNNING, ()),
        (a_batch_job(), RUNNING[:1], (1,)),  # deleted, and not replaced yet
        (a_batch_job(), [RUNNING[0], REPLACED], (1,)),
        (a_batch_job(), EVICTED, (1,)),
        (a_batch_job(), [RUNNING[0], ENDED_EVICTED], (1,)),
        (a_batch_job(), [RUNNING[0], DELETED], (1,)),
        (a_batch_job(), [RUNNING[0], FAILED], ()),  # its Job will say that it failed
        (a_batch_job(), [RUNNING[0], ENDED], ()),
        (a_batch_job(succeeded=1), RUNNING[:1], ()),  # done, and cleared away
    ],
)
def test_a_worker_that_is_gone_without_having_ended_is_missed(job, pods, gone):
    assert look(job, pods, lost_nodes=NONE).gone == gone
