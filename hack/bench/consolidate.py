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
from stint.placement.fleet.partial_plan import NoRoomError, PartialPlan
from stint.placement.fleet.rounding import Bound, Incumbent, columns_of, pack

_SURE = 2.0  # times what its moves cost is what a node must waste: what is packed anew wastes a little again


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


def consolidate(
    fleet: Fleet, plan: FleetPlan, proof: Proof, gate: Gate, priced: tuple[Offers, Fluid] | None = None
) -> Consolidated:
    """Empty what pays to be emptied. Nodes without a gang are given back first.

    Args:
        priced: the offers and the fluid plan of `with_moves_charged`. With it, gangs that it has elsewhere and gangs
            on wasteful nodes are packed anew, all at once; without it, or where that does not pay, node after node.
    """
    if priced is not None:
        charge = np.where(gate.hours > 0, gate.payback * gate.move_usd / np.maximum(gate.hours, 1e-300), np.inf)
        column, moves = _movers(fleet, plan, *priced, charge, gate.most_moves)
        after = _packed_anew(fleet, plan, *priced, column, moves)
        moved = np.unique(plan.worker_job[moves])
        if after is not None and plan.usd_per_hour - after.usd_per_hour > max(1e-9, float(charge[moved].sum())):
            return Consolidated(plan=after, moved=moved, move_usd=float(gate.move_usd[moved].sum()))
    return _node_after_node(fleet, plan, proof, gate)


def _movers(
    fleet: Fleet, plan: FleetPlan, offers: Offers, fluid: Fluid, charge: Float[np.ndarray, " job"], most: int
) -> tuple[Int[np.ndarray, " job"], Bool[np.ndarray, " entry"]]:
    """Every job's column from now on, and which workers lose their place.

    A gang goes where most of it is in the fluid plan. From the other nodes everything goes where they cost in vain
    more than it is worth to move that, gang by gang and node by node.
    """
    jobs, nodes, class_of = len(plan.column), len(plan.node_pool), fleet.class_of
    job, node, pool = plan.worker_job, plan.worker_node, plan.node_pool[plan.worker_node]
    at_home = np.bincount(offers.column, weights=fluid.mass, minlength=len(fleet.column_class))[plan.column]
    best = columns_of(fleet, offers, fluid)
    goes = (at_home < 0.5) & (best != plan.column)
    home = offers.least(np.where(np.isin(offers.column, plan.column), fluid.lifted_usd, np.inf), len(fleet.count))
    goes = _first(goes, (home - fluid.class_usd)[class_of], most)
    taken = offers.taken[fleet.class_shape[class_of[job]], pool] * plan.workers[:, None]
    worth = np.einsum("er,er->e", taken, fluid.proof.measure_usd[pool])
    stays = ~goes[job]
    used = np.bincount(node, weights=worth * stays, minlength=nodes)
    waste = (fleet.usd_per_hour + fluid.proof.node_worth_usd)[plan.node_pool] - used
    total = np.bincount(job, weights=plan.workers, minlength=jobs)
    asked = _SURE * charge
    share = np.where(stays, (asked / np.maximum(total, 1.0))[job] * plan.workers, 0.0)
    out = waste > np.bincount(node, weights=share, minlength=nodes) + 1e-6
    while True:
        gain = np.bincount(job, weights=(waste / np.maximum(used, 1e-9) * out)[node] * worth * stays, minlength=jobs)
        leaves = _first(gain > asked, gain - asked, most - int(goes.sum()))
        still = out & (np.bincount(node, weights=stays & ~leaves[job], minlength=nodes) == 0)
        if (still == out).all():
            break
        out = still
    return np.where(goes, best, plan.column), ~stays | out[node]


def _first(those: Bool[np.ndarray, " job"], worth: Float[np.ndarray, " job"], most: int) -> Bool[np.ndarray, " job"]:
    """Of those the most worthy, no more than so many."""
    some = np.flatnonzero(those)
    if len(some) <= most:
        return those
    few = np.zeros(len(those), dtype=bool)
    few[some[np.lexsort((some, -worth[some]))[: max(0, most)]]] = True
    return few


def _packed_anew(
    fleet: Fleet,
    plan: FleetPlan,
    offers: Offers,
    fluid: Fluid,
    column: Int[np.ndarray, " job"],
    moves: Bool[np.ndarray, " entry"],
) -> FleetPlan | None:
    """Workers that lose their place are packed beside those that keep it; None: not all of them find one."""
    job, node = plan.worker_job, plan.worker_node
    goes = column != plan.column
    lost = np.bincount(job[moves], weights=plan.workers[moves], minlength=len(column))
    workers = np.where(goes, fleet.column_workers[column], lost.astype(np.int64))
    stays = ~moves
    nodes, place = np.unique(node[stays], return_inverse=True)
    free = fleet.capacity[plan.node_pool[nodes]]
    need = fleet.shape[fleet.class_shape[fleet.class_of[job[stays]]]] * plan.workers[stays, None]
    np.subtract.at(free, place, need)
    incumbent = Incumbent(
        node_pool=plan.node_pool[nodes],
        free=free,
        entry_job=job[stays],
        entry_node=place,
        entry_workers=plan.workers[stays],
    )
    bound = pack(fleet, offers, fluid, column, workers, fleet.limit, incumbent)
    partial = PartialPlan(fleet, offers, bound, fluid.proof, besides=np.zeros(len(bound.node_pool), dtype=bool))
    try:
        partial.place_loose()
    except NoRoomError:
        return None
    return partial.plan()


def _node_after_node(fleet: Fleet, plan: FleetPlan, proof: Proof, gate: Gate) -> Consolidated:
    bound = Bound(
        column=plan.column,
        node_pool=plan.node_pool,
        entry_job=plan.worker_job,
        entry_node=plan.worker_node,
        entry_workers=plan.workers,
        loose=np.zeros(0, dtype=np.int64),
    )
    partial = PartialPlan(fleet, offers_of(fleet), bound, proof, besides=np.zeros(len(plan.node_pool), dtype=bool))
    in_play = partial.in_play
    first = dict(in_play.gangs)
    moved: set[int] = set()

    def least(jobs: list[int]) -> float:
        if len(moved.union(jobs)) > gate.most_moves:
            return np.inf
        hours = float(gate.hours[jobs].min(initial=np.inf))
        return gate.payback * float(gate.move_usd[jobs].sum()) / hours if hours > 0 else np.inf

    lost = waste(in_play)
    queue = [(-lost[r] / max(1, len(in_play.on[r])), int(r)) for r in np.flatnonzero(lost > 1e-6)]
    for _, row in sorted(queue):
        if in_play.pool[row] >= 0:
            moved.update(step(in_play, [row], 0.0, least))
    back = [j for j in moved if in_play.gangs[j] == first[j]]
    jobs = np.array(sorted(moved.difference(back)), dtype=np.int64)
    return Consolidated(plan=partial.plan(), moved=jobs, move_usd=float(gate.move_usd[jobs].sum()))
