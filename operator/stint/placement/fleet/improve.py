"""Ruin and recreate: gangs off the nodes that earn least, put back where each adds least to the bill.

G. Schrimpf et al., "Record breaking optimization results using the ruin and recreate principle", Journal of
Computational Physics 159, 2000. A step is kept where the bill is no larger after it. Steps are counted, not seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float

from stint.placement.fleet.nodes_in_play import Gang, NodesInPlay

_THRIFT = (0.0, 0.35, 0.7)
_MOST_ROWS = 24  # of a gang that is worth taking off for the sake of one node


def waste(in_play: NodesInPlay) -> Float[np.ndarray, " row"]:
    """What each node costs beyond what is on it is worth at the fluid prices."""
    rows = in_play.pool >= 0
    lost = np.zeros(len(rows))
    pool = in_play.pool[rows]
    used = in_play.fleet.capacity[pool] - in_play.free[rows]
    lost[rows] = in_play.fleet.usd_per_hour[pool] - np.einsum("ij,ij->i", used, in_play.unit_usd[pool])
    return np.maximum(lost, 0.0)


def sweep(in_play: NodesInPlay, *, thrift: float) -> None:
    """Once over the wasteful nodes, the worst first."""
    lost = waste(in_play)
    for row in np.lexsort((np.arange(len(lost)), -lost)):
        if lost[row] > 1e-6 and in_play.pool[row] >= 0:
            step(in_play, [int(row)], thrift)


def sweep_gangs(in_play: NodesInPlay, *, thrift: float) -> None:
    """Once over the gangs that `step` leaves alone, the largest first: each by itself, and with all beside it."""
    large = [j for j, gang in in_play.gangs.items() if len(gang.rows) > _MOST_ROWS]
    for j in sorted(large, key=lambda j: (-len(in_play.gangs[j].rows), j)):
        move(in_play, [j], (), thrift)
        rows = in_play.gangs[j].rows
        beside = {k for row in rows for k in in_play.on[row] if k in in_play.gangs}
        move(in_play, sorted(beside), rows, thrift)


def ruin_and_recreate(in_play: NodesInPlay, *, steps: int, rng: np.random.Generator) -> None:
    """So many steps, each of a few nodes: one by its waste, the others beside it at random."""
    for i in range(steps):
        lost = waste(in_play)
        open_rows = np.flatnonzero(in_play.pool >= 0)
        if not len(open_rows):
            return
        weight = lost[open_rows] + 0.05 * lost.sum() / len(open_rows) + 1e-12
        size = min(int(rng.integers(1, 5)), len(open_rows))
        first, *others = rng.choice(open_rows, size=size, replace=False, p=weight / weight.sum())
        step(in_play, [int(first), *(int(r) for r in others)], _THRIFT[i % len(_THRIFT)])


def step(
    in_play: NodesInPlay, rows: list[int], thrift: float, least_saving: Callable[[list[int]], float] | None = None
) -> list[int]:
    """Take the gangs off some nodes and put them back: those that are elsewhere now; none where that did not pay.

    Args:
        least_saving: USD an hour that moving these jobs must save; without it, anything.
    """
    jobs = sorted(
        {j for row in rows for j in in_play.on[row] if j in in_play.gangs and len(in_play.gangs[j].rows) <= _MOST_ROWS}
    )
    return move(in_play, jobs, rows, thrift, least_saving) if jobs else []


def move(
    in_play: NodesInPlay,
    jobs: list[int],
    rows: Iterable[int],
    thrift: float,
    least_saving: Callable[[list[int]], float] | None = None,
) -> list[int]:
    """Take some gangs off and put them back, the largest first; see `step`."""
    saved, usd = in_play.save(), in_play.usd
    before: dict[int, Gang | None] = {}
    size = {}
    for j in jobs:
        gang = in_play.take_off(j)
        before[j], size[j] = gang, float(in_play.need(j)[0]) * sum(gang.workers)
    for j in sorted(jobs, key=lambda j: (-size[j], j)):
        if not in_play.insert(j, thrift):
            in_play.restore(saved, before)
            return []
    in_play.shrink(sorted({r for j in jobs for r in in_play.gangs[j].rows} | set(rows)))
    moved = [j for j in jobs if in_play.gangs[j] != before[j]]
    least = -1e-9 if least_saving is None else max(1e-9, least_saving(moved))
    if in_play.usd > usd - least:
        in_play.restore(saved, before)
        return []
    return moved
