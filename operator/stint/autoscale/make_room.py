"""Making room for a job that would miss its deadline: gangs that can wait are taken back, to go on later or elsewhere.

Only where that is tried beforehand by the very function that will carry it out, on the situation as it will be, and

    the job is in time then, nobody else is late who would not be otherwise, and
    payback x (what pausing, lost work and other places cost the others) <= what being late is worth

which is what lateness costs by the job's own rate, and a binding deadline in any case as much as the dearest way to do
the whole job. At most as many gangs an hour as may be moved for money.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from stint.autoscale.displacement import (
    Displacement,
    are_apart,
    displacements_of,
    evictions_across_left,
    moves_left,
    tried,
)
from stint.model.job import Job, JobId, NodeName
from stint.model.plan import Candidate, Hold, Placement, Plan, Reason, Requeue
from stint.model.situation import Situation
from stint.placement.problem import Problem, build_problem

_MOST_LATE = 4  # jobs that room is looked for, the most urgent first
_MOST_TRIED = 3  # decisions made on trial for each
_LEAVING = timedelta(minutes=2)  # while those last taken back may still be on their nodes, nobody else is
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class _Room:
    """Gangs whose going leaves room for one job."""

    movers: tuple[Displacement, ...]
    pause_usd: float


def make_room(situation: Situation, plan: Plan, decide: Callable[[Situation], Plan]) -> Plan | None:
    """The plan with gangs taken back, where that lets a job meet its deadline; None: nobody is worth it."""
    left = moves_left(situation)
    if left <= 0 or any(j.moved_at is not None and situation.now - j.moved_at < _LEAVING for j in situation.jobs):
        return None
    late_ids = _late_ids(situation, plan)
    late = _late(situation, plan, late_ids)
    movers = displacements_of(situation, plan.stays, settled_after=timedelta(0)) if late else []
    if not movers:
        return None
    across = evictions_across_left(situation)
    for job in late[:_MOST_LATE]:
        movable = movers if across > 0 else [m for m in movers if not are_apart(m.job.id, job.id)]
        problem = build_problem(situation, [job])
        rooms = [r for r in _rooms(problem, movable) if len(r.movers) <= left and _apart(r, job) <= across]
        for room in sorted(rooms, key=lambda r: (r.pause_usd, [m.job.id for m in r.movers]))[:_MOST_TRIED]:
            after = decide(tried(situation, [m.again for m in room.movers]))
            if _late_ids(situation, after) < late_ids and _is_worth_it(situation, problem, room, plan, after):
                return _with(plan, job, room, after)
    return None


def _apart(room: _Room, job: Job) -> int:
    """How many gangs of other namespaces would go."""
    return sum(are_apart(m.job.id, job.id) for m in room.movers)


def _late(situation: Situation, plan: Plan, late: set[JobId]) -> list[Job]:
    """Jobs that wait or start now, and will be late for all that is planned; the next deadline first."""
    bought_for = {j for r in plan.resizes for j in r.for_jobs}
    jobs = [(j.deadline, j.id, j) for j in situation.jobs if j.deadline is not None and j.id in late]
    return [j for *_, j in sorted(jobs) if j.assignment is None and j.id not in bought_for]


def _late_ids(situation: Situation, plan: Plan) -> set[JobId]:
    deadlines = {j.id: j.deadline for j in situation.jobs if j.deadline is not None}
    found = {h.job for h in plan.holds if h.reason is Reason.MISSES_DEADLINE}
    found |= {h.job for h in plan.holds if h.reason is Reason.NOT_ENOUGH_GPUS and h.chosen is None} & deadlines.keys()
    finishes = [(job, c.finish) for job, c in _chosen(plan).items()] + [(s.job, s.finish) for s in plan.stays]
    return found | {job for job, finish in finishes if job in deadlines and finish and finish > deadlines[job]}


def _chosen(plan: Plan) -> dict[JobId, Candidate]:
    decided: list[Placement | Hold] = [*plan.placements, *plan.holds]
    return {p.job: p.chosen for p in decided if p.chosen is not None}


def _rooms(problem: Problem, movers: Sequence[Displacement]) -> Iterator[_Room]:
    """For each way to run the job in time on nodes that exist: the gangs that are in its way, the cheapest ones."""
    columns = problem.columns
    in_time = ~columns.buys & (columns.cost.finish_hours <= problem.deadline_hours[0])
    names = {node.name: n for n, node in enumerate(problem.nodes)}
    for c in np.flatnonzero(in_time):
        mine = problem.node_offering == columns.offering[c]
        usable = mine & problem.admits[0] & ~problem.node_is_new & (problem.node_from_hours == 0)
        found = _clear(problem, int(columns.workers[c]), np.flatnonzero(usable), movers, names)
        if found is not None:
            yield found


def _clear(
    problem: Problem, workers: int, nodes: np.ndarray, movers: Sequence[Displacement], names: Mapping[NodeName, int]
) -> _Room | None:
    """Worker after worker onto the node where one more costs least; gangs leave it by what their pause costs a GPU."""
    free = problem.node_free.copy()
    gone: list[Displacement] = []
    on: dict[int, list[tuple[Displacement, np.ndarray]]] = {}
    for mover in sorted(movers, key=lambda m: (m.pause_usd / max(m.job.per_worker.gpus, 1), m.job.id)):
        for name, held in mover.job.on_nodes(mover.place.nodes).items():
            holds = np.array(held.row(problem.extended))
            on.setdefault(names.get(name, -1), []).append((mover, holds))
    for need in problem.needs(0, workers):  # as if those of other roles might go wherever the workers may
        ways = [w for n in nodes if (w := _one_more(free[n], need, int(n), on.get(int(n), []), gone)) is not None]
        if not ways:
            return None
        _, n, going = min(ways, key=lambda w: (w[0], w[1]))
        for mover in going:
            gone.append(mover)
            for name, held in mover.job.on_nodes(mover.place.nodes).items():
                if name in names:
                    free[names[name]] += np.array(held.row(problem.extended))
        free[n] -= need
    return _Room(tuple(gone), sum(m.pause_usd for m in gone)) if gone else None


def _one_more(
    free: np.ndarray,
    need: np.ndarray,
    node: int,
    there: Sequence[tuple[Displacement, np.ndarray]],
    gone: Sequence[Displacement],
) -> tuple[float, int, list[Displacement]] | None:
    """What room for one more worker on a node costs, and who leaves for it."""
    free, going, usd = free.copy(), [], 0.0
    for mover, holds in there:
        if np.all(free + _EPSILON >= need):
            break
        if mover not in gone:
            free += holds
            going.append(mover)
            usd += mover.pause_usd
    return (usd, node, going) if np.all(free + _EPSILON >= need) else None


def _is_worth_it(situation: Situation, problem: Problem, room: _Room, plan: Plan, after: Plan) -> bool:
    job = problem.jobs[0]
    placed = next((p for p in after.placements if p.job == job.id), None)
    if placed is None or placed.late_by_hours > 0:
        return False
    before, then = _chosen(plan), _chosen(after)
    cost = 0.0
    for mover in room.movers:
        if mover.job.id not in then:
            return False  # it would have no place in sight
        cost += max(then[mover.job.id].objective_usd - mover.stay_usd, mover.pause_usd)
    for other in before.keys() - {job.id}:
        if other not in then:
            return False
        cost += then[other].objective_usd - before[other].objective_usd
    rate, had = job.objective.cost * job.objective.lateness_usd_per_hour, before.get(job.id)
    lateness = max(0.0, rate * (had.finish - placed.chosen.finish) / timedelta(hours=1)) if had is not None else 0.0
    return situation.settings.payback * cost <= float(problem.late_usd[0]) + lateness


def _with(plan: Plan, job: Job, room: _Room, after: Plan) -> Plan:
    """Taken back now; the job, and who would start now where it is to go, wait until they are gone."""
    moved = {m.job.id for m in room.movers}
    placed = next(p for p in after.placements if p.job == job.id)
    nodes = ", ".join(sorted(set(placed.nodes)))
    text = f"makes room on {nodes} for {job.id}, which would otherwise miss its deadline; resumes when there is room"
    requeues = tuple(
        Requeue(job=m.job.id, reason=Reason.MAKES_ROOM, message=text, made_room_for=job.id) for m in room.movers
    )
    now = {p.job: p for p in plan.placements if set(p.nodes) & set(placed.nodes)} | {job.id: placed}
    held = tuple(
        Hold(
            job=j,
            reason=Reason.MAKES_ROOM,
            message=f"starts on {nodes} when {', '.join(sorted(moved))} has left",
            chosen=p.chosen,
            explanation=p.explanation,
        )
        for j, p in now.items()
    )
    return replace(
        plan,
        placements=tuple(p for p in plan.placements if p.job not in now),
        holds=tuple(sorted((*(h for h in plan.holds if h.job not in now), *held), key=lambda h: h.job)),
        stays=tuple(s for s in plan.stays if s.job not in moved),
        requeues=(*plan.requeues, *requeues),
    )
