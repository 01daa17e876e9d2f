"""How many nodes each pool should have: what the assignment adds, less what has been empty for too long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stint.estimate.runtime import SECONDS_PER_HOUR, hours_between
from stint.model.cluster import Node
from stint.model.figure import value_of
from stint.model.job import JobId
from stint.model.plan import Resize
from stint.placement.columns import Columns
from stint.placement.greedy import cheapest, columns_of_jobs
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice
from stint.placement.timeline import Timeline

_MOST_NAMED = 8  # jobs, in a message


@dataclass(frozen=True, slots=True)
class Advice:
    """What a pool that only takes advice could do for one held job."""

    job: int
    choice: Choice
    objective_usd: float


def advise(problem: Problem, assignment: Assignment, capacity: Timeline) -> list[Advice]:
    """For every job without a place now: the cheapest growth of advice-only pools that beats what it has.

    One after the other, in queue order; what is advised for one is not advised to another again.
    """
    found = []
    for j, candidates in enumerate(columns_of_jobs(problem.advice, len(problem.jobs))):
        choice = assignment.choices[j]
        has = np.inf if choice is None else problem.objective_at(problem.columns, choice.column, choice.start_hours)
        better = cheapest(capacity, problem.advice, candidates)
        if better is not None and better[1] < has:
            found.append(Advice(j, *better))
            if choice is not None:
                capacity.give_back(j)
            capacity.take(problem.advice, better[0])
    return found


def resize(problem: Problem, assignment: Assignment, advice: Iterable[Advice]) -> tuple[Resize, ...]:
    """Every change of every pool, absolute, so that a cycle that is repeated orders nothing twice."""
    grown = _scale_up(problem, problem.columns, _choices(assignment), advise_only=False)
    advised = _scale_up(problem, problem.advice, [(a.job, a.choice) for a in advice], advise_only=True)
    busy = {problem.offerings[o].id for o in _offerings_in_use(problem, assignment)}
    shrunk = [r for r in _scale_down(problem, assignment) if r.offering not in busy]
    return tuple(grown + advised + shrunk)


def _choices(assignment: Assignment) -> list[tuple[int, Choice]]:
    return [(j, c) for j, c in enumerate(assignment.choices) if c is not None]


def _offerings_in_use(problem: Problem, assignment: Assignment) -> set[int]:
    """Offerings for which nodes are bought in this very plan: those are not scaled down."""
    return {int(problem.node_offering[n]) for _, c in _choices(assignment) for n in c.nodes if problem.node_is_new[n]}


def _count(problem: Problem, offering: int) -> int:
    """Its nodes, without those that the provider takes."""
    own = problem.node_offering[: len(problem.nodes)] == offering
    return sum(1 for n in np.flatnonzero(own) if not problem.nodes[n].interrupted)


def _scale_up(
    problem: Problem, columns: Columns, choices: Iterable[tuple[int, Choice]], *, advise_only: bool
) -> list[Resize]:
    new: dict[int, set[int]] = {}
    for_jobs: dict[int, list[JobId]] = {}
    for j, choice in choices:
        bought = {n for n in choice.nodes if problem.node_is_new[n]}
        if bought:
            offering = int(columns.offering[choice.column])
            new.setdefault(offering, set()).update(bought)
            for_jobs.setdefault(offering, []).append(problem.jobs[j].id)
    resizes = []
    for o, nodes in sorted(new.items()):
        seller, have = problem.offerings[o], _count(problem, o)
        price = value_of(seller.price_of_new, 0.0)
        verb = "would let" if advise_only else "for"
        tail = "start" if advise_only else "to start"
        resizes.append(
            Resize(
                pool=seller.pool,
                offering=seller.id,
                from_nodes=have,
                to_nodes=have + len(nodes),
                for_jobs=tuple(for_jobs[o]),
                usd_per_hour=price * len(nodes),
                advise_only=advise_only,
                message=f"{len(nodes)} more {seller.instance_type} at {price:.2f} USD/h each "
                f"{verb} {_named(for_jobs[o])} {tail}",
            )
        )
    return resizes


def _named(jobs: Sequence[JobId]) -> str:
    """The first of them by name: orders for hundreds are read by people, too."""
    more = f" and {len(jobs) - _MOST_NAMED} more jobs" if len(jobs) > _MOST_NAMED else ""
    return ", ".join(jobs[:_MOST_NAMED]) + more


def _scale_down(problem: Problem, assignment: Assignment) -> list[Resize]:
    """Nodes that have been empty for longer than their pool allows and that no waiting job is to get."""
    promised = {problem.nodes[n].name for _, c in _choices(assignment) for n in c.nodes if not problem.node_is_new[n]}
    pools = [problem.pools[problem.pool_of_offering[o]] for o in problem.node_offering[: len(problem.nodes)]]
    in_pool = Counter(pool.name for node, pool in zip(problem.nodes, pools, strict=True) if not node.interrupted)
    going: dict[int, list[Node]] = {}
    for i, (node, pool) in enumerate(zip(problem.nodes, pools, strict=True)):
        if pool.scaler is None or not node.removable or node.name in promised or node.empty_since is None:
            continue
        price = problem.offerings[int(problem.node_offering[i])].price_of_existing
        if price is not None and price.value == 0.0 and not node.interrupted:
            continue  # paid for whether it is there or not: removing it saves nothing
        empty_s = hours_between(node.empty_since, problem.situation.now) * SECONDS_PER_HOUR
        if empty_s >= pool.give_back_after_seconds and (node.interrupted or in_pool[pool.name] > pool.min_nodes):
            in_pool[pool.name] -= not node.interrupted
            going.setdefault(int(problem.node_offering[i]), []).append(node)
    resizes = []
    for o, nodes in sorted(going.items()):
        offering, have = problem.offerings[o], _count(problem, o)
        pool = problem.pools[problem.pool_of_offering[o]]
        saved = value_of(offering.price_of_existing, 0.0) * len(nodes)
        minutes = pool.give_back_after_seconds / 60
        resizes.append(
            Resize(
                pool=offering.pool,
                offering=offering.id,
                from_nodes=have,
                to_nodes=have - sum(not n.interrupted for n in nodes),
                give_back=tuple(n.name for n in nodes),
                usd_per_hour=-saved if saved else 0.0,
                advise_only=pool.advise_only,
                message=f"{len(nodes)} {offering.instance_type} empty for more than {minutes:.0f} min: "
                f"removing them saves {saved:.2f} USD/h",
            )
        )
    return resizes
