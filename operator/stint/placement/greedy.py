"""One job after the other, in queue order, each where it is cheapest on what the earlier ones left.

Any size. A job's columns are tried from the best possible J upwards; once the next one could not beat what was
found even if it started at once, the rest need not be looked at.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from stint.placement.columns import Columns
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice
from stint.placement.timeline import Start, Timeline

_HAIR = 1e-12  # so that equals are looked at


def columns_of_jobs(columns: Columns, jobs: int) -> list[Int[np.ndarray, " own"]]:
    """Each job's possible columns, best J first; ties by offering, then workers, so that replays agree."""
    possible = np.flatnonzero(np.isfinite(columns.objective_usd))
    order = np.lexsort((columns.objective_usd[possible], columns.job[possible]))  # equals stay as they are laid out
    ordered = possible[order]
    edges = np.searchsorted(columns.job[ordered], np.arange(jobs + 1))
    return [ordered[edges[j] : edges[j + 1]] for j in range(jobs)]


def cheapest(
    capacity: Timeline,
    columns: Columns,
    candidates: Int[np.ndarray, " own"],
    rent_usd: Callable[[Start], float] | None = None,
) -> tuple[Choice, float] | None:
    """The best of a job's columns on what is left, and its J with the rent; of equals the first.

    Jobs that are alike mostly go to the same offering. Where the last such job went is tried first: what could cost no
    less than that, even in its best case, is not looked at closely. The answer is the same as without that.

    Args:
        candidates: sorted by J, or by J and the rent of a start at once.
        rent_usd: what a start costs besides its J, 0 or more; without it, nothing.
    """
    if not len(candidates):
        return None
    search = _Search(capacity, columns, candidates.tolist(), columns.objective_usd[candidates].tolist(), rent_usd)
    best = search.best()
    return None if best is None else (capacity.choose(best[0]), best[1])


@dataclass(slots=True)
class _Search:
    capacity: Timeline
    columns: Columns
    names: list[int]  # of the columns
    at_once_usd: list[float]  # J of each, started at once
    rent_usd: Callable[[Start], float] | None

    def best(self) -> tuple[Start, float] | None:
        kind, base = self._kind()
        best: tuple[Start, float] | None = None
        sure, hint = False, self.capacity.hints.get(kind)
        if hint is not None and (like := base + hint) in self.names:
            found, at = self.capacity.find(self.columns, like), self.names.index(like)
            if found is not None and (usd := self._usd(found)) >= self.at_once_usd[at]:
                sure, best = self._look(found, at, usd)
        if not sure:
            _, best = self._look(None, -1, math.inf)
        if best is not None:
            self.capacity.hints[kind] = best[0].column - base
        return best

    def _kind(self) -> tuple[tuple[int, ...], int]:
        """What jobs that are alike share, and where this one's columns begin."""
        job = self.columns.plain.job[self.names[0]]
        wanted = self.capacity.problem.jobs[job]
        base = bisect_left(self.columns.plain.job, job)
        return (self.capacity.kind(job), wanted.min_workers, wanted.max_workers), base

    def _usd(self, start: Start) -> float:
        return start.objective_usd if self.rent_usd is None else start.objective_usd + self.rent_usd(start)

    def _look(self, known: Start | None, known_at: int, roof_usd: float) -> tuple[bool, tuple[Start, float] | None]:
        """One after the other, and whether that is surely what it would be without `known`, which costs `roof_usd`.

        The order matters, as a gang that joins others on nodes that they bought may cost less than its J at once: what
        comes after something cheaper than that is not looked at, and so must not be looked at here.
        """
        best: Start | None = None
        best_usd, above = math.inf, roof_usd + _HAIR * abs(roof_usd)
        for i, at_once in enumerate(self.at_once_usd):
            if at_once >= best_usd or (at_once > roof_usd and i > known_at):
                if self.rent_usd is None:
                    break
                continue
            if known is not None and i == known_at:
                found: Start | None = known
            else:
                found = self.capacity.find(self.columns, self.names[i], min(best_usd, above))
            if found is None:
                continue
            if at_once > roof_usd:
                return False, None
            usd = self._usd(found)
            if usd < best_usd:
                best, best_usd = found, usd
        return True, None if best is None else (best, best_usd)


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
    order = tuple(order)
    if not order:
        return Assignment(choices=tuple(kept))
    capacity = Timeline(problem)
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
    return Assignment(choices=tuple(choices), left=capacity)
