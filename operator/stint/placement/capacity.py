"""Who holds what when: a solver's scratch pad. Built from a problem, changed by taking and giving back.

Each offering has a list of instants; between two of them nothing changes. `free[i]` is what every node of the
offering has to give from instant i on. A gang takes its share from every instant in its run.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.problem import Columns, Problem
from stint.placement.solver import Choice

_EPSILON = 1e-9
_DRIFT = 1e-6  # of sums that are kept up to date, and only say where to look
_AT_ONCE = 64  # windows whose nodes are looked at together


@dataclass(slots=True)
class _Timeline:
    nodes: Int[np.ndarray, " own"]  # indices into the problem's nodes
    hours: Float[np.ndarray, " instant"]  # sorted; the first is 0
    free: Float[np.ndarray, "instant own resource"]
    spare: Float[np.ndarray, "instant resource"]  # of all nodes that exist or were bought
    longest: Float[np.ndarray, " own"]  # until the last gang leaves a bought node; 0: not bought
    paid: Float[np.ndarray, " own"]  # node-hours they pay for

    def split(self, at: float) -> int:
        """The index of the instant `at`, which exists from now on."""
        i = bisect_left(self.hours, at - _EPSILON)
        if i == len(self.hours) or self.hours[i] - at >= _EPSILON:
            self.hours = np.insert(self.hours, i, at)
            self.free = np.insert(self.free, i, self.free[i - 1], axis=0)
            self.spare = np.insert(self.spare, i, self.spare[i - 1], axis=0)
        return i

    def index(self, at: float) -> int:
        """The last instant that is not after `at`."""
        return bisect_right(self.hours, at + _EPSILON) - 1

    def least(self, start: float, end: float) -> Float[np.ndarray, "own resource"]:
        """What every node has to give all the way from `start` to `end`."""
        first = self.index(start)
        window = self.free[first : max(first + 1, bisect_left(self.hours, end - _EPSILON))]
        least: Float[np.ndarray, "own resource"] = window[0] if len(window) == 1 else window.min(axis=0)
        return least


def _holds_throughout(
    true: Bool[np.ndarray, " instant"], first: Int[np.ndarray, " window"], last: Int[np.ndarray, " window"]
) -> Bool[np.ndarray, " window"]:
    """For each window, from `first` to before `last`, whether something is true at every instant of it."""
    before = np.concatenate([[0], np.cumsum(~true)])  # how often it is not, before an instant
    holds: Bool[np.ndarray, " window"] = before[last] == before[first]
    return holds


class Capacity:
    """What is left for those who have not been served yet."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.headroom = problem.headroom.copy()
        self._at: list[_Timeline] = []
        self._place = np.zeros(len(problem.node_offering), dtype=np.int64)  # index of a node in its timeline
        self._taken: dict[int, tuple[Choice, Columns]] = {}
        for o in range(len(problem.offerings)):
            nodes = np.flatnonzero(problem.node_offering == o)
            self._place[nodes] = np.arange(len(nodes))
            self._at.append(self._initial(nodes))

    def _initial(self, nodes: Int[np.ndarray, " own"]) -> _Timeline:
        problem = self.problem
        arrive = problem.node_from_hours[nodes]
        mine = {int(n) for n in nodes}
        releases = [r for r in problem.releases if r.node in mine and math.isfinite(problem.node_from_hours[r.node])]
        hours = np.array(sorted({0.0, *(float(h) for h in arrive if math.isfinite(h)), *(r.hours for r in releases)}))
        there = arrive[None, :] <= hours[:, None] + _EPSILON
        free = np.where(there[:, :, None], problem.node_free[nodes][None], 0.0)
        for release in releases:
            free[bisect_left(hours, release.hours - _EPSILON) :, self._place[release.node]] += release.resources
        spare = free[:, ~problem.node_is_new[nodes]].sum(axis=1)
        zeros = np.zeros(len(nodes))
        return _Timeline(nodes=nodes, hours=hours, free=free, spare=spare, longest=zeros, paid=zeros.copy())

    def instants(self, offering: int) -> tuple[float, ...]:
        """When something changes on an offering's nodes; the first is now."""
        return tuple(self._at[offering].hours.tolist())

    def room(
        self, job: int, offering: int, start: float, end: float, *, bought: bool | None = True
    ) -> Int[np.ndarray, " own"]:
        """How many workers of a job each node of an offering can hold from `start` to `end`.

        `bought`: True counts nodes that exist or were bought in this plan, False only those that could still be
        bought, None both.
        """
        line = self._at[offering]
        counts = self._counts(job, line.least(start, end))
        return np.where(self._allowed(job, line, bought=bought), counts, 0)

    def _counts(self, job: int, free: Float[np.ndarray, "*where resource"]) -> Int[np.ndarray, "*where"]:
        """How many workers of a job fit into so much."""
        need = self.problem.need[job]
        asked = need > 0
        counts = np.floor((free[..., asked] + _EPSILON) / need[asked]).min(axis=-1)
        fit: Int[np.ndarray, "*where"] = np.maximum(counts, 0).astype(np.int64)
        return fit

    def _allowed(self, job: int, line: _Timeline, *, bought: bool | None) -> Bool[np.ndarray, " own"]:
        allowed: Bool[np.ndarray, " own"] = self.problem.admits[job][line.nodes]
        closed: Bool[np.ndarray, " own"] = self.problem.node_is_new[line.nodes] & (line.longest == 0.0)
        if bought is not None:
            allowed = allowed & (~closed if bought else closed)
        return allowed

    def of_domains(self, job: int, offering: int, room: Int[np.ndarray, " own"]) -> Int[np.ndarray, " domain"]:
        """The room in each domain of the job's topology; `room` is parallel to the offering's nodes."""
        domain = self.problem.domain[job]
        assert domain is not None
        mine = domain[self._at[offering].nodes]
        sums: Int[np.ndarray, " domain"] = np.bincount(mine + 1, weights=room, minlength=1)[1:].astype(np.int64)
        return sums

    def _in_one_domain(
        self, job: int, offering: int, room: Int[np.ndarray, " own"], workers: int
    ) -> Int[np.ndarray, " own"] | None:
        """Of the room, what a gang's topology leaves: the snuggest domain that holds it; None: it may go nowhere."""
        domain, topology = self.problem.domain[job], self.problem.jobs[job].topology
        if domain is None or topology is None:
            return room
        sums = self.of_domains(job, offering, room)
        if (sums >= workers).any():
            snug = int(np.where(sums >= workers, sums, np.iinfo(np.int64).max).argmin())
            return np.where(domain[self._at[offering].nodes] == snug, room, 0)
        return None if topology.required else room

    def nodes_of(self, offering: int) -> Int[np.ndarray, " own"]:
        """The problem's node indices of an offering, parallel to what `room` returns."""
        return self._at[offering].nodes

    def free_at(self, node: int, instant: float) -> Float[np.ndarray, " resource"]:
        """What a node has to give at an instant."""
        line = self._at[int(self.problem.node_offering[node])]
        free: Float[np.ndarray, " resource"] = line.free[line.index(instant)][self._place[node]]
        return free

    def place(self, columns: Columns, column: int, *, below: float = math.inf) -> tuple[Choice, float] | None:
        """The earliest start of a column on what is left, and its J there; None: it never fits.

        `below`: a J that is not below this is of no interest, and need not be looked for.
        """
        return self._buy(columns, column) if columns.buys[column] else self._wait(columns, column, below)

    def _wait(self, columns: Columns, column: int, below: float) -> tuple[Choice, float] | None:
        job, offering, workers = (int(a[column]) for a in (columns.job, columns.offering, columns.workers))
        line, held = self._at[offering], float(columns.held_hours[column])
        own = np.flatnonzero(self._allowed(job, line, bought=True))
        need = self.problem.need[job]
        enough = (line.spare >= need * workers - _DRIFT).all(axis=1)
        first = np.flatnonzero(enough[: self._starts_below(line, columns, column, below)])
        last = np.maximum(first + 1, np.searchsorted(line.hours, line.hours[first] + held - _EPSILON))
        # A window is worth a closer look if there is enough all the way; that it lies on nodes as needed is seen there.
        open_ = _holds_throughout(enough, first, last)
        first, last = first[open_], last[open_]
        for k in range(0, len(first), _AT_ONCE):
            begin, end = first[k : k + _AT_ONCE], last[k : k + _AT_ONCE]
            free = line.free[begin[0] : end[-1]]
            counts = self._counts(job, free if len(own) == len(line.nodes) else free[:, own])
            for i in np.flatnonzero(_holds_throughout(counts.sum(axis=1) >= workers, begin - begin[0], end - begin[0])):
                least = counts[begin[i] - begin[0] : end[i] - begin[0]].min(axis=0)
                if int(least.sum()) < workers:
                    continue
                whole = np.zeros(len(line.nodes), dtype=np.int64)
                whole[own] = least
                room = self._in_one_domain(job, offering, whole, workers)
                if room is None:
                    continue
                start = float(line.hours[begin[i]])
                choice = Choice(column=column, start_hours=start, nodes=self._pack(offering, room, workers))
                return choice, self.problem.objective_at(columns, column, start) + self._idle_usd(columns, choice)
        return None

    def _starts_below(self, line: _Timeline, columns: Columns, column: int, below: float) -> int:
        """How many instants, from now on, a gang may start at for its J to stay below: J never falls with time.

        Joining others on bought nodes may save some of what was idle; where there are such nodes, all instants count.
        """
        if math.isinf(below) or line.longest.any():
            return len(line.hours)
        return bisect_left(line.hours, below, key=lambda start: self.problem.objective_at(columns, column, start))

    def _buy(self, columns: Columns, column: int) -> tuple[Choice, float] | None:
        """Onto what there is when bought nodes would be there, and onto bought nodes for the rest."""
        job, offering, workers = (int(a[column]) for a in (columns.job, columns.offering, columns.workers))
        line, problem = self._at[offering], self.problem
        new = problem.node_is_new[line.nodes]
        if not new.any() or self.headroom[problem.pool_of_offering[offering]] < 1:
            return None
        ready = float(problem.node_from_hours[line.nodes[new]][0])
        end = float(columns.held_hours[column])
        have = self.room(job, offering, ready, end)
        enough = self._in_one_domain(job, offering, have, workers)
        if enough is not None and int(enough.sum()) >= workers:
            return None  # nothing needs to be bought: the column that only waits says it better
        could = self.room(job, offering, ready, end, bought=False)
        could[np.flatnonzero(could)[self.headroom[problem.pool_of_offering[offering]] :]] = 0
        both = self._in_one_domain(job, offering, have + could, workers)
        if both is None:
            return None
        have, could = np.where(both > 0, have, 0), np.where(both > 0, could, 0)
        lacking = workers - int(have.sum())
        count = -(-lacking // int(columns.per_node[column]))
        fresh = np.flatnonzero(could)[:count]
        if len(fresh) < count:
            return None
        room = have.copy()
        room[fresh] = could[fresh]
        nodes = self._pack(offering, room, workers)
        choice = Choice(column=column, start_hours=0.0, nodes=nodes)
        return choice, problem.objective_at(columns, column, 0.0) + self._idle_usd(columns, choice)

    def _pack(self, offering: int, room: Int[np.ndarray, " own"], workers: int) -> tuple[int, ...]:
        """Ranks onto nodes: the roomiest first while they fill up, the rest where it leaves least over."""
        line = self._at[offering]
        order = np.lexsort((np.arange(len(room)), -room))
        taken: list[tuple[int, int]] = []
        left = workers
        for i in order:
            if left <= 0 or room[i] == 0:
                break
            if room[i] <= left:
                taken.append((int(i), int(room[i])))
                left -= int(room[i])
        if left > 0:
            used = {i for i, _ in taken}
            snug = min((int(room[i]), int(i)) for i in range(len(room)) if room[i] >= left and i not in used)
            taken.append((snug[1], left))
        return tuple(int(line.nodes[i]) for i, count in taken for _ in range(count))

    def _idle_usd(self, columns: Columns, choice: Choice) -> float:
        """What the idle part of bought nodes would cost more (or less) with this gang on them."""
        column, nodes = choice.column, choice.nodes
        line = self._at[int(columns.offering[column])]
        held, share = float(columns.held_hours[column]), float(columns.share[column])
        end, price = choice.start_hours + held, float(columns.usd_per_node_hour[column])
        extra = 0.0
        for node in set(nodes):
            if not self.problem.node_is_new[node]:
                continue
            i = self._place[node]
            before = max(0.0, float(line.longest[i] - line.paid[i]))
            paid = float(line.paid[i]) + held * share * nodes.count(node)
            extra += max(0.0, max(float(line.longest[i]), end) - paid) - before
        return extra * price if extra else 0.0

    def take(self, columns: Columns, choice: Choice) -> None:
        """Give a gang its nodes."""
        job, offering = int(columns.job[choice.column]), int(columns.offering[choice.column])
        line = self._at[offering]
        held, share = float(columns.held_hours[choice.column]), float(columns.share[choice.column])
        for node in choice.nodes:
            i = self._place[node]
            if self.problem.node_is_new[node]:
                if line.longest[i] == 0.0:
                    self.headroom[self.problem.pool_of_offering[offering]] -= 1
                    line.spare += line.free[:, i]
                line.longest[i] = max(line.longest[i], choice.start_hours + held)
                line.paid[i] += held * share
        self._move(choice, columns, -1.0)
        self._taken[job] = (choice, columns)

    def give_back(self, job: int) -> None:
        """Undo `take` for a job, but for the nodes it bought: those are still to be had by others."""
        choice, columns = self._taken.pop(job)
        self._move(choice, columns, +1.0)

    def _move(self, choice: Choice, columns: Columns, sign: float) -> None:
        job, offering = int(columns.job[choice.column]), int(columns.offering[choice.column])
        line, need = self._at[offering], self.problem.need[job]
        bought = columns.buys[choice.column]
        start = float(self.problem.node_from_hours[list(choice.nodes)].max()) if bought else choice.start_hours
        end = (0.0 if bought else choice.start_hours) + float(columns.held_hours[choice.column])
        first, last = line.split(start), line.split(max(end, start + _EPSILON * 10))
        for node in choice.nodes:
            line.free[first:last, self._place[node]] += sign * need
        line.spare[first:last] += sign * len(choice.nodes) * need

    def reserve(self, node: int, start: float, end: float, amount: Float[np.ndarray, " resource"]) -> None:
        """Take so much of a node that is there from one instant to another, for somebody who is not in the problem."""
        line = self._at[int(self.problem.node_offering[node])]
        first, last = line.split(start), line.split(max(end, start + _EPSILON * 10))
        line.free[first:last, self._place[node]] -= amount
        line.spare[first:last] -= amount
