"""Why this and not that: every job's runner-up, and for each offering it does not get the first thing in the way."""

from __future__ import annotations

import numpy as np

from stint.estimate.runtime import hours_after
from stint.model.plan import Candidate, Cost, Explanation, Reason, Rejection
from stint.placement.capacity import Capacity
from stint.placement.fit import workers_per_node
from stint.placement.greedy import cheapest, columns_of_jobs
from stint.placement.problem import Columns, Problem
from stint.placement.solver import Assignment, Choice

_COST_FIELDS = tuple(f for f in Cost.__dataclass_fields__ if f != "usd")


def candidate(problem: Problem, columns: Columns, choice: Choice, objective_usd: float) -> Candidate:
    """A choice in words that leave the core: names, dates, dollars."""
    c = choice.column
    now = problem.situation.now
    arrive = max((float(problem.node_from_hours[n]) for n in choice.nodes if problem.node_is_new[n]), default=0.0)
    start = hours_after(now, max(choice.start_hours, arrive))
    rate = float(columns.usd_per_node_hour[c] * columns.share[c]) * int(columns.workers[c])
    return Candidate(
        offering=problem.offerings[columns.offering[c]].id,
        workers=int(columns.workers[c]),
        new_nodes=len({n for n in choice.nodes if problem.node_is_new[n]}),
        cost=Cost(
            usd=float(columns.cost.total_usd[c]),
            **{name: float(getattr(columns.cost, name)[c]) for name in _COST_FIELDS},
        ),
        usd_per_hour=rate,
        objective_usd=objective_usd,
        start=start,
        finish=hours_after(now, choice.start_hours + float(columns.cost.finish_hours[c])),
    )


def full_capacity(problem: Problem, assignment: Assignment) -> Capacity:
    """What is left when everybody has what the assignment gives."""
    capacity = Capacity(problem)
    for choice in assignment.choices:
        if choice is not None:
            capacity.take(problem.columns, choice)
    return capacity


def explanations(problem: Problem, assignment: Assignment, capacity: Capacity) -> list[Explanation]:
    """One for each job. `capacity` is what is left after the assignment; it is handed back as it was."""
    result = []
    for j, candidates in enumerate(columns_of_jobs(problem.columns, len(problem.jobs))):
        choice = assignment.choices[j]
        if choice is not None:
            capacity.give_back(j)
        result.append(_explain(problem, capacity, j, candidates, choice))
        if choice is not None:
            capacity.take(problem.columns, choice)
    return result


def _explain(
    problem: Problem, capacity: Capacity, job: int, candidates: np.ndarray, choice: Choice | None
) -> Explanation:
    columns = problem.columns
    taken = None if choice is None else int(columns.offering[choice.column])
    others = candidates[columns.offering[candidates] != taken] if taken is not None else candidates
    found = cheapest(capacity, columns, others)
    runner_up = candidate(problem, columns, *found) if found else None
    rejected = list(problem.rejections[job])
    if choice is None:
        told = {int(columns.offering[c]) for c in others}
        rejected += [_no_room(problem, capacity, job, o) for o in sorted(told)]
        return Explanation(runner_up=None, rejected=tuple(sorted(rejected, key=_by_precedence)))
    second = None if found is None else int(columns.offering[found[0].column])
    for o in sorted({int(columns.offering[c]) for c in others} - {second}):
        least = min(float(columns.objective_usd[c]) for c in others if columns.offering[c] == o)
        if found is not None and least >= found[1]:
            text = f"its best case is {least:.2f} USD with time valued, the runner-up's {found[1]:.2f}"
            rejected.append(Rejection(offering=problem.offerings[o].id, reason=Reason.DEARER, message=text))
        else:
            rejected.append(_no_room(problem, capacity, job, o))
    return Explanation(runner_up=runner_up, rejected=tuple(sorted(rejected, key=_by_precedence)))


_PRECEDENCE = {reason: i for i, reason in enumerate(Reason)}


def _by_precedence(rejection: Rejection) -> tuple[int, str]:
    return _PRECEDENCE[rejection.reason], rejection.offering


def _no_room(problem: Problem, capacity: Capacity, job: int, offering: int) -> Rejection:
    """An offering that would do and has no room: how much it has, how much is needed, what would help."""
    o, wanted = problem.offerings[offering], problem.jobs[job]
    room = int(capacity.room(job, offering, 0.0, 1e-6).sum())
    gpus = wanted.per_worker.gpus
    pool = problem.pools[problem.pool_of_offering[offering]]
    what = f"parts ({o.slices.name}) of {o.gpu_model}" if o.slices else o.gpu_model
    text = f"needs {wanted.min_workers * gpus} {what}, {room * gpus} free in {o.id}"
    lacking = -(-(wanted.min_workers - room) // workers_per_node(wanted.per_worker, o.per_node))
    headroom = int(capacity.headroom[problem.pool_of_offering[offering]])
    if pool.scaler is not None and lacking > headroom:
        text += f"; {lacking} more nodes would do, pool {pool.name} may grow by {headroom} to its {pool.max_nodes}"
        return Rejection(offering=o.id, reason=Reason.POOL_LIMIT, message=text)
    return Rejection(offering=o.id, reason=Reason.NOT_ENOUGH_GPUS, message=text)
