"""The whole way: prices, whole gangs, whole nodes, improvement, a bound. Work is counted in steps, never in seconds."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from stint.placement.fleet.exact import solve_whole
from stint.placement.fleet.fluid import Fluid, FluidProgramme
from stint.placement.fleet.improve import ruin_and_recreate, sweep, sweep_gangs
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.offers import Offers, offers_worth_a_look
from stint.placement.fleet.partial_plan import NoRoomError, PartialPlan
from stint.placement.fleet.rounding import Bound, round_fluid

_SMALL, _MEDIUM = 60, 600  # jobs
_DIVES = 9
_LUMP = 0.02  # of the bill: a gang that costs so much may go where nobody would look, only to fit in
_EXACT, _CLOSE = 1e-5, 2e-3  # at which gap branch and bound is content


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Work, in steps."""

    steps: int = 200  # of ruin and recreate, where all nodes are in reach
    nodes: int = (
        200  # of branch and bound, where it is to prove the plan; otherwise it is left after the first; 0: none
    )


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
        NoPricesError: HiGHS gave no prices.
    """
    offers = offers_worth_a_look(fleet)
    programme = FluidProgramme(fleet, offers)
    fluid = programme.solve()
    jobs = int(fleet.count.sum())
    small = jobs <= _MEDIUM
    settled = fluid if jobs <= _SMALL else programme.dive(fluid, rounds=_DIVES)
    bound = round_fluid(fleet, offers, settled)
    plan = _improved(fleet, offers, bound, fluid, steps=0, everything=small, rng=rng)
    claimed = fluid.proof.bound_usd_per_hour
    if small and effort.nodes:
        everything = jobs <= _SMALL
        keep = np.ones(len(offers.column), bool) if everything else _kernel(fleet, offers, fluid, plan)
        some = offers.only(keep)
        whole = solve_whole(fleet, some, nodes=effort.nodes if everything else 1, gap=_EXACT if everything else _CLOSE)
        if whole is not None:
            if everything:
                claimed = max(claimed, whole.bound_usd_per_hour)
            mass = np.zeros(len(offers.column))
            mass[keep] = whole.mass
            like = replace(fluid, mass=mass)
            tries = []
            for limit in (np.minimum(whole.nodes, fleet.limit), None):
                bound = round_fluid(fleet, offers, like, limit)
                with contextlib.suppress(NoRoomError):  # there is a plan already
                    tries.append((_improved(fleet, offers, bound, fluid, steps=0, everything=True, rng=rng), bound))
            if tries:
                other, bound = min(tries, key=lambda t: t[0].usd_per_hour)
                if other.usd_per_hour > whole.usd_per_hour * (1.0 + _EXACT):  # not as packed as can be
                    again = _improved(fleet, offers, bound, fluid, steps=effort.steps, everything=True, rng=rng)
                    other = min(other, again, key=lambda p: p.usd_per_hour)
                plan = min(plan, other, key=lambda p: p.usd_per_hour)
    return Planned(
        plan=plan,
        fluid=fluid,
        bound_usd_per_hour=fluid.proof.bound_usd_per_hour,
        solver_bound_usd_per_hour=claimed,
    )


def _kernel(fleet: Fleet, offers: Offers, fluid: Fluid, plan: FleetPlan) -> Bool[np.ndarray, " offer"]:
    """Offers worth a look: near the cheapest at the fluid prices, or half way to paying for whole nodes, or in use.

    Of the gangs that are large for this fleet nearly all.
    """
    need = fleet.shape[fleet.class_shape[offers.of_class]]
    per_node = np.where(need > 0, (fleet.capacity[offers.pool] + 1e-9) / np.maximum(need, 1e-300), np.inf).min(axis=1)
    alone = np.ceil(fleet.column_workers[offers.column] / np.floor(per_node)) * fleet.usd_per_hour[offers.pool]
    pools = len(fleet.limit)
    used = np.unique(plan.column[plan.worker_job] * pools + plan.node_pool[plan.worker_node])
    usd = offers.least(fluid.lifted_usd, len(fleet.count))
    lump = (usd >= _LUMP * fluid.usd_per_hour)[offers.of_class]
    keep: Bool[np.ndarray, " offer"] = (
        (lump & offers.near_best(fluid.lifted_usd, 1.0))
        | offers.near_best(fluid.lifted_usd, 0.10)
        | offers.near_best((offers.alone_usd + alone) / 2.0, 0.15)
        | np.isin(offers.column * pools + offers.pool, used)
    )
    return keep


def _improved(
    fleet: Fleet, offers: Offers, bound: Bound, fluid: Fluid, *, steps: int, everything: bool, rng: np.random.Generator
) -> FleetPlan:
    """Gangs without a place get one, wasteful nodes are emptied, and what is left is tried again and again."""
    partial = PartialPlan(fleet, offers, bound, fluid.proof, besides=np.full(len(bound.node_pool), everything))
    partial.place_loose()
    sweep(partial.in_play, thrift=0.0)
    if everything:
        sweep_gangs(partial.in_play, thrift=0.0)
    if steps:
        ruin_and_recreate(partial.in_play, steps=steps, rng=rng)
    return partial.plan()
