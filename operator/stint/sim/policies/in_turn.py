"""What the simple policies have in common: one job after the other, each onto nodes that are there, coming or bought.

None of them knows what waiting would save: nobody waits for a node that another job has. How long jobs run is there to
be looked at, for those that reckon with it.
A gang is placed whole or not at all; a scheduler of single pods would do worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from stint.placement.columns import Columns
from stint.placement.greedy import columns_of_jobs
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice
from stint.placement.timeline import Timeline

_AT_ONCE = 1e-6  # hours

Order = Callable[[Problem], Iterable[int]]  # who is served first: indices of jobs
Nodes = Callable[["Room"], np.ndarray]  # a key for each node of an offering: the lower, the sooner it is filled
Where = Callable[["Offer"], tuple[float, ...]]  # a key for each way to run a job: the lowest is taken


@dataclass(frozen=True, slots=True)
class Room:
    """What one offering's nodes have for one job."""

    workers: np.ndarray  # of the job that each node can hold
    free_gpus: np.ndarray
    until_hours: np.ndarray  # until the last of those on it ends; 0: it is empty
    hours: float  # until the job itself would


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to run one job now, or as soon as nodes are there."""

    problem: Problem
    choice: Choice
    bought: int  # nodes
    until_hours: tuple[float, ...] = ()  # until the last of those on each of its nodes ends; 0: it is empty

    @property
    def offering(self) -> int:
        """Its index."""
        return int(self.problem.columns.offering[self.choice.column])

    @property
    def usd_per_node_hour(self) -> float:
        """The price of the machine; reserved and owned ones are paid for anyway."""
        return float(self.problem.columns.usd_per_node_hour[self.choice.column])

    @property
    def usd_per_hour(self) -> float:
        """What the gang's share of its machines costs, and all of those that are bought for it."""
        columns, c = self.problem.columns, self.choice.column
        gang = float(columns.share[c]) * int(columns.workers[c])
        return self.usd_per_node_hour * max(gang, float(self.bought))

    @property
    def job(self) -> int:
        """Its index."""
        return int(self.problem.columns.job[self.choice.column])

    @property
    def hours(self) -> float:
        """From now until it would have ended."""
        return self.choice.start_hours + float(self.problem.columns.held_hours[self.choice.column])

    @property
    def spare_gpus(self) -> float:
        """GPUs of its nodes that it leaves free."""
        problem, c = self.problem, self.choice.column
        free = sum(float(problem.node_free[n][0]) for n in set(self.choice.nodes))
        return free - len(self.choice.nodes) * float(problem.need[problem.columns.job[c]][0])


def oldest_first(problem: Problem) -> Iterable[int]:
    """In the order of submission."""
    return sorted(range(len(problem.jobs)), key=lambda j: (problem.jobs[j].created, problem.jobs[j].id))


def biggest_first(problem: Problem) -> Iterable[int]:
    """By what one worker needs, the most first: first fit decreasing."""
    return sorted(range(len(problem.jobs)), key=lambda j: (*(-problem.need[j]), problem.jobs[j].id))


def by_name(room: Room) -> np.ndarray:
    """First fit."""
    return np.arange(len(room.workers), dtype=float)


def fullest(room: Room) -> np.ndarray:
    """Best fit: where least is left over."""
    return room.free_gpus


def emptiest(room: Room) -> np.ndarray:
    """Spread."""
    return -room.free_gpus


@dataclass(frozen=True, slots=True)
class InTurn:
    """A solver made of three preferences. Nodes that are there or under way come before nodes to buy, as a rule."""

    name: str
    order: Order
    nodes: Nodes
    where: Where  # among nodes that are there or coming
    buys: Where  # among nodes that could be bought
    there_first: bool = True  # False: `buys` chooses among all

    def solve(self, problem: Problem, *, budget_steps: int, rng: np.random.Generator) -> Assignment:
        """See `Solver`."""
        del budget_steps, rng
        blind = replace(problem, releases=())  # nobody knows when a gang will end
        capacity, columns = Timeline(blind), problem.columns
        own = columns_of_jobs(columns, len(problem.jobs))
        choices: list[Choice | None] = [None] * len(problem.jobs)
        until = np.zeros(len(problem.node_offering))
        for release in problem.releases:
            until[release.node] = max(until[release.node], release.hours)
        for j in self.order(problem):
            offers = [o for c in own[j] if (o := self._offer(blind, capacity, until, int(c))) is not None]
            there = [o for o in offers if not o.bought and self.there_first]
            if not offers:
                continue
            key = self.where if there else self.buys
            best = min(there or offers, key=lambda o: (*key(o), o.choice.column))
            capacity.take(columns, best.choice)
            choices[j] = best.choice
            mine = list(best.choice.nodes)
            until[mine] = np.maximum(until[mine], best.hours)
        return Assignment(choices=tuple(choices))

    def _offer(self, problem: Problem, capacity: Timeline, until: np.ndarray, column: int) -> Offer | None:
        columns = problem.columns
        found = capacity.place(columns, column)
        if found is None:
            return None
        choice, _ = found
        if not columns.buys[column]:
            if choice.start_hours > float(problem.node_from_hours[list(choice.nodes)].max()) + _AT_ONCE:
                return None  # that would be waiting for somebody's end
            choice = replace(choice, nodes=self._fill(problem, capacity, until, columns, choice))
        bought = len({n for n in choice.nodes if problem.node_is_new[n]})
        return Offer(problem, choice, bought, tuple(float(until[n]) for n in choice.nodes))

    def _fill(
        self, problem: Problem, capacity: Timeline, until: np.ndarray, columns: Columns, choice: Choice
    ) -> tuple[int, ...]:
        """The same start on nodes of this policy's own preference; where topology has a say, as it was."""
        job, offering = int(columns.job[choice.column]), int(columns.offering[choice.column])
        if problem.domain[job] is not None:
            return choice.nodes
        end = choice.start_hours + float(columns.held_hours[choice.column])
        workers = capacity.room(job, offering, choice.start_hours, end)
        mine = capacity.nodes_of(offering)
        free = np.array([capacity.free_at(int(n), choice.start_hours)[0] for n in mine])
        taken: list[int] = []
        for i in np.argsort(self.nodes(Room(workers, free, until[mine], end)), kind="stable"):
            taken += [int(mine[i])] * min(int(workers[i]), len(choice.nodes) - len(taken))
        return tuple(taken)
