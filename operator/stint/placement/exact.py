"""The exact way for small batches: one mixed-integer programme a priority level, answered by HiGHS.

For every job one option is taken or the job is left out; an option is a column and an instant at which it starts:
now, when nodes arrive, or when a running gang ends. Workers of an option are spread over nodes; what is on a node
at any instant fits on it. A bought node is paid for as long as its longest gang stays.

    min   sum_i J_i x_i + sum_j hold_j h_j + sum_n idle_n
    s.t.  sum_{i of j} x_i + h_j = 1                                   every job j
          sum_n y_in = workers_i x_i                                   every option i
          sum_{i there at t} need_ir y_in <= free_nr(t)                every node n, resource r, start t
          y_in <= room_in open_n, sum_n open_n <= headroom             bought nodes
          idle_n + price sum_i held_i share_i y_in >= price held_i u_in,   room_in u_in >= y_in
          x, h, open, u binary; y integer; idle >= 0

The answer is the best over those starts; a chain of waiting gangs one behind the other is greedy's to find, which
is why `portfolio` compares the two. Work is limited in branch-and-bound nodes, never in seconds, so replays agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import highspy
import numpy as np
from scipy.sparse import csr_matrix

from stint.placement.greedy import cheapest, columns_of_jobs
from stint.placement.highs import QuietHighs
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice
from stint.placement.timeline import Timeline

MOST_PLACES = 1500  # variables y in one programme; above that a level is left to greedy
STARTS_PER_COLUMN = 4


@dataclass(slots=True)
class _Programme:
    """Rows and variables as they are thought of."""

    cost: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    rows: list[tuple[float, float, dict[int, float]]] = field(default_factory=list)

    def var(self, cost: float, upper: float, *, integer: bool = True) -> int:
        self.cost.append(cost)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.cost) - 1

    def row(self, low: float, terms: dict[int, float], high: float) -> None:
        self.rows.append((low, high, terms))

    def solve(self, *, most_nodes: int) -> np.ndarray | None:
        """The best values found, or None."""
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.cost), len(self.rows)
        lp.col_cost_ = np.array(self.cost)
        lp.col_lower_ = np.zeros(len(self.cost))
        lp.col_upper_ = np.array(self.upper)
        lp.row_lower_ = np.array([low for low, _, _ in self.rows])
        lp.row_upper_ = np.array([high for _, high, _ in self.rows])
        kinds = highspy.HighsVarType
        lp.integrality_ = [kinds.kInteger if i else kinds.kContinuous for i in self.integer]
        entries = [(r, c, v) for r, (_, _, terms) in enumerate(self.rows) for c, v in terms.items()]
        at_row, at_col, value = (list(axis) for axis in zip(*entries, strict=True))
        matrix = csr_matrix((value, (at_row, at_col)), shape=(len(self.rows), len(self.cost)))
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
        highs = QuietHighs()
        for name, setting in {"mip_rel_gap": 1e-6, "mip_max_nodes": most_nodes}.items():
            highs.setOptionValue(name, setting)
        highs.passModel(lp)
        highs.run()
        if highs.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None
        return np.array(highs.getSolution().col_value)


@dataclass(frozen=True, slots=True)
class _Option:
    job: int
    column: int
    begin: float  # on its nodes from here
    end: float
    start_hours: float
    take: int  # variable x
    places: dict[int, int]  # node -> variable y
    room: dict[int, int]  # node -> most workers


@dataclass(frozen=True, slots=True)
class Exact:
    """Best over all places and starts, for batches small enough; greedy for priority levels that are not."""

    name: str = "exact"

    def solve(self, problem: Problem, *, budget_steps: int, rng: np.random.Generator) -> Assignment:
        """See `Solver`. A step is a tenth of a branch-and-bound node."""
        del rng
        capacity = Timeline(problem)
        candidates = columns_of_jobs(problem.columns, len(problem.jobs))
        choices: list[Choice | None] = [None] * len(problem.jobs)
        for _, group in itertools.groupby(range(len(problem.jobs)), key=lambda j: problem.jobs[j].priority):
            level = list(group)
            found = _solve_level(problem, capacity, level, candidates, most_nodes=max(1, budget_steps // 10))
            for j in level:
                choice = found.get(j) if found is not None else _greedily(problem, capacity, candidates[j])
                if choice is not None:
                    capacity.take(problem.columns, choice)
                choices[j] = choice
        return Assignment(choices=tuple(choices))


def _greedily(problem: Problem, capacity: Timeline, candidates: np.ndarray) -> Choice | None:
    found = cheapest(capacity, problem.columns, candidates)
    return found[0] if found else None


def _solve_level(
    problem: Problem, capacity: Timeline, level: Sequence[int], candidates: Sequence[np.ndarray], *, most_nodes: int
) -> dict[int, Choice] | None:
    """The choices of one priority level; None: too large, with topologies or unlike pods, or no answer in time."""
    if any(problem.domain[j] is not None or problem.parts[j] for j in level):
        return None  # a variable for each domain (or role) and start would be needed
    programme = _Programme()
    options: list[_Option] = []
    for j in level:
        mine: list[_Option] = []
        for column in candidates[j]:
            mine += _options(problem, capacity, programme, j, int(column))
            if sum(len(o.places) for o in options + mine) > MOST_PLACES:
                return None
        hold = programme.var(float(problem.hold_usd[j]), 1)
        programme.row(1, {hold: 1.0, **{o.take: 1.0 for o in mine}}, 1)
        options += mine
    if not options:
        return {}
    _fit_on_nodes(problem, capacity, programme, options)
    _pay_for_bought(problem, capacity, programme, options)
    values = programme.solve(most_nodes=most_nodes)
    if values is None:
        return None
    return {o.job: _choice(o, values) for o in options if values[o.take] > 0.5}


def _choice(option: _Option, values: np.ndarray) -> Choice:
    nodes = tuple(n for n, y in sorted(option.places.items()) for _ in range(round(float(values[y]))))
    return Choice(column=option.column, start_hours=option.start_hours, nodes=nodes)


def _options(problem: Problem, capacity: Timeline, programme: _Programme, job: int, column: int) -> list[_Option]:
    columns = problem.columns
    offering, workers = int(columns.offering[column]), int(columns.workers[column])
    held = float(columns.held_hours[column])
    nodes = capacity.nodes_of(offering)
    if columns.buys[column]:
        new = nodes[problem.node_is_new[nodes]]
        spans = [(float(problem.node_from_hours[new][0]), held, 0.0)] if len(new) else []
    else:
        spans = [(start, start + held, start) for start in capacity.instants(offering)]
    found: list[_Option] = []
    for begin, end, start in spans:
        room = capacity.room(job, offering, begin, end, bought=None if columns.buys[column] else True)
        if int(room.sum()) < workers:
            continue
        take = programme.var(problem.objective_at(columns, column, start), 1)
        most = {int(n): int(min(k, workers)) for n, k in zip(nodes, room, strict=True) if k > 0}
        places = {n: programme.var(0.0, k) for n, k in most.items()}
        programme.row(0, {take: -float(workers), **dict.fromkeys(places.values(), 1.0)}, 0)
        if columns.buys[column]:  # on nodes that are there already, it would start at once and not at `begin`
            bought = [y for n, y in places.items() if problem.node_is_new[n]]
            programme.row(0, {take: -1.0, **dict.fromkeys(bought, 1.0)}, math.inf)
        found.append(_Option(job, column, begin, end, start, take, places, most))
        if len(found) == STARTS_PER_COLUMN:
            break
    return found


def _fit_on_nodes(problem: Problem, capacity: Timeline, programme: _Programme, options: Sequence[_Option]) -> None:
    """What is on a node when a gang starts there fits on it."""
    by_node: dict[int, list[_Option]] = {}
    for option in options:
        for node in option.places:
            by_node.setdefault(node, []).append(option)
    for node, here in sorted(by_node.items()):
        for instant in sorted({o.begin for o in here}):
            there = [o for o in here if o.begin <= instant < o.end]
            free = capacity.free_at(node, instant)
            for r in range(len(free)):
                terms = {o.places[node]: float(problem.need[o.job][r]) for o in there if problem.need[o.job][r] > 0}
                if terms:
                    programme.row(-math.inf, terms, float(free[r]))


def _pay_for_bought(problem: Problem, capacity: Timeline, programme: _Programme, options: Sequence[_Option]) -> None:
    """Bought nodes: within the pools' limits, and paid for while their longest gang is on them."""
    columns = problem.columns
    users: dict[int, list[_Option]] = {}
    for option in options:
        for node in option.places:
            if problem.node_is_new[node]:
                users.setdefault(node, []).append(option)
    opened: dict[int, int] = {}
    for node, here in sorted(users.items()):
        price = float(columns.usd_per_node_hour[here[0].column])
        opened[node] = programme.var(0.0, 1)
        idle = programme.var(1.0, math.inf, integer=False)
        paid = {o.places[node]: price * float(columns.held_hours[o.column] * columns.share[o.column]) for o in here}
        for o in here:
            programme.row(-math.inf, {o.places[node]: 1.0, opened[node]: -float(o.room[node])}, 0)
            on = programme.var(0.0, 1)
            programme.row(0, {on: float(o.room[node]), o.places[node]: -1.0}, math.inf)
            programme.row(0, {idle: 1.0, on: -price * float(columns.held_hours[o.column]), **paid}, math.inf)
    for p in range(len(problem.pools)):
        own = {opened[n]: 1.0 for n in opened if problem.pool_of_offering[problem.node_offering[n]] == p}
        if own:
            programme.row(-math.inf, own, float(capacity.headroom[p]))
    for first, second in itertools.pairwise(sorted(opened)):
        if problem.node_offering[first] == problem.node_offering[second]:  # like nodes: open them in order
            programme.row(0, {opened[first]: 1.0, opened[second]: -1.0}, math.inf)
