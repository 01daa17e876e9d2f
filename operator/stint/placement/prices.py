"""What capacity is worth to a queue, and what that proves.

Jobs in fractions against hours of capacity (see `horizons`): by every horizon T, all gangs together use no more than
there is to use, so the least that any assignment costs is at least

    min   sum J_cb y_cb
    s.t.  sum_{cb of job} y_cb = 1
          sum_{cb on o} need_r workers_c overlap(cb, T) y_cb <= capacity_or(T) + (T - cold)+ R_or n_o     (dual l_oTr)
          sum_{o of pool} n_o <= headroom,  y, n >= 0

and for T = now what starts now fits into what is free now. Any l >= 0 gives a bound (weak duality), which is worked out
here in numpy, whoever found the l:

    sum_job min_cb (J_cb + sum_Tr l use) - sum_oTr l capacity - sum_pool headroom max_o sum_Tr l (T - cold)+ R

With l = 0 it is the sum of what each job would cost alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from stint.placement.horizons import AXES, Market
from stint.placement.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What capacity is worth, and what that proves."""

    market: Market
    unit_usd: Float[np.ndarray, "offering horizon resource"]  # per unit and hour before each horizon
    least_usd: Float[np.ndarray, " job"]  # the cheapest that each job can be had at these prices; inf: nowhere
    rent_usd: float  # what all capacity is worth

    def bound_usd(self, jobs: Bool[np.ndarray, " job"]) -> float:
        """What no assignment gives these jobs their places for less than; 0 at least."""
        return max(0.0, float(self.least_usd[jobs].sum()) - self.rent_usd)

    def node_usd(self, problem: Problem) -> Float[np.ndarray, " offering"]:
        """What one more node of each offering, there now, would save this queue."""
        hours = np.where(self.market.horizon_hours > 0, self.market.horizon_hours, 1.0)
        per_node = np.array([o.per_node.as_row()[:AXES] for o in problem.offerings]).reshape(-1, AXES)
        worth: Float[np.ndarray, " offering"] = np.einsum("otr,t,or->o", self.unit_usd, hours, per_node)
        return worth


def prove(problem: Problem, market: Market, unit_usd: Float[np.ndarray, "offering horizon resource"]) -> Prices:
    """What some prices prove, whatever they are."""
    u = np.where(np.isfinite(unit_usd), np.maximum(unit_usd, 0.0), 0.0)
    best = (market.cost_usd + market.rents(problem, u)).min(axis=1, initial=np.inf)
    least = np.full(len(problem.jobs), np.inf)
    np.minimum.at(least, problem.columns.job[market.column], best)
    bought = np.einsum("otr,otr->o", u, market.per_node) * (market.buyable > 0)
    pool = np.zeros(len(problem.pools))
    np.maximum.at(pool, problem.pool_of_offering, bought)
    rent = float((u * market.capacity).sum() + (pool * problem.headroom).sum())
    return Prices(market=market, unit_usd=u, least_usd=least, rent_usd=rent)
