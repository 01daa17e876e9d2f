"""Ruin and recreate: gangs off the nodes that earn least, put back where each adds least to the bill.

G. Schrimpf et al., "Record breaking optimization results using the ruin and recreate principle", Journal of
Computational Physics 159, 2000. A step is kept where the bill is no larger after it. Steps are counted, not seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float

from stint.placement.fleet.yard import Gang, Yard

_THRIFT = (0.0, 0.35, 0.7)
_MOST_ROWS = 24  # of a gang that is worth taking off for the sake of one node


def waste(yard: Yard) -> Float[np.ndarray, " row"]:
    """What each node costs beyond what is on it is worth at the fluid prices."""
    rows = yard.pool >= 0
    lost = np.zeros(len(rows))
    pool = yard.pool[rows]
    used = yard.fleet.capacity[pool] - yard.free[rows]
    lost[rows] = yard.fleet.usd_per_hour[pool] - np.einsum("ij,ij->i", used, yard.unit_usd[pool])
    return np.maximum(lost, 0.0)


def sweep(yard: Yard, *, thrift: float) -> None:
    """Once over the wasteful nodes, the worst first."""
    lost = waste(yard)
    for row in np.lexsort((np.arange(len(lost)), -lost)):
        if lost[row] > 1e-6 and yard.pool[row] >= 0:
            step(yard, [int(row)], thrift)


def sweep_gangs(yard: Yard, *, thrift: float) -> None:
    """Once over the gangs that `step` leaves alone, the largest first: each by itself, and with all beside it."""
    large = [j for j, gang in yard.gangs.items() if len(gang.rows) > _MOST_ROWS]
    for j in sorted(large, key=lambda j: (-len(yard.gangs[j].rows), j)):
        move(yard, [j], (), thrift)
        rows = yard.gangs[j].rows
        beside = {k for row in rows for k in yard.on[row] if k in yard.gangs}
        move(yard, sorted(beside), rows, thrift)


def ruin_and_recreate(yard: Yard, *, steps: int, rng: np.random.Generator) -> None:
    """So many steps, each of a few nodes: one by its waste, the others beside it at random."""
    for i in range(steps):
        lost = waste(yard)
        open_rows = np.flatnonzero(yard.pool >= 0)
        if not len(open_rows):
            return
        weight = lost[open_rows] + 0.05 * lost.sum() / len(open_rows) + 1e-12
        size = min(int(rng.integers(1, 5)), len(open_rows))
        first, *others = rng.choice(open_rows, size=size, replace=False, p=weight / weight.sum())
        step(yard, [int(first), *(int(r) for r in others)], _THRIFT[i % len(_THRIFT)])


def step(
    yard: Yard, rows: list[int], thrift: float, least_saving: Callable[[list[int]], float] | None = None
) -> list[int]:
    """Take the gangs off some nodes and put them back: those that are elsewhere now; none where that did not pay.

    Args:
        least_saving: USD an hour that moving these jobs must save; without it, anything.
    """
    jobs = sorted(
        {j for row in rows for j in yard.on[row] if j in yard.gangs and len(yard.gangs[j].rows) <= _MOST_ROWS}
    )
    return move(yard, jobs, rows, thrift, least_saving) if jobs else []


def move(
    yard: Yard,
    jobs: list[int],
    rows: Iterable[int],
    thrift: float,
    least_saving: Callable[[list[int]], float] | None = None,
) -> list[int]:
    """Take some gangs off and put them back, the largest first; see `step`."""
    saved, usd = yard.save(), yard.usd
    before: dict[int, Gang | None] = {}
    size = {}
    for j in jobs:
        gang = yard.take_off(j)
        before[j], size[j] = gang, float(yard.need(j)[0]) * sum(gang.workers)
    for j in sorted(jobs, key=lambda j: (-size[j], j)):
        if not yard.insert(j, thrift):
            yard.restore(saved, before)
            return []
    yard.shrink(sorted({r for j in jobs for r in yard.gangs[j].rows} | set(rows)))
    moved = [j for j in jobs if yard.gangs[j] != before[j]]
    least = -1e-9 if least_saving is None else max(1e-9, least_saving(moved))
    if yard.usd > usd - least:
        yard.restore(saved, before)
        return []
    return moved
