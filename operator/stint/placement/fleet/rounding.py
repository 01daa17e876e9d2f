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
from stint.placement.fleet.packing import Pattern, fill_room, pack_market

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """Nodes that stay, and who stays on them. Entries are sorted by job."""

    node_pool: Int[np.ndarray, " node"]
    free: Float[np.ndarray, "node resource"]
    entry_job: Int[np.ndarray, " entry"]
    entry_node: Int[np.ndarray, " entry"]
    entry_workers: Int[np.ndarray, " entry"]


def nothing_stands(fleet: Fleet) -> Incumbent:
    """Where a plan starts from nothing."""
    none = np.zeros(0, dtype=np.int64)
    free = np.zeros((0, fleet.capacity.shape[1]))
    return Incumbent(node_pool=none, free=free, entry_job=none, entry_node=none, entry_workers=none)


def round_fluid(fleet: Fleet, offers: Offers, fluid: Fluid, limit: Float[np.ndarray, " pool"] | None = None) -> Bound:
    """Whole gangs where the fluid plan has them, as far as the limits (or tighter ones) let them."""
    column = columns_of(fleet, offers, fluid)
    limit = fleet.limit if limit is None else limit
    return pack(fleet, offers, fluid, column, fleet.column_workers[column], limit, nothing_stands(fleet))


def pack(
    fleet: Fleet,
    offers: Offers,
    fluid: Fluid,
    column: Int[np.ndarray, " job"],
    workers: Int[np.ndarray, " job"],
    limit: Float[np.ndarray, " pool"],
    incumbent: Incumbent,
) -> Bound:
    """Gangs whose columns are known onto nodes, those that are there first.

    Args:
        workers: of each gang, that have no place yet.
        limit: nodes of each pool, those that are there among them.
    """
    market, shape = fleet.column_market[column], fleet.class_shape[fleet.class_of]
    some = np.flatnonzero(workers)
    order = some[np.lexsort((some, -workers[some], shape[some], market[some]))]
    edges = np.searchsorted(market[order], np.arange(fleet.markets + 1))
    packer = _Packer(
        fleet, offers, limit, fluid.proof, workers, shape, _regret(fleet, offers, fluid, column), incumbent
    )
    for m in np.flatnonzero(np.diff(edges)):
        packer.pack(int(m), order[edges[m] : edges[m + 1]])
    entry_job, entry_node, entry_workers = packer.entries()
    loose = np.array(sorted(packer.loose), dtype=np.int64)
    stays = np.isin(incumbent.entry_job, loose, invert=True)
    job = np.concatenate([incumbent.entry_job[stays], entry_job])
    node = np.concatenate([incumbent.entry_node[stays], entry_node])
    nodes, node = np.unique(node, return_inverse=True)
    pairs, where = np.unique(job * len(nodes) + node, return_inverse=True)
    count = np.bincount(where, weights=np.concatenate([incumbent.entry_workers[stays], entry_workers]))
    return Bound(
        column=column,
        node_pool=np.array(packer.node_pool, dtype=np.int64)[nodes],
        entry_job=pairs // max(1, len(nodes)),
        entry_node=pairs % max(1, len(nodes)),
        entry_workers=count.astype(np.int64),
        loose=loose,
    )


def columns_of(fleet: Fleet, offers: Offers, fluid: Fluid) -> Int[np.ndarray, " job"]:
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
    here, there = (offers.least(np.where(where, fluid.lifted_usd, np.inf), len(market)) for where in (inside, ~inside))
    regret: Float[np.ndarray, " job"] = there[class_of] - here[class_of]
    return regret


class _Packer:
    def __init__(
        self,
        fleet: Fleet,
        offers: Offers,
        limit: Float[np.ndarray, " pool"],
        proof: Proof,
        workers: Int[np.ndarray, " job"],
        shape: Int[np.ndarray, " job"],
        regret: Float[np.ndarray, " job"],
        incumbent: Incumbent,
    ) -> None:
        self.fleet, self.offers, self.proof = fleet, offers, proof
        self.workers, self.shape, self.regret = workers, shape, regret
        self.limit = limit - np.bincount(incumbent.node_pool, minlength=len(limit))
        self.node_pool: list[int] = incumbent.node_pool.tolist()
        self._free, self._rooms = incumbent.free, self._rooms_of(incumbent)
        self.loose: list[int] = []
        self._pools_of = [np.flatnonzero(fleet.market == m) for m in range(fleet.markets)]
        self._jobs: list[Int[np.ndarray, " some"]] = []
        self._nodes: list[Int[np.ndarray, " some"]] = []

    def _rooms_of(self, incumbent: Incumbent) -> list[Int[np.ndarray, " some"]]:
        """By market the nodes with room, those with the least on them last."""
        fleet = self.fleet
        roomy = np.flatnonzero((incumbent.free + 1e-9 >= fleet.shape.min(axis=0)).all(axis=1))
        pool = incumbent.node_pool[roomy]
        worth = np.einsum("nr,nr->n", incumbent.free[roomy], self.proof.unit_usd[pool])
        order = np.lexsort((roomy, worth, fleet.market[pool]))
        edges = np.searchsorted(fleet.market[pool][order], np.arange(1, fleet.markets))
        return np.split(roomy[order], edges)

    def pack(self, market: int, jobs: Int[np.ndarray, " some"]) -> None:
        """One market; `jobs` are sorted by shape, widest first. If need be, those that lose least are left out."""
        for attempt in range(_ATTEMPTS):
            gets, patterns, left = self._patterns(market, jobs)
            if not left or attempt == _ATTEMPTS - 1:
                break
            out = self._least_regretted(market, jobs, left)
            self.loose += [int(j) for j in jobs[out]]
            jobs = jobs[~out]
            if not len(jobs):
                return
        shapes, first = np.unique(self.shape[jobs], return_index=True)
        slots: dict[int, list[Int[np.ndarray, " some"]]] = {int(s): [] for s in shapes}
        for node, holds in gets:
            for s, k in holds.items():
                slots[s].append(np.full(k, node))
        for pattern in patterns:
            begin = len(self.node_pool)
            self.node_pool += [pattern.pool] * pattern.nodes
            self.limit[pattern.pool] -= pattern.nodes
            nodes = np.arange(begin, begin + pattern.nodes)
            for s, k in pattern.holds.items():
                slots[s].append(np.repeat(nodes, k))
        for s, mine in zip(shapes, np.split(jobs, first[1:]), strict=True):
            self._bind(mine, np.concatenate(slots[int(s)]) if slots[int(s)] else np.zeros(0, dtype=np.int64))

    def _patterns(
        self, market: int, jobs: Int[np.ndarray, " some"]
    ) -> tuple[list[tuple[int, dict[int, int]]], list[Pattern], dict[int, int]]:
        """What nodes that are there get, what new ones hold, and the workers left over."""
        fleet, pools = self.fleet, self._pools_of[market]
        shapes, first = np.unique(self.shape[jobs], return_index=True)
        demand = np.add.reduceat(self.workers[jobs], first)
        usd = np.einsum("spr,pr->ps", self.offers.taken[np.ix_(shapes, pools)], self.proof.measure_usd[pools])
        fit = (fleet.shape[shapes][None] <= fleet.capacity[pools][:, None] + 1e-9).all(axis=2)
        worth = np.where(fit, usd, np.inf).min(axis=0)
        left = {int(s): int(k) for s, k in zip(shapes, demand, strict=True)}
        rooms = self._rooms[market]
        gets, left = fill_room(fleet, self._free[rooms], left)
        patterns, left = pack_market(
            fleet,
            [int(p) for p in pools],
            self.limit,
            left,
            {int(s): float(w) for s, w in zip(shapes, worth, strict=True)},
            self.proof.node_worth_usd,
        )
        return list(zip(rooms.tolist(), gets, strict=True)), patterns, left

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
