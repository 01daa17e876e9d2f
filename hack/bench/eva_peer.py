"""Eva's policy, and a node for each task: written anew after the paper and what its authors' simulator does.

Tian et al., "Eva: Cost-Efficient Cloud-Based Cluster Scheduling", EuroSys 2025, section 4. The reservation price of a
task is that of the cheapest node that holds it; throughput-normalised, it counts for as much of it as of its speed the
task keeps beside the others. A node is worth having where what is on it counts for its price. A full reconfiguration
fills nodes anew, the most expensive first; a partial one moves only what is on nodes that are not worth having, and
what is new. Of the two, the one is taken that saves more until the next full one is to be expected, less what moving
costs. How tasks bear each other is learned as they run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hack.bench.eva_world import ROUND_S, UNMEASURED, Need, Phase, Place, Work, World

_SLACK = 1e-9


def cheapest_type(world: World, need: Need) -> int:
    """That holds so much; the first of equals.

    Raises:
        ValueError: nothing does.
    """
    fit = [k for k, t in enumerate(world.types) if _holds(t.capacity, need)]
    return min(fit, key=lambda k: world.types[k].usd_per_hour)


def _holds(capacity: Sequence[float], need: Need) -> bool:
    return all(n <= c + _SLACK for n, c in zip(need, capacity, strict=True))


class NoPacking:
    """The cheapest node for every task alone, from its first minute to its last."""

    def plan(self, world: World) -> list[Place]:
        """See `Policy`."""
        places = []
        for t, task in world.tasks.items():
            if task.bound is None:
                places.append(Place(None, cheapest_type(world, task.work.need), (t,)))
            else:
                places.append(Place(task.bound, world.nodes[task.bound].type, (t,)))
        return places


class Learned:
    """How tasks bear each other, as far as it could be seen: of the very same set of tasks, else of pairs.

    Args:
        name: tasks of one name are taken for alike.
    """

    def __init__(self, name: Callable[[Work], str]) -> None:
        self._name = name
        self._seen: dict[tuple[str, tuple[str, ...]], float] = {}
        self._kept: dict[tuple[str, tuple[str, ...]], float] = {}

    def look(self, world: World) -> None:
        """At nodes on which everybody runs."""
        for node in world.nodes.values():
            tasks = [world.tasks[t] for t in node.on]
            if all(t.shares for t in tasks):
                for task in tasks:
                    key = self._name(task.work), tuple(sorted(self._name(o.work) for o in tasks if o is not task))
                    if self._seen.get(key) != task.kept:
                        self._seen[key] = task.kept
                        self._kept.clear()

    def keeps(self, of: str, others: tuple[str, ...]) -> float:
        """Of its speed, what one keeps beside others, whose names are sorted."""
        key = (of, others)
        if key not in self._kept:
            pairs = math.prod(self._seen.get((of, (other,)), UNMEASURED) for other in others)
            self._kept[key] = self._seen.get(key, pairs)
        return self._kept[key]


class _Pile:
    """A node as it is being planned."""

    def __init__(self, node: int | None, type_: int, capacity: Need, tasks: Sequence[int], needs: Sequence[Need]):
        self.node, self.type, self.tasks = node, type_, list(tasks)
        self.full = capacity
        self.free = [c - sum(n[r] for n in needs) for r, c in enumerate(capacity)]

    def add(self, task: int, need: Need) -> None:
        self.tasks.append(task)
        self.free = [f - n for f, n in zip(self.free, need, strict=True)]

    def alignment(self, need: Need) -> float:
        """How well a task's needs go with what is free."""
        return sum((n / c) * (f / c) for n, f, c in zip(need, self.free, self.full, strict=True) if c > 0)


class Eva:
    """Both reconfigurations, and the better of them."""

    def __init__(self) -> None:
        self._learned = Learned(lambda work: work.variant)
        self._own: dict[int, int] = {}  # task -> the cheapest type
        self._seen: set[int] = set()  # tasks that could be moved in the last round
        self._events = 0
        self._first_s, self._last_s = math.nan, math.nan
        self._ended = 0
        self._full = 0  # reconfigurations

    def plan(self, world: World) -> list[Place]:
        """See `Policy`."""
        self._learned.look(world)
        free = [t for t in sorted(world.tasks) if world.tasks[t].phase is not Phase.MOVING]
        fixed: dict[int, list[int]] = {}
        for t in sorted(world.tasks):
            node = world.tasks[t].bound
            if world.tasks[t].phase is Phase.MOVING and node is not None:
                fixed.setdefault(node, []).append(t)
        if not free:
            return [Place(n, world.nodes[n].type, tuple(tasks)) for n, tasks in fixed.items()]
        for t in free:
            self._own.setdefault(t, cheapest_type(world, world.tasks[t].work.need))
        partial, full = self._partial(world, free, fixed), self._anew(world, free, fixed)
        self._count(world)
        lasts_s = self._lasts_s(world.now_s)
        better = [
            round(self._saving(world, piles) / 3600.0 * lasts_s - self._move_usd(world, piles), 2)
            if not math.isnan(lasts_s)
            else 0.0
            for piles in (partial, full)
        ]
        self._seen = set(free)
        if better[1] > better[0]:
            self._full += 1
            partial = full
        return [Place(p.node, p.type, tuple(p.tasks)) for p in partial]

    # -- what is known

    def _worth(self, world: World, tasks: Sequence[int]) -> float:
        """Throughput-normalised reservation price of tasks on one node."""
        variants = [world.tasks[t].work.variant for t in tasks]
        total = 0.0
        for i, t in enumerate(tasks):
            others = tuple(sorted(variants[:i] + variants[i + 1 :]))
            total += world.types[self._own[t]].usd_per_hour * self._learned.keeps(variants[i], others)
        return total

    def _count(self, world: World) -> None:
        """Jobs that came and went: they tell how long a configuration lasts. One that was moving counts anew."""
        times = [world.tasks[t].work.arrives_s for t in world.tasks if t not in self._seen]
        times += world.ended_s[self._ended :]
        self._ended = len(world.ended_s)
        for at in sorted(times):
            self._first_s = at if math.isnan(self._first_s) else self._first_s
            self._last_s = at
        self._events += len(times)

    def _lasts_s(self, now_s: int) -> float:
        """Until the next full reconfiguration, as often as there were some so far; nan: cannot be told yet."""
        if self._events < 2:
            return math.nan
        often = self._full / self._events
        if often == 0:
            return float(now_s)
        if often >= 1:
            return math.nan
        return -(self._last_s - self._first_s) / (self._events - 1) / math.log(1.0 - often)

    def _saving(self, world: World, piles: Sequence[_Pile]) -> float:
        """USD an hour against a node for each task, as far as they keep their speed."""
        usd = round(sum(world.types[p.type].usd_per_hour for p in piles), 2)
        return sum(self._worth(world, p.tasks) for p in piles) - usd

    def _move_usd(self, world: World, piles: Sequence[_Pile]) -> float:
        usd = 0.0
        for pile in piles:
            if pile.node is None:
                usd += world.types[pile.type].usd_per_hour * ROUND_S / 3600.0
            for t in pile.tasks:
                task = world.tasks[t]
                if pile.node is None or task.bound != pile.node:
                    work = task.work
                    known_s = work.fetch_s + work.build_s if task.bound is not None else 0
                    known_s += work.upload_s if task.sent else 0
                    usd += (known_s + work.start_s) * world.types[self._own[t]].usd_per_hour / 3600.0
        return usd

    # -- configurations

    def _partial(self, world: World, free: Sequence[int], fixed: dict[int, list[int]]) -> list[_Pile]:
        loose = [t for t in free if world.tasks[t].on is None]
        for node in world.nodes.values():
            if node.id in fixed or not node.bound:
                continue
            alone = len(node.bound) == 1 and self._own[node.bound[0]] == node.type
            if not alone and self._worth(world, node.bound) < world.types[node.type].usd_per_hour:
                loose += node.bound
        stays = {n: list(tasks) for n, tasks in fixed.items()}
        for t in free:
            bound = world.tasks[t].bound
            if t not in loose and bound is not None:
                stays.setdefault(bound, []).append(t)
        piles = self._piles(world, stays)
        loose = self._fill(world, piles, loose)
        return piles + self._top_down(world, piles, loose)

    def _anew(self, world: World, free: Sequence[int], fixed: dict[int, list[int]]) -> list[_Pile]:
        piles = self._piles(world, fixed)
        loose = self._fill(world, piles, list(free))
        return piles + self._top_down(world, piles, loose)

    def _piles(self, world: World, stays: dict[int, list[int]]) -> list[_Pile]:
        found = []
        for n, tasks in stays.items():
            kind = world.nodes[n].type
            for t in tasks:
                self._own.setdefault(t, cheapest_type(world, world.tasks[t].work.need))
            needs = [world.tasks[t].work.need for t in tasks]
            found.append(_Pile(n, kind, world.types[kind].capacity, tasks, needs))
        return found

    def _fill(self, world: World, piles: Sequence[_Pile], loose: list[int]) -> list[int]:
        """Tasks onto nodes that are there, the pair first that is worth most together; those that found no room."""
        left = list(loose)
        while left:
            best = None
            for t in left:
                need = world.tasks[t].work.need
                for pile in piles:
                    if _holds(pile.free, need):
                        here = world.tasks[t].on is not None and world.tasks[t].on == pile.node
                        score = (self._worth(world, [*pile.tasks, t]), here, pile.alignment(need))
                        if best is None or score > best[0]:
                            best = (score, t, pile)
            if best is None:
                break
            _, t, pile = best
            pile.add(t, world.tasks[t].work.need)
            left.remove(t)
        return left

    def _top_down(self, world: World, piles: Sequence[_Pile], loose: Sequence[int]) -> list[_Pile]:
        left, found = list(loose), []
        taken = {p.node for p in piles}
        falling = sorted(range(len(world.types)), key=lambda k: -world.types[k].usd_per_hour)
        rising = sorted(range(len(world.types)), key=lambda k: world.types[k].usd_per_hour)
        for k in falling:
            kind = world.types[k]
            emptied = [n for n in world.nodes.values() if n.up_s <= world.now_s and n.id not in taken and n.type == k]
            while True:
                node = max(emptied, key=lambda n: len(n.bound)) if emptied else None
                pile = _Pile(node.id if node else None, k, kind.capacity, [], [])
                worth = self._most_worth(world, pile, left)
                alone = len(pile.tasks) == 1 and self._own[pile.tasks[0]] == k
                if kind.usd_per_hour > worth and not alone:
                    break
                needs = [world.tasks[t].work.need for t in pile.tasks]
                total = (sum(n[0] for n in needs), sum(n[1] for n in needs), sum(n[2] for n in needs))
                small = next(s for s in rising if _holds(world.types[s].capacity, total))
                if small != k:
                    pile.node, pile.type = None, small
                elif node is not None:
                    emptied.remove(node)
                found.append(pile)
                left = [t for t in left if t not in pile.tasks]
            for t in [t for t in left if self._own[t] == k]:
                node = max(emptied, key=lambda n: len(n.bound)) if emptied else None
                if node is not None:
                    emptied.remove(node)
                found.append(_Pile(node.id if node else None, k, kind.capacity, [t], [world.tasks[t].work.need]))
                left.remove(t)
        return found

    def _most_worth(self, world: World, pile: _Pile, left: Sequence[int]) -> float:
        worth = 0.0
        while True:
            best = None
            for t in left:
                need = world.tasks[t].work.need
                if t in pile.tasks or not _holds(pile.free, need):
                    continue
                here = pile.node is not None and world.tasks[t].on == pile.node
                score = (self._worth(world, [*pile.tasks, t]), here, pile.alignment(need))
                if best is None or score > best[0]:
                    best = (score, t)
            if best is None or best[0][0] < worth:
                return worth
            worth = best[0][0]
            pile.add(best[1], world.tasks[best[1]].work.need)
