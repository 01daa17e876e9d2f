"""Simulated annealing over the order in which jobs are served; each order is answered as greedy answers it.

Two jobs of one priority change places. The order is kept when it is no dearer, and now and then when it is, less and
less often (S. Kirkpatrick, C. Gelatt, M. Vecchi, "Optimization by simulated annealing", Science 220, 1983).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stint.placement.greedy import serve
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, objective_usd

_WARM, _COLD = 0.02, 1e-4  # temperatures, of the first order's cost


@dataclass(frozen=True, slots=True)
class Annealing:
    """For a few jobs that get in each other's way."""

    name: str = "annealing"

    def solve(self, problem: Problem, *, budget_steps: int, rng: np.random.Generator) -> Assignment:
        """See `Solver`. A step is one job served."""
        order = list(range(len(problem.jobs)))
        now = best = serve(problem, order)
        usd = least = objective_usd(problem, now)
        tries = budget_steps // max(1, len(order)) - 1
        pairs = [(a, b) for a in order for b in order[a + 1 :] if problem.jobs[a].priority == problem.jobs[b].priority]
        for i in range(tries if pairs else 0):
            a, b = pairs[int(rng.integers(len(pairs)))]
            other = order.copy()
            other[a], other[b] = other[b], other[a]
            found = serve(problem, other)
            cost = objective_usd(problem, found)
            temperature = least * _WARM * (_COLD / _WARM) ** (i / tries)
            if cost <= usd or rng.random() < math.exp((usd - cost) / max(temperature, 1e-12)):
                order, usd = other, cost
                if cost < least - 1e-9:
                    best, least = found, cost
        return best
