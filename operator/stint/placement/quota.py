"""What a namespace may spend an hour, and how many GPUs of a model it may hold: a job that would go beyond waits.

Checked on the answer, because what a job costs an hour follows from where it goes. GPUs are whole ones; a part of a
shared GPU counts as that part. Where an answer goes beyond a quota, the jobs are served in queue order, each within
its quota; those that a quota lets go nowhere are left out, and the rest is decided about again: a quota never keeps
capacity from other namespaces. Where that is still beyond, the answer in queue order stands.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from stint.model.job import Job, split_job_id
from stint.model.plan import Hold, Reason, Stay
from stint.model.situation import Quota, Situation
from stint.placement.greedy import cheapest, columns_of_jobs
from stint.placement.problem import Problem, build_problem
from stint.placement.solver import Assignment, Choice
from stint.placement.timeline import Timeline

_MOST_SOLVED = 2  # answers asked of the solver
_ROUNDING = 1e-9


@dataclass(slots=True)
class _Held:
    """By one namespace."""

    usd_per_hour: float = 0.0
    gpus: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # whole ones, by model; parts are parts


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a job would add while it runs."""

    usd_per_hour: float
    model: str
    gpus: float


class _Quotas:
    """What each namespace may still have, with what runs and what was granted counted."""

    def __init__(self, situation: Situation, stays: Sequence[Stay]) -> None:
        self._quotas = {q.namespace: q for q in situation.settings.quotas}
        self._held = _held(situation, stays) if self._quotas else {}

    def __bool__(self) -> bool:
        return bool(self._quotas)

    def binds(self, job: Job) -> bool:
        """Whether there is a quota for the job's namespace."""
        return split_job_id(job.id)[0] in self._quotas

    def grant(self, job: Job, ask: _Ask) -> Hold | None:
        """Count what a job asks for; a hold instead, with the figures, where that is too much."""
        if no := self.too_much(job, ask):
            return Hold(job=job.id, reason=Reason.OVER_QUOTA, message=no)
        held = self._of(job)
        held.usd_per_hour += ask.usd_per_hour
        held.gpus[ask.model] += ask.gpus
        return None

    def too_much(self, job: Job, ask: _Ask) -> str:
        """Why not, in the quota's own terms; empty: it may."""
        quota = self._quotas.get(split_job_id(job.id)[0])
        return "" if quota is None else _too_much(quota, self._of(job), ask)

    def _of(self, job: Job) -> _Held:
        return self._held.setdefault(split_job_id(job.id)[0], _Held())


def solve_within(
    situation: Situation,
    waiting: Sequence[Job],
    stays: Sequence[Stay],
    solve: Callable[[Problem], Assignment],
    verified: Callable[[Problem, Assignment], Assignment],
) -> tuple[Problem, Assignment, list[Hold]]:
    """The waiting jobs with a verified answer that keeps to every quota, and those that a quota holds."""
    holds: list[Hold] = []
    left = list(waiting)
    for solved in itertools.count():
        problem = build_problem(situation, left)
        if solved < _MOST_SOLVED:
            answer = verified(problem, solve(problem))
            if not beyond_quota(situation, problem, answer, stays):
                return problem, answer, holds
        # A job that is beyond it where the solver put it may go elsewhere: only one that may go nowhere is left out.
        within, over = _in_turn(problem, _Quotas(situation, stays))
        if not over:
            return problem, verified(problem, within), holds
        over += _hopeless(situation, problem, within, stays, {h.job for h in over})
        holds += over
        gone = {h.job for h in over}
        left = [j for j in left if j.id not in gone]
    raise AssertionError("unreachable: each round leaves a job out")


def beyond_quota(situation: Situation, problem: Problem, answer: Assignment, stays: Sequence[Stay]) -> list[Hold]:
    """The jobs of an answer that may not go, in queue order, each with the figures."""
    quotas = _Quotas(situation, stays)
    if not quotas:
        return []
    asks = (
        (problem.jobs[j], _asks(problem, j, choice.column))
        for j, choice in enumerate(answer.choices)
        if choice is not None and _at_once(problem, choice) and quotas.binds(problem.jobs[j])
    )
    return [hold for job, ask in asks if (hold := quotas.grant(job, ask)) is not None]


def _hopeless(
    situation: Situation, problem: Problem, answer: Assignment, stays: Sequence[Stay], over: set[str]
) -> list[Hold]:
    """Jobs that wait, for which a quota leaves too little on every offering, once those that may go have gone."""
    quotas = _Quotas(situation, stays)
    waiting = []
    for j, choice in enumerate(answer.choices):
        job = problem.jobs[j]
        if not quotas.binds(job) or job.id in over:
            continue
        if choice is not None and _at_once(problem, choice):
            quotas.grant(job, _asks(problem, j, choice.column))
        else:
            waiting.append(j)
    columns = columns_of_jobs(problem.columns, len(problem.jobs))
    holds = []
    for j in waiting:
        texts = [quotas.too_much(problem.jobs[j], _asks(problem, j, int(c))) for c in columns[j]]
        if texts and all(texts):
            holds.append(Hold(job=problem.jobs[j].id, reason=Reason.OVER_QUOTA, message=texts[0]))
    return holds


def _in_turn(problem: Problem, quotas: _Quotas) -> tuple[Assignment, list[Hold]]:
    """As greedy serves them; a job that would go beyond a quota goes elsewhere within it, or waits."""
    capacity, holds = Timeline(problem), []
    choices: list[Choice | None] = []
    for j, candidates in enumerate(columns_of_jobs(problem.columns, len(problem.jobs))):
        job = problem.jobs[j]
        found = cheapest(capacity, problem.columns, candidates)
        no = _refused(problem, quotas, j, found)
        if no:
            may = [not quotas.too_much(job, _asks(problem, j, int(c))) for c in candidates]
            found = cheapest(capacity, problem.columns, candidates[np.array(may, dtype=bool)])
        if found is None and no:
            holds.append(Hold(job=job.id, reason=Reason.OVER_QUOTA, message=no))
        if found is not None:
            capacity.take(problem.columns, found[0])
            if _at_once(problem, found[0]):
                quotas.grant(job, _asks(problem, j, found[0].column))
        choices.append(None if found is None else found[0])
    return Assignment(choices=tuple(choices), left=capacity), holds


def _refused(problem: Problem, quotas: _Quotas, j: int, found: tuple[Choice, float] | None) -> str:
    if found is None or not _at_once(problem, found[0]):
        return ""
    return quotas.too_much(problem.jobs[j], _asks(problem, j, found[0].column))


def _at_once(problem: Problem, choice: Choice) -> bool:
    """It starts now, or nodes are bought for it now."""
    return choice.start_hours <= 0.0 or bool(problem.columns.buys[choice.column])


def _held(situation: Situation, stays: Sequence[Stay]) -> dict[str, _Held]:
    rates = {s.job: s.usd_per_hour for s in stays}
    offerings = {o.id: o for o in situation.offerings}
    held: dict[str, _Held] = {}
    for job in situation.jobs:
        if job.assignment is not None and job.id in rates:
            mine = held.setdefault(split_job_id(job.id)[0], _Held())
            mine.usd_per_hour += rates[job.id]
            offering = offerings.get(job.assignment.offering)
            if offering is not None:
                gpus = offering.whole_gpus(job.gpus(len(job.assignment.nodes)))
                mine.gpus[offering.gpu_model] += gpus
    return held


def _asks(problem: Problem, j: int, column: int) -> _Ask:
    plain = problem.columns.plain
    workers = plain.workers[column]
    offering = problem.offerings[plain.offering[column]]
    return _Ask(
        usd_per_hour=plain.usd_per_node_hour[column] * plain.share[column] * workers,
        model=offering.gpu_model,
        gpus=offering.whole_gpus(problem.jobs[j].gpus(workers)),
    )


def _too_much(quota: Quota, have: _Held, ask: _Ask) -> str:
    who = f"namespace {quota.namespace}"
    most = math.inf if quota.usd_per_hour is None else quota.usd_per_hour
    if have.usd_per_hour + ask.usd_per_hour > most + _ROUNDING:
        in_use = f"{have.usd_per_hour:.2f} USD/h are in use"
        return f"{who} may spend {most:.2f} USD/h; {in_use}, and this would add {ask.usd_per_hour:.2f}"
    gpus = quota.gpus.get(ask.model)
    if gpus is not None and have.gpus[ask.model] + ask.gpus > gpus + _ROUNDING:
        in_use = f"{have.gpus[ask.model]:.4g} are in use"
        return f"{who} may hold {gpus} {ask.model}; {in_use}, and this would add {ask.gpus:.4g}"
    return ""
