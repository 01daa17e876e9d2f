"""One more job among thousands: where it adds least to the bill, at the prices of the last plan, without a new one.

Room that is there costs what the last plan's prices say it is worth; nodes that must be bought cost what they cost,
less what the room left on them is worth. The difference between that and what the job would cost in the fluid plan is
its regret: when regrets add up, a full plan is due.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from stint.placement.fleet.certificate import Proof, prove
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.offers import offers_of, outdone

_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where one job would go."""

    column: int  # of those it was asked with
    nodes: tuple[int, ...]  # that are there
    workers: tuple[int, ...]  # on each of them
    bought: tuple[tuple[int, int, int], ...]  # (pool, nodes, workers on each)
    usd_per_hour: float
    regret_usd_per_hour: float  # against the fluid prices


class LastFullPlan:
    """The nodes that have room, and how many more of each pool there may be. Changed only by `take`."""

    def __init__(self, fleet: Fleet, plan: FleetPlan, proof: Proof) -> None:
        offers, out = offers_of(fleet), outdone(fleet)
        looked_at = np.isin(fleet.market, fleet.column_market[~out])  # elsewhere its prices say nothing
        proof = prove(fleet, offers, np.where(looked_at[:, None], proof.measure_usd, 0.0), proof.class_usd)
        self.fleet, self.unit_usd = fleet, proof.unit_usd
        self._node_usd = fleet.usd_per_hour + proof.node_worth_usd
        shape = np.unique(fleet.shape, axis=0)
        no_more = (shape[:, None] <= shape).all(axis=2)  # than each other one: who finds no room beside the least
        self._least = shape[no_more.sum(axis=0) == 1]
        used = np.zeros((len(plan.node_pool), fleet.capacity.shape[1]))
        need = fleet.shape[fleet.class_shape[fleet.class_of[plan.worker_job]]]
        np.add.at(used, plan.worker_node, need * plan.workers[:, None])
        free = fleet.capacity[plan.node_pool] - used
        roomy = (free + _SLACK >= fleet.shape.min(axis=0)).all(axis=1)
        self.pool = plan.node_pool[roomy]
        self.free = free[roomy]
        self.limit = fleet.limit - np.bincount(plan.node_pool, minlength=len(fleet.limit))

    def find(
        self,
        need: Float[np.ndarray, " resource"],
        market: Int[np.ndarray, " column"],
        workers: Int[np.ndarray, " column"],
        usd_per_hour: Float[np.ndarray, " column"],
    ) -> Spot | None:
        """The cheapest column; None: nowhere."""
        fleet = self.fleet
        here = np.flatnonzero((self.free + _SLACK >= need).all(axis=1))
        asked = np.flatnonzero(need > 0)
        room = np.floor((self.free[np.ix_(here, asked)] + _SLACK) / need[asked]).min(axis=1)
        of_market = fleet.market[self.pool[here]]
        inside = np.minimum(np.bincount(of_market, weights=room, minlength=fleet.markets)[market], workers)
        holds = np.floor((fleet.capacity[:, asked] + _SLACK) / need[asked]).min(axis=1)
        beside = (self._least[:, None] + need <= fleet.capacity + _SLACK).all(axis=2).any(axis=0)
        unit = np.where(beside, self.unit_usd @ need, self._node_usd)
        worth = np.full(fleet.markets, np.inf)
        np.minimum.at(worth, fleet.market[holds > 0], unit[holds > 0])
        fluid = usd_per_hour + worth[market] * workers
        lacking = workers - inside
        new = np.ceil(lacking[:, None] / np.maximum(holds, 1e-9)[None])
        nodes_usd = new * fleet.usd_per_hour[None] - 0.5 * np.maximum(
            new * fleet.usd_per_hour[None] - lacking[:, None] * unit[None], 0.0
        )
        possible = (fleet.market[None] == market[:, None]) & (holds[None] > 0) & (new <= self.limit[None])
        nodes_usd = np.where(possible, nodes_usd, np.inf)
        pool = nodes_usd.argmin(axis=1)
        bought_usd = np.where(lacking > 0, nodes_usd[np.arange(len(market)), pool], 0.0)
        total = usd_per_hour + bought_usd + np.where(inside > 0, worth[market] * inside, 0.0)
        c = int(np.argmin(total))
        if not np.isfinite(total[c]):
            return None
        return self._spot(
            c, int(market[c]), int(workers[c]), int(lacking[c]), int(pool[c]), need, here, room, total, fluid
        )

    def _spot(
        self,
        c: int,
        market: int,
        workers: int,
        lacking: int,
        pool: int,
        need: Float[np.ndarray, " resource"],
        here: Int[np.ndarray, " some"],
        room: Float[np.ndarray, " some"],
        total: Float[np.ndarray, " column"],
        fluid: Float[np.ndarray, " column"],
    ) -> Spot:
        mine = np.flatnonzero(self.fleet.market[self.pool[here]] == market)
        left = workers - lacking
        spare = self.free[here[mine]] - need * np.minimum(room[mine], max(left, 1))[:, None]
        value = np.einsum("ij,ij->i", spare, self.unit_usd[self.pool[here[mine]]])
        nodes, counts = [], []
        for i in np.argsort(value, kind="stable") if left else ():
            k = min(left, int(room[mine[i]]))
            nodes.append(int(here[mine[i]]))
            counts.append(k)
            left -= k
            if not left:
                break
        bought: list[tuple[int, int, int]] = []
        if lacking:
            per = int(np.floor((self.fleet.capacity[pool][need > 0] + _SLACK) / need[need > 0]).min())
            if lacking // per:
                bought.append((pool, lacking // per, per))
            if lacking % per:
                bought.append((pool, 1, lacking % per))
        return Spot(
            column=c,
            nodes=tuple(nodes),
            workers=tuple(counts),
            bought=tuple(bought),
            usd_per_hour=float(total[c]),
            regret_usd_per_hour=float(max(0.0, total[c] - fluid.min())),
        )

    def take(self, spot: Spot, need: Float[np.ndarray, " resource"]) -> None:
        """A job has its place now."""
        if spot.nodes:
            self.free[list(spot.nodes)] -= need * np.array(spot.workers)[:, None]
        for pool, nodes, workers in spot.bought:
            self.limit[pool] -= nodes
            free = self.fleet.capacity[pool] - need * workers
            self.pool = np.concatenate([self.pool, np.full(nodes, pool)])
            self.free = np.concatenate([self.free, np.repeat(free[None], nodes, axis=0)])
