"""Several solvers, and the cheapest of their answers: for every size the ones that are worth their time there.

- **greedy**, always: so that the portfolio is never worse.
- **by rent**: greedy again, where each job also pays what its capacity is worth to the others (`prices`). Those who
  can do without what is scarce leave it to those who cannot.
- **exact**, for what is small enough for it: a few jobs, or more of which none waits for another to end.
- **bought together**: the cheapest of these, its gangs packed anew on nodes bought for all of them (`joint_purchases`).

Annealing is not among them: it lets jobs change places in the queue, which looks half a per cent cheaper at the time
and then leaves those with least slack to pay for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stint.placement.exact import Exact
from stint.placement.greedy import Greedy, cheapest, columns_of_jobs
from stint.placement.joint_purchases import buy_together
from stint.placement.prices import Prices
from stint.placement.problem import Problem
from stint.placement.shadow_prices import find_prices
from stint.placement.solver import Assignment, Choice, objective_usd
from stint.placement.timeline import Start, Timeline

_ALWAYS_EXACT, _EXACT_JOBS = 8, 200
_FEW_JOBS, _MANY_JOBS = 300, 2_000  # above the second, greedy's answer alone, and the prices to prove it by
_ROUNDING = 1e-12
STRENGTHS = (0.2, 0.5, 1.0)  # of the rent that a job is made to feel; for many jobs, and for newcomers, only the first


@dataclass(frozen=True, slots=True)
class Portfolio:
    """The solver that the operator uses."""

    name: str = "portfolio"

    def solve(self, problem: Problem, *, budget_steps: int, rng: np.random.Generator) -> Assignment:
        """See `Solver`. The prices that it found come with the answer, for the certificate."""
        prices = find_prices(problem)
        answers = [Greedy().solve(problem, budget_steps=budget_steps, rng=rng)]
        if _nothing_better(problem, answers[0], prices):
            return replace(answers[0], unit_usd=prices.unit_usd)
        if prices.unit_usd.any() and len(problem.jobs) <= _MANY_JOBS:
            some = STRENGTHS if len(problem.jobs) <= _FEW_JOBS else STRENGTHS[:1]
            answers += [serve_by_rent(problem, prices, strength=s) for s in some]
        if len(problem.jobs) <= _EXACT_JOBS and not _one_behind_the_other(problem, answers[0]):
            answers.append(Exact().solve(problem, budget_steps=budget_steps, rng=rng))
        best = min(answers, key=lambda a: objective_usd(problem, a))
        if (together := buy_together(problem, prices.market, best)) is not None:
            best = min(best, together, key=lambda a: objective_usd(problem, a))
        return replace(best, unit_usd=prices.unit_usd)


def _one_behind_the_other(problem: Problem, answer: Assignment) -> bool:
    """Whether gangs start when others of a longer queue end: of such starts the exact programme knows nothing.

    On the queues of a simulated month its answers were 1.1 to 2.5 times as dear then, after up to 8 s.
    """
    if len(problem.jobs) <= _ALWAYS_EXACT:
        return False
    known = {0.0, *(r.hours for r in problem.releases), *problem.node_from_hours.tolist()}
    return any(c is not None and c.start_hours not in known for c in answer.choices)


def _nothing_better(problem: Problem, answer: Assignment, prices: Prices) -> bool:
    """Whether the prices prove that no answer costs less: then none needs to be looked for."""
    possible = np.isfinite(prices.least_usd)  # whoever has no place anywhere costs every answer the same
    bound = prices.bound_usd(possible) + float(problem.hold_usd[~possible].sum())
    return objective_usd(problem, answer) <= bound + _ROUNDING * abs(bound)


def serve_by_rent(problem: Problem, prices: Prices, *, strength: float, capacity: Timeline | None = None) -> Assignment:
    """In queue order, each job where J and a part of the rent of its capacity together are least.

    Args:
        capacity: what is left, changed by those who are served; without it, all that there is.
    """
    columns, market = problem.columns, prices.market
    felt = market.hourly(problem, strength * prices.unit_usd)
    hourly = np.zeros((len(columns.job), len(market.horizon_hours)))
    hourly[market.column] = felt
    rents = np.zeros(len(columns.job))
    rents[market.column] = market.rent(felt, 0)
    capacity = Timeline(problem) if capacity is None else capacity
    plain, horizons = columns.plain, market.horizon_hours
    rent_at_once = rents.tolist()

    def rent_usd(start: Start) -> float:
        c = start.column
        if plain.buys[c]:
            return rent_at_once[c]
        hours = np.minimum(plain.held_hours[c], np.maximum(horizons - start.start_hours, 0.0))
        hours[0] = float(start.start_hours <= 0.0)
        return float(hourly[c] @ hours)

    choices: list[Choice | None] = []
    for candidates in columns_of_jobs(columns, len(problem.jobs)):
        promise = columns.objective_usd[candidates] + rents[candidates]
        found = cheapest(capacity, columns, candidates[np.lexsort((candidates, promise))], rent_usd)
        if found is not None:
            capacity.take(columns, found[0])
        choices.append(None if found is None else found[0])
    return Assignment(choices=tuple(choices), left=capacity)
