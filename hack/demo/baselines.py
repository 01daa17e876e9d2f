"""What the same jobs would have cost on the same fleet at the same prices by two rules that people live by.

The rules are computed, not run: jobs come in the order of their submission, take what the rule says if it is there
or can be bought within the pools' limits, and otherwise wait for it. They pay for the share of a node that they use,
and spot interruptions as often as they are expected, where Stint pays for those that happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stint.model.offering import CapacityType
from stint.model.situation import Situation
from stint.placement.problem import Problem, build_problem
from stint.placement.solver import Choice
from stint.placement.timeline import Timeline

Rule = Callable[[Problem, int, "np.ndarray"], list[int]]


@dataclass(frozen=True)
class Bill:
    """A rule's outcome."""

    rule: str
    usd: float
    late: int
    unplaced: int


def bills(situation: Situation) -> list[Bill]:
    """The situation as it was when every job was submitted and nothing ran."""
    jobs = tuple(sorted((replace(j, budget_usd=None) for j in situation.jobs), key=lambda j: (j.created, j.id)))
    problem = build_problem(replace(situation, jobs=jobs), jobs)
    return [
        _bill(problem, "default scheduler, each job on its first GPU choice, on demand", _first_choice),
        _bill(problem, "cheapest dollar per hour", _cheapest_hour),
    ]


def _bill(problem: Problem, name: str, rule: Rule) -> Bill:
    capacity, columns = Timeline(problem), problem.columns
    usd, late, unplaced = 0.0, 0, 0
    for j in range(len(problem.jobs)):
        possible = np.flatnonzero((columns.job == j) & np.isfinite(columns.objective_usd))
        choice = _take(capacity, problem, rule(problem, j, possible))
        if choice is None:
            unplaced += 1
            continue
        usd += float(columns.cost.total_usd[choice.column])
        late += problem.is_late(columns, choice.column, choice.start_hours)
    return Bill(name, usd, late, unplaced)


def _take(capacity: Timeline, problem: Problem, wanted: list[int]) -> Choice | None:
    """The first of the wanted columns that can have its nodes now; otherwise the one that has them soonest."""
    found = [placed[0] for c in wanted if (placed := capacity.place(problem.columns, c)) is not None]
    now = [choice for choice in found if choice.start_hours == 0]
    best = now[0] if now else min(found, key=lambda c: c.start_hours, default=None)
    if best is not None:
        capacity.take(problem.columns, best)
    return best


def _rate(problem: Problem, column: int) -> float:
    columns = problem.columns
    return float(columns.usd_per_node_hour[column] * columns.share[column]) * int(columns.workers[column])


def _first_choice(problem: Problem, job: int, possible: np.ndarray) -> list[int]:
    """The first model of spec.gpu.models on demand; owned machines only where the data allows nothing else."""
    for kinds in ((CapacityType.ON_DEMAND,), (CapacityType.ON_DEMAND, CapacityType.OWNED)):
        for model in problem.jobs[job].gpu_models:
            fits = [
                int(c)
                for c in possible
                if (o := problem.offerings[problem.columns.offering[c]]).gpu_model == model and o.capacity_type in kinds
            ]
            if fits:
                return sorted(fits, key=lambda c: (_rate(problem, c), bool(problem.columns.buys[c])))
    return []


def _cheapest_hour(problem: Problem, job: int, possible: np.ndarray) -> list[int]:
    """Whatever costs least for an hour, however many hours it takes."""
    del job
    return sorted((int(c) for c in possible), key=lambda c: (_rate(problem, c), bool(problem.columns.buys[c]), c))
