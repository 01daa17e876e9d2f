"""The same programme as the fluid plan's, with whole gangs and whole nodes: for what is small enough.

    min   sum_p usd_p n_p + sum_c usd_c y_c
    s.t.  sum_{c of class} y_c = count, sum_{o of c} x_o = y_c, R_pr n_p >= sum_{o on p} use_or x_o
          n_p >= workers on p that take more than half of some resource of a node
          y, n integer; a gang may be spread over the pools of its market (x)

Resources of like nodes are added up, so that it costs no more than any plan does: its bound is a bound, if one trusts
the solver. That every worker also finds a node is for packing to see to; that no two large ones share one is asked
here, as wide gangs of them would otherwise seem to go where they need twice the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix

from stint.placement.fleet.model import Fleet
from stint.placement.fleet.offers import Offers
from stint.placement.highs import QuietHighs

_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An answer: gangs by offer, nodes by pool, and what the solver says nothing is cheaper than."""

    mass: Float[np.ndarray, " offer"]
    nodes: Float[np.ndarray, " pool"]
    usd_per_hour: float
    bound_usd_per_hour: float


def solve_whole(fleet: Fleet, offers: Offers, *, nodes: int, gap: float) -> Whole | None:
    """The best found in so many branch-and-bound nodes, or within a gap of the best there is; None: nothing found."""
    pools, resources = offers.capacity.shape
    classes, columns, count = len(fleet.count), len(fleet.column_class), len(offers.column)
    demand = fleet.count.astype(float)
    endless = highspy.kHighsInf
    workers = fleet.column_workers[offers.column]
    alone = (offers.use >= offers.capacity[offers.pool] * workers[:, None] - _SLACK).all(axis=1)
    own = np.where(alone, workers, 0)  # nodes that nobody else has a use for
    share = np.flatnonzero(~alone)
    rows = _Rows()
    at = np.arange
    x = pools + at(count)
    y = pools + count + at(columns)
    rows.add(fleet.column_class, y, np.ones(columns), demand, demand)
    rows.add(np.r_[offers.column, at(columns)], np.r_[x, y], np.r_[np.ones(count), -np.ones(columns)], np.zeros(columns), np.zeros(columns))
    row = at(pools * resources)
    rows.add(
        np.r_[row, (offers.pool[share, None] * resources + at(resources)).ravel()],
        np.r_[np.repeat(at(pools), resources), np.repeat(x[share], resources)],
        np.r_[offers.capacity.ravel(), -offers.use[share].ravel()],
        np.zeros(pools * resources),
        np.full(pools * resources, endless),
    )
    for p, some, slots in _dual_feasible(fleet, offers, ~alone):
        rows.add(np.zeros(1 + len(some), dtype=np.int64), np.r_[p, x[some]], np.r_[1.0, -slots], np.zeros(1), np.full(1, endless))
    scarce = np.flatnonzero(alone & np.isfinite(fleet.limit[offers.pool]))
    if len(scarce):
        short, which = np.unique(offers.pool[scarce], return_inverse=True)
        rows.add(np.r_[at(len(short)), which], np.r_[short, x[scarce]], np.r_[np.ones(len(short)), own[scarce]], np.full(len(short), -endless), fleet.limit[short])
    lp = highspy.HighsLp()
    rows.onto(lp, pools + count + columns)
    lp.col_cost_ = np.concatenate([fleet.usd_per_hour, own * fleet.usd_per_hour[offers.pool], fleet.column_usd_per_hour])
    lp.col_lower_ = np.zeros(lp.num_col_)
    lp.col_upper_ = np.concatenate([fleet.limit, demand[offers.of_class], demand[fleet.column_class]])
    kinds = highspy.HighsVarType
    lp.integrality_ = [kinds.kInteger] * pools + [kinds.kContinuous] * count + [kinds.kInteger] * columns
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
    mass = found[pools : pools + count]
    return Whole(
        mass=mass,
        nodes=np.round(found[:pools]) + np.ceil(np.bincount(offers.pool, mass * own, minlength=pools) - 1e-6),
        usd_per_hour=float(info.objective_function_value),
        bound_usd_per_hour=float(info.mip_dual_bound),
    )


class _Rows:
    """The programme's rows, block after block."""

    def __init__(self) -> None:
        self._count = 0
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, row, place, value, lower, upper) -> None:
        """So many rows; `row` counts from the first of them."""
        self._parts.append((row + self._count, place, value, lower, upper))
        self._count += len(lower)

    def onto(self, lp: highspy.HighsLp, variables: int) -> None:
        row, place, value, lower, upper = (np.concatenate(of) for of in zip(*self._parts, strict=True))
        matrix = csr_matrix((value, (row, place)), shape=(self._count, variables))
        lp.num_row_, lp.num_col_ = matrix.shape
        lp.row_lower_, lp.row_upper_ = lower, upper
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data


def _dual_feasible(
    fleet: Fleet, offers: Offers, there: Bool[np.ndarray, " offer"]
) -> list[tuple[int, Int[np.ndarray, " some"], Float[np.ndarray, " some"]]]:
    shape = fleet.shape[fleet.class_shape[offers.of_class]]
    workers = fleet.column_workers[offers.column]
    part = shape / np.maximum(fleet.capacity[offers.pool], 1e-300)
    full = (offers.use / workers[:, None] / np.maximum(offers.capacity[offers.pool], 1e-300)).max(axis=1)
    found = []
    for r in range(shape.shape[1]):
        for k in KS:
            slots = np.floor((k + 1) * part[:, r] + _SLACK)
            even = np.abs((k + 1) * part[:, r] - slots) < 1e-9
            f = np.where(even, part[:, r], np.maximum(slots,0) / k)
            for p in np.unique(offers.pool[there & (f > (full if CRIT else part[:, r]) + 1e-6)]):
                some = np.flatnonzero((offers.pool == p) & there & (f > 0))
                found.append((int(p), some, f[some] * workers[some]))
    return found


KS = (1, 2, 3)
CRIT = False
WARM = True
