"""A machine is opened where the jobs that would share it would together pay more for machines of their own.

A job's reservation price is what the machine costs an hour that does its work for least, were it alone there; on others
it counts as much more as the job is faster there. From the dearest machine to the cheapest, each is filled with the
jobs of the highest prices, and opened if these sum up to its own. Source: T.-T. Chang, S. Venkataraman, "Eva:
cost-efficient cloud-based cluster scheduling", EuroSys 2025: Full Reconfiguration with throughput-normalised
reservation prices.

What Eva gains from moving jobs that run is left out, and so is what sharing a machine costs them: nobody here is slowed
down by others. Nodes that are there are filled first. Gangs of several nodes open them by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stint.placement.problem import Problem
from stint.placement.solver import Assignment
from stint.sim.policies.in_turn import InTurn, Offer, fullest

_NOT_LESS = 1 - 1e-9


@dataclass(frozen=True, slots=True)
class _Prices:
    """By job and offering."""

    worth: np.ndarray  # USD/h, throughput-normalised reservation price; 0: no machine is to be had there for it
    nodes: np.ndarray  # that the gang fills by itself
    own: np.ndarray  # by job: the offering where it is cheapest alone; -1: none


def prices(problem: Problem) -> _Prices:
    """What each job would pay for running on each offering."""
    columns, shape = problem.columns, (len(problem.jobs), len(problem.offerings))
    hours, nodes = np.full(shape, np.inf), np.ones(shape, dtype=np.int64)
    for c in np.flatnonzero(columns.buys & np.isfinite(columns.objective_usd)):
        at = int(columns.job[c]), int(columns.offering[c])
        if int(columns.workers[c]) == problem.jobs[at[0]].workers:
            hours[at] = float(columns.cost.wall_hours[c])
            nodes[at] = -(-int(columns.workers[c]) // max(1, int(columns.per_node[c])))
    usd = np.zeros(shape[1])
    usd[columns.offering] = columns.usd_per_node_hour
    alone = np.where(np.isfinite(hours), usd[None, :] * nodes * np.where(np.isfinite(hours), hours, 1.0), np.inf)
    worth = np.zeros(shape)
    own = np.full(shape[0], -1)
    for j in range(shape[0]):
        if shape[1] and np.isfinite(alone[j]).any():
            own[j] = best = int(alone[j].argmin())
            worth[j] = usd[best] * nodes[j, best] * hours[j, best] / hours[j]
    return _Prices(worth, nodes, own)


def groups(problem: Problem, left: Iterable[int]) -> dict[int, int]:
    """Where machines are opened, for whom: job to offering, those of one machine after each other."""
    found = prices(problem)
    headroom = problem.headroom.copy()
    usd = np.zeros(len(problem.offerings))
    usd[problem.columns.offering] = problem.columns.usd_per_node_hour
    where: dict[int, int] = {}
    rest = [j for j in left if found.own[j] >= 0]
    for j in [j for j in rest if found.nodes[j, found.own[j]] > 1]:
        where[j] = int(found.own[j])
        headroom[problem.pool_of_offering[where[j]]] -= int(found.nodes[j, where[j]])
    rest = [j for j in rest if j not in where]
    for o in sorted(range(len(usd)), key=lambda o: (-usd[o], problem.offerings[o].id)):
        pool = problem.pool_of_offering[o]
        order = sorted((j for j in rest if found.worth[j, o] > 0), key=lambda j: (-found.worth[j, o], j))
        while headroom[pool] > 0 and order:
            on_it = _fill(problem, o, [j for j in order if found.nodes[j, o] == 1])
            if not on_it or sum(found.worth[j, o] for j in on_it) < usd[o] * _NOT_LESS:
                break
            where.update(dict.fromkeys(on_it, o))
            headroom[pool] -= 1
            order = [j for j in order if j not in where]
        rest = [j for j in rest if j not in where]
    return where


def _fill(problem: Problem, offering: int, order: Iterable[int]) -> list[int]:
    """Who fits onto one machine, the first first."""
    room = np.array(problem.offerings[offering].per_node.as_row(), dtype=float)
    on_it = []
    for j in order:
        need = problem.need[j] * problem.jobs[j].workers
        if (need <= room + 1e-9).all():
            room = room - need
            on_it.append(j)
    return on_it


@dataclass(frozen=True, slots=True)
class Eva:
    """What is there is filled up; then machines are opened for those who are left."""

    name: str = "eva-like"

    def solve(self, problem: Problem, *, budget_steps: int, rng: np.random.Generator) -> Assignment:
        """See `Solver`."""
        dearest = prices(problem).worth.max(axis=1, initial=0.0)
        order = sorted(range(len(problem.jobs)), key=lambda j: (-dearest[j], problem.jobs[j].id))
        first = InTurn(self.name, lambda _: order, fullest, _snug, _hourly)
        settled = {
            j
            for j, c in enumerate(first.solve(problem, budget_steps=budget_steps, rng=rng).choices)
            if c is not None and not problem.node_is_new[list(c.nodes)].any()
        }
        if len(settled) == len(order):
            where: dict[int, int] = {}
        else:
            where = groups(problem, [j for j in order if j not in settled])
        then = [*(j for j in order if j in settled), *where]
        then += [j for j in order if j not in settled and j not in where]

        def as_grouped(offer: Offer) -> tuple[float, ...]:
            return float(offer.offering != where.get(offer.job)), offer.usd_per_hour

        turns = InTurn(self.name, lambda _: then, fullest, _snug, as_grouped)
        return turns.solve(problem, budget_steps=budget_steps, rng=rng)


def _snug(offer: Offer) -> tuple[float, ...]:
    return (offer.spare_gpus,)


def _hourly(offer: Offer) -> tuple[float, ...]:
    return (offer.usd_per_hour,)


EVA = Eva()
