"""Nodes and what is on them, changed by taking gangs off and putting them back: the scratch pad of improvement.

Only nodes that may still change are in play: for thousands of jobs, those with room on them. The arrays are small, so
that a step that did not pay is undone by putting copies back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from stint.placement.fleet.model import Fleet

_SLACK = 1e-9
_SPARE = 64  # rows added at a time


@dataclass(frozen=True, slots=True)
class Gang:
    """Where one job's workers are: a column, and workers by row of nodes in play."""

    column: int
    rows: tuple[int, ...]
    workers: tuple[int, ...]


@dataclass(slots=True)
class _Saved:
    free: Float[np.ndarray, "row resource"]
    pool: Int[np.ndarray, " row"]
    limit: Float[np.ndarray, " pool"]
    usd: float


class NodesInPlay:
    """Rows of nodes; a row without a node has pool -1 and nothing free."""

    def __init__(
        self,
        fleet: Fleet,
        class_of: Int[np.ndarray, " job"],
        limit: Float[np.ndarray, " pool"],
        unit_usd: Float[np.ndarray, "pool resource"],
    ) -> None:
        self.fleet, self.class_of, self.unit_usd = fleet, class_of, unit_usd
        self.limit = limit.copy()  # nodes that may still be had
        self.free = np.full((_SPARE, fleet.capacity.shape[1]), -1.0)
        self.pool = np.full(_SPARE, -1)
        self.usd = 0.0  # of the nodes and columns in play
        self.gangs: dict[int, Gang] = {}
        self.on: list[set[int]] = [set() for _ in range(_SPARE)]  # jobs by row
        self._pools_of = [np.flatnonzero(fleet.market == m) for m in range(fleet.markets)]
        self._holds: dict[int, list[tuple[int, int, float]]] = {}  # (shape, market) -> pools that hold a worker

    # -- nodes

    def open(self, pool: int) -> int:
        """A new node; returns its row."""
        empty = np.flatnonzero(self.pool < 0)
        if not len(empty):
            grown = len(self.pool)
            self.free = np.concatenate([self.free, np.full((grown, self.free.shape[1]), -1.0)])
            self.pool = np.concatenate([self.pool, np.full(grown, -1)])
            self.on += [set() for _ in range(grown)]
            empty = np.array([grown])
        row = int(empty[0])
        self.pool[row] = pool
        self.free[row] = self.fleet.capacity[pool]
        self.limit[pool] -= 1
        self.usd += float(self.fleet.usd_per_hour[pool])
        return row

    def _close(self, row: int) -> None:
        pool = int(self.pool[row])
        self.limit[pool] += 1
        self.usd -= float(self.fleet.usd_per_hour[pool])
        self.pool[row] = -1
        self.free[row] = -1.0

    # -- gangs

    def need(self, job: int) -> Float[np.ndarray, " resource"]:
        """Of one worker."""
        row: Float[np.ndarray, " resource"] = self.fleet.shape[self.fleet.class_shape[self.class_of[job]]]
        return row

    def put(self, job: int, gang: Gang) -> None:
        """A gang onto rows that have room for it."""
        rows, need = list(gang.rows), self.need(job)
        self.free[rows] -= need * np.array(gang.workers)[:, None]
        for row in rows:
            self.on[row].add(job)
        self.gangs[job] = gang
        self.usd += float(self.fleet.column_usd_per_hour[gang.column])

    def take_off(self, job: int) -> Gang:
        """A gang off its nodes; those that it leaves empty are given back."""
        gang, need = self.gangs.pop(job), self.need(job)
        rows = list(gang.rows)
        self.free[rows] += need * np.array(gang.workers)[:, None]
        for row in rows:
            self.on[row].discard(job)
            if not self.on[row]:
                self._close(row)
        self.usd -= float(self.fleet.column_usd_per_hour[gang.column])
        return gang

    def insert(self, job: int, thrift: float) -> bool:
        """A gang where it adds least to the bill; False: nowhere.

        Args:
            thrift: of what room is worth at the fluid prices, the part that a gang pays where it uses room that is
                there, and is given back where it opens nodes that it does not fill.
        """
        fleet = self.fleet
        shape = int(fleet.class_shape[self.class_of[job]])
        need = fleet.shape[shape]
        rows = np.flatnonzero((self.free + _SLACK >= need).all(axis=1))
        asked = need > 0
        room = (
            np.floor((self.free[np.ix_(rows, np.flatnonzero(asked))] + _SLACK) / need[asked]).min(axis=1).astype(int)
            if len(rows)
            else np.zeros(0, dtype=int)
        )
        market = fleet.market[self.pool[rows]]
        rooms = np.bincount(market, weights=room, minlength=fleet.markets)
        best: tuple[float, int, list[tuple[int, int]]] | None = None
        for column in self._columns(job):
            m, workers = int(fleet.column_market[column]), int(fleet.column_workers[column])
            inside = min(workers, int(rooms[m]))
            usd = float(fleet.column_usd_per_hour[column])
            worth = self._worth(shape, m)
            usd += thrift * worth * inside
            bought: list[tuple[int, int]] = []
            if workers > inside:
                cost, bought = self._buy(shape, m, workers - inside, thrift)
                usd += cost
            if best is None or usd < best[0] - 1e-12:
                best = (usd, column, bought)
        if best is None or best[0] == np.inf:
            return False
        _, column, bought = best
        m, left = int(fleet.column_market[column]), int(fleet.column_workers[column])
        placed: list[tuple[int, int]] = []
        mine = np.flatnonzero(market == m)
        if len(mine):
            spare = self.free[rows[mine]] - need * np.minimum(room[mine], left)[:, None]
            value = np.einsum("ij,ij->i", spare, self.unit_usd[self.pool[rows[mine]]])
            for i in np.lexsort((rows[mine], value)):
                if left <= 0:
                    break
                k = min(left, int(room[mine[i]]))
                placed.append((int(rows[mine[i]]), k))
                left -= k
        for pool, k in bought:
            placed.append((self.open(pool), k))
            left -= k
        assert left == 0
        self.put(job, Gang(column, tuple(r for r, _ in placed), tuple(k for _, k in placed)))
        return True

    def _columns(self, job: int) -> range:
        first, last = np.searchsorted(self.fleet.column_class, self.class_of[job] + np.arange(2))
        return range(int(first), int(last))

    def _pools(self, shape: int, market: int) -> list[tuple[int, int, float]]:
        """Pools of a market that hold a worker, how many, and what one is worth there."""
        key = shape * self.fleet.markets + market
        if key not in self._holds:
            fleet, need = self.fleet, self.fleet.shape[shape]
            asked = need > 0
            found = []
            for p in self._pools_of[market]:
                k = int(np.floor((fleet.capacity[p][asked] + _SLACK) / need[asked]).min()) if asked.any() else 1
                if k > 0:
                    found.append((int(p), k, float(self.unit_usd[p] @ need)))
            self._holds[key] = found
        return self._holds[key]

    def _worth(self, shape: int, market: int) -> float:
        return min((usd for _, _, usd in self._pools(shape, market)), default=0.0)

    def _buy(self, shape: int, market: int, workers: int, thrift: float) -> tuple[float, list[tuple[int, int]]]:
        """The cheapest nodes for so many workers, the room that stays on them credited; (pool, workers) each."""
        fleet, left, total = self.fleet, workers, 0.0
        bought: list[tuple[int, int]] = []
        used: dict[int, int] = {}
        while left > 0:
            best: tuple[float, float, int, int] | None = None
            for p, holds, unit in self._pools(shape, market):
                if self.limit[p] - used.get(p, 0) < 1:
                    continue
                k = min(holds, left)
                price = float(fleet.usd_per_hour[p])
                spare = max(0.0, price - unit * k) if k < holds or thrift else 0.0
                usd = price - thrift * spare
                if best is None or usd / k < best[0] - 1e-12:
                    best = (usd / k, usd, p, k)
            if best is None:
                return np.inf, []
            _, usd, p, k = best
            n = max(1, min(left // k, int(min(self.limit[p] - used.get(p, 0), left))))
            used[p] = used.get(p, 0) + n
            bought += [(p, k)] * n
            total += usd * n
            left -= k * n
        return total, bought

    def shrink(self, rows: list[int]) -> None:
        """Each of some nodes becomes the cheapest of its market that holds what is on it."""
        fleet = self.fleet
        for row in rows:
            pool = int(self.pool[row])
            if pool < 0:
                continue
            used = fleet.capacity[pool] - self.free[row]
            pools = self._pools_of[int(fleet.market[pool])]
            fit = (fleet.capacity[pools] + _SLACK >= used).all(axis=1) & (self.limit[pools] >= 1)
            fit &= fleet.usd_per_hour[pools] < fleet.usd_per_hour[pool] - 1e-9
            if fit.any():
                other = int(pools[fit][np.argmin(fleet.usd_per_hour[pools][fit])])
                self.limit[pool] += 1
                self.limit[other] -= 1
                self.usd += float(fleet.usd_per_hour[other] - fleet.usd_per_hour[pool])
                self.pool[row] = other
                self.free[row] = fleet.capacity[other] - used

    # -- going back

    def save(self) -> _Saved:
        """All that `restore` needs, but for the gangs."""
        return _Saved(self.free.copy(), self.pool.copy(), self.limit.copy(), self.usd)

    def restore(self, saved: _Saved, before: dict[int, Gang | None]) -> None:
        """As it was; `before` has the gangs that were changed."""
        for job in before:
            gang = self.gangs.pop(job, None)
            for row in gang.rows if gang else ():
                self.on[row].discard(job)
        rows = len(saved.pool)
        self.free[:rows], self.pool[:rows] = saved.free, saved.pool
        self.free[rows:], self.pool[rows:] = -1.0, -1
        self.limit, self.usd = saved.limit, saved.usd
        for job, gang in before.items():
            if gang is not None:
                self.gangs[job] = gang
                for row in gang.rows:
                    self.on[row].add(job)
