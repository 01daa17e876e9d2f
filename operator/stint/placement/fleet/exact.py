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
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from stint.placement.fleet.model import Fleet, FleetPlan
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


def solve_whole(fleet: Fleet, offers: Offers, *, start: FleetPlan | None, nodes: int, gap: float) -> Whole | None:
    """The best found in so many branch-and-bound nodes, or within a gap of the best there is; None: nothing found."""
    pools, resources = fleet.capacity.shape
    classes, columns, count = len(fleet.count), len(fleet.column_class), len(offers.column)
    demand = fleet.count.astype(float)
    halves = _halves(fleet, offers)
    endless = highspy.kHighsInf
    lp = highspy.HighsLp()
    lp.num_col_ = pools + count + columns
    lp.num_row_ = classes + pools * resources + columns + len(halves)
    lp.col_cost_ = np.concatenate([fleet.usd_per_hour, np.zeros(count), fleet.column_usd_per_hour])
    lp.col_lower_ = np.zeros(lp.num_col_)
    lp.col_upper_ = np.concatenate([fleet.limit, demand[offers.of_class], demand[fleet.column_class]])
    lp.row_lower_ = np.concatenate([demand, np.zeros(pools * resources), np.zeros(columns + len(halves))])
    lp.row_upper_ = np.concatenate(
        [demand, np.full(pools * resources, endless), np.zeros(columns), np.full(len(halves), endless)]
    )
    at, each = np.arange, np.arange(resources)
    rows = [
        classes + at(pools * resources),
        fleet.column_class,
        (classes + offers.pool[:, None] * resources + each).ravel(),
        classes + pools * resources + offers.column,
        classes + pools * resources + at(columns),
    ]
    places = [
        np.repeat(at(pools), resources),
        pools + count + at(columns),
        np.repeat(pools + at(count), resources),
        pools + at(count),
        pools + count + at(columns),
    ]
    values = [fleet.capacity.ravel(), np.ones(columns), -offers.use.ravel(), np.ones(count), -np.ones(columns)]
    for i, (p, some, slots) in enumerate(halves, classes + pools * resources + columns):
        rows.append(np.full(1 + len(some), i))
        places.append(np.concatenate([[p], pools + some]))
        values.append(np.concatenate([[1.0], -slots]))
    matrix = csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(places))))
    matrix.resize(lp.num_row_, lp.num_col_)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
    kinds = highspy.HighsVarType
    lp.integrality_ = [kinds.kInteger] * pools + [kinds.kContinuous] * count + [kinds.kInteger] * columns
    highs = QuietHighs()
    highs.setOptionValue("mip_rel_gap", gap)
    highs.setOptionValue("mip_max_nodes", nodes)
    highs.setOptionValue("mip_allow_restart", False)  # after the root there is little left to do: it only takes time
    highs.passModel(lp)
    if start is not None:
        highs.setSolution(_as_solution(fleet, offers, start))
    highs.run()
    info = highs.getInfo()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    found = np.array(highs.getSolution().col_value)
    return Whole(
        mass=found[pools : pools + count],
        nodes=np.round(found[:pools]),
        usd_per_hour=float(info.objective_function_value),
        bound_usd_per_hour=float(info.mip_dual_bound),
    )


def _as_solution(fleet: Fleet, offers: Offers, plan: FleetPlan) -> highspy.HighsSolution:
    pools, count = len(fleet.limit), len(offers.column)
    value = np.zeros(pools + count + len(fleet.column_class))
    value[:pools] = np.bincount(plan.node_pool, minlength=pools)
    key = offers.column * pools + offers.pool
    order = np.argsort(key)
    wanted = plan.column[plan.worker_job] * pools + plan.node_pool[plan.worker_node]
    offer = order[np.searchsorted(key[order], wanted)]
    np.add.at(value, pools + offer, plan.workers / fleet.column_workers[plan.column[plan.worker_job]])
    np.add.at(value, pools + count + plan.column, 1.0)
    solution = highspy.HighsSolution()
    solution.col_value = list(value)
    return solution


def _halves(fleet: Fleet, offers: Offers) -> list[tuple[int, Int[np.ndarray, " some"], Float[np.ndarray, " some"]]]:
    """Pools, offers on them and how many nodes each wants to be the largest on: no node holds two such workers.

    A worker that takes more than half of any resource has a node to itself in this sense, one that takes just half of
    it has half a node. (The simplest of the dual feasible functions: S. P. Fekete, J. Schepers, "New classes of fast
    lower bounds for bin packing problems", Mathematical Programming 91, 2001.)
    """
    shape = fleet.shape[fleet.class_shape[offers.of_class]]
    workers = fleet.column_workers[offers.column]
    found = []
    for r in range(shape.shape[1]):
        part = shape[:, r] / np.maximum(fleet.capacity[offers.pool, r], 1e-300)
        halves = np.where(part > 0.5 + _SLACK, 1.0, np.where(part >= 0.5, 0.5, 0.0))
        for p in np.unique(offers.pool[halves > part + _SLACK]):
            some = np.flatnonzero((offers.pool == p) & (halves > 0))
            found.append((int(p), some, halves[some] * workers[some]))
    return found
