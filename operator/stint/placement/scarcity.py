"""Good prices of capacity: the programme of `prices`, answered by sifting.

It starts with the cheapest starts of every class of jobs and takes in those that undercut the class's price, until
there are none. Of very many classes every so-manieth is asked, with as much less capacity.
"""

from __future__ import annotations

import highspy
import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.highs import QuietHighs, cheapest_of_each
from stint.placement.horizons import AXES, Market, lay_out
from stint.placement.prices import Prices, prove
from stint.placement.problem import Problem

_ROUNDS, _FIRST, _MORE = 6, 2, 2
_MOST_CLASSES = 1_500
_TOLERANCE = 1e-6


def find_prices(problem: Problem) -> Prices:
    """Good prices, by sifting; where HiGHS gives none, those at which nothing is scarce."""
    market = lay_out(problem)
    nothing = np.zeros_like(market.capacity)
    if not len(market.column) or not len(problem.offerings):
        return prove(problem, market, nothing)
    of_class, count, part = _classes(problem, market)
    asked = of_class >= 0
    unit = _sift(problem, market.of(asked), of_class[asked], count, part)
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
    usable = np.isfinite(market.cost_usd)
    inside = np.zeros_like(usable)
    usd = market.cost_usd
    last = np.full_like(usd, np.inf)
    last[:, -1] = usd[:, -1]
    more = np.union1d(_best(of_class, usd, usable, _FIRST), _best(of_class, last, usable & np.isfinite(last), 1))
    u = np.zeros_like(market.capacity)
    for left in reversed(range(_ROUNDS)):
        _add(highs, problem, market, of_class, more // buckets, more % buckets, classes)
        inside.ravel()[more] = True
        highs.run()
        if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        dual = np.array(highs.getSolution().row_dual)
        mu, u = dual[:classes], np.maximum(-dual[classes : classes + rows], 0.0).reshape(market.capacity.shape)
        if not left:
            break
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
    return cheapest_of_each(of_class[flat // usd.shape[1]], usd.ravel()[flat], flat, most)


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
    use = problem.need[columns.job[c]][:, :AXES] * columns.workers[c][:, None]
    amount = (market.overlap_hours(bucket, place)[:, :, None] * use[:, None, :]).reshape(len(place), -1)
    each = amount.shape[1]
    index = np.empty((len(place), 1 + each), dtype=np.int32)
    index[:, 0] = of_class[place]
    index[:, 1:] = classes + columns.offering[c][:, None] * each + np.arange(each)
    value = np.concatenate([np.ones((len(place), 1)), amount], axis=1)
    highs.add_columns(market.cost_usd[place, bucket], index, value)
