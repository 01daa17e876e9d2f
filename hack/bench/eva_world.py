"""A rented cluster under Eva's rules: what its authors' simulator does with a list of jobs and somebody's plans.

Tian et al., "Eva: Cost-Efficient Cloud-Based Cluster Scheduling", EuroSys 2025. Every five minutes a policy says which
nodes there shall be and who is on which. A node is paid from the moment that the cloud has given it until it is gone,
also while it boots and while nothing is on it. A task is fetched and built on its node, then starts; one that moves is
first stopped and uploaded, keeps what it did, and waits until its new node is up and has room. Tasks that share a node
slow each other down: for each of them, the factors of all the others multiply.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

ROUND_S = 300
GONE_S = 1  # from saying that a node shall go until it is not paid any longer
UNMEASURED = 0.95  # of its speed that a task keeps beside one that it was not measured with
_SLACK = 1e-9

Need = tuple[float, float, float]  # GPUs, CPUs, GB


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A job of one task: iterations, and how fast they go where it is alone. Times in s, whole ones."""

    name: str
    variant: str  # workload and size; what is learned of how tasks bear each other is learned by it
    workload: str
    arrives_s: int
    need: Need
    iterations: float
    per_s: float
    fetch_s: int
    build_s: int
    start_s: int  # after it has been fetched and built, before the first iteration
    stop_s: int
    upload_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """What can be rented, as much of it as wanted."""

    name: str
    capacity: Need
    usd_per_hour: float
    given_s: int
    boot_s: int


@dataclass(frozen=True, slots=True)
class Speeds:
    """Of its speed, what a task keeps beside another; by workload."""

    beside: Mapping[tuple[str, str], float]

    def kept(self, of: str, others: Sequence[str]) -> float:
        """Beside all of these."""
        return math.prod(self.beside.get((of, other), UNMEASURED) for other in others)


class Phase(Enum):
    """Of a task, as policies see it."""

    QUEUED = "queued"
    MOVING = "moving"  # also on its way to the first node; it cannot be sent elsewhere meanwhile
    SETTLED = "settled"
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Task:
    """One that has arrived."""

    id: int
    work: Work
    left: float  # iterations
    phase: Phase = Phase.QUEUED
    on: int | None = None  # the node where it is
    bound: int | None = None  # the node where it should be
    shares: bool = False  # slows others and is slowed
    runs: bool = False
    kept: float = 1.0  # of its speed, now
    sent: int = 0  # times that it was sent somewhere
    end_s: int | None = None


@dataclass(slots=True, eq=False)
class Node:
    """One that was asked for and shall not go yet."""

    id: int
    type: int
    paid_from_s: int
    up_s: int
    on: list[int] = field(default_factory=list)  # tasks, also those that come or go
    bound: list[int] = field(default_factory=list)  # tasks that should be here
    built: set[str] = field(default_factory=set)
    goes: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Part of a plan: a node, one that is there or a new one, and the tasks on it."""

    node: int | None
    type: int
    tasks: tuple[int, ...]


class Policy(Protocol):
    """Asked once a round."""

    def plan(self, world: World) -> list[Place]:
        """Every task that has arrived and not ended, on one node; nodes that are not named are given back.

        Tasks that are moving must stay where they should be.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a policy made of all jobs."""

    usd: float
    end_s: tuple[int, ...]  # by job
    instances: int
    migrations: int
    work_s: float  # that running tasks had, all together
    lost_s: float  # of it, to others on the same node


class World:
    """Jobs, by arrival, and the nodes that they are on. Only `run` changes it."""

    def __init__(self, jobs: Sequence[Work], types: Sequence[Type], speeds: Speeds) -> None:
        self.jobs, self.types, self.speeds = jobs, types, speeds
        self.now_s = 0
        self.tasks: dict[int, Task] = {}  # that have not ended
        self.nodes: dict[int, Node] = {}  # that shall not go
        self.changed = False  # whether a job came or ended since the last round
        self.ended_s: list[int] = []  # when tasks ended, in that order
        self._going: dict[int, Node] = {}
        self._events: list[tuple[int, int, str, int, int]] = []
        self._order = itertools.count()
        self._waiting: list[int] = []  # tasks that shall be launched, in the order of being told
        self._ends: dict[int, int] = {}
        self._usd, self._launched, self._moved, self._work_s, self._lost_s = 0.0, 0, 0, 0.0, 0.0

    def run(self, policy: Policy) -> Ended:
        """Until all jobs have ended and all nodes are gone.

        Raises:
            ValueError: a plan leaves a task out, names it twice, moves one that is moving, or asks too much of a node.
        """
        arrivals, ends = 0, [0] * len(self.jobs)
        while arrivals < len(self.jobs) or self.tasks or self.nodes or self._going:
            self._advance(self._next_s(arrivals))
            while self._events and self._events[0][0] == self.now_s:
                _, _, what, who, sent = heapq.heappop(self._events)
                self._happens(what, who, sent)
            while arrivals < len(self.jobs) and self.jobs[arrivals].arrives_s <= self.now_s:
                work = self.jobs[arrivals]
                self.tasks[arrivals] = Task(arrivals, work, work.iterations)
                arrivals, self.changed = arrivals + 1, True
            if self.now_s % ROUND_S == 0:
                places = policy.plan(self)
                self.changed = False
                self._apply(places)
            for t in [t for t, at in self._ends.items() if at <= self.now_s]:
                ends[t] = self.now_s
                self._end(self.tasks.pop(t))
            self._launch()
            self._give_back()
            self._slow_down()
        return Ended(
            usd=self._usd,
            end_s=tuple(ends),
            instances=self._launched,
            migrations=self._moved,
            work_s=self._work_s,
            lost_s=self._lost_s,
        )

    def _next_s(self, arrivals: int) -> int:
        times = list(self._ends.values())
        if self._events:
            times.append(self._events[0][0])
        if arrivals < len(self.jobs):
            times.append(max(self.now_s, self.jobs[arrivals].arrives_s))
        if self.tasks or self.nodes:
            times.append((self.now_s // ROUND_S + 1) * ROUND_S)
        return min(times)

    def _advance(self, to_s: int) -> None:
        for task in self.tasks.values():
            if task.runs:
                task.left -= (to_s - self.now_s) * task.kept * task.work.per_s
                self._work_s += to_s - self.now_s
                self._lost_s += (to_s - self.now_s) * (1.0 - task.kept)
        self.now_s = to_s

    def _later(self, after_s: int, what: str, who: int, sent: int = 0) -> None:
        heapq.heappush(self._events, (self.now_s + after_s, next(self._order), what, who, sent))

    def _happens(self, what: str, who: int, sent: int) -> None:
        if what == "gone":
            node = self._going.pop(who)
            self._usd += (self.now_s - node.paid_from_s) / 3600.0 * self.types[node.type].usd_per_hour
        elif who in self.tasks and self.tasks[who].sent == sent:
            task = self.tasks[who]
            if what == "built":
                task.shares, task.phase = True, Phase.SETTLED
                self._later(task.work.start_s, "starts", who, sent)
            elif what == "starts":
                task.runs = True
            elif what == "stopped":
                task.shares = task.runs = False
                self._later(task.work.upload_s, "uploaded", who, sent)
            elif what == "uploaded":
                self._leave(task)

    def _leave(self, task: Task) -> None:
        node = self._node(task.on)
        node.on.remove(task.id)
        task.on = None

    def _node(self, node: int | None) -> Node:
        assert node is not None
        return self.nodes[node] if node in self.nodes else self._going[node]

    def _end(self, task: Task) -> None:
        task.phase, task.end_s, task.shares, task.runs = Phase.ENDED, self.now_s, False, False
        self._leave(task)
        if task.bound in self.nodes:
            self.nodes[task.bound].bound.remove(task.id)
        del self._ends[task.id]
        self._waiting = [t for t in self._waiting if t != task.id]
        self.ended_s.append(self.now_s)
        self.changed = True

    def _apply(self, places: Sequence[Place]) -> None:
        self._check(places)
        unnamed = self.nodes.keys() - {p.node for p in places}
        for place in places:
            node = self.nodes[place.node] if place.node is not None else self._new(place.type)
            node.bound = list(place.tasks)
            for t in place.tasks:
                task = self.tasks[t]
                if task.bound == node.id:
                    continue
                if task.bound is not None:
                    self._moved += 1
                    task.sent += 1
                    self._later(task.work.stop_s, "stopped", t, task.sent)
                task.bound, task.phase = node.id, Phase.MOVING
                self._waiting.append(t)
        for n in sorted(unnamed):
            self._going[n] = self.nodes.pop(n)

    def _check(self, places: Sequence[Place]) -> None:
        if sorted(t for p in places for t in p.tasks) != sorted(self.tasks):
            raise ValueError("a plan must have every task on one node")
        for place in places:
            if place.node is not None and place.node not in self.nodes:
                raise ValueError(f"node {place.node} is not there")
            needs = [self.tasks[t].work.need for t in place.tasks]
            if any(sum(n[r] for n in needs) > c + _SLACK for r, c in enumerate(self.types[place.type].capacity)):
                raise ValueError(f"{self.types[place.type].name} does not hold {len(needs)} tasks")
            for t in place.tasks:
                if self.tasks[t].phase is Phase.MOVING and self.tasks[t].bound != place.node:
                    raise ValueError(f"task {t} is moving")

    def _new(self, type_: int) -> Node:
        kind = self.types[type_]
        given_s = self.now_s + kind.given_s
        node = Node(self._launched, type_, given_s, given_s + kind.boot_s)
        self.nodes[node.id] = node
        self._launched += 1
        self._later(kind.given_s + kind.boot_s, "up", node.id)
        return node

    def _launch(self) -> None:
        """Those that are off their old nodes, where the new one is up and has room."""
        still = []
        for t in self._waiting:
            task = self.tasks[t]
            node = self._node(task.bound)
            if task.on is not None or node.up_s > self.now_s or not self._room(node, task.work.need):
                still.append(t)
                continue
            node.on.append(t)
            task.on = node.id
            build_s = 0 if task.work.workload in node.built else task.work.build_s
            node.built.add(task.work.workload)
            self._later(task.work.fetch_s + build_s, "built", t, task.sent)
        self._waiting = still

    def _room(self, node: Node, need: Need) -> bool:
        capacity = self.types[node.type].capacity
        return all(
            sum(self.tasks[t].work.need[r] for t in node.on) + need[r] <= capacity[r] + _SLACK for r in range(len(need))
        )

    def _give_back(self) -> None:
        for node in self._going.values():
            if not node.on and not node.goes:
                node.goes = True
                self._later(GONE_S, "gone", node.id)

    def _slow_down(self) -> None:
        for node in itertools.chain(self.nodes.values(), self._going.values()):
            sharing = [self.tasks[t] for t in node.on if self.tasks[t].shares]
            for task in sharing:
                others = [other.work.workload for other in sharing if other is not task]
                task.kept = self.speeds.kept(task.work.workload, others)
        self._ends = {
            t: self.now_s + max(0, math.ceil(task.left / (task.kept * task.work.per_s) - 1e-6))
            for t, task in self.tasks.items()
            if task.runs
        }
