"""One job after the other, in queue order, each where it is cheapest on what the earlier ones left.

Any size. A job's columns are tried from the best possible J upwards; once the next one could not beat what was
found even if it started at once, the rest need not be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from stint.placement.capacity import Capacity
from stint.placement.columns import Columns
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice


def columns_of_jobs(columns: Columns, jobs: int) -> list[Int[np.ndarray, " own"]]:
    """Each job's possible columns, best J first; ties by offering, then workers, so that replays agree."""
    possible = np.flatnonzero(np.isfinite(columns.objective_usd))
    order = np.lexsort((columns.objective_usd[possible], columns.job[possible]))  # equals stay as they are laid out
    ordered = possible[order]
    edges = np.searchsorted(columns.job[ordered], np.arange(jobs + 1))
    return [ordered[edges[j] : edges[j + 1]] for j in range(jobs)]


def cheapest(capacity: Capacity, columns: Columns, candidates: Int[np.ndarray, " own"]) -> tuple[Choice, float] | None:
    """The best of some columns, sorted by J, on what is left."""
    best: tuple[Choice, float] | None = None
    for column in candidates:
        if best is not None and float(columns.objective_usd[column]) >= best[1]:
            break
        found = capacity.place(columns, int(column), below=math.inf if best is None else best[1])
        if found is not None and (best is None or found[1] < best[1]):
            best = found
    return best


@dataclass(frozen=True, slots=True)
class Greedy:
    """The solver for any size, and the one to fall back on."""

    name: str = "greedy"

    def solve(self, problem: Problem, *, budget_steps: int, rng: np.random.Generator) -> Assignment:
        """See `Solver`. Takes one step a job, whatever the budget, and rolls no dice."""
        del budget_steps, rng
        return serve(problem, range(len(problem.jobs)))


def serve(problem: Problem, order: Iterable[int], *, kept: Sequence[Choice | None] = ()) -> Assignment:
    """Jobs one after the other, each where it is cheapest on what the earlier ones left.

    Args:
        kept: the places of those who are not in the order and have theirs already; by job.
    """
    capacity = Capacity(problem)
    candidates = columns_of_jobs(problem.columns, len(problem.jobs))
    choices: list[Choice | None] = list(kept) or [None] * len(problem.jobs)
    for choice in kept:
        if choice is not None:
            capacity.take(problem.columns, choice)
    for j in order:
        found = cheapest(capacity, problem.columns, candidates[j])
        if found is not None:
            capacity.take(problem.columns, found[0])
            choices[j] = found[0]
    return Assignment(choices=tuple(choices))
