"""Work for a dollar decides who gets which kind of machine: a linear programme over shares of time, whoever came first.

    max  sum over jobs j and offerings o of  x[j, o] * speed[j, o] / usd_per_hour[j, o]
    s.t. sum over o of x[j, o] <= 1,   sum over j of gpus[j] * x[j, o] <= gpus[o],   x >= 0

Source: D. Narayanan et al., "Heterogeneity-aware cluster scheduling policies for deep learning workloads", OSDI 2020,
section 4. Gavel then takes turns in rounds of six minutes, as pausing and moving cost it nothing. Here
they do, and a job stays where it is: it goes where its share is largest, the largest shares first, and what nobody
should have goes to whoever is left. What could be bought counts as there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from stint.estimate.runtime import units_per_hour
from stint.placement.problem import Problem
from stint.placement.solver import Assignment
from stint.sim.policies.in_turn import InTurn, Offer, fullest

_LEAST_USD = 0.01  # an hour: of machines that are paid for anyway


def work_per_dollar(problem: Problem) -> np.ndarray:
    """By job and offering, at the job's best number of workers; 0: it cannot run there."""
    columns = problem.columns
    worth = np.zeros((len(problem.jobs), len(problem.offerings)))
    for c in np.flatnonzero(np.isfinite(columns.objective_usd)):
        j, o, workers = int(columns.job[c]), int(columns.offering[c]), int(columns.workers[c])
        usd = float(columns.usd_per_node_hour[c] * columns.share[c]) * workers
        speed = units_per_hour(problem.jobs[j], problem.offerings[o].gpu_model, workers)
        worth[j, o] = max(worth[j, o], speed / max(usd, _LEAST_USD))
    return worth


def shares(problem: Problem, worth: np.ndarray) -> np.ndarray:
    """Of its time, by job and offering."""
    there = ~problem.node_is_new
    gpus = np.bincount(
        problem.node_offering[there], weights=problem.node_free[there, 0], minlength=len(problem.offerings)
    )
    per_node = np.array([o.per_node.gpus for o in problem.offerings], dtype=float)
    gpus = gpus + per_node * problem.headroom[problem.pool_of_offering]
    j, o = np.nonzero(worth)
    if not len(j):
        return np.zeros_like(worth)
    need = np.array([x.per_worker.gpus * x.workers for x in problem.jobs], dtype=float)
    index = np.arange(len(j))
    rows = np.concatenate([j, len(problem.jobs) + o])
    limits = coo_array(
        (np.concatenate([np.ones(len(j)), need[j]]), (rows, np.concatenate([index, index]))),
        shape=(len(problem.jobs) + len(problem.offerings), len(j)),
    )
    most = np.concatenate([np.ones(len(problem.jobs)), gpus])
    found = linprog(-worth[j, o] / worth.max(), A_ub=limits.tocsr(), b_ub=most, method="highs")
    share = np.zeros_like(worth)
    if found.status == 0:
        share[j, o] = np.round(np.clip(found.x, 0.0, 1.0), 9)
    return share


@dataclass(frozen=True, slots=True)
class Gavel:
    """The programme, and jobs in turn by what it says."""

    name: str = "gavel-like"

    def solve(self, problem: Problem, *, budget_steps: int, rng: np.random.Generator) -> Assignment:
        """See `Solver`."""
        worth = work_per_dollar(problem)
        share = shares(problem, worth)

        def by_share(_: Problem) -> Iterable[int]:
            most = share.max(axis=1, initial=0.0)
            return sorted(
                range(len(problem.jobs)), key=lambda j: (-most[j], problem.jobs[j].created, problem.jobs[j].id)
            )

        def as_it_says(offer: Offer) -> tuple[float, ...]:
            j, o = offer.job, offer.offering
            return -float(share[j, o]), -float(worth[j, o]), float(offer.bought)

        turns = InTurn(self.name, by_share, fullest, as_it_says, as_it_says, there_first=False)
        return turns.solve(problem, budget_steps=budget_steps, rng=rng)


GAVEL = Gavel()
