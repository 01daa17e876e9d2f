"""The whole way: prices, whole gangs, whole nodes, improvement, a bound. Work is counted in steps, never in seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.fleet.exact import solve_whole
from stint.placement.fleet.fluid import Fluid, FluidProgramme
from stint.placement.fleet.improve import ruin_and_recreate, sweep
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.offers import Offers, offers_of
from stint.placement.fleet.rounding import Bound, job_classes, round_fluid
from stint.placement.fleet.yard import Gang, Yard

_SMALL, _MEDIUM = 60, 600  # jobs
_DIVES = 6
_EXACT, _CLOSE = 1e-5, 2e-3  # at which gap branch and bound is content
_NEGLIGIBLE = 0.02  # of a node's price: waste below that leaves a full node alone


class NoRoomError(Exception):
    """Some gang fits nowhere within the limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Work, in steps."""

    steps: int = 200  # of ruin and recreate, where all nodes are in reach
    nodes: int = 1  # of branch and bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and how good it is known to be."""

    plan: FleetPlan
    fluid: Fluid
    bound_usd_per_hour: float  # proved by prices alone; see `certificate`
    solver_bound_usd_per_hour: float  # the best that branch and bound claims; the same where it was not asked

    @property
    def gap(self) -> float:
        """Of the plan's cost to the better bound, as a ratio."""
        best = max(self.bound_usd_per_hour, self.solver_bound_usd_per_hour)
        return max(0.0, self.plan.usd_per_hour / best - 1.0) if best > 0 else 0.0


def plan_fleet(fleet: Fleet, *, effort: Effort, rng: np.random.Generator) -> Planned:
    """A plan for every job of the fleet.

    Raises:
        NoRoomError: the limits leave some gang without a place.
        FluidError: HiGHS gave no prices.
    """
    offers = offers_of(fleet)
    programme = FluidProgramme(fleet, offers)
    fluid = programme.solve()
    jobs = int(fleet.count.sum())
    small = jobs <= _MEDIUM
    settled = fluid if jobs <= _SMALL else programme.dive(fluid, rounds=_DIVES)
    bound = round_fluid(fleet, offers, settled)
    plan = _improved(fleet, bound, fluid, steps=effort.steps if small else 0, everything=small, rng=rng)
    claimed = fluid.proof.bound_usd_per_hour
    if small:
        everything = jobs <= _SMALL
        keep = np.ones(len(offers.column), bool) if everything else _kernel(fleet, offers, fluid, plan)
        some = offers.only(keep)
        whole = solve_whole(fleet, some, start=plan, nodes=effort.nodes, gap=_EXACT if everything else _CLOSE)
        if whole is not None:
            if everything:
                claimed = max(claimed, whole.bound_usd_per_hour)
            mass = np.zeros(len(offers.column))
            mass[keep] = whole.mass
            like = replace(fluid, mass=mass)
            for limit in (np.minimum(whole.nodes, fleet.limit), None):
                bound = round_fluid(fleet, offers, like, limit)
                other = _improved(fleet, bound, fluid, steps=effort.steps, everything=True, rng=rng)
                plan = min(plan, other, key=lambda p: p.usd_per_hour)
    return Planned(
        plan=plan,
        fluid=fluid,
        bound_usd_per_hour=fluid.proof.bound_usd_per_hour,
        solver_bound_usd_per_hour=claimed,
    )


def _kernel(fleet: Fleet, offers: Offers, fluid: Fluid, plan: FleetPlan) -> Bool[np.ndarray, " offer"]:
    """Offers worth a look: near the cheapest at the fluid prices, or half way to paying for whole nodes, or in use."""
    need = fleet.shape[fleet.class_shape[offers.of_class]]
    per_node = np.where(need > 0, (fleet.capacity[offers.pool] + 1e-9) / np.maximum(need, 1e-300), np.inf).min(axis=1)
    alone = np.ceil(fleet.column_workers[offers.column] / np.floor(per_node)) * fleet.usd_per_hour[offers.pool]
    pools = len(fleet.limit)
    used = np.unique(plan.column[plan.worker_job] * pools + plan.node_pool[plan.worker_node])
    keep: Bool[np.ndarray, " offer"] = (
        offers.near_best(fluid.lifted_usd, 0.10)
        | offers.near_best((offers.alone_usd + alone) / 2.0, 0.15)
        | np.isin(offers.column * pools + offers.pool, used)
    )
    return keep


def _improved(
    fleet: Fleet, bound: Bound, fluid: Fluid, *, steps: int, everything: bool, rng: np.random.Generator
) -> FleetPlan:
    """Gangs without a place get one, wasteful nodes are emptied, and what is left is tried again and again."""
    site = _Site(fleet, bound, fluid, everything=everything)
    site.place_loose()
    sweep(site.yard, thrift=0.0)
    if steps:
        ruin_and_recreate(site.yard, steps=steps, rng=rng)
    return site.plan()


class _Site:
    """A plan, part of which stands in a yard: the nodes with room, and the gangs that are on no others."""

    def __init__(self, fleet: Fleet, bound: Bound, fluid: Fluid, *, everything: bool) -> None:
        self.fleet, self.bound = fleet, bound
        class_of = job_classes(fleet)
        pools = bound.node_pool
        use = fleet.shape[fleet.class_shape[class_of[bound.entry_job]]] * bound.entry_workers[:, None]
        used = np.zeros((len(pools), fleet.capacity.shape[1]))
        np.add.at(used, bound.entry_node, use)
        worth = np.einsum("nr,nr->n", used, fluid.proof.unit_usd[pools])
        waste = fleet.usd_per_hour[pools] + fluid.proof.node_worth_usd[pools] - worth
        least = fleet.shape.min(axis=0)
        roomy = (fleet.capacity[pools] - used + 1e-9 >= least).all(axis=1)
        self.inside: Bool[np.ndarray, " node"] = roomy | (waste > _NEGLIGIBLE * fleet.usd_per_hour[pools])
        if everything:
            self.inside[:] = True
        bought = np.bincount(pools[~self.inside], minlength=len(fleet.limit))
        self.yard = Yard(fleet, class_of, fleet.limit - bought, fluid.proof.unit_usd)
        self.row = np.full(len(pools), -1)
        for n in np.flatnonzero(self.inside):
            self.row[n] = self.yard.open(int(pools[n]))
        self.movable = np.ones(len(bound.column), dtype=bool)
        self.movable[bound.entry_job[~self.inside[bound.entry_node]]] = False
        self.movable[bound.loose] = False
        edges = np.searchsorted(bound.entry_job, np.arange(len(bound.column) + 1))
        for j in np.flatnonzero(self.movable):
            mine = slice(edges[j], edges[j + 1])
            rows = tuple(int(r) for r in self.row[bound.entry_node[mine]])
            self.yard.put(int(j), Gang(int(bound.column[j]), rows, tuple(int(k) for k in bound.entry_workers[mine])))
        self._fix(use)

    def _fix(self, use: Float[np.ndarray, "entry resource"]) -> None:
        """Workers in the yard whose gangs are also on nodes outside: they stay, and their nodes with them."""
        bound = self.bound
        stuck = self.inside[bound.entry_node] & ~self.movable[bound.entry_job]
        rows = self.row[bound.entry_node[stuck]]
        np.subtract.at(self.yard.free, rows, use[stuck])
        for row, job in zip(rows, bound.entry_job[stuck], strict=True):
            self.yard.on[int(row)].add(-1 - int(job))  # no gang of the yard, but not empty either

    def place_loose(self) -> None:
        """Gangs without a place, the largest first.

        Raises:
            NoRoomError: naming nobody; the limits are too tight.
        """
        size = self.fleet.column_workers[self.bound.column]
        for j in sorted((int(j) for j in self.bound.loose), key=lambda j: (-self.yard.need(j)[0] * size[j], j)):
            if not self.yard.insert(j, 0.0):
                raise NoRoomError(f"job {j} fits nowhere within the limits")

    def plan(self) -> FleetPlan:
        """Yard and the rest together."""
        bound, yard, fleet = self.bound, self.yard, self.fleet
        rows = np.flatnonzero(yard.pool >= 0)
        outside = np.flatnonzero(~self.inside)
        pool = np.concatenate([bound.node_pool[outside], yard.pool[rows]])
        of_row = np.full(len(yard.pool), -1)
        of_row[rows] = len(outside) + np.arange(len(rows))
        of_node = np.full(len(bound.node_pool), -1)
        of_node[outside] = np.arange(len(outside))
        kept = ~self.movable[bound.entry_job] & np.isin(bound.entry_job, bound.loose, invert=True)
        node = bound.entry_node[kept]
        node = np.where(self.inside[node], of_row[self.row[node]], of_node[node])
        gangs = sorted(yard.gangs.items())
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
