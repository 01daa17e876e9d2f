"""Moving running gangs: to a cheaper place that is free, or off a node that the pool can then remove.

Only while no job waits: waiting jobs come first. Every move is tried beforehand by the very function that will carry
it out, on the situation as it will be, and is made where

    what it saves >= payback x what it costs

with the pause, the way back to the last checkpoint and all that has to be done again among the costs. At most so many
an hour, the most saved first; a job that has just started or been moved is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from stint.autoscale.displacement import Displacement, displacements_of, moves_left, tried
from stint.model.cluster import Node
from stint.model.job import NodeName
from stint.model.plan import Plan, Reason, Requeue
from stint.model.situation import Situation
from stint.placement.columns import Columns
from stint.placement.problem import Problem, build_problem

_MOST_LOOKED_AT = 200  # jobs, the dearest first
_MOST_TRIED = 8  # decisions made on trial in one plan, of each kind
_NOTHING_USD = 0.01


def worth_moving(situation: Situation, plan: Plan, decide: Callable[[Situation], Plan]) -> tuple[Requeue, ...]:
    """Gangs to take back for the sake of a cheaper place; the next decision gives it to them."""
    left = moves_left(situation)
    if left <= 0 or plan.holds or plan.placements or plan.requeues:
        return ()
    movers = displacements_of(situation, plan.stays)
    if not movers:
        return ()
    movers = sorted(movers, key=lambda m: (-m.stay_usd, m.job.id))[:_MOST_LOOKED_AT]
    return _to_a_cheaper_place(situation, movers, decide) or _off_a_wasteful_node(situation, movers, decide, most=left)


def _to_a_cheaper_place(
    situation: Situation, movers: Sequence[Displacement], decide: Callable[[Situation], Plan]
) -> tuple[Requeue, ...]:
    """One gang, the most promising first: what it leaves and takes changes what is free for the next."""
    hope = _best_elsewhere(build_problem(situation, [m.again for m in movers]), movers)
    order = np.argsort([h - m.stay_usd for h, m in zip(hope, movers, strict=True)], kind="stable")
    for i in order[:_MOST_TRIED]:
        mover = movers[i]
        least = (situation.settings.payback - 1.0) * mover.pause_usd + _NOTHING_USD
        if not mover.stay_usd - hope[i] >= least:
            break
        after = decide(tried(situation, [mover.again]))
        place = next((p.chosen for p in after.placements if p.job == mover.job.id), None)
        if place is None or place.offering == mover.place.offering or mover.stay_usd - place.objective_usd < least:
            continue
        text = (
            f"moves from {mover.place.offering} to {place.offering}, which is free: saves "
            f"{mover.stay_usd - place.objective_usd:.2f} USD, the pause and the repeated work included"
        )
        return (Requeue(job=mover.job.id, reason=Reason.CHEAPER_ELSEWHERE, message=text),)
    return ()


def _best_elsewhere(problem: Problem, movers: Sequence[Displacement]) -> list[float]:
    """The least J of each, on what exists, wherever there were room."""
    columns: Columns = problem.columns
    index = {problem.offerings[o].id: o for o in range(len(problem.offerings))}
    here = np.array([index.get(m.place.offering, -1) for m in movers])
    elsewhere = ~columns.buys & (columns.offering != here[columns.job])
    least = np.full(len(movers), math.inf)
    np.minimum.at(least, columns.job[elsewhere], columns.objective_usd[elsewhere])
    return [float(x) for x in least]


def _off_a_wasteful_node(
    situation: Situation, movers: Sequence[Displacement], decide: Callable[[Situation], Plan], *, most: int
) -> tuple[Requeue, ...]:
    """Every gang off one node, if they all find room elsewhere at once, so that the node can be given back."""
    payback = situation.settings.payback
    for _, node, price in sorted(_wasteful(situation, movers), key=lambda w: (w[0], w[1].name))[:_MOST_TRIED]:
        on_it = [m for m in movers if node.name in m.place.nodes]
        if not on_it or len(on_it) > most:
            continue
        after = decide(tried(situation, [replace(m.again, avoid=(*m.again.avoid, node.name)) for m in on_it]))
        places = {p.job: p.chosen for p in after.placements}
        if any(m.job.id not in places for m in on_it) or any(r.to_nodes > r.from_nodes for r in after.resizes):
            continue
        hours = max(m.stay_hours for m in on_it)  # then the node would have been empty anyway
        saved = price * hours
        cost = sum(max(places[m.job.id].objective_usd - m.stay_usd, m.pause_usd) for m in on_it)
        if saved < payback * cost + _NOTHING_USD:
            continue
        text = (
            f"leaves node {node.name}, which the pool then removes: saves {saved:.2f} USD ({price:.2f} USD/h for "
            f"{hours:.1f} h), moving costs {cost:.2f} USD"
        )
        return tuple(
            Requeue(job=m.job.id, reason=Reason.CHEAPER_ELSEWHERE, message=text, avoid=(node.name,)) for m in on_it
        )
    return ()


def _wasteful(situation: Situation, movers: Sequence[Displacement]) -> list[tuple[float, Node, float]]:
    """Nodes that could be given back, if those who are on them all may be moved: how full, which, at what price."""
    ours: dict[NodeName, int] = {}
    for mover in movers:
        for name, held in mover.job.on_nodes(mover.place.nodes).items():
            ours[name] = ours.get(name, 0) + held.gpus
    offerings = {o.id: o for o in situation.offerings}
    pools = {p.name: p for p in situation.pools}
    count: dict[str, int] = {}
    for node in situation.nodes:
        pool_name = offerings[node.offering].pool if node.offering in offerings else ""
        count[pool_name] = count.get(pool_name, 0) + 1
    found = []
    for node in situation.nodes:
        offering = offerings.get(node.offering)
        price = None if offering is None else offering.price_of_existing
        if offering is None or price is None or not price.value or node.name not in ours:
            continue  # emptying a node that is paid for anyway saves nothing
        pool = pools[offering.pool]
        if not node.removable or pool.scaler is None or pool.advise_only or count[pool.name] <= pool.min_nodes:
            continue
        if ours[node.name] == node.used.gpus < node.allocatable.gpus:
            found.append((node.used.gpus / node.allocatable.gpus, node, price.value))
    return found
