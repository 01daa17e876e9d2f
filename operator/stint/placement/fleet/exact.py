"""The same programme as the fluid plan's, with whole gangs, workers and nodes: for what is small enough.

    min   sum_p usd_p (n_p + sum_{o on p, alone} k_o) + sum_c usd_c y_c
    s.t.  sum_{c of class} y_c = count, sum_{o of c} k_o = workers_c y_c
          R_pm n_p >= sum_{o on p, not alone} taken_om k_o           every pool, measure
          n_p >= sum_{o on p, not alone} f(part_or) k_o              every pool, resource, some dual feasible f
          n_p + sum_{o on p, alone} k_o <= limit_p
          y, n integer; k of those alone too

A worker beside whom nobody finds room is **alone**: its node is paid with it. For the others the resources of like
nodes are added up, so that the answer costs no more than any plan does: its bound is a bound, if one trusts the solver.
That every worker also finds a node is for packing to see to; that three of a kind share no node that holds two is asked
here.

The solver starts from nothing: HiGHS 1.16 was seen to lose part of the cost of a plan that it was given to start from,
and then called what it had optimal.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from stint.placement.fleet.model import Fleet
from stint.placement.fleet.offers import Offers
from stint.placement.highs import QuietHighs

_SLACK = 1e-9
_DIVISORS = (1, 2, 3)  # more of them take time and gain nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An answer: gangs by offer, nodes by pool, and what the solver says nothing is cheaper than."""

    mass: Float[np.ndarray, " offer"]
    nodes: Float[np.ndarray, " pool"]
    usd_per_hour: float
    bound_usd_per_hour: float


def solve_whole(fleet: Fleet, offers: Offers, *, nodes: int, gap: float) -> Whole | None:
    """The best found in so many branch-and-bound nodes, or within a gap of the best there is; None: nothing found."""
    pools, measures = offers.capacity.shape
    columns, count = len(fleet.column_class), len(offers.column)
    demand, workers = fleet.count.astype(float), fleet.column_workers
    taken = offers.use / workers[offers.column, None]
    alone = (taken >= offers.capacity[offers.pool] - _SLACK).all(axis=1)
    k, y = pools + np.arange(count), pools + count + np.arange(columns)
    each, none, endless = np.arange(columns), np.zeros(columns), highspy.kHighsInf
    rows = _Rows(pools + count + columns)
    rows.add(fleet.column_class, y, np.ones(columns), demand, demand)
    rows.add(np.r_[offers.column, each], np.r_[k, y], np.r_[np.ones(count), -workers], none, none)
    share = np.flatnonzero(~alone)
    full = np.arange(pools * measures)
    rows.add(
        np.r_[full, (offers.pool[share, None] * measures + np.arange(measures)).ravel()],
        np.r_[full // measures, np.repeat(k[share], measures)],
        np.r_[offers.capacity.ravel(), -taken[share].ravel()],
        np.zeros(len(full)),
        np.full(len(full), endless),
    )
    for pool, some, slots in _dual_feasible(fleet, offers, share):
        row = np.zeros(1 + len(some), dtype=np.int64)
        rows.add(row, np.r_[pool, k[some]], np.r_[1.0, -slots], row[:1], np.full(1, endless))
    own = np.flatnonzero(alone)
    rows.add(
        np.r_[np.arange(pools), offers.pool[own]],
        np.r_[np.arange(pools), k[own]],
        np.ones(pools + len(own)),
        np.zeros(pools),
        fleet.limit,
    )
    lp = rows.programme()
    own_usd = np.where(alone, fleet.usd_per_hour[offers.pool], 0.0)
    lp.col_cost_ = np.concatenate([fleet.usd_per_hour, own_usd, fleet.column_usd_per_hour])
    most = demand[fleet.column_class]
    lp.col_lower_ = np.zeros(lp.num_col_)
    lp.col_upper_ = np.concatenate([fleet.limit, (workers * most)[offers.column], most])
    kinds = highspy.HighsVarType
    spread = [kinds.kInteger if a else kinds.kContinuous for a in alone]
    lp.integrality_ = [kinds.kInteger] * pools + spread + [kinds.kInteger] * columns
    highs = QuietHighs()
    highs.setOptionValue("mip_rel_gap", gap)
    highs.setOptionValue("mip_max_nodes", nodes)
    highs.setOptionValue("mip_allow_restart", False)  # after the root there is little left to do: it only takes time
    highs.passModel(lp)
    highs.run()
    info = highs.getInfo()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    found = np.array(highs.getSolution().col_value)
    usd = float(info.objective_function_value)
    if abs(float(np.array(lp.col_cost_) @ found) - usd) > 1e-6 * max(1.0, usd):
        return None  # it has lost count, see above
    on = found[k]
    return Whole(
        mass=on / workers[offers.column],
        nodes=np.round(found[:pools] + np.bincount(offers.pool, on * alone, minlength=pools)),
        usd_per_hour=usd,
        bound_usd_per_hour=float(info.mip_dual_bound),
    )


class _Rows:
    """The programme's rows, block after block."""

    def __init__(self, variables: int) -> None:
        self._variables, self._count = variables, 0
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(
        self,
        row: Int[np.ndarray, " entry"],
        variable: Int[np.ndarray, " entry"],
        value: Float[np.ndarray, " entry"],
        lower: Float[np.ndarray, " row"] | Int[np.ndarray, " row"],
        upper: Float[np.ndarray, " row"],
    ) -> None:
        """As many rows as there are bounds; `row` counts from the first of them."""
        self._parts.append((row + self._count, variable, value, lower, upper))
        self._count += len(lower)

    def programme(self) -> highspy.HighsLp:
        """All of them; what the variables cost and may be is still to be said."""
        row, variable, value, lower, upper = (np.concatenate(of) for of in zip(*self._parts, strict=True))
        matrix = csr_matrix((value, (row, variable)), shape=(self._count, self._variables))
        lp = highspy.HighsLp()
        lp.num_row_, lp.num_col_ = matrix.shape
        lp.row_lower_, lp.row_upper_ = lower, upper
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
        return lp


def _dual_feasible(
    fleet: Fleet, offers: Offers, share: Int[np.ndarray, " some"]
) -> list[tuple[int, Int[np.ndarray, " few"], Float[np.ndarray, " few"]]]:
    """Pools, offers on them and what part of a node each worker wants at least, where that is more than it takes.

    Of workers that take more than a third of a node each there are two on it, so that each wants half of it:

        f(part) = part where (d + 1) part is whole, else floor((d + 1) part) / d     d = 1, 2, 3

    adds up to no more than one wherever the parts do: S. P. Fekete, J. Schepers, "New classes of fast lower bounds for
    bin packing problems", Mathematical Programming 91, 2001.
    """
    pool = offers.pool[share]
    part = fleet.shape[fleet.class_shape[offers.of_class[share]]] / np.maximum(fleet.capacity[pool], 1e-300)
    found = []
    for d in _DIVISORS:
        times = (d + 1) * part
        whole = np.abs(times - np.round(times)) < _SLACK
        wants = np.where(whole, part, np.floor(times) / d)
        for r in range(part.shape[1]):
            for p in np.unique(pool[wants[:, r] > part[:, r] + _SLACK]):
                some = np.flatnonzero((pool == p) & (wants[:, r] > 0))
                found.append((int(p), share[some], wants[some, r]))
    return found
