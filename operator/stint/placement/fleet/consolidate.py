"""Consolidation: nodes that are no longer full are emptied, where moving what is on them pays for itself.

A gang pauses as a whole when any of its workers moves. What a move saves lasts as long as the gang would have stayed,
so a step is taken where

    saving * hours > payback * sum of what the moves cost

with the shortest of the moved gangs' hours left. The most saved for a move comes first, up to a number of moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.fleet.certificate import Proof
from stint.placement.fleet.fluid import Fluid
from stint.placement.fleet.improve import step, waste
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.offers import Offers, offers_of
from stint.placement.fleet.rounding import Bound
from stint.placement.fleet.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a move must bring."""

    move_usd: Float[np.ndarray, " job"]  # pause, lost work and risk of one move of each gang
    hours: Float[np.ndarray, " job"]  # that each gang will still run
    payback: float = 1.5
    most_moves: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidated:
    """The plan afterwards, and what it took."""

    plan: FleetPlan
    moved: Int[np.ndarray, " some"]  # jobs
    move_usd: float


def with_moves_charged(fleet: Fleet, plan: FleetPlan, gate: Gate) -> Fleet:
    """The same fleet, where every column but the one that a job is in costs the move as well, spread over its hours.

    Its fluid plan says whom to move: see `consolidate`. Every class must be one job.
    """
    stays = np.zeros(len(fleet.column_class), dtype=bool)
    stays[plan.column] = True
    hourly = gate.payback * gate.move_usd / np.maximum(gate.hours, 1e-9)
    extra = np.where(stays, 0.0, hourly[fleet.column_class])
    return replace(fleet, column_usd_per_hour=fleet.column_usd_per_hour + extra)


def consolidate(fleet: Fleet, plan: FleetPlan, proof: Proof, gate: Gate, fluid: Fluid | None = None) -> Consolidated:
    """Empty what pays to be emptied. Nodes without a gang are given back first.

    Args:
        fluid: the fluid plan of `with_moves_charged`. Gangs that it has in another market are tried as well.
    """
    bound = Bound(
        column=plan.column,
        node_pool=plan.node_pool,
        entry_job=plan.worker_job,
        entry_node=plan.worker_node,
        entry_workers=plan.workers,
        loose=np.zeros(0, dtype=np.int64),
    )
    movers = np.zeros(len(plan.column), dtype=bool)
    if fluid is not None:
        movers = _elsewhere(fleet, plan, offers_of(fleet), fluid)
    besides = np.zeros(len(plan.node_pool), dtype=bool)
    besides[plan.worker_node[movers[plan.worker_job]]] = True
    site = Site(fleet, bound, proof, besides=besides)
    yard = site.yard
    first = dict(yard.gangs)
    moved: set[int] = set()

    def least(jobs: list[int]) -> float:
        if len(moved.union(jobs)) > gate.most_moves:
            return np.inf
        hours = float(gate.hours[jobs].min(initial=np.inf))
        return gate.payback * float(gate.move_usd[jobs].sum()) / hours if hours > 0 else np.inf

    lost = waste(yard)
    worth = np.einsum("ij,ij->i", np.maximum(yard.free, 0.0), yard.unit_usd[yard.pool])
    for job in np.flatnonzero(movers):
        if int(job) in yard.gangs:
            rows = list(yard.gangs[int(job)].rows)
            lost[rows] = np.maximum(lost[rows], fleet.usd_per_hour[yard.pool[rows]] - worth[rows])
    queue = [(-lost[r] / max(1, len(yard.on[r])), int(r)) for r in np.flatnonzero(lost > 1e-6)]
    for _, row in sorted(queue):
        if yard.pool[row] >= 0:
            moved.update(step(yard, [row], 0.0, least))
    back = [j for j in moved if yard.gangs[j] == first[j]]
    jobs = np.array(sorted(moved.difference(back)), dtype=np.int64)
    return Consolidated(plan=site.plan(), moved=jobs, move_usd=float(gate.move_usd[jobs].sum()))


def _elsewhere(fleet: Fleet, plan: FleetPlan, offers: Offers, fluid: Fluid) -> Bool[np.ndarray, " job"]:
    """Jobs most of which the fluid plan has in another market."""
    inside = fleet.column_market[offers.column] == fleet.column_market[plan.column][offers.of_class]
    stays = np.bincount(offers.of_class[inside], weights=fluid.mass[inside], minlength=len(plan.column))
    elsewhere: Bool[np.ndarray, " job"] = stays < 0.5
    return elsewhere
