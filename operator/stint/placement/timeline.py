"""What every node has free at every instant: a solver's scratch pad, built from a problem, changed as gangs are served.

Each offering has a list of instants; between two of them nothing changes. `free[i]` is what every node of the
offering has to give from instant i on. A gang takes its share from every instant in its run. How many workers that
makes is kept up to date beside it, for the most common kinds of workers.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.model.resources import AXES
from stint.placement.columns import Columns
from stint.placement.problem import Problem, Release
from stint.placement.solver import Choice
from stint.placement.unlike import pack

_EPSILON = 1e-9
_HAIR = 1e-9  # by which sums in another order may differ
_ENDLESS = 1e18  # of what a worker does not ask for
_MOST = np.iinfo(np.int64).max
_MOST_WORKERS = 30_000  # on a node
_MOST_KINDS = 16  # of workers, whose room is kept: the most common


@dataclass(slots=True)
class _OfferingTimeline:
    """Arrays by instant are longer than `hours`, so that most instants can be added in place."""

    nodes: Int[np.ndarray, " own"]  # indices into the problem's nodes
    new: Bool[np.ndarray, " own"]
    hours: list[float]  # sorted; the first is 0
    free: Float[np.ndarray, "instant own resource"]
    longest: Float[np.ndarray, " own"]  # until the last gang leaves a bought node; 0: not bought
    paid: Float[np.ndarray, " own"]  # node-hours they pay for
    # Of each kind of worker that was asked about, numbered in `kinds`:
    need: Float[np.ndarray, "kind resource"]
    slack: Float[np.ndarray, "kind resource"]  # of what it asks for a hair; endless of what it does not
    admits: Bool[np.ndarray, "kind own"]
    room: Int[np.ndarray, "kind instant own"]  # none on nodes that are still to be bought
    rooms: Int[np.ndarray, "kind instant"]  # on all nodes
    kinds: dict[int, int] = field(default_factory=dict)
    idle: list[float] = field(default_factory=lambda: [0.0])  # node-hours not paid for on so many bought nodes, at most
    first_new: int = 0  # where those begin that are to be bought
    closed: Int[np.ndarray, " own"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # not bought yet

    def __post_init__(self) -> None:
        self.first_new = int(np.count_nonzero(~self.new))
        self.closed = self.new.nonzero()[0]

    def split(self, at: float) -> int:
        """The index of the instant `at`, which exists from now on."""
        hours = self.hours
        i, n = bisect_left(hours, at - _EPSILON), len(hours)
        if i == n or hours[i] - at >= _EPSILON:
            if n == len(self.free):
                self.free = np.concatenate([self.free, np.empty_like(self.free)])
                self.room = np.concatenate([self.room, np.empty_like(self.room)], axis=1)
                self.rooms = np.concatenate([self.rooms, np.empty_like(self.rooms)], axis=1)
            hours.insert(i, at)
            self.free[i : n + 1] = self.free[i - 1 : n]
            self.room[:, i : n + 1] = self.room[:, i - 1 : n]
            self.rooms[:, i : n + 1] = self.rooms[:, i - 1 : n]
        return i

    def index(self, at: float) -> int:
        """The last instant that is not after `at`."""
        return bisect_right(self.hours, at + _EPSILON) - 1

    def window(self, start: float, end: float) -> slice:
        """The instants from `start` to before `end`; one at least."""
        first = self.index(start)
        return slice(first, max(first + 1, bisect_left(self.hours, end - _EPSILON)))

    def recount(self, kinds: slice, instants: slice, some: Int[np.ndarray, " some"]) -> None:
        """See to the rooms after a change of what some nodes have to give, or of which are there."""
        if not self.kinds:
            return
        slack, need = self.slack[kinds, None, None], self.need[kinds, None, None]
        each = (self.free[instants, some] + slack) / need
        count = np.minimum(np.minimum(each[..., 0], each[..., 1]), np.minimum(each[..., 2], each[..., 3]))
        for axis in range(len(AXES), each.shape[-1]):  # a few calls on pairs are faster than one over the axis
            np.minimum(count, each[..., axis], out=count)
        there = ~self.new[some] | (self.longest[some] > 0.0)
        fit = _whole(count) * (self.admits[kinds, some] & there)[:, None]
        self.rooms[kinds, instants] += np.add.reduce(fit - self.room[kinds, instants, some], axis=-1)
        self.room[kinds, instants, some] = fit

    def know(self, kind: int, need: Float[np.ndarray, " resource"], admits: Bool[np.ndarray, " node"]) -> int:
        """Begin to keep the room for a kind of worker. Returns its index."""
        k = self.kinds[kind] = len(self.kinds)
        size, n = self.free.shape[:2], len(self.hours)
        self.need = np.concatenate([self.need, np.where(need > 0, need, 1.0)[None]])
        self.slack = np.concatenate([self.slack, np.where(need > 0, _EPSILON, _ENDLESS)[None]])
        self.admits = np.concatenate([self.admits, admits[self.nodes][None]])
        self.room = np.concatenate([self.room, np.zeros((1, *size), dtype=np.int16)])
        self.rooms = np.concatenate([self.rooms, np.zeros((1, size[0]), dtype=np.int64)])
        self.recount(slice(k, k + 1), slice(0, n), np.arange(size[1]))
        return k

    def is_there(self) -> Bool[np.ndarray, " own"]:
        """Which nodes exist or were bought."""
        there: Bool[np.ndarray, " own"] = ~self.new | (self.longest > 0.0)
        return there


def _whole(counts: Float[np.ndarray, "*where"]) -> Int[np.ndarray, "*where"]:
    """Workers, in two bytes each: most of the time goes into moving these arrays."""
    fit: Int[np.ndarray, "*where"] = np.minimum(np.maximum(counts, 0.0), _MOST_WORKERS).astype(np.int16)
    return fit


@dataclass(slots=True)
class Start:
    """A column on what is left: when its gang could start, its J then, and how many workers each node would hold."""

    column: int
    start_hours: float
    objective_usd: float
    job: int
    offering: int
    workers: int
    room: Int[np.ndarray, " own"]
    nodes: tuple[int, ...] | None = None  # by rank; None: not worked out yet


class Timeline:
    """What is left for those who have not been served yet."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.headroom = problem.headroom.copy()
        self._at: list[_OfferingTimeline] = []
        self.hints: dict[tuple[int, ...], int] = {}  # see `greedy.cheapest`
        wanted = [j.objective for j in problem.jobs]
        self._usd_per_hour = [w.performance * w.usd_per_hour for w in wanted]  # of waiting, lateness aside
        self._place = np.zeros(len(problem.node_offering), dtype=np.int64)  # index of a node in its timeline
        self._taken: dict[int, tuple[Choice, Columns]] = {}
        number: dict[tuple[object, ...], int] = {}  # of each kind of worker: what it needs and where it may go
        needs = zip(problem.need, problem.admits, problem.parts, strict=True)
        self._kind = [number.setdefault((n.tobytes(), id(a), id(p)), len(number)) for n, a, p in needs]
        self._kept = {kind for kind, jobs in Counter(self._kind).most_common(_MOST_KINDS) if jobs > 1}
        releases: list[list[Release]] = [[] for _ in problem.offerings]
        for release in problem.releases:
            if math.isfinite(problem.node_from_hours[release.node]):
                releases[problem.node_offering[release.node]].append(release)
        for o in range(len(problem.offerings)):
            nodes = np.flatnonzero(problem.node_offering == o)
            self._place[nodes] = np.arange(len(nodes))
            self._at.append(self._initial(nodes, releases[o]))

    def _initial(self, nodes: Int[np.ndarray, " own"], releases: Sequence[Release]) -> _OfferingTimeline:
        problem = self.problem
        arrive = problem.node_from_hours[nodes]
        hours = sorted({0.0, *(float(h) for h in arrive if math.isfinite(h)), *(r.hours for r in releases)})
        there = arrive[None, :] <= np.array(hours)[:, None] + _EPSILON
        free = np.where(there[:, :, None], problem.node_free[nodes][None], 0.0)
        for release in releases:
            free[bisect_left(hours, release.hours - _EPSILON) :, self._place[release.node]] += release.resources
        zeros, axes = np.zeros(len(nodes)), free.shape[2]
        return _OfferingTimeline(
            nodes=nodes,
            new=problem.node_is_new[nodes],
            hours=hours,
            free=free,
            longest=zeros,
            paid=zeros.copy(),
            need=np.zeros((0, axes)),
            slack=np.zeros((0, axes)),
            admits=np.zeros((0, len(nodes)), dtype=bool),
            room=np.zeros((0, *free.shape[:2]), dtype=np.int16),
            rooms=np.zeros((0, len(free)), dtype=np.int64),
        )

    def kind(self, job: int) -> int:
        """Jobs of one kind ask for the same worker, and may go to the same nodes."""
        return self._kind[job]

    def instants(self, offering: int) -> tuple[float, ...]:
        """When something changes on an offering's nodes; the first is now."""
        return tuple(self._at[offering].hours)

    def room(
        self, job: int, offering: int, start: float, end: float, *, bought: bool | None = True
    ) -> Int[np.ndarray, " own"]:
        """How many workers of a job each node of an offering can hold from `start` to `end`.

        `bought`: True counts nodes that exist or were bought in this plan, False only those that could still be
        bought, None both.
        """
        line = self._at[offering]
        window, admits = line.window(start, end), self.problem.admits[job]
        if bought:
            room, _ = self._rooms(job, line)
            least: Int[np.ndarray, " own"] = room[window].min(axis=0)
            return least
        allowed = admits[line.nodes]
        if bought is not None:
            allowed = allowed & ~line.is_there()
        return np.where(allowed, self._counts(job, line.free[window].min(axis=0)), 0)

    def _rooms(
        self, job: int, line: _OfferingTimeline
    ) -> tuple[Int[np.ndarray, "instant own"], Int[np.ndarray, " instant"]]:
        """How many workers of a job fit on each node that is there, and on all of them, at every instant."""
        kind, admits = self._kind[job], self.problem.admits[job]
        if kind in self._kept:
            k = line.kinds.get(kind)
            if k is None:
                k = line.know(kind, self.problem.need[job], admits)
            return line.room[k], line.rooms[k]
        own = (admits[line.nodes] & line.is_there()).nonzero()[0]
        room = np.zeros((len(line.hours), len(line.nodes)), dtype=np.int16)
        room[:, own] = counts = self._counts(job, line.free[: len(line.hours), own])
        return room, counts.sum(axis=1)

    def _counts(self, job: int, free: Float[np.ndarray, "*where resource"]) -> Int[np.ndarray, "*where"]:
        """How many workers of a job fit into so much."""
        need = self.problem.need[job]
        asked = need > 0
        counts = ((free[..., asked] + _EPSILON) / need[asked]).min(axis=-1)
        return _whole(counts)

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
        """Of the room, what a gang's topology leaves: the snuggest domain that holds it; None: it may go nowhere.

        Where it is said how its workers share nodes, what is left is exactly what each node gets.
        """
        problem = self.problem
        domain, topology, together = problem.domain[job], problem.topology[job], problem.together[job]
        if domain is None:
            return room
        nodes = self._at[offering].nodes

        counted = problem.admits[job][nodes] & self._at[offering].is_there()

        def arranged(some: Int[np.ndarray, " own"]) -> Int[np.ndarray, " own"] | None:
            return some if together is None else together.arrange(nodes, counted, some, workers)

        if topology is None:
            return arranged(room)
        sums = self.of_domains(job, offering, room)
        snug = np.where(sums >= workers, sums, _MOST).argsort(kind="stable")[: np.count_nonzero(sums >= workers)]
        for one in snug.tolist():
            if (found := arranged(np.where(domain[nodes] == one, room, 0))) is not None:
                return found
        return None if topology.required else arranged(room)

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
        found = self.find(columns, column, below)
        return None if found is None else (self.choose(found), found.objective_usd)

    def find(self, columns: Columns, column: int, below: float = math.inf) -> Start | None:
        """As `place`, but which nodes a gang gets is worked out by `choose`, for the one start that is taken."""
        if not columns.plain.buys[column]:
            return self._wait(columns, column, below)
        unlike = self.problem.parts[columns.plain.job[column]]
        return self._buy_unlike(columns, column, below) if unlike else self._buy(columns, column, below)

    def choose(self, start: Start) -> Choice:
        """The nodes of a start, as long as nothing has changed since it was found."""
        if start.nodes is None:
            start.nodes = self._pack(start.job, start.offering, start.room, start.workers)
        return Choice(column=start.column, start_hours=start.start_hours, nodes=start.nodes)

    def _wait(self, columns: Columns, column: int, below: float) -> Start | None:
        plain = columns.plain
        job, offering, workers = plain.job[column], plain.offering[column], plain.workers[column]
        line = self._at[offering]
        room, rooms = self._rooms(job, line)
        alike = workers - sum(p.count for p in self.problem.parts[job])
        enough = (rooms[: len(line.hours)] >= alike).tobytes()
        if 1 not in enough:
            return None
        any_bought = len(line.idle) > 1
        idle = self._least_idle_usd(columns, column, new_nodes=0) if any_bought else 0.0
        at_once, hourly = plain.objective_usd[column], self._usd_per_hour[job]
        apart, hours, held = self.problem.domain[job] is not None, line.hours, plain.held_hours[column]
        first, nodes = enough.find(1), None
        while first >= 0:
            start = hours[first]
            if at_once + hourly * start + idle >= below:
                return None  # J never falls with time, and is this at the least
            until, gap = start + held - _EPSILON, enough.find(0, first)
            if gap >= 0 and hours[gap] < until:
                first = enough.find(1, gap + 1)  # whatever starts before a gap that is too early runs into it as well
                continue
            end = bisect_left(hours, until, first + 1)
            least = room[first] if end == first + 1 else np.minimum.reduce(room[first:end])
            if alike < workers:
                own, nodes = least, self._unlike(job, line, slice(first, end), workers)
                if nodes is not None:
                    break
            elif end == first + 1 or np.add.reduce(least) >= workers:
                own = self._in_one_domain(job, offering, least, workers) if apart else least
                if own is not None:
                    break
            first = enough.find(1, first + 1)
        else:
            return None
        objective = self.problem.objective_at(columns, column, start)
        if objective + idle >= below:
            return None
        found = Start(column, start, objective, job, offering, workers, own, nodes)
        if any_bought and (nodes is not None or own[line.first_new :].any()):
            found.nodes = nodes or self._pack(job, offering, own, workers)
            found.objective_usd += self._idle_usd(columns, column, start, found.nodes)
        return found

    def _buy(self, columns: Columns, column: int, below: float) -> Start | None:
        """Onto what there is when bought nodes would be there, and onto bought nodes for the rest."""
        plain, problem = columns.plain, self.problem
        offering = plain.offering[column]
        line, headroom = self._at[offering], self.headroom[problem.pool_of_offering[offering]]
        if headroom < 1 or not len(closed := line.closed[:headroom]):
            return None
        job, workers, per_node = plain.job[column], plain.workers[column], plain.per_node[column]
        ready = float(problem.node_from_hours[line.nodes[closed[0]]])
        window = line.window(ready, plain.held_hours[column])
        room, rooms = self._rooms(job, line)
        lacking = max(1, workers - int(np.minimum.reduce(rooms[window])))
        objective = problem.objective_at(columns, column, 0.0)
        if objective + self._least_idle_usd(columns, column, new_nodes=-(-lacking // per_node)) >= below:
            return None
        have: Int[np.ndarray, " own"] = np.minimum.reduce(room[window])
        enough = self._in_one_domain(job, offering, have, workers)
        if enough is not None and int(enough.sum()) >= workers:
            return None  # nothing needs to be bought: the column that only waits says it better
        could = np.zeros_like(have)
        could[closed] = self._counts(job, problem.node_free[line.nodes[closed[:1]]])  # they are alike
        both = self._in_one_domain(job, offering, have + could, workers)
        if both is None:
            return None
        have, could = np.where(both > 0, have, 0), np.where(both > 0, could, 0)
        if problem.together[job] is not None:  # `both` is what each node gets
            nodes = self._pack(job, offering, both, workers)
            objective += self._idle_usd(columns, column, 0.0, nodes)
            return Start(column, 0.0, objective, job, offering, workers, both, nodes)
        lacking = workers - int(have.sum())
        count = -(-lacking // per_node)
        fresh = np.flatnonzero(could)[:count]
        if len(fresh) < count:
            return None
        room = have.copy()
        room[fresh] = could[fresh]
        nodes = self._pack(job, offering, room, workers)
        objective += self._idle_usd(columns, column, 0.0, nodes)
        return Start(column, 0.0, objective, job, offering, workers, room, nodes)

    def _unlike(self, job: int, line: _OfferingTimeline, instants: slice, pods: int) -> tuple[int, ...] | None:
        """The nodes of a gang of unlike pods, by rank, on what is free at all these instants; None: it does not fit."""
        free = line.free[instants].min(axis=0)
        return pack(self.problem, job, line.nodes, free, line.is_there(), pods)

    def _buy_unlike(self, columns: Columns, column: int, below: float) -> Start | None:
        """As `_buy`, pod by pod: with one more node after the other until all of them fit."""
        plain, problem = columns.plain, self.problem
        job, offering, workers = plain.job[column], plain.offering[column], plain.workers[column]
        line, headroom = self._at[offering], self.headroom[problem.pool_of_offering[offering]]
        closed = line.closed[: max(headroom, 0)]
        if not len(closed) or problem.objective_at(columns, column, 0.0) >= below:
            return None
        ready = float(problem.node_from_hours[line.nodes[closed[0]]])
        free = line.free[line.window(ready, plain.held_hours[column])].min(axis=0)
        there = line.is_there()
        if pack(problem, job, line.nodes, free, there, workers) is not None:
            return None  # nothing needs to be bought: the column that only waits says it better
        empty = problem.node_free[line.nodes[closed[0]]]
        lacking = sum(need[0] for need in problem.needs(job, workers)) - free[there, 0].sum()
        least = max(1, math.ceil((lacking - _EPSILON) / empty[0])) if empty[0] else 1
        for count, i in enumerate(closed[:workers].tolist(), start=1):
            there[i], free[i] = True, empty
            nodes = pack(problem, job, line.nodes, free, there, workers) if count >= least else None
            if nodes is not None:
                objective = problem.objective_at(columns, column, 0.0) + self._idle_usd(columns, column, 0.0, nodes)
                room = np.zeros(len(line.nodes), dtype=np.int64)
                return Start(column, 0.0, objective, job, offering, workers, room, nodes)
        return None

    def _pack(self, job: int, offering: int, room: Int[np.ndarray, " own"], workers: int) -> tuple[int, ...]:
        """Ranks onto nodes: the roomiest first while they fill up, the rest where it leaves least over.

        What a job would rather have decides between nodes alike; of one worker, between all that would do.
        """
        nodes = self._at[offering].nodes
        some = room.nonzero()[0]
        have = room[some]
        liked = self.problem.preference[job]
        if workers == 1:
            if liked is None:
                return (int(nodes[np.where(room > 0, room, _MOST_WORKERS + 1).argmin()]),)
            return (int(nodes[some[np.lexsort((have, -liked[nodes[some]]))[0]]]),)
        order = (-have).argsort(kind="stable") if liked is None else np.lexsort((-liked[nodes[some]], -have))
        counts, places = have[order].tolist(), some[order].tolist()
        taken: list[tuple[int, int]] = []
        left = workers
        for count, i in zip(counts, places, strict=True):
            if count <= left:
                taken.append((i, count))
                left -= count
                if not left:
                    break
        if left > 0:
            used = {i for i, _ in taken}
            ways = zip(counts, places, strict=True)
            taken.append((min((count, i) for count, i in ways if count >= left and i not in used)[1], left))
        return tuple(int(nodes[i]) for i, count in taken for _ in range(count))

    def _idle_usd(self, columns: Columns, column: int, start_hours: float, nodes: tuple[int, ...]) -> float:
        """What the idle part of bought nodes would cost more (or less) with this gang on them."""
        existing = len(self.problem.nodes)  # those that could be bought come after them
        if max(nodes) < existing:
            return 0.0
        plain = columns.plain
        line = self._at[plain.offering[column]]
        held, share = plain.held_hours[column], plain.share[column]
        end, price = start_hours + held, plain.usd_per_node_hour[column]
        extra = 0.0
        for node in set(nodes):
            if node < existing:
                continue
            i = self._place[node]
            longest, paid = float(line.longest[i]), float(line.paid[i])
            before = max(0.0, longest - paid)
            paid += held * share * nodes.count(node)
            extra += max(0.0, max(longest, end) - paid) - before
        return extra * price if extra else 0.0

    def _least_idle_usd(self, columns: Columns, column: int, *, new_nodes: int) -> float:
        """What `_idle_usd` is at the least, wherever the gang goes, if it buys so many nodes or more.

        On nodes that others bought it saves no more than what is idle there, and no more than what it pays itself.
        """
        plain = columns.plain
        idle = self._at[plain.offering[column]].idle
        if len(idle) == 1 and not new_nodes:
            return 0.0
        workers, price = plain.workers[column], plain.usd_per_node_hour[column]
        unpaid = plain.held_hours[column] * (new_nodes - workers * plain.share[column])
        usd = price * max(unpaid, -idle[min(workers, len(idle) - 1)])
        return usd - _HAIR * (abs(usd) + plain.objective_usd[column])

    def take(self, columns: Columns, choice: Choice) -> None:
        """Give a gang its nodes."""
        job, offering = int(columns.job[choice.column]), int(columns.offering[choice.column])
        line = self._at[offering]
        held, share = float(columns.held_hours[choice.column]), float(columns.share[choice.column])
        new = [int(self._place[n]) for n in choice.nodes if self.problem.node_is_new[n]]
        opened = sorted({i for i in new if line.longest[i] == 0.0})
        for i in new:
            line.longest[i] = max(line.longest[i], choice.start_hours + held)
            line.paid[i] += held * share
        if new:
            idle = np.sort(np.maximum(line.longest - line.paid, 0.0)[line.longest > 0.0])[::-1]
            line.idle = [0.0, *np.cumsum(idle).tolist()]
        if opened:
            self.headroom[self.problem.pool_of_offering[offering]] -= len(opened)
            line.closed = (~line.is_there()).nonzero()[0]
            line.recount(slice(None), slice(0, len(line.hours)), np.array(opened))
        self._move(choice, columns, -1.0)
        self._taken[job] = (choice, columns)

    def is_of(self, problem: Problem, choices: Sequence[Choice | None]) -> bool:
        """Whether it is what these choices leave of a problem."""
        taken = {j: (c, problem.columns) for j, c in enumerate(choices) if c is not None}
        return self.problem is problem and self._taken == taken

    def give_back(self, job: int) -> None:
        """Undo `take` for a job, but for the nodes it bought: those are still to be had by others."""
        choice, columns = self._taken.pop(job)
        self._move(choice, columns, +1.0)

    def _move(self, choice: Choice, columns: Columns, sign: float) -> None:
        job, offering = int(columns.job[choice.column]), int(columns.offering[choice.column])
        line, load = self._at[offering], self.problem.load(job, choice.nodes)
        bought = columns.buys[choice.column]
        start = float(self.problem.node_from_hours[list(choice.nodes)].max()) if bought else choice.start_hours
        end = (0.0 if bought else choice.start_hours) + float(columns.held_hours[choice.column])
        first, last = line.split(start), line.split(max(end, start + _EPSILON * 10))
        places = self._place[list(load)]
        for place, taken in zip(places.tolist(), load.values(), strict=True):
            line.free[first:last, place] += sign * taken
        line.recount(slice(None), slice(first, last), places)

    def reserve(self, node: int, start: float, end: float, amount: Float[np.ndarray, " resource"]) -> None:
        """Take so much of a node that is there from one instant to another, for somebody who is not in the problem."""
        line = self._at[int(self.problem.node_offering[node])]
        first, last = line.split(start), line.split(max(end, start + _EPSILON * 10))
        line.free[first:last, self._place[node]] -= amount
        line.recount(slice(None), slice(first, last), self._place[[node]])
