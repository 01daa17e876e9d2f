"""Workers onto whole nodes, market by market: again and again the pattern that is worth most for its price.

A **pattern** is what one node of a pool holds. It is filled greedily, the most valuable workers first, and taken as
often as there are workers for it; what a worker is worth is its price in the fluid plan. While there are many, every
pattern is full and of the pools that the fluid plan uses; the last few workers find the smallest node that holds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stint.placement.fleet.model import Fleet

_SLACK = 1e-9
_ELSEWHERE = 1.2  # what a worker that finds no room is reckoned to cost somewhere else, of its worth here


@dataclass(frozen=True, slots=True)
class Pattern:
    """So many nodes of a pool, each holding so many workers of each shape."""

    pool: int
    nodes: int
    holds: Mapping[int, int]  # shape -> workers


def pack_market(
    fleet: Fleet,
    pools: Sequence[int],
    limit: Float[np.ndarray, " pool"],
    demand: Mapping[int, int],
    worth: Mapping[int, float],
    rent: Float[np.ndarray, " pool"],
) -> tuple[list[Pattern], dict[int, int]]:
    """Every worker of `demand` (shape -> workers) onto nodes of `pools`, and those that the limits leave over.

    Nodes are filled hardest first, by two measures of hard; the cheaper of the two answers counts.

    Args:
        limit: nodes that each pool may still have.
        worth: what a worker of each shape may cost an hour.
        rent: what a node of each pool is worth beyond its price, where a limit binds: those are filled first.
    """
    shapes = list(demand)
    need = dict(zip(shapes, fleet.shape[shapes].tolist(), strict=True))
    part = fleet.shape[shapes] / np.maximum(fleet.capacity[list(pools)].max(axis=0), 1e-300)
    every, most = (dict(zip(shapes, of.tolist(), strict=True)) for of in (part.sum(axis=1), part.max(axis=1)))
    orders = (
        sorted(demand, key=lambda s: (-every[s], s)),
        sorted(demand, key=lambda s: (-worth[s], -most[s], -every[s], s)),
    )
    answers = [_pack_in_order(fleet, pools, limit, demand, worth, rent, order, need) for order in orders]

    def usd(answer: tuple[list[Pattern], dict[int, int]]) -> float:
        nodes = sum(float(fleet.usd_per_hour[p.pool] + rent[p.pool]) * p.nodes for p in answer[0])
        return nodes + sum(_ELSEWHERE * worth[s] * k for s, k in answer[1].items())

    return min(answers, key=usd)


def fill_room(
    fleet: Fleet, free: Float[np.ndarray, "node resource"], demand: Mapping[int, int]
) -> tuple[list[dict[int, int]], dict[int, int]]:
    """Workers of `demand` onto nodes that are there, hardest first: what each node gets, and who is left over."""
    left = {s: k for s, k in demand.items() if k > 0}
    shapes = list(left)
    part = (fleet.shape[shapes] / np.maximum(fleet.capacity.max(axis=0), 1e-300)).sum(axis=1)
    order = [shapes[i] for i in np.lexsort((shapes, -part))]
    need = dict(zip(shapes, fleet.shape[shapes].tolist(), strict=True))
    gets = []
    for room in free.tolist():
        gets.append(_fill(room, order, need, left))
        for s, k in gets[-1].items():
            left[s] -= k
            if not left[s]:
                order.remove(s)
                del left[s]
    return gets, left


def _pack_in_order(
    fleet: Fleet,
    pools: Sequence[int],
    limit: Float[np.ndarray, " pool"],
    demand: Mapping[int, int],
    worth: Mapping[int, float],
    rent: Float[np.ndarray, " pool"],
    order: list[int],
    need: Mapping[int, Sequence[float]],
) -> tuple[list[Pattern], dict[int, int]]:
    left = {s: k for s, k in demand.items() if k > 0}
    order = [s for s in order if s in left]
    free = {p: float(limit[p]) for p in pools}
    usd = {p: float(fleet.usd_per_hour[p] + rent[p]) for p in pools}
    capacity = {p: fleet.capacity[p].tolist() for p in pools}
    best: dict[int, tuple[float, dict[int, int]]] = {}
    found: list[Pattern] = []
    stale = set(pools)
    while left:
        for p in sorted(stale):
            holds: dict[int, int] = {}
            value = 0.0
            if free[p] >= 1:
                holds = _fill(capacity[p], order, need, left)
                value = sum(worth[s] * k for s, k in holds.items())
            if holds:
                best[p] = (usd[p] / max(value, 1e-12), holds)
            else:
                best.pop(p, None)
        if not best:
            break
        p = min(best, key=lambda p: (best[p][0], p))
        holds = best[p][1]
        nodes = int(min(free[p], min(left[s] // k for s, k in holds.items())))
        found.append(Pattern(p, nodes, holds))
        free[p] -= nodes
        for s, k in holds.items():
            left[s] -= k * nodes
        gone = {s for s in holds if left[s] == 0}
        for s in gone:
            del left[s]
        if gone:
            order = [s for s in order if s not in gone]
        stale = {q for q, (_, h) in best.items() if any(left.get(s, 0) < k for s, k in h.items())}
        if free[p] < 1:
            stale.add(p)
    return found, left


def _fill(
    capacity: Sequence[float],
    order: Sequence[int],
    need: Mapping[int, Sequence[float]],
    left: Mapping[int, int],
) -> dict[int, int]:
    """What one node holds, the first of `order` first."""
    gpu, cpu, gib = (c + _SLACK for c in capacity)
    holds: dict[int, int] = {}
    for s in order:
        a, b, c = need[s]
        if a > gpu or b > cpu or c > gib:
            continue
        k = min(
            left[s],
            int(gpu / a) if a > 0 else left[s],
            int(cpu / b) if b > 0 else left[s],
            int(gib / c) if c > 0 else left[s],
        )
        if k > 0:
            holds[s] = k
            gpu, cpu, gib = gpu - a * k, cpu - b * k, gib - c * k
    return holds
