"""Which jobs share a node, where jobs that do slow each other down.

A **pattern** is what one node of a pool holds, by class. In an hour it costs its node, and does as much work as its
jobs keep of their speed, each beside all the others. What an hour of a class's full speed costs is its price in

    min   sum_p usd_p x_p
    s.t.  sum_p keeps_pc x_p >= count_c          x >= 0, nodes of each pattern

and nobody can have the work done for less, however long it takes. A whole plan, where a job that is slowed has to be
paid for longer, is then

    min   sum_p (usd_p + sum_c price_c (holds_pc - keeps_pc)) x_p
    s.t.  sum_p holds_pc x_p = count_c           x integer

P. C. Gilmore and R. E. Gomory, "A linear programming approach to the cutting-stock problem", Operations Research 9,
1961, is the same without the slowing. Nodes that stand are offered the patterns that leave some of their jobs where
they are, which saves moving those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, vstack

from stint.placement.highs import QuietHighs

_SLACK = 1e-9
_NEAR = 0.004  # of the fluid plan's cost: columns further from paying than that are left out of whole plans
_GAP = 1e-3  # at which branch and bound is content


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Jobs of one worker, and nodes without a limit. USD are per hour.

    Raises:
        ValueError: no node holds some class.
    """

    capacity: Float[np.ndarray, "pool resource"]
    usd_per_hour: Float[np.ndarray, " pool"]
    shape: Float[np.ndarray, "class resource"]
    count: Int[np.ndarray, " class"]  # jobs
    kept: Float[np.ndarray, "class class"]  # of its speed that a job of a class keeps beside one of another

    def __post_init__(self) -> None:
        """Refuse what has no plan."""
        fit = np.all(self.shape[:, None] <= self.capacity[None] + _SLACK, axis=2)
        lost = np.flatnonzero(~np.any(fit, axis=1))
        if len(lost):
            raise ValueError(f"no node holds class {int(lost[0])}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """Every set of jobs that some node holds, on the cheapest that does."""

    pool: Int[np.ndarray, " pattern"]
    holds: Int[np.ndarray, "pattern class"]
    keeps: Float[np.ndarray, "pattern class"]  # of `holds`, as many as it is worth at the speed that they keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Stands:
    """A node that is there."""

    pool: int
    holds: Int[np.ndarray, " class"]
    fixed: Int[np.ndarray, " class"]  # of them, those that cannot be moved now


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A node of a plan: one that stands, by its place in the list, or a new one, and the jobs on it."""

    stands: int | None
    pool: int
    holds: Int[np.ndarray, " class"]


def patterns_of(given: Sharing) -> Patterns:
    """All of them: as many as there are sets of jobs that fit, so for fleets of small nodes."""
    by_price = sorted(range(len(given.usd_per_hour)), key=lambda p: (given.usd_per_hour[p], p))
    capacity = [tuple(float(c) + _SLACK for c in given.capacity[p]) for p in by_price]
    shape = [tuple(float(n) for n in row) for row in given.shape]
    factor = np.log(np.maximum(given.kept, 1e-12))
    pool: list[int] = []
    holds: list[list[int]] = []
    now = [0] * len(shape)

    def extend(first: int, used: tuple[float, ...], cheapest: int) -> None:
        for c in range(first, len(shape)):
            if now[c] >= given.count[c]:
                continue
            more = tuple(u + n for u, n in zip(used, shape[c], strict=True))
            k = cheapest
            while k < len(capacity) and any(m > have for m, have in zip(more, capacity[k], strict=True)):
                k += 1
            if k < len(capacity):
                now[c] += 1
                pool.append(by_price[k])
                holds.append(now.copy())
                extend(c, more, k)
                now[c] -= 1

    extend(0, (0.0,) * given.shape.shape[1], 0)
    table = np.array(holds, dtype=np.int64).reshape(len(holds), len(shape))
    keeps = table * np.exp(table @ factor.T - np.diag(factor))
    return Patterns(pool=np.array(pool, dtype=np.int64), holds=table, keeps=np.where(table > 0, keeps, 0.0))


def prices(
    given: Sharing, patterns: Patterns, work: Float[np.ndarray, " class"]
) -> tuple[float, Float[np.ndarray, " class"]]:
    """What so much work of each class costs at least, and what a unit of it does."""
    usd, price, _ = _solve(
        given.usd_per_hour[patterns.pool], csr_matrix(patterns.keeps.T), work, np.full(len(work), highspy.kHighsInf)
    )
    return usd, price


def share(
    given: Sharing,
    standing: Sequence[Stands],
    *,
    move_usd: Float[np.ndarray, " class"],
    start_usd: Float[np.ndarray, " pool"],
    nodes: int = 20,
) -> list[Shared]:
    """Every job on a node, as cheaply as is found in so many branch-and-bound nodes.

    Args:
        move_usd: what moving a job costs, by the hour for which it pays.
        start_usd: the same, of a node that is new.
    """
    patterns = patterns_of(given)
    _, price = prices(given, patterns, given.count.astype(float))
    usd = given.usd_per_hour[patterns.pool] + (patterns.holds - patterns.keeps) @ price
    cost, column, at = [usd + start_usd[patterns.pool]], [np.arange(len(usd))], [np.full(len(usd), -1)]
    for i, node in enumerate(standing):
        stay = np.minimum(patterns.holds, node.holds)
        larger = given.usd_per_hour[node.pool] - given.usd_per_hour[patterns.pool]
        total = patterns.holds @ given.shape
        fit = (total <= given.capacity[node.pool] + _SLACK).all(axis=1) & (stay.sum(axis=1) > 0)
        mine = np.flatnonzero(fit & (patterns.holds >= node.fixed).all(axis=1))
        cost.append(usd[mine] + larger[mine] - stay[mine] @ move_usd)
        column.append(mine)
        at.append(np.full(len(mine), i))
    what, where, costs = np.concatenate(column), np.concatenate(at), np.concatenate(cost)
    stood = np.flatnonzero(where >= 0)
    once = csr_matrix((np.ones(len(stood)), (where[stood], stood)), shape=(len(standing), len(where)))
    rows = vstack([csr_matrix(patterns.holds.T[:, what]), once]).tocsr()
    must = np.array([float(n.fixed.any()) for n in standing])
    low = np.concatenate([given.count.astype(float), must])
    high = np.concatenate([given.count.astype(float), np.ones(len(standing))])
    fluid, price, _ = _solve(costs, rows, low, high)
    reduced = costs - rows.T @ price
    held = np.array([n.holds for n in standing], dtype=np.int64).reshape(len(standing), len(given.count))
    keep = patterns.holds[what].sum(axis=1) == 1  # these, and all as it is, so that there is a plan at all
    keep[stood] |= np.all(patterns.holds[what[stood]] == held[where[stood]], axis=1)
    near = np.flatnonzero((reduced <= _NEAR * abs(fluid) + _SLACK) | keep)
    _, _, mass = _solve(costs[near], rows[:, near], low, high, whole=nodes)
    found = []
    for c in np.flatnonzero(mass > 0.5):
        i, p = int(where[near[c]]), int(what[near[c]])
        pool = int(patterns.pool[p]) if i < 0 else standing[i].pool
        found += [Shared(stands=i if i >= 0 else None, pool=pool, holds=patterns.holds[p])] * round(mass[c])
    return found


def _solve(
    cost: Float[np.ndarray, " column"],
    matrix: csr_matrix,
    low: Float[np.ndarray, " row"],
    high: Float[np.ndarray, " row"],
    *,
    whole: int | None = None,
) -> tuple[float, Float[np.ndarray, " row"], Float[np.ndarray, " column"]]:
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = matrix.shape
    lp.col_cost_, lp.col_lower_ = cost, np.zeros(len(cost))
    lp.col_upper_ = np.full(len(cost), highspy.kHighsInf)
    lp.row_lower_, lp.row_upper_ = low, high
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
    highs = QuietHighs()
    if whole is not None:
        lp.integrality_ = [highspy.HighsVarType.kInteger] * len(cost)
        highs.setOptionValue("mip_rel_gap", _GAP)
        highs.setOptionValue("mip_max_nodes", whole)
    highs.passModel(lp)
    highs.run()
    info = highs.getInfo()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        raise RuntimeError(f"HiGHS found no plan: {highs.getModelStatus()}")
    solution = highs.getSolution()
    return float(info.objective_function_value), np.array(solution.row_dual), np.array(solution.col_value)
