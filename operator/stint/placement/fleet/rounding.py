"""From the fluid plan to whole gangs on whole nodes: each class on its best offer, each market packed, gangs bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.fleet.certificate import Proof
from stint.placement.fleet.fluid import Fluid
from stint.placement.fleet.model import Fleet
from stint.placement.fleet.offers import Offers
from stint.placement.fleet.packing import Pattern, pack_market

_ATTEMPTS = 4  # at a market, leaving jobs out in between


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Nodes, who is on them, and who found no place within the limits. Entries are sorted by job."""

    column: Int[np.ndarray, " job"]
    node_pool: Int[np.ndarray, " node"]
    entry_job: Int[np.ndarray, " entry"]
    entry_node: Int[np.ndarray, " entry"]
    entry_workers: Int[np.ndarray, " entry"]
    loose: Int[np.ndarray, " some"]  # jobs without a place


def round_fluid(fleet: Fleet, offers: Offers, fluid: Fluid, limit: Float[np.ndarray, " pool"] | None = None) -> Bound:
    """Whole gangs where the fluid plan has them, as far as the limits (or tighter ones) let them."""
    column = _columns(fleet, offers, fluid)
    class_of = fleet.class_of
    shape = fleet.class_shape[class_of]
    market = fleet.column_market[column]
    workers = fleet.column_workers[column]
    order = np.lexsort((np.arange(len(column)), -workers, shape, market))
    edges = np.searchsorted(market[order], np.arange(fleet.markets + 1))
    packer = _Packer(
        fleet,
        fleet.limit if limit is None else limit,
        fluid.proof,
        workers,
        shape,
        _regret(fleet, offers, fluid, column),
    )
    for m in np.flatnonzero(np.diff(edges)):
        packer.pack(int(m), order[edges[m] : edges[m + 1]])
    entry_job, entry_node, entry_workers = packer.entries()
    by_job = np.argsort(entry_job, kind="stable")
    return Bound(
        column=column,
        node_pool=np.array(packer.node_pool, dtype=np.int64),
        entry_job=entry_job[by_job],
        entry_node=entry_node[by_job],
        entry_workers=entry_workers[by_job],
        loose=np.array(sorted(packer.loose), dtype=np.int64),
    )


def _columns(fleet: Fleet, offers: Offers, fluid: Fluid) -> Int[np.ndarray, " job"]:
    """The column of every job: of each class the whole gangs first, then those with the largest parts."""
    some = np.flatnonzero(fluid.mass > 1e-9)
    columns, where = np.unique(offers.column[some], return_inverse=True)
    mass = np.bincount(where, weights=fluid.mass[some])
    of_class = fleet.column_class[columns]
    whole = np.floor(mass + 1e-6).astype(np.int64)
    lacking = fleet.count - np.bincount(of_class, weights=whole, minlength=len(fleet.count)).astype(np.int64)
    order = np.lexsort((columns, -(mass - whole), of_class))
    rank = np.arange(len(order)) - np.searchsorted(of_class[order], of_class[order])
    whole[order] += rank < lacking[of_class[order]]
    picked: Int[np.ndarray, " job"] = np.repeat(columns, whole)
    return picked


def _regret(fleet: Fleet, offers: Offers, fluid: Fluid, column: Int[np.ndarray, " job"]) -> Float[np.ndarray, " job"]:
    """What each job would cost more in the next best market, at the fluid prices."""
    class_of = fleet.class_of
    market = np.full(len(fleet.count), -1)
    market[class_of] = fleet.column_market[column]
    inside = fleet.column_market[offers.column] == market[offers.of_class]
    least = np.full((2, len(fleet.count)), np.inf)
    np.minimum.at(least, (np.where(inside, 0, 1), offers.of_class), fluid.lifted_usd)
    regret: Float[np.ndarray, " job"] = (least[1] - least[0])[class_of]
    return regret


class _Packer:
    def __init__(
        self,
        fleet: Fleet,
        limit: Float[np.ndarray, " pool"],
        proof: Proof,
        workers: Int[np.ndarray, " job"],
        shape: Int[np.ndarray, " job"],
        regret: Float[np.ndarray, " job"],
    ) -> None:
        self.fleet, self.proof = fleet, proof
        self.workers, self.shape, self.regret = workers, shape, regret
        self.limit = limit.copy()
        self.node_pool: list[int] = []
        self.loose: list[int] = []
        self._pools_of = [np.flatnonzero(fleet.market == m) for m in range(fleet.markets)]
        self._jobs: list[Int[np.ndarray, " some"]] = []
        self._nodes: list[Int[np.ndarray, " some"]] = []

    def pack(self, market: int, jobs: Int[np.ndarray, " some"]) -> None:
        """One market; `jobs` are sorted by shape, widest first. If need be, those that lose least are left out."""
        for attempt in range(_ATTEMPTS):
            patterns, left = self._patterns(market, jobs)
            if not left or attempt == _ATTEMPTS - 1:
                break
            out = self._least_regretted(market, jobs, left)
            self.loose += [int(j) for j in jobs[out]]
            jobs = jobs[~out]
            if not len(jobs):
                return
        shapes, first = np.unique(self.shape[jobs], return_index=True)
        slots: dict[int, list[Int[np.ndarray, " some"]]] = {int(s): [] for s in shapes}
        for pattern in patterns:
            begin = len(self.node_pool)
            self.node_pool += [pattern.pool] * pattern.nodes
            self.limit[pattern.pool] -= pattern.nodes
            nodes = np.arange(begin, begin + pattern.nodes)
            for s, k in pattern.holds.items():
                slots[s].append(np.repeat(nodes, k))
        for s, mine in zip(shapes, np.split(jobs, first[1:]), strict=True):
            self._bind(mine, np.concatenate(slots[int(s)]) if slots[int(s)] else np.zeros(0, dtype=np.int64))

    def _patterns(self, market: int, jobs: Int[np.ndarray, " some"]) -> tuple[list[Pattern], dict[int, int]]:
        fleet, pools = self.fleet, self._pools_of[market]
        shapes, first = np.unique(self.shape[jobs], return_index=True)
        demand = np.add.reduceat(self.workers[jobs], first)
        usd = self.proof.unit_usd[pools] @ fleet.shape[shapes].T
        fit = (fleet.shape[shapes][None] <= fleet.capacity[pools][:, None] + 1e-9).all(axis=2)
        worth = np.where(fit, usd, np.inf).min(axis=0)
        return pack_market(
            fleet,
            [int(p) for p in pools],
            self.limit,
            {int(s): int(k) for s, k in zip(shapes, demand, strict=True)},
            {int(s): float(w) for s, w in zip(shapes, worth, strict=True)},
            self.proof.node_worth_usd,
        )

    def _least_regretted(
        self, market: int, jobs: Int[np.ndarray, " some"], left: Mapping[int, int]
    ) -> Bool[np.ndarray, " some"]:
        """Jobs that make room for the workers left over: one that is large enough, or several small ones.

        Room that they free beyond that counts against them: it is worth what the limit's price says.
        """
        pools = self._pools_of[market]
        lacking = sum(k * self.fleet.shape[s] for s, k in left.items())
        axis = int(np.argmax(lacking / np.maximum(self.fleet.capacity.max(axis=0), 1e-300)))
        size = self.workers[jobs] * self.fleet.shape[self.shape[jobs], axis]
        rent = float((self.proof.node_worth_usd[pools] / np.maximum(self.fleet.capacity[pools, axis], 1e-300)).max())
        regret = np.maximum(self.regret[jobs], 0.0)
        whole = regret + rent * np.maximum(size - lacking[axis], 0.0)
        order = np.lexsort((jobs, regret / np.maximum(size, 1e-300)))
        several = order[: int(np.searchsorted(np.cumsum(size[order]), lacking[axis] - 1e-9)) + 1]
        out = np.zeros(len(jobs), dtype=bool)
        enough = np.flatnonzero(size >= lacking[axis] - 1e-9)
        surplus = rent * max(0.0, float(size[several].sum() - lacking[axis]))
        if len(enough) and whole[enough].min() <= regret[several].sum() + surplus:
            out[enough[np.lexsort((jobs[enough], whole[enough]))[0]]] = True
        else:
            out[several] = True
        return out

    def _bind(self, jobs: Int[np.ndarray, " some"], slots: Int[np.ndarray, " slot"]) -> None:
        ends = np.cumsum(self.workers[jobs])
        inside = int(np.searchsorted(ends, len(slots), side="right"))
        self.loose += [int(j) for j in jobs[inside:]]
        if inside:
            self._jobs.append(np.repeat(jobs[:inside], self.workers[jobs[:inside]]))
            self._nodes.append(slots[: ends[inside - 1]])

    def entries(self) -> tuple[Int[np.ndarray, " entry"], Int[np.ndarray, " entry"], Int[np.ndarray, " entry"]]:
        """Jobs, nodes, workers: one entry for all workers of a job on a node."""
        if not self._jobs:
            none = np.zeros(0, dtype=np.int64)
            return none, none, none
        jobs, nodes = np.concatenate(self._jobs), np.concatenate(self._nodes)
        starts = np.flatnonzero(np.r_[True, (np.diff(jobs) != 0) | (np.diff(nodes) != 0)])
        return jobs[starts], nodes[starts], np.diff(np.r_[starts, len(jobs)])
