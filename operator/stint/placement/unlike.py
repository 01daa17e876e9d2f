"""Gangs of unlike pods: which node each of them gets, the largest first, where it leaves the least over.

Workers that are told how to share nodes (see `stint.placement.neighbours`) get theirs first, as they are told; what
other roles demand of pods beside them is looked at only against pods that are there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.problem import Problem

_HAIR = 1e-9


def pack(
    problem: Problem,
    job: int,
    nodes: Int[np.ndarray, " own"],
    free: Float[np.ndarray, "own resource"],
    there: Bool[np.ndarray, " own"],
    pods: int,
) -> tuple[int, ...] | None:
    """The nodes of a gang of so many pods, by rank, as the problem counts them; None: they do not fit.

    Args:
        nodes: of one offering.
        free: what each of them has to give.
        there: which of them may be used at all.
    """
    for within in _domains(problem, job, nodes):
        found = _pack(problem, job, nodes, free.copy(), there & within, pods)
        if found is not None:
            return found
    return None


def _domains(problem: Problem, job: int, nodes: Int[np.ndarray, " own"]) -> Iterator[Bool[np.ndarray, " own"]]:
    """The nodes that the gang may share, one domain of its topology after the other."""
    topology, domain = problem.topology[job], problem.domain[job]
    if topology is not None and domain is not None:
        mine = domain[nodes]
        yield from (mine == one for one in np.unique(mine[mine >= 0]).tolist())
        if topology.required:
            return
    yield np.ones(len(nodes), dtype=bool)


def _pack(
    problem: Problem,
    job: int,
    nodes: Int[np.ndarray, " own"],
    free: Float[np.ndarray, "own resource"],
    may: Bool[np.ndarray, " own"],
    pods: int,
) -> tuple[int, ...] | None:
    parts = problem.parts[job]
    workers = pods - sum(p.count for p in parts)
    needs = [problem.need[job], *(p.need for p in parts)]
    admits = [problem.admits[job][nodes] & may, *(p.admits[nodes] & may for p in parts)]
    count = [workers, *(p.count for p in parts)]
    all_of_it = sum(n * need for n, need in zip(count, needs, strict=True))
    if (free[np.logical_or.reduce(admits)].sum(axis=0) + _HAIR < all_of_it).any():
        return None
    seats: list[list[int]] = [[] for _ in needs]
    largest_first = sorted(range(len(needs)), key=lambda k: (-needs[k][0], *(-needs[k][1:]), k))
    if (together := problem.together[job]) is not None:
        arranged = together.arrange(nodes, admits[0], _fitting(free, needs[0], admits[0]), workers)
        if arranged is None:
            return None
        free -= arranged[:, None] * needs[0]
        seats[0] = np.repeat(np.arange(len(nodes)), arranged).tolist()
        largest_first.remove(0)
    for kind in largest_first:
        while (left := count[kind] - len(seats[kind])) > 0:
            seat = _tightest(free, needs[kind], admits[kind])
            if seat is None:
                return None
            here = min(left, int(_fitting(free[[seat]], needs[kind], admits[kind][[seat]])[0]))
            free[seat] -= here * needs[kind]
            seats[kind] += [seat] * here
    return tuple(int(nodes[i]) for some in seats for i in some)


def _fitting(
    free: Float[np.ndarray, "own resource"], need: Float[np.ndarray, " resource"], admits: Bool[np.ndarray, " own"]
) -> Int[np.ndarray, " own"]:
    asked = need > 0
    each = np.floor((free[:, asked] + _HAIR) / need[asked]).min(axis=1)
    fitting: Int[np.ndarray, " own"] = np.where(admits, np.maximum(each, 0), 0).astype(np.int64)
    return fitting


def _tightest(
    free: Float[np.ndarray, "own resource"], need: Float[np.ndarray, " resource"], admits: Bool[np.ndarray, " own"]
) -> int | None:
    """Where a pod leaves the fewest GPUs over, then the least CPU: like pods stay there while they fit."""
    fits = (admits & (_fitting(free, need, admits) > 0)).nonzero()[0]
    if not len(fits):
        return None
    fewest = fits[free[fits, 0] == free[fits, 0].min()]
    return int(fewest[free[fewest, 1].argmin()])
