"""A figure that no assignment can beat, and how far from it a given one is."""

from __future__ import annotations

import numpy as np

from stint.model.plan import Certificate, NodeWorth
from stint.placement.horizons import lay_out
from stint.placement.prices import Prices, prove
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, idle_usd

_TOLD = 10  # offerings whose next node is worth most


def certify(problem: Problem, assignment: Assignment, solver: str) -> Certificate:
    """How good an assignment is known to be, for the jobs it finds a place for.

    The proof needs prices of capacity and trusts them in nothing: without any, it is what each job would cost alone.
    """
    market = lay_out(problem)
    nothing = prove(problem, market, np.zeros_like(market.capacity))
    prices = nothing if assignment.unit_usd is None else prove(problem, market, assignment.unit_usd)
    placed = [(j, c) for j, c in enumerate(assignment.choices) if c is not None]
    cost = sum((problem.objective_at(problem.columns, c.column, c.start_hours) for _, c in placed), start=0.0)
    cost += idle_usd(problem, assignment)
    whose = np.zeros(len(problem.jobs), dtype=bool)
    whose[[j for j, _ in placed]] = True
    alone = nothing.bound_usd(whose)
    bound = max(alone, prices.bound_usd(whose))
    return Certificate(
        solver=solver,
        objective_usd=cost,
        bound_usd=bound,
        gap_ratio=max(0.0, cost - bound) / bound if bound > 0 else None,
        left_out=len(problem.jobs) - len(placed),
        node_worth=_node_worth(problem, prices, most_usd=bound - alone),
    )


def _node_worth(problem: Problem, prices: Prices, *, most_usd: float) -> tuple[NodeWorth, ...]:
    """What one more node of each offering would save; never more than all that competition costs."""
    worth = np.minimum(prices.node_usd(problem), most_usd)
    hours = float(prices.market.horizon_hours[-1])
    best = np.lexsort((np.arange(len(worth)), -worth))[:_TOLD]
    return tuple(
        NodeWorth(offering=problem.offerings[o].id, usd=float(worth[o]), hours=hours) for o in best if worth[o] > 0.005
    )
