"""The one door into the core: a situation in, a plan out.

Gangs compete for the same nodes, so a decision is made for all of them together. The operator, the simulator,
`stint plan` and the tests all call `decide`; none of them owns a copy.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from stint.autoscale import breaker, sizing
from stint.autoscale.make_room import make_room
from stint.autoscale.moves import worth_moving
from stint.errors import UnsoundAssignmentError
from stint.lifecycle.requeue import requeues
from stint.model.job import Job, JobId, OnMiss
from stint.model.plan import Certificate, Hold, Plan, Reason, Requeue, Stay
from stint.model.situation import Situation
from stint.placement import explain, newcomers, outcome, queue
from stint.placement.beside import Beside
from stint.placement.bound import certify
from stint.placement.problem import Problem
from stint.placement.quota import beyond_quota, solve_within
from stint.placement.running import stays as price_stays
from stint.placement.solver import Assignment, Solver
from stint.placement.solvers import solver_of
from stint.placement.timeline import Timeline
from stint.placement.verify import violations


def decide(situation: Situation, *, solver: Solver | None = None, rng: np.random.Generator | None = None) -> Plan:
    """Return what to do now. Pure: the clock is `situation.now`, the dice are `rng`.

    Args:
        situation: everything the decision may look at.
        solver: by default the one that `situation.settings.solver` names.
        rng: for solvers that roll dice; by default seeded with 0, so that a stored situation gives the same bytes.
    Raises:
        UnsoundAssignmentError: the solver broke a rule. The caller asks again with greedy, and counts it.
        KeyError: `situation.settings.solver` names no solver.
    """
    solver = solver or solver_of(situation.settings.solver)
    rng = rng or np.random.Generator(np.random.PCG64(0))

    if (plan := _about_newcomers(situation)) is not None:
        return plan
    requeued = requeues(situation)  # 1. which gangs cannot go on; what the others will still cost
    gone = {r.job for r in requeued}
    stays = price_stays(situation, besides=gone)
    aside, waiting = _split(situation, queue.in_order(situation), besides=gone)  # 2. which jobs wait, in what order

    def solve(problem: Problem) -> Assignment:
        return solver.solve(problem, budget_steps=situation.settings.budget_steps, rng=rng)

    # 3. what each would cost where, 4. who goes where, 5. trust no solver
    problem, answer, over = solve_within(situation, waiting, stays, solve, _verified)
    halted = breaker.stopped(problem, answer)
    for everybody in (False, True):  # what is stopped leaves what others wanted, who may order then in its place
        if (more := breaker.stopped(problem, answer)) is not None:
            waiting = breaker.barred(waiting, more, everybody=everybody)
            problem, answer, over = solve_within(situation, waiting, stays, solve, _verified)
    aside += over
    certificate = certify(problem, answer, solver.name)
    plan = _compose(situation, problem, answer, certificate, stays, requeued, aside)  # 6. nodes, and why
    plan = replace(plan, scale_up_stopped="" if halted is None else halted.why)

    def on_trial(other: Situation) -> Plan:
        return decide(other, solver=solver, rng=rng)

    if (roomier := make_room(situation, plan, on_trial)) is not None:  # 7. who runs, and should elsewhere or later
        return roomier
    if moves := worth_moving(situation, plan, on_trial):
        moved = {m.job for m in moves}
        kept = tuple(s for s in plan.stays if s.job not in moved)
        return replace(plan, stays=kept, requeues=(*plan.requeues, *moves))
    return replace(plan, standing=newcomers.summary_of(situation, problem, answer, plan))


def _verified(problem: Problem, answer: Assignment) -> Assignment:
    if broken := violations(problem, answer):
        raise UnsoundAssignmentError(broken)
    return answer


def _about_newcomers(situation: Situation) -> Plan | None:
    """A decision about those alone who came since the last one about everybody; None: one about everybody is due."""
    before = situation.before
    new = newcomers.whats_new(situation)
    if before is None or new is None:
        return None
    if requeues(situation):
        return None
    stays = price_stays(situation)
    others = tuple(j for j in situation.jobs if j.assignment is not None)
    aside, waiting = _split(situation, queue.in_order(replace(situation, jobs=(*others, *new))))
    plan = Plan(decided_at=situation.now, holds=tuple(sorted(aside, key=lambda h: h.job)), stays=stays)
    served = None
    if waiting:
        served = newcomers.serve(situation, before, waiting)
        if served is None or violations(served.problem, served.answer):
            return None
        if beyond_quota(situation, served.problem, served.answer, stays):
            return None
        if breaker.stopped(served.problem, served.answer) is not None:
            return None
        plan = _compose(situation, served.problem, served.answer, None, stays, (), aside, capacity=served.capacity)
        plan = replace(plan, resizes=tuple(r for r in plan.resizes if r.to_nodes > r.from_nodes))
    return replace(plan, standing=newcomers.summary_with(situation, served, plan))


def _split(
    situation: Situation, waiting: tuple[Job, ...], *, besides: Collection[JobId] = ()
) -> tuple[list[Hold], list[Job]]:
    """Jobs that back off after a failure or a roll-back, or that are not whole yet, do not compete."""
    holds, rest = [], []
    for job in waiting:
        if job.id in besides:
            continue
        if job.lacking:
            holds.append(Hold(job=job.id, reason=Reason.INCOMPLETE, message=job.lacking))
        elif job.not_before is not None and job.not_before > situation.now:
            seconds = (job.not_before - situation.now).total_seconds()
            text = f"its last start did not hold or its last pods are leaving; next try in {seconds:.0f} s"
            holds.append(Hold(job=job.id, reason=Reason.BACKING_OFF, message=text))
        else:
            rest.append(job)
    return holds, rest


def _compose(
    situation: Situation,
    problem: Problem,
    answer: Assignment,
    certificate: Certificate | None,
    stays: tuple[Stay, ...],
    requeued: tuple[Requeue, ...],
    aside: list[Hold],
    *,
    capacity: Timeline | None = None,
) -> Plan:
    """`capacity` is what the answer leaves, where there is less than the problem says."""
    capacity = explain.full_capacity(problem, answer) if capacity is None else capacity
    told = explain.explanations(problem, answer, capacity)
    advice = sizing.advise(problem, answer, capacity)
    advised = {a.job: a.choice for a in advice}
    placements, holds = [], list(aside)
    beside = Beside(problem)
    for j, choice in enumerate(answer.choices):
        goes = choice is not None and outcome.goes_now(problem, choice)
        placement = outcome.placement(problem, j, choice, told[j]) if choice is not None and goes else None
        if placement is not None and (clash := beside.clash(j, placement.nodes)):
            text = f"{clash}; it is placed when the jobs before it have their nodes"
            holds.append(Hold(job=placement.job, reason=Reason.BESIDE_OTHERS, message=text, explanation=told[j]))
        elif placement is None or (placement.late_by_hours > 0 and problem.jobs[j].on_deadline_miss is OnMiss.HOLD):
            holds.append(outcome.hold(problem, j, choice, told[j], advised.get(j)))
        else:
            placements.append(placement)
            beside.add(j, placement.nodes)
    return Plan(
        decided_at=situation.now,
        placements=tuple(placements),
        holds=tuple(sorted(holds, key=lambda h: h.job)),
        stays=stays,
        requeues=requeued,
        resizes=sizing.resize(problem, answer, advice),
        certificate=certificate,
    )
