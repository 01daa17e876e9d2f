"""A figure that no assignment can beat, and how far from it a given one is."""

from __future__ import annotations

import math

import numpy as np

from stint.model.plan import Certificate
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, idle_usd


def alone_usd(problem: Problem) -> list[float]:
    """Each job's J where it would be cheapest if it were alone; inf: nowhere.

    Their sum over any set of jobs is a lower bound for giving those jobs a place: competition, waiting and idle
    parts of bought nodes only ever add.
    """
    best = np.full(len(problem.jobs), math.inf)
    np.minimum.at(best, problem.columns.job, problem.columns.objective_usd)
    return [float(b) for b in best]


def certify(problem: Problem, assignment: Assignment, solver: str) -> Certificate:
    """How good an assignment is known to be, for the jobs it finds a place for."""
    alone = alone_usd(problem)
    placed = [(j, c) for j, c in enumerate(assignment.choices) if c is not None]
    cost = sum((problem.objective_at(problem.columns, c.column, c.start_hours) for _, c in placed), start=0.0)
    cost += idle_usd(problem, assignment)
    bound = sum((alone[j] for j, _ in placed), start=0.0)
    return Certificate(
        solver=solver,
        objective_usd=cost,
        bound_usd=bound,
        gap_ratio=max(0.0, cost - bound) / bound if bound > 0 else None,
        left_out=len(problem.jobs) - len(placed),
    )
