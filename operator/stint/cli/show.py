"""Tables for people."""

from __future__ import annotations

from datetime import datetime

from rich.table import Table

from stint.api.trainingjob_status import Status
from stint.cli import tables
from stint.model.job import Job, JobId
from stint.model.plan import Candidate, Hold, NodeWorth, Placement, Plan
from stint.model.situation import Situation

_TOLD = 3  # offerings whose next node is worth most


def plan(situation: Situation, made: Plan) -> None:
    """Everything that was decided."""
    out, now = tables.console(), made.decided_at
    table = tables.table(
        "JOB",
        "DECISION",
        "WHERE",
        "WORKERS",
        "$/H",
        "$ TO FINISH",
        "STARTS",
        "DONE",
        "NEXT BEST $",
        right=("WORKERS", "$/H", "$ TO FINISH", "NEXT BEST $"),
    )
    for p in made.placements:
        _row(table, p.job, "place", p.chosen, now, p.explanation.runner_up)
    for h in made.holds:
        if h.chosen is not None:
            _row(table, h.job, f"hold: {h.reason.value}", h.chosen, now, h.explanation.runner_up)
        else:
            table.add_row(h.job, f"hold: {h.reason.value}", "-", "-", "-", "-", "-", "-", "-")
    for s in made.stays:
        table.add_row(
            s.job,
            "stay",
            _where(situation, s.job),
            "",
            tables.usd(s.usd_per_hour),
            tables.usd(s.cost_to_finish_usd),
            "runs",
            tables.when(s.finish, now),
            "",
        )
    for r in made.requeues:
        table.add_row(r.job, f"requeue: {r.reason.value}", "", "", "", "", "", "", "")
    out.print(table if table.row_count else "No jobs.")
    for h in made.holds:
        out.print(f"{h.job}: {h.message}")
    for resize in made.resizes:
        verb = "advice" if resize.advise_only else "resize"
        out.print(f"{verb}: pool {resize.pool}: {resize.message} ({resize.usd_per_hour:+.2f} USD/h)")
    c = made.certificate
    if c is not None and c.gap_ratio is not None:
        left = f"; {c.left_out} without a place" if c.left_out else ""
        above = f"at most {c.gap_ratio:.1%} above the best possible"
        out.print(f"J = {tables.usd(c.objective_usd)} USD by {c.solver}, {above}{left}")
    if c is not None:
        for worth in c.node_worth[:_TOLD]:
            out.print(_worth(worth))
    for note in situation.notes:
        out.print(f"note: {note}")


def _worth(worth: NodeWorth) -> str:
    return (
        f"one more node of {worth.offering} now would save those who wait {tables.usd(worth.usd)} USD over the next "
        f"{worth.hours:.0f} h ({tables.usd(worth.usd / worth.hours)} USD/h)"
    )


def _row(table: Table, job: str, decision: str, c: Candidate, now: datetime, best: Candidate | None) -> None:
    new = f" (+{c.new_nodes} nodes)" if c.new_nodes else ""
    table.add_row(
        job,
        decision,
        c.offering + new,
        str(c.workers),
        tables.usd(c.usd_per_hour),
        tables.usd(c.cost.usd),
        tables.when(c.start, now),
        tables.when(c.finish, now),
        tables.usd(best.cost.usd if best else None),
    )


def _where(situation: Situation, job_id: str) -> str:
    found = next((j for j in situation.jobs if j.id == job_id), None)
    return found.assignment.offering if found is not None and found.assignment is not None else "-"


def explanation(made: Plan, job: Job) -> None:
    """Why one job is where it is."""
    out, now = tables.console(), made.decided_at
    decided: list[Placement | Hold] = [*made.placements, *made.holds]
    part = next((p for p in decided if p.job == job.id), None)
    if part is None:
        stay = next((s for s in made.stays if s.job == job.id), None)
        requeue = next((r for r in made.requeues if r.job == job.id), None)
        if stay is not None and job.assignment is not None:
            out.print(
                f"{job.id} runs on {job.assignment.offering} at {stay.usd_per_hour:.2f} USD/h; "
                f"{tables.usd(job.spent_usd)} USD spent, {tables.usd(stay.cost_to_finish_usd)} USD to finish, "
                f"done {tables.when(stay.finish, now)}"
            )
        elif requeue is not None:
            out.print(f"{job.id} is requeued: {requeue.reason.value}: {requeue.message}")
        else:
            out.print(f"{job.id} is suspended: spec.suspend is true")
        return
    if isinstance(part, Hold):
        out.print(f"{job.id} is held: {part.reason.value}: {part.message}")
        if job.spent_usd > 0:
            out.print(f"{tables.usd(job.spent_usd)} USD spent so far")
    else:
        late = f", {part.late_by_hours:.1f} h late" if part.late_by_hours else ""
        out.print(f"{job.id} is placed on {part.chosen.offering}{late}; nodes by rank: {', '.join(part.nodes)}")
    table = tables.table(
        "OFFERING", "VERDICT", "$/H", "$ TO FINISH", "STARTS", "DONE", "WHY", right=("$/H", "$ TO FINISH")
    )
    for verdict, c in (("chosen", part.chosen), ("runner-up", part.explanation.runner_up)):
        if c is not None:
            when = tables.when(c.start, now), tables.when(c.finish, now)
            table.add_row(c.offering, verdict, tables.usd(c.usd_per_hour), tables.usd(c.cost.usd), *when, _terms(c))
    for r in reversed(part.explanation.rejected):
        table.add_row(r.offering, r.reason.value, "", "", "", "", r.message)
    out.print(table)
    named = {r.offering for r in part.explanation.rejected} | {c.offering for c in (part.chosen,) if c is not None}
    for worth in made.certificate.node_worth if made.certificate is not None else ():
        if worth.offering in named:
            out.print(_worth(worth))


def standing(job: JobId, status: Status) -> None:
    """What is known of a job about which nothing is decided any more, or not yet."""
    out = tables.console()
    phase = status.phase or "not looked at yet"
    why = f" ({status.reason})" if status.reason and status.reason != status.phase else ""
    spent = f"; {status.spent_usd} USD spent" if status.spent_usd else ""
    out.print(f"{job} is {phase}{why}{spent}")
    remembered(status)


def remembered(status: Status) -> None:
    """Why a job that runs was placed where it is, as its status has kept it."""
    out = tables.console()
    if status.message:
        out.print(status.message)
    table = tables.table("OFFERING", "VERDICT", "$/H", "$ TO FINISH", "WHY", right=("$/H", "$ TO FINISH"))
    if status.next_best is not None:
        best = status.next_best
        table.add_row(best.offering, "runner-up", tables.usd(best.usd_per_hour), tables.usd(best.usd), "")
    for rejected in reversed(status.rejected):
        table.add_row(rejected.offering, rejected.reason, "", "", rejected.message)
    if table.row_count:
        out.print(table)


def _terms(c: Candidate) -> str:
    """The terms of a cost that are not nothing."""
    names = ("hardware", "rework", "startup", "energy", "egress", "storage", "licence", "labour", "lateness", "carbon")
    parts = [(n, getattr(c.cost, f"{n}_usd")) for n in names]
    return " + ".join(f"{n} {tables.usd(v)}" for n, v in parts if v >= 0.005)
