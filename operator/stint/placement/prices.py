"""What capacity is worth to a queue: jobs in fractions against hours of capacity, and the bound that follows.

Starts fall into **buckets**: now; up to the first **horizon**; between two horizons; after the last. A gang that
starts in a bucket costs at least what it costs at the bucket's beginning, and by a horizon T it has used at least what
it would have used had it started at the bucket's end. By T, all gangs together use no more than there is to use:

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

import highspy
import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.highs import QuietHighs
from stint.placement.problem import Columns, Problem

HORIZONS = 6
_ROUNDS, _FIRST, _MORE = 6, 2, 2
_MOST_CLASSES = 1_500  # of which the programme is made; of more, every so-manieth
_TOLERANCE = 1e-6
_AXES = 3  # pods are never scarce


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A problem as hours of capacity. `use` and `cost` have an entry for every possible column in every bucket."""

    horizon_hours: Float[np.ndarray, " horizon"]  # the first is 0: now
    capacity: Float[np.ndarray, "offering horizon resource"]  # what there is to use by then; at 0, at once
    per_node: Float[np.ndarray, "offering horizon resource"]  # what a bought node adds to it
    buyable: Int[np.ndarray, " offering"]
    column: Int[np.ndarray, " possible"]  # of the problem
    cost_usd: Float[np.ndarray, "possible bucket"]  # inf: no such start
    overlap_hours: Float[np.ndarray, "possible bucket horizon"]  # at 0: 1 for what starts now

    def rents(
        self, problem: Problem, unit_usd: Float[np.ndarray, "offering horizon resource"]
    ) -> Float[np.ndarray, "possible bucket"]:
        """What every column in every bucket would pay for its capacity."""
        by_horizon = self.hourly(problem, unit_usd)
        rents: Float[np.ndarray, "possible bucket"] = np.einsum("pbt,pt->pb", self.overlap_hours, by_horizon)
        return rents

    def hourly(
        self, problem: Problem, unit_usd: Float[np.ndarray, "offering horizon resource"]
    ) -> Float[np.ndarray, "possible horizon"]:
        """The same for an hour, or a start now, before each horizon."""
        columns = problem.columns
        job, offering = columns.job[self.column], columns.offering[self.column]
        use = problem.need[job][:, :_AXES] * columns.workers[self.column][:, None]
        hourly: Float[np.ndarray, "possible horizon"] = np.einsum("pr,ptr->pt", use, unit_usd[offering])
        return hourly


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What capacity is worth, and what that proves."""

    market: Market
    unit_usd: Float[np.ndarray, "offering horizon resource"]  # per unit and hour before each horizon
    least_usd: Float[np.ndarray, " job"]  # the cheapest that each job can be had at these prices; inf: nowhere
    rent_usd: float  # what all capacity is worth
    pool_usd: Float[np.ndarray, " pool"]  # what one more node that a pool may buy is worth

    def bound_usd(self, jobs: Bool[np.ndarray, " job"]) -> float:
        """What no assignment gives these jobs their places for less than; 0 at least."""
        return max(0.0, float(self.least_usd[jobs].sum()) - self.rent_usd)

    def node_usd(self, problem: Problem) -> Float[np.ndarray, " offering"]:
        """What one more node of each offering, there now, would save this queue."""
        hours = np.where(self.market.horizon_hours > 0, self.market.horizon_hours, 1.0)
        per_node = np.array([o.per_node.as_row()[:_AXES] for o in problem.offerings]).reshape(-1, _AXES)
        worth: Float[np.ndarray, " offering"] = np.einsum("otr,t,or->o", self.unit_usd, hours, per_node)
        return worth


def lay_out(problem: Problem) -> Market:
    """The problem's columns and capacity over time."""
    columns = problem.columns
    possible = np.flatnonzero(np.isfinite(columns.objective_usd))
    held = columns.held_hours[possible]
    usual = float(np.median(held)) if len(held) else 1.0
    edges = max(usual, 1e-2) * 2.0 ** np.arange(1 - HORIZONS // 2, HORIZONS - HORIZONS // 2 + 1)
    horizons = np.concatenate([[0.0], edges])
    lower = np.concatenate([[0.0], horizons])  # of buckets: now, then one before each horizon, then after the last
    upper = np.concatenate([[0.0], edges, [np.inf]])
    buys = columns.buys[possible]
    cost = np.stack([_objective(problem, columns, possible, start) for start in lower], axis=1)
    cost[buys, 1:] = np.inf  # a gang that buys starts now, and waits for its nodes
    after = np.maximum(horizons[None, None, :] - upper[None, :, None], 0.0)
    overlap = np.minimum(held[:, None, None], after)
    overlap[:, :, 0] = 0.0
    overlap[~buys, 0, 0] = 1.0
    cold = _cold_hours(problem)
    first = np.minimum(held[:, None], horizons[None]) - cold[columns.offering[possible]][:, None]
    overlap[buys, 0, :] = np.maximum(first, 0.0)[buys]
    capacity, per_node, buyable = _capacity(problem, horizons, cold)
    return Market(
        horizon_hours=horizons,
        capacity=capacity,
        per_node=per_node,
        buyable=buyable,
        column=possible,
        cost_usd=cost,
        overlap_hours=overlap,
    )


def _objective(
    problem: Problem, columns: Columns, some: Int[np.ndarray, " some"], start: float
) -> Float[np.ndarray, " some"]:
    """`Problem.objective_at`, of many columns at once."""
    job = columns.job[some]
    wanted = [j.objective for j in problem.jobs]
    hourly = np.array([w.performance * w.usd_per_hour for w in wanted])[job]
    late_usd = np.array([w.cost * w.lateness_usd_per_hour for w in wanted])[job]
    finish, deadline = columns.cost.finish_hours[some], problem.deadline_hours[job]
    before = np.maximum(0.0, finish - deadline)
    late = np.maximum(0.0, finish + start - deadline)
    penalty = np.where(late > 0, problem.late_usd[job], 0.0)
    total: Float[np.ndarray, " some"] = (
        columns.objective_usd[some] + hourly * start + late_usd * (late - before) + penalty
    )
    return total


def _cold_hours(problem: Problem) -> Float[np.ndarray, " offering"]:
    cold = np.full(len(problem.offerings), np.inf)
    new = np.flatnonzero(problem.node_is_new)
    np.minimum.at(cold, problem.node_offering[new], problem.node_from_hours[new])
    return cold


def _capacity(
    problem: Problem, horizons: Float[np.ndarray, " horizon"], cold: Float[np.ndarray, " offering"]
) -> tuple[
    Float[np.ndarray, "offering horizon resource"],
    Float[np.ndarray, "offering horizon resource"],
    Int[np.ndarray, " offering"],
]:
    shape = (len(problem.offerings), len(horizons), _AXES)
    capacity, per_node = np.zeros(shape), np.zeros(shape)
    have = np.flatnonzero(~problem.node_is_new)
    since = problem.node_from_hours[have]
    hours = np.maximum(horizons[None] - since[:, None], 0.0)
    hours[:, 0] = since <= 1e-6
    np.add.at(capacity, problem.node_offering[have], hours[:, :, None] * problem.node_free[have][:, None, :_AXES])
    for release in problem.releases:
        later = np.maximum(horizons - release.hours, 0.0)
        if np.isfinite(problem.node_from_hours[release.node]):
            capacity[problem.node_offering[release.node]] += later[:, None] * release.resources[None, :_AXES]
    empty = np.array([o.per_node.as_row()[:_AXES] for o in problem.offerings]).reshape(-1, _AXES)
    sells = np.isfinite(cold)
    hours = np.maximum(horizons[None] - np.where(sells, cold, 0.0)[:, None], 0.0) * sells[:, None]
    per_node += hours[:, :, None] * empty[:, None, :]
    new = problem.node_offering[problem.node_is_new]
    return capacity, per_node, np.bincount(new, minlength=len(problem.offerings))


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
    return Prices(market=market, unit_usd=u, least_usd=least, rent_usd=rent, pool_usd=pool)


def find_prices(problem: Problem) -> Prices:
    """Good prices, by sifting; where HiGHS gives none, those at which nothing is scarce."""
    market = lay_out(problem)
    nothing = np.zeros_like(market.capacity)
    if not len(market.column) or not len(problem.offerings):
        return prove(problem, market, nothing)
    unit = _sift(problem, market, *_classes(problem, market))
    alone = prove(problem, market, nothing)
    found = alone if unit is None else prove(problem, market, unit)
    everybody = np.isfinite(alone.least_usd)
    return found if found.bound_usd(everybody) > alone.bound_usd(everybody) else alone


def _classes(
    problem: Problem, market: Market
) -> tuple[Int[np.ndarray, " possible"], Float[np.ndarray, " class"], float]:
    """Jobs that are alike in every column, as one: class of each possible column (-1: left out), jobs, their part."""
    job = problem.columns.job[market.column]
    edges = np.searchsorted(job, np.arange(len(problem.jobs) + 1)) if (np.diff(job) >= 0).all() else None
    columns = problem.columns
    known: dict[bytes, int] = {}
    count: list[float] = []
    first: dict[int, int] = {}
    of_job = np.full(len(problem.jobs), -1)
    table = np.stack([columns.offering, columns.workers, columns.buys], axis=1)[market.column].astype(np.int64)
    order = np.argsort(job, kind="stable") if edges is None else np.arange(len(job))
    starts = np.searchsorted(job[order], np.arange(len(problem.jobs) + 1))
    for j in range(len(problem.jobs)):
        mine = order[starts[j] : starts[j + 1]]
        if not len(mine):
            continue
        key = table[mine].tobytes() + market.cost_usd[mine].tobytes() + problem.need[j].tobytes()
        c = known.setdefault(key, len(known))
        if c == len(count):
            count.append(0.0)
            first[c] = j
        count[c] += 1.0
        if first[c] == j:
            of_job[j] = c
    step = -(-len(count) // _MOST_CLASSES)
    kept = np.full(len(count), -1)
    kept[::step] = np.arange(len(kept[::step]))
    of_job = np.where(of_job >= 0, kept[of_job], -1)
    tally = np.array(count)
    return of_job[job], tally[::step], float(tally[::step].sum() / max(tally.sum(), 1.0))


def _sift(
    problem: Problem,
    market: Market,
    of_class: Int[np.ndarray, " possible"],
    count: Float[np.ndarray, " class"],
    part: float,
) -> Float[np.ndarray, "offering horizon resource"] | None:
    highs = QuietHighs()
    offerings, horizons, axes = market.capacity.shape
    pools, rows = len(problem.pools), market.capacity.size
    endless = highspy.kHighsInf
    classes = len(count)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = offerings, classes + rows + pools
    lp.col_cost_, lp.col_lower_ = np.zeros(offerings), np.zeros(offerings)
    lp.col_upper_ = market.buyable * part
    lp.row_lower_ = np.concatenate([count, np.full(rows + pools, -endless)])
    lp.row_upper_ = np.concatenate([count, market.capacity.ravel() * part, problem.headroom * part])
    each = horizons * axes
    index = np.concatenate(
        [classes + np.arange(rows).reshape(offerings, each), (classes + rows + problem.pool_of_offering)[:, None]],
        axis=1,
    )
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.arange(offerings + 1) * (each + 1)
    lp.a_matrix_.index_ = index.ravel()
    lp.a_matrix_.value_ = np.concatenate(
        [-market.per_node.reshape(offerings, each), np.ones((offerings, 1))], axis=1
    ).ravel()
    highs.passModel(lp)
    buckets = market.cost_usd.shape[1]
    usable = np.isfinite(market.cost_usd) & (of_class >= 0)[:, None]
    inside = np.zeros_like(usable)
    usd = market.cost_usd
    last = np.full_like(usd, np.inf)
    last[:, -1] = usd[:, -1]
    more = np.union1d(_best(of_class, usd, usable, _FIRST), _best(of_class, last, usable & np.isfinite(last), 1))
    u = np.zeros_like(market.capacity)
    for _ in range(_ROUNDS):
        _add(highs, problem, market, of_class, more // buckets, more % buckets, classes)
        inside.ravel()[more] = True
        highs.run()
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        dual = np.array(highs.getSolution().row_dual)
        mu, u = dual[:classes], np.maximum(-dual[classes : classes + rows], 0.0).reshape(market.capacity.shape)
        usd = market.cost_usd + market.rents(problem, u)
        short = usd < mu[of_class][:, None] - _TOLERANCE * np.maximum(1.0, np.abs(mu[of_class]))[:, None]
        more = _best(of_class, usd, usable & short & ~inside, _MORE)
        if not len(more):
            break
    return u


def _best(
    of_class: Int[np.ndarray, " possible"],
    usd: Float[np.ndarray, "possible bucket"],
    among: Bool[np.ndarray, "possible bucket"],
    most: int,
) -> Int[np.ndarray, " few"]:
    """Of each class the cheapest few, as positions in the flattened table."""
    flat = np.flatnonzero(among)
    group = of_class[flat // usd.shape[1]]
    order = np.lexsort((flat, usd.ravel()[flat], group))
    rank = np.arange(len(order)) - np.searchsorted(group[order], group[order])
    few: Int[np.ndarray, " few"] = flat[order[rank < most]]
    return few


def _add(
    highs: QuietHighs,
    problem: Problem,
    market: Market,
    of_class: Int[np.ndarray, " possible"],
    place: Int[np.ndarray, " some"],
    bucket: Int[np.ndarray, " some"],
    classes: int,
) -> None:
    columns = problem.columns
    c = market.column[place]
    use = problem.need[columns.job[c]][:, :_AXES] * columns.workers[c][:, None]
    amount = (market.overlap_hours[place, bucket][:, :, None] * use[:, None, :]).reshape(len(place), -1)
    each = amount.shape[1]
    index = np.empty((len(place), 1 + each), dtype=np.int32)
    index[:, 0] = of_class[place]
    index[:, 1:] = classes + columns.offering[c][:, None] * each + np.arange(each)
    value = np.concatenate([np.ones((len(place), 1)), amount], axis=1)
    highs.addCols(
        len(place),
        market.cost_usd[place, bucket],
        np.zeros(len(place)),
        np.full(len(place), highspy.kHighsInf),
        index.size,
        np.arange(len(place), dtype=np.int32) * (1 + each),
        index.ravel(),
        value.ravel(),
    )
