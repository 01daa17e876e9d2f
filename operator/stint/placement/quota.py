"""What a namespace may spend an hour, and how many GPUs of a model it may hold: who would go beyond that waits.

Checked on the answer, because what a job costs an hour follows from where it goes. Those who would go beyond are left
out, and the others are decided about again: a quota never keeps capacity from other namespaces.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stint.model.job import split_job_id
from stint.model.plan import Hold, Reason, Stay
from stint.model.situation import Quota, Situation
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice


@dataclass(slots=True)
class _Held:
    """By one namespace."""

    usd_per_hour: float = 0.0
    gpus: Counter[str] = field(default_factory=Counter)


def beyond_quota(situation: Situation, problem: Problem, answer: Assignment, stays: tuple[Stay, ...]) -> list[Hold]:
    """The jobs of an answer that may not go, in queue order, each with the figures."""
    quotas = {q.namespace: q for q in situation.settings.quotas}
    if not quotas:
        return []
    held = _held(situation, stays)
    holds = []
    for j, choice in enumerate(answer.choices):
        namespace, _ = split_job_id(problem.jobs[j].id)
        quota = quotas.get(namespace)
        if quota is None or choice is None or not _at_once(problem, choice):
            continue
        have = held.setdefault(namespace, _Held())
        usd, model, gpus = _asks(problem, j, choice)
        text = _too_much(quota, have, usd, model, gpus)
        if text:
            holds.append(Hold(job=problem.jobs[j].id, reason=Reason.OVER_QUOTA, message=text))
        else:
            have.usd_per_hour += usd
            have.gpus[model] += gpus
    return holds


def _at_once(problem: Problem, choice: Choice) -> bool:
    """It starts now, or nodes are bought for it now."""
    return choice.start_hours <= 0.0 or bool(problem.columns.buys[choice.column])


def _held(situation: Situation, stays: tuple[Stay, ...]) -> dict[str, _Held]:
    rates = {s.job: s.usd_per_hour for s in stays}
    models = {o.id: o.gpu_model for o in situation.offerings}
    held: dict[str, _Held] = {}
    for job in situation.jobs:
        if job.assignment is not None and job.id in rates:
            mine = held.setdefault(split_job_id(job.id)[0], _Held())
            mine.usd_per_hour += rates[job.id]
            mine.gpus[models.get(job.assignment.offering, "")] += len(job.assignment.nodes) * job.per_worker.gpus
    return held


def _asks(problem: Problem, j: int, choice: Choice) -> tuple[float, str, int]:
    columns, c = problem.columns, choice.column
    workers = int(columns.workers[c])
    usd = float(columns.usd_per_node_hour[c] * columns.share[c]) * workers
    offering = problem.offerings[columns.offering[c]]
    return usd, offering.gpu_model, workers * problem.jobs[j].per_worker.gpus


def _too_much(quota: Quota, have: _Held, usd: float, model: str, gpus: int) -> str:
    """Why not, in the quota's own terms; empty: it may."""
    who = f"namespace {quota.namespace}"
    if quota.usd_per_hour is not None and have.usd_per_hour + usd > quota.usd_per_hour + 1e-9:
        in_use = f"{have.usd_per_hour:.2f} USD/h are in use"
        return f"{who} may spend {quota.usd_per_hour:.2f} USD/h; {in_use}, and this would add {usd:.2f}"
    most = quota.gpus.get(model)
    if most is not None and have.gpus[model] + gpus > most:
        return f"{who} may hold {most} {model}; {have.gpus[model]} are in use, and this would add {gpus}"
    return ""
