"""Good prices of capacity: the programme of `prices`, answered by sifting.

It starts with the cheapest starts of every class of jobs and takes in those that undercut the class's price, until
there are none. Of very many classes every n-th is asked, with as much less capacity.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.horizons import AXES, Market, lay_out
from stint.placement.prices import Prices, prove
from stint.placement.problem import Problem
from stint.placement.sifting import Entries, NoPricesError, Sifting, cheapest_of_each

_ROUNDS, _FIRST, _MORE = 6, 2, 2
_MOST_CLASSES = 1_500
_TOLERANCE = 1e-6
_MARGIN = 1e-9  # by which a row must be out of reach to be left out


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
        key += b"".join(np.append(p.need, p.count).tobytes() for p in problem.parts[j])
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The rows of capacity that can bind, numbered after those of the classes.

    Where no job asks for as much CPU (or memory) for each GPU as there is, the GPUs' row says it all.
    """

    index: Int[np.ndarray, "offering horizon resource"]  # -1: it cannot bind
    count: int

    @classmethod
    def of(cls, problem: Problem, market: Market, *, first: int) -> _Rows:
        columns = problem.columns
        # Of unlike pods, as the whole gang.
        need = problem.use(columns.job[market.column], columns.workers[market.column], AXES)
        per_gpu = need / np.where(need[:, :1] > 0, need[:, :1], 1e-300)
        most = np.zeros((len(problem.offerings), AXES))
        np.maximum.at(most, columns.offering[market.column], per_gpu)
        most = most[:, None] * (1.0 + _MARGIN)
        idle = (most * market.capacity[:, :, :1] < market.capacity) & (
            most * market.per_node[:, :, :1] <= market.per_node
        )
        idle[:, :, 0] = False
        index = np.where(idle, -1, first + np.cumsum(~idle).reshape(idle.shape) - 1)
        return cls(index=index, count=int((~idle).sum()))

    @property
    def some(self) -> Bool[np.ndarray, "offering horizon resource"]:
        """Those that can bind."""
        can: Bool[np.ndarray, "offering horizon resource"] = self.index >= 0
        return can


def _sift(
    problem: Problem,
    market: Market,
    of_class: Int[np.ndarray, " possible"],
    count: Float[np.ndarray, " class"],
    part: float,
) -> Float[np.ndarray, "offering horizon resource"] | None:
    offerings, classes, buckets = len(problem.offerings), len(count), market.cost_usd.shape[1]
    rows = _Rows.of(problem, market, first=classes)
    sifting = Sifting(
        _fixed(problem, market, rows, count, part),
        columns=market.cost_usd.size,
        entries=lambda some: _entries(problem, market, rows, of_class, some // buckets, some % buckets),
    )
    usable = np.isfinite(market.cost_usd)
    last = np.full_like(market.cost_usd, np.inf)
    last[:, -1] = market.cost_usd[:, -1]
    sifting.take(
        np.union1d(
            _best(of_class, market.cost_usd, np.flatnonzero(usable), _FIRST),
            _best(of_class, last, np.flatnonzero(np.isfinite(last)), 1),
        )
    )
    u = np.zeros((offerings, *market.capacity.shape[1:]))
    for left in reversed(range(_ROUNDS)):
        try:
            dual = sifting.answer().dual
        except NoPricesError:
            return None
        u[rows.some] = np.maximum(-dual[classes : classes + rows.count], 0.0)
        if not left:
            break
        usd = market.cost_usd + market.rents(problem, u)
        better = sifting.undercut(usd, dual[:classes][of_class][:, None], tolerance=_TOLERANCE)
        if not len(better):
            break
        sifting.take(_best(of_class, usd, better, _MORE))
    return u


def _fixed(
    problem: Problem, market: Market, rows: _Rows, count: Float[np.ndarray, " class"], part: float
) -> highspy.HighsLp:
    """The rows, and how many nodes of each offering are bought."""
    offerings, pools, some = len(problem.offerings), len(problem.pools), rows.some
    endless = highspy.kHighsInf
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = offerings, len(count) + rows.count + pools
    lp.col_cost_, lp.col_lower_ = np.zeros(offerings), np.zeros(offerings)
    lp.col_upper_ = market.buyable * part
    lp.row_lower_ = np.concatenate([count, np.full(rows.count + pools, -endless)])
    lp.row_upper_ = np.concatenate([count, market.capacity[some] * part, problem.headroom * part])
    own = np.concatenate([some.reshape(offerings, -1), np.ones((offerings, 1), dtype=bool)], axis=1)
    pool = len(count) + rows.count + problem.pool_of_offering
    index = np.concatenate([rows.index.reshape(offerings, -1), pool[:, None]], axis=1)
    value = np.concatenate([-market.per_node.reshape(offerings, -1), np.ones((offerings, 1))], axis=1)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.concatenate([[0], np.cumsum(own.sum(axis=1))])
    lp.a_matrix_.index_, lp.a_matrix_.value_ = index[own], value[own]
    return lp


def _best(
    of_class: Int[np.ndarray, " possible"],
    usd: Float[np.ndarray, "possible bucket"],
    among: Int[np.ndarray, " some"],
    most: int,
) -> Int[np.ndarray, " few"]:
    """Of each class the cheapest few, as positions in the flattened table."""
    return cheapest_of_each(of_class[among // usd.shape[1]], usd.ravel()[among], among, most)


def _entries(
    problem: Problem,
    market: Market,
    rows: _Rows,
    of_class: Int[np.ndarray, " possible"],
    place: Int[np.ndarray, " some"],
    bucket: Int[np.ndarray, " some"],
) -> Entries:
    columns = problem.columns
    c = market.column[place]
    use = problem.use(columns.job[c], columns.workers[c], AXES)
    amount = market.overlap_hours(bucket, place)[:, :, None] * use[:, None, :]
    row = rows.index[columns.offering[c]]
    row = np.concatenate([of_class[place][:, None], row.reshape(len(place), -1)], axis=1)
    value = np.concatenate([np.ones((len(place), 1)), amount.reshape(len(place), -1)], axis=1)
    some = (row >= 0) & (value != 0)
    begin = np.cumsum(some.sum(axis=1))
    return Entries(
        usd=market.cost_usd[place, bucket],
        begin=np.concatenate([[0], begin[:-1]]),
        row=row[some],
        value=value[some],
    )
