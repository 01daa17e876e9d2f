from __future__ import annotations

from itertools import product

import pytest

from stint.lifecycle.phases import TRANSITIONS, phase, step
from stint.model.job import ENDED, Phase
from stint.model.plan import Hold, Reason, Requeue


def test_every_phase_has_its_row_and_no_step_leads_out_of_an_end_or_to_itself():
    assert set(TRANSITIONS) == set(Phase)
    assert {p for p in Phase if not TRANSITIONS[p]} == ENDED
    assert all(p not in TRANSITIONS[p] for p in Phase)


@pytest.mark.parametrize("old", sorted(set(Phase) - ENDED))
def test_a_job_that_lives_may_end_and_may_be_queued_again(old):
    assert {*ENDED, Phase.QUEUED} <= {old, *TRANSITIONS[old]}


@pytest.mark.parametrize(("old", "new"), list(product(Phase, Phase)))
def test_what_is_shown_is_always_one_step_of_the_table_away_and_gets_there(old, new):
    shown = step(old, new)
    assert shown is old or shown in TRANSITIONS[old]
    if old in ENDED:
        assert shown is old
    else:
        assert step(shown, new) is new


def test_a_gang_that_ran_is_queued_before_it_starts_anew():
    """Its Job was deleted and made again while no operator watched."""
    assert step("Running", Phase.STARTING) is Phase.QUEUED
    assert step("Starting", Phase.PROVISIONING) is Phase.QUEUED


@pytest.mark.parametrize("old", ["", "Banana"])
def test_a_new_job_has_the_phase_that_follows(old):
    assert step(old, Phase.RUNNING) is Phase.RUNNING


@pytest.mark.parametrize(
    ("outcome", "facts", "expected"),
    [
        (None, {"placed": True, "runs": True}, Phase.RUNNING),
        (None, {"placed": True}, Phase.STARTING),
        (None, {"placed": True, "runs": True, "suspended": True}, Phase.SUSPENDED),
        (Requeue(job="t/j", reason=Reason.NODE_LOST, message=""), {"placed": True, "runs": True}, Phase.QUEUED),
        (Requeue(job="t/j", reason=Reason.IDLE, message=""), {"placed": True, "runs": True}, Phase.SUSPENDED),
        (Requeue(job="t/j", reason=Reason.SUSPENDED, message=""), {"placed": True}, Phase.SUSPENDED),
        (Hold(job="t/j", reason=Reason.NODES_ON_THE_WAY, message=""), {}, Phase.PROVISIONING),
        (Hold(job="t/j", reason=Reason.NOT_ENOUGH_GPUS, message=""), {}, Phase.QUEUED),
    ],
)
def test_the_phase_follows_from_the_plan_and_the_facts(outcome, facts, expected):
    assert phase(outcome, **{"suspended": False, "placed": False, "runs": False} | facts) is expected
