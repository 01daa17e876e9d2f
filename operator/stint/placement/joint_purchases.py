"""What a queue buys, bought together: gangs that got nodes one after the other, packed anew by the fleet planner.

Whoever is served in turn gets the nodes that are cheapest for it, and those after it the room that is left. The planner
of `stint.placement.fleet` looks at all of them at once. Its bill is by the hour, ours until the last gang has left a
node. So its hour stands for all the H hours that these gangs hold nodes on average:

    a node costs price * H,        a column  J - price * share * workers * H + (the same for all columns of a job)

On full nodes that everybody leaves at once, columns differ by their J. Where gangs last differently that is not so;
what a plan costs in truth is for the solver's own objective to say, afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from stint.placement.fleet.model import Fleet
from stint.placement.fleet.partial_plan import NoRoomError
from stint.placement.fleet.plan import Effort, plan_fleet
from stint.placement.greedy import serve
from stint.placement.horizons import AXES, Market
from stint.placement.problem import Problem
from stint.placement.sifting import NoPricesError
from stint.placement.solver import Assignment, Choice, objective_usd
from stint.placement.verify import violations

_FEW_JOBS = 60  # up to which branch and bound is worth its time
_FEW, _MANY = Effort(), Effort(nodes=0)
_LATER = 2.0  # times what a gang would pay for the dearest nodes, alone on them, is what being left out costs it


def buy_together(problem: Problem, market: Market, answer: Assignment) -> Assignment | None:
    """The same jobs, on nodes bought for all of them at once; None: nothing to be packed, no room, or no cheaper.

    Who goes now or waits for nodes that are there keeps its place. Who had joined others on bought nodes is served
    again, after them. Higher priorities buy first.

    Args:
        market: of the problem; see `stint.placement.horizons`.
    """
    buyers = [j for j, c in enumerate(answer.choices) if c is not None and _can_be_packed(problem, j, c)]
    if len(buyers) < 2:
        return None
    left = {n for j in buyers if (c := answer.choices[j]) is not None for n in c.nodes}
    choices = [None if c is None or left.intersection(c.nodes) else c for c in answer.choices]
    stock = _Stock(problem, choices)
    for _, level in itertools.groupby(buyers, key=lambda j: problem.jobs[j].priority):
        longest_first = sorted(level, key=lambda j: (-_held_hours(problem, answer, j), j))  # so that like ones meet
        for j, choice in _bought(problem, market, stock, answer, longest_first).items():
            choices[j] = choice
    again = [j for j in buyers if choices[j] is not None]
    if not _usd(problem, choices, again) < _usd(problem, answer.choices, again):
        return None
    lost = [j for j, c in enumerate(answer.choices) if c is not None and choices[j] is None]
    found = serve(problem, lost, kept=choices)
    return None if violations(problem, found) else found


def _usd(problem: Problem, choices: Sequence[Choice | None], jobs: Iterable[int]) -> float:
    """What some of the jobs cost, as if there were no others; those are charged the same, whatever happens to these."""
    only = set(jobs)
    return objective_usd(problem, Assignment(choices=tuple(c if j in only else None for j, c in enumerate(choices))))


def _can_be_packed(problem: Problem, job: int, choice: Choice) -> bool:
    """A gang on nothing but bought nodes, wherever they are."""
    buys = bool(problem.columns.buys[choice.column] and problem.node_is_new[list(choice.nodes)].all())
    return buys and problem.domain[job] is None and not problem.parts[job]


def _held_hours(problem: Problem, answer: Assignment, job: int) -> float:
    choice = answer.choices[job]
    assert choice is not None
    return float(problem.columns.held_hours[choice.column])


class _Stock:
    """Nodes that may still be bought."""

    def __init__(self, problem: Problem, choices: Iterable[Choice | None]) -> None:
        self._problem = problem
        self._free: list[list[int]] = [[] for _ in problem.offerings]
        self._headroom = problem.headroom.copy()
        taken = {n for c in choices if c is not None for n in c.nodes}
        for n in np.flatnonzero(problem.node_is_new).tolist():
            offering = int(problem.node_offering[n])
            if n in taken:
                self._headroom[problem.pool_of_offering[offering]] -= 1
            else:
                self._free[offering].append(n)

    @property
    def limit(self) -> Int[np.ndarray, " offering"]:
        """Of each offering; those of one pool share its headroom."""
        free = np.array([len(nodes) for nodes in self._free], dtype=np.int64)
        limit: Int[np.ndarray, " offering"] = np.minimum(free, self._headroom[self._problem.pool_of_offering])
        return limit

    def take(self, offerings: Int[np.ndarray, " node"]) -> list[int] | None:
        """A node of each of these offerings; None: their pools have not so many together."""
        pools = np.bincount(self._problem.pool_of_offering[offerings], minlength=len(self._headroom))
        if (pools > self._headroom).any():
            return None
        self._headroom -= pools
        return [self._free[o].pop(0) for o in offerings.tolist()]


@dataclass(frozen=True, slots=True)
class _Ways:
    """How gangs of a class may buy nodes: positions in the market of the columns of its first job, sorted."""

    jobs: list[int]
    at: Int[np.ndarray, " way"]


def _bought(
    problem: Problem, market: Market, stock: _Stock, answer: Assignment, jobs: Sequence[int]
) -> dict[int, Choice]:
    """Nodes for all of these gangs that are better served together."""
    own = _ways_of_jobs(problem, market, jobs, stock.limit)
    ways = _alike(problem, market, own)
    if not ways:
        return {}
    hours = max(1e-6, float(np.mean([_held_hours(problem, answer, j) for j in own])))
    fleet = _fleet(problem, market, ways, stock.limit, hours=hours)
    try:
        effort = _FEW if len(own) <= _FEW_JOBS else _MANY
        plan = plan_fleet(fleet, effort=effort, rng=np.random.Generator(np.random.PCG64(0))).plan
    except (NoRoomError, NoPricesError):
        return {}
    elsewhere = len(problem.offerings)
    nodes = stock.take(plan.node_pool[plan.node_pool < elsewhere])  # nodes are in the order of pools
    if nodes is None:
        return {}
    members = [j for w in ways for j in w.jobs]
    way = plan.column - np.searchsorted(fleet.column_class, fleet.class_of)
    edges = np.searchsorted(plan.worker_job, np.arange(len(members) + 1))
    found = {}
    for i, j in enumerate(members):
        if way[i] < len(own[j]):
            mine = slice(edges[i], edges[i + 1])
            ranks = np.repeat(plan.worker_node[mine], plan.workers[mine])
            column = int(market.column[own[j][way[i]]])
            found[j] = Choice(column=column, start_hours=0.0, nodes=tuple(sorted(nodes[n] for n in ranks)))
    return found


def _ways_of_jobs(
    problem: Problem, market: Market, jobs: Sequence[int], limit: Int[np.ndarray, " offering"]
) -> dict[int, Int[np.ndarray, " way"]]:
    """Positions in the market of the columns by which each job may still buy; jobs without any are left out."""
    columns = problem.columns
    c = market.column
    buys = np.flatnonzero(columns.buys[c] & (limit[columns.offering[c]] > 0))
    order = buys[np.argsort(columns.job[c[buys]], kind="stable")]
    first, last = (np.searchsorted(columns.job[c[order]], np.array(jobs) + i).tolist() for i in (0, 1))
    own = {j: order[a:b] for j, a, b in zip(jobs, first, last, strict=True)}
    return {j: ways for j, ways in own.items() if len(ways)}


def _alike(problem: Problem, market: Market, own: Mapping[int, Int[np.ndarray, " way"]]) -> list[_Ways]:
    """Jobs that are alike in need and in every column, as one class."""
    columns = problem.columns
    found: dict[bytes, _Ways] = {}
    for j, at in own.items():
        c = market.column[at]
        facts = (columns.offering[c], columns.workers[c], columns.held_hours[c], market.cost_usd[at, 0])
        key = b"".join(f.tobytes() for f in (problem.need[j], *facts))
        if key not in found:
            found[key] = _Ways([], at)
        found[key].jobs.append(j)
    return list(found.values())


def _fleet(
    problem: Problem, market: Market, ways: Sequence[_Ways], limit: Int[np.ndarray, " offering"], *, hours: float
) -> Fleet:
    """A market an offering, and one more, without nodes and without a limit, for those who are left out."""
    table, elsewhere = problem.columns, len(problem.offerings)
    per_node = np.array([o.per_node.as_row()[:AXES] for o in problem.offerings])
    shape, of_shape = np.unique(problem.need[[w.jobs[0] for w in ways]][:, :AXES], axis=0, return_inverse=True)
    price = np.zeros(elsewhere + 1)
    of_class: list[Int[np.ndarray, " way"]] = []
    workers, usd = [], []
    for w in ways:
        c = market.column[w.at]
        price[table.offering[c]] = table.usd_per_node_hour[c]
        full = table.usd_per_node_hour[c] * table.share[c] * table.workers[c]
        alone = table.usd_per_node_hour[c] * -(-table.workers[c] // table.per_node[c])
        beside = market.cost_usd[w.at, 0] / hours - full
        beside -= beside.min()
        of_class.append(np.append(table.offering[c], elsewhere))
        workers.append(np.append(table.workers[c], 1))
        usd.append(np.append(beside, _LATER * (beside + alone).max()))
    return Fleet(
        capacity=np.concatenate([per_node, shape.max(axis=0)[None]]),
        usd_per_hour=price,
        limit=np.append(limit.astype(float), np.inf),
        market=np.arange(elsewhere + 1),
        shape=shape,
        class_shape=of_shape.ravel(),
        count=np.array([len(w.jobs) for w in ways], dtype=np.int64),
        column_class=np.repeat(np.arange(len(ways)), [len(c) for c in of_class]),
        column_market=np.concatenate(of_class),
        column_workers=np.concatenate(workers),
        column_usd_per_hour=np.concatenate(usd),
    )
