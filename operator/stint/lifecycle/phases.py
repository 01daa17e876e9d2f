"""The phases of a job as one table of the steps that really happen.

The phase follows from what the cluster shows and what the plan says (`phase`); status and metrics both take it from
there. Where no single step of the table leads to the phase that follows, the job is shown as Queued first (`step`), so
that the sequence that people read has no gaps.
"""

from __future__ import annotations

from collections.abc import Mapping

from stint.model.job import ENDED, Phase
from stint.model.plan import Hold, Placement, Plan, Reason, Requeue, Stay

Outcome = Placement | Hold | Stay | Requeue | None

# From each phase, where it leads and why. A job may also stay in its phase; ends are never left.
TRANSITIONS: Mapping[Phase, Mapping[Phase, str]] = {
    Phase.QUEUED: {
        Phase.PROVISIONING: "nodes were ordered for it",
        Phase.STARTING: "placed on nodes that are there",
        Phase.RUNNING: "placed, and every worker ran within a second",
        Phase.SUSPENDED: "spec.suspend is true",
        Phase.INVALID: "an edit made the spec unusable",
        Phase.SUCCEEDED: "it ended while no operator watched",
        Phase.FAILED: "it ended while no operator watched",
    },
    Phase.PROVISIONING: {
        Phase.QUEUED: "the order was dropped or failed",
        Phase.STARTING: "its nodes are there",
        Phase.RUNNING: "placed, and every worker ran within a second",
        Phase.SUSPENDED: "spec.suspend is true",
        Phase.INVALID: "an edit made the spec unusable",
        Phase.SUCCEEDED: "it ended while no operator watched",
        Phase.FAILED: "it ended while no operator watched",
    },
    Phase.STARTING: {
        Phase.RUNNING: "every worker runs",
        Phase.QUEUED: "requeued",
        Phase.SUSPENDED: "spec.suspend is true",
        Phase.INVALID: "an edit made the spec unusable",
        Phase.SUCCEEDED: "every worker finished",
        Phase.FAILED: "a worker failed and no retry is left",
    },
    Phase.RUNNING: {
        Phase.QUEUED: "requeued from the last checkpoint",
        Phase.SUSPENDED: "spec.suspend is true, or idle and held",
        Phase.INVALID: "an edit made the spec unusable",
        Phase.SUCCEEDED: "every worker finished",
        Phase.FAILED: "a worker failed and no retry is left",
    },
    Phase.SUSPENDED: {
        Phase.QUEUED: "resumed",
        Phase.PROVISIONING: "resumed, and nodes were ordered for it",
        Phase.STARTING: "resumed and placed",
        Phase.RUNNING: "resumed before its workers had left",
        Phase.INVALID: "an edit made the spec unusable",
        Phase.SUCCEEDED: "its workers finished while they were asked to leave",
        Phase.FAILED: "spec.idlePolicy ends it",
    },
    Phase.INVALID: {
        Phase.QUEUED: "an edit mended the spec",
        Phase.PROVISIONING: "an edit mended the spec, and nodes were ordered for it",
        Phase.STARTING: "an edit mended the spec; its workers start",
        Phase.RUNNING: "an edit mended the spec; its workers ran on",
        Phase.SUSPENDED: "spec.suspend is true",
        Phase.SUCCEEDED: "every worker finished",
        Phase.FAILED: "a worker failed and no retry is left",
    },
    Phase.SUCCEEDED: {},
    Phase.FAILED: {},
}
_HELD = frozenset({Reason.IDLE, Reason.SUSPENDED})


def outcomes(plan: Plan) -> dict[str, Outcome]:
    """Each job's part of a plan."""
    every: list[Placement | Hold | Stay | Requeue] = [*plan.placements, *plan.holds, *plan.stays, *plan.requeues]
    return {o.job: o for o in every}


def phase(outcome: Outcome, *, suspended: bool, placed: bool, runs: bool) -> Phase:
    """Where a job stands that has not ended and whose spec is right.

    Args:
        outcome: the job's part of the plan.
        suspended: spec.suspend is true, or it is held as idle.
        placed: its gang has a placement.
        runs: every worker has run since.
    """
    if suspended or (isinstance(outcome, Requeue) and outcome.reason in _HELD):
        return Phase.SUSPENDED
    if isinstance(outcome, Placement):
        return Phase.STARTING
    if isinstance(outcome, Requeue):
        return Phase.QUEUED
    if placed:
        return Phase.RUNNING if runs else Phase.STARTING
    if isinstance(outcome, Hold) and outcome.reason is Reason.NODES_ON_THE_WAY:
        return Phase.PROVISIONING
    return Phase.QUEUED


def step(before: str, after: Phase) -> Phase:
    """The phase to show after `before`: `after` where the table leads there, else Queued on the way to it.

    Args:
        before: as the status says it; empty or unknown: the job is new.
    """
    if before not in Phase.__members__.values():
        return after
    old = Phase(before)
    if after is old or after in TRANSITIONS[old]:
        return after
    return old if old in ENDED else Phase.QUEUED
