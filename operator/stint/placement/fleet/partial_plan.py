"""A plan to be improved: the nodes in play may change, the rest is left alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.fleet.certificate import Proof
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.nodes_in_play import Gang, NodesInPlay
from stint.placement.fleet.offers import Offers
from stint.placement.fleet.rounding import Bound

_NEGLIGIBLE = 0.02  # of a node's price: waste below that leaves a full node alone


class NoRoomError(Exception):
    """Some gang fits nowhere within the limits."""


class PartialPlan:
    """A plan with some nodes in play: those with room, and the gangs that are on no others."""

    def __init__(
        self, fleet: Fleet, offers: Offers, bound: Bound, proof: Proof, *, besides: Bool[np.ndarray, " node"]
    ) -> None:
        self.fleet, self.bound = fleet, bound
        class_of = fleet.class_of
        pools = bound.node_pool
        shape, pool = fleet.class_shape[class_of[bound.entry_job]], pools[bound.entry_node]
        use = fleet.shape[shape] * bound.entry_workers[:, None]
        used = np.zeros((len(pools), fleet.capacity.shape[1]))
        np.add.at(used, bound.entry_node, use)
        usd = np.einsum("er,er->e", offers.taken[shape, pool], proof.measure_usd[pool]) * bound.entry_workers
        worth = np.bincount(bound.entry_node, weights=usd, minlength=len(pools))
        waste = fleet.usd_per_hour[pools] + proof.node_worth_usd[pools] - worth
        least = fleet.shape.min(axis=0)
        roomy = (fleet.capacity[pools] - used + 1e-9 >= least).all(axis=1)
        self.inside: Bool[np.ndarray, " node"] = roomy | (waste > _NEGLIGIBLE * fleet.usd_per_hour[pools])
        self.inside |= besides
        bought = np.bincount(pools[~self.inside], minlength=len(fleet.limit))
        self.in_play = NodesInPlay(fleet, class_of, fleet.limit - bought, proof.unit_usd)
        self.row = np.full(len(pools), -1)
        for n in np.flatnonzero(self.inside):
            self.row[n] = self.in_play.open(int(pools[n]))
        self.movable = np.ones(len(bound.column), dtype=bool)
        self.movable[bound.entry_job[~self.inside[bound.entry_node]]] = False
        self.movable[bound.loose] = False
        edges = np.searchsorted(bound.entry_job, np.arange(len(bound.column) + 1))
        for j in np.flatnonzero(self.movable):
            mine = slice(edges[j], edges[j + 1])
            rows = tuple(int(r) for r in self.row[bound.entry_node[mine]])
            self.in_play.put(int(j), Gang(int(bound.column[j]), rows, tuple(int(k) for k in bound.entry_workers[mine])))
        self._fix(use)

    def _fix(self, use: Float[np.ndarray, "entry resource"]) -> None:
        """Workers on nodes in play whose gangs are also on nodes outside: they stay, and their nodes with them."""
        bound = self.bound
        stuck = self.inside[bound.entry_node] & ~self.movable[bound.entry_job]
        rows = self.row[bound.entry_node[stuck]]
        np.subtract.at(self.in_play.free, rows, use[stuck])
        for row, job in zip(rows, bound.entry_job[stuck], strict=True):
            self.in_play.on[int(row)].add(-1 - int(job))  # no gang in play, but not empty either

    def place_loose(self) -> None:
        """Gangs without a place, the largest first.

        Raises:
            NoRoomError: naming nobody; the limits are too tight.
        """
        size = self.fleet.column_workers[self.bound.column]
        for j in sorted((int(j) for j in self.bound.loose), key=lambda j: (-self.in_play.need(j)[0] * size[j], j)):
            if not self.in_play.insert(j, 0.0):
                raise NoRoomError(f"job {j} fits nowhere within the limits")

    def plan(self) -> FleetPlan:
        """NodesInPlay and the rest together."""
        bound, in_play, fleet = self.bound, self.in_play, self.fleet
        rows = np.flatnonzero(in_play.pool >= 0)
        outside = np.flatnonzero(~self.inside)
        pool = np.concatenate([bound.node_pool[outside], in_play.pool[rows]])
        of_row = np.full(len(in_play.pool), -1)
        of_row[rows] = len(outside) + np.arange(len(rows))
        of_node = np.full(len(bound.node_pool), -1)
        of_node[outside] = np.arange(len(outside))
        kept = ~self.movable[bound.entry_job] & np.isin(bound.entry_job, bound.loose, invert=True)
        node = bound.entry_node[kept]
        node = np.where(self.inside[node], of_row[self.row[node]], of_node[node])
        gangs = sorted(in_play.gangs.items())
        column = bound.column.copy()
        for job, gang in gangs:
            column[job] = gang.column
        jobs = np.concatenate([bound.entry_job[kept], _flat([[j] * len(g.rows) for j, g in gangs])])
        nodes = np.concatenate([node, of_row[_flat([g.rows for _, g in gangs])]])
        workers = np.concatenate([bound.entry_workers[kept], _flat([g.workers for _, g in gangs])])
        order = np.lexsort((nodes, jobs))
        by_pool = np.argsort(pool, kind="stable")
        place = np.empty(len(pool), dtype=np.int64)
        place[by_pool] = np.arange(len(pool))
        return FleetPlan(
            column=column,
            node_pool=pool[by_pool],
            worker_job=jobs[order],
            worker_node=place[nodes[order]],
            workers=workers[order],
            usd_per_hour=float(fleet.usd_per_hour[pool].sum() + fleet.column_usd_per_hour[column].sum()),
        )


def _flat(parts: list[list[int]] | list[tuple[int, ...]]) -> Int[np.ndarray, " some"]:
    return np.array([x for part in parts for x in part], dtype=np.int64)
