"""A node that is not ready ends a gang that runs only after its grace period."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from stint.lifecycle import grace
from stint.lifecycle.requeue import requeues
from stint.model.plan import Reason
from stint.model.situation import Settings, Situation
from stint.testing.builders import NOW, a_gang, a_job, a_node, a_situation, an_offering, running_on

A100 = an_offering()
MINUTE = timedelta(minutes=1)


def blip(seconds: float | None, *, runs: bool = True, pace: float = 1.0, **facts: object) -> Situation:
    """A gang on two nodes, one of which has been not ready for so long."""
    since = None if seconds is None else NOW - timedelta(seconds=seconds)
    nodes = (a_node("n0", A100, used_gpus=8), a_node("n1", A100, used_gpus=8, ready=False, unready_since=since))
    job = running_on(a_job(workers=2), *nodes, offering=A100, hours_left=5)
    assert job.assignment is not None
    job = replace(job, assignment=replace(job.assignment, running=runs))
    gangs = [a_gang(job, **({"running_since": None, "since": NOW} | facts if not runs else facts))]
    return a_situation(offerings=[A100], nodes=nodes, jobs=[job], gangs=gangs, settings=Settings(pace=pace))


@pytest.mark.parametrize(("seconds", "ends"), [(0, False), (59, False), (60, True), (600, True), (None, True)])
def test_it_ends_a_running_gang_after_a_minute(seconds, ends):
    found = requeues(blip(seconds))
    assert bool(found) is ends
    assert all(r.reason is Reason.NODE_LOST and "n1" in r.message for r in found)


def test_the_message_says_since_when_and_for_how_long_it_was_waited():
    (requeue,) = requeues(blip(61))
    assert "node n1 has not been ready since 11:58:59 UTC, for more than 60 s" in requeue.message


def test_a_job_may_wait_longer_or_not_at_all():
    assert requeues(blip(200, node_grace=5 * MINUTE)) == ()
    assert requeues(blip(0, node_grace=timedelta(0)))


def test_the_grace_period_is_on_the_walls_clock():
    assert requeues(blip(600, pace=60.0)) == ()
    assert requeues(blip(3600, pace=60.0))


def test_a_gang_that_does_not_run_yet_has_nothing_to_lose():
    assert requeues(blip(1, runs=False))


def test_a_node_that_waits_hides_no_other_reason():
    """The other one received the provider's notice meanwhile."""
    situation = blip(1)
    nodes = (replace(situation.nodes[0], interrupted=True), situation.nodes[1])
    assert [r.reason for r in requeues(replace(situation, nodes=nodes))] == [Reason.NODE_INTERRUPTED]
    gone = replace(situation, nodes=situation.nodes[1:])
    assert "n0 is gone" in requeues(gone)[0].message


def test_a_grace_period_beyond_all_dates_ends_at_once():
    assert grace.until(NOW, timedelta.max) == NOW
