"""Every column on every pool that holds its workers: what sifting, rounding and the proof all look through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.fleet.model import Fleet, fits

_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """Every column on every pool of its market that holds a worker."""

    column: Int[np.ndarray, " offer"]
    pool: Int[np.ndarray, " offer"]
    of_class: Int[np.ndarray, " offer"]  # sorted
    use: Float[np.ndarray, "offer measure"]  # of the whole gang, and what it leaves nobody a use for
    alone_usd: Float[np.ndarray, " offer"]  # at the largest share of a node that it takes
    capacity: Float[np.ndarray, "pool measure"]  # of one node: its resources, and slots by its CPU
    taken: Float[np.ndarray, "shape pool measure"]  # of it by one worker

    def only(self, keep: Bool[np.ndarray, " offer"] | Int[np.ndarray, " some"]) -> Offers:
        """Some of them, in the same order."""
        return Offers(
            column=self.column[keep],
            pool=self.pool[keep],
            of_class=self.of_class[keep],
            use=self.use[keep],
            alone_usd=self.alone_usd[keep],
            capacity=self.capacity,
            taken=self.taken,
        )

    def near_best(self, usd: Float[np.ndarray, " offer"], within: float) -> Bool[np.ndarray, " offer"]:
        """Those that cost at most so much more, as a ratio, than the cheapest of their class."""
        least = self.least(usd, int(self.of_class.max(initial=-1)) + 1)
        near: Bool[np.ndarray, " offer"] = usd <= (1.0 + within) * least[self.of_class] + 1e-9
        return near

    def least(self, usd: Float[np.ndarray, " offer"], classes: int) -> Float[np.ndarray, " class"]:
        """The cheapest of each class; inf: it has none."""
        least = np.full(classes, np.inf)
        starts = np.flatnonzero(np.diff(self.of_class, prepend=-1))
        if len(starts):
            least[self.of_class[starts]] = np.minimum.reduceat(usd, starts)
        return least

    def priced(self, fleet: Fleet, measure_usd: Float[np.ndarray, "pool measure"]) -> Float[np.ndarray, " offer"]:
        """What each would cost at given prices of what nodes have."""
        nodes: Float[np.ndarray, " offer"] = np.einsum("or,or->o", self.use, measure_usd[self.pool])
        usd: Float[np.ndarray, " offer"] = nodes + fleet.column_usd_per_hour[self.column]
        return usd


def offers_of(fleet: Fleet) -> Offers:
    """All of them, by class, column, pool."""
    order = np.argsort(fleet.market, kind="stable")
    first = np.searchsorted(fleet.market[order], np.arange(fleet.markets + 1))
    size = np.diff(first)[fleet.column_market]
    column = np.repeat(np.arange(len(size)), size)
    within = np.arange(len(column)) - np.repeat(np.cumsum(size) - size, size)
    pool = order[first[fleet.column_market[column]] + within]
    shape = fleet.class_shape[fleet.column_class[column]]
    keep = fits(fleet)[shape, pool] & (fleet.limit[pool] > 0)
    column, pool, shape = column[keep], pool[keep], shape[keep]
    taken = _taken(fleet)
    slots = _slots(fleet, taken)
    taken = np.concatenate([taken, slots], axis=2)
    capacity = np.concatenate([fleet.capacity, np.ones((len(fleet.limit), slots.shape[2]))], axis=1)
    use = taken[shape, pool] * fleet.column_workers[column][:, None]
    share = (use / np.maximum(capacity[pool], 1e-12)).max(axis=1)
    return Offers(
        column=column,
        pool=pool,
        of_class=fleet.column_class[column],
        use=use,
        alone_usd=share * fleet.usd_per_hour[pool] + fleet.column_usd_per_hour[column],
        capacity=capacity,
        taken=taken,
    )


def offers_worth_a_look(fleet: Fleet) -> Offers:
    """Those of markets that no other outdoes: as good for plans and bounds as all of them, and fewer."""
    offers = offers_of(fleet)
    return offers.only(~outdone(fleet)[offers.column])


def outdone(fleet: Fleet) -> Bool[np.ndarray, " column"]:
    """Columns of markets that can be left out, as all that may be there may as well be in another market.

    There every node has one without a limit that is as large and no dearer, and every job a column with no more workers
    that costs no more: a plan moves over node by node. (Zones at one price; the earlier of two that are equal stays.)
    """
    order = np.argsort(fleet.market, kind="stable")
    market, capacity, usd = fleet.market[order], fleet.capacity[order], fleet.usd_per_hour[order]
    better = (usd[:, None] >= usd) & np.isinf(fleet.limit[order])
    for r in range(capacity.shape[1]):
        better &= capacity[:, None, r] <= capacity[:, r]
    here = np.unique(market)
    first = np.searchsorted(market, here)
    covers = np.logical_and.reduceat(np.logical_or.reduceat(better, first, axis=1), first, axis=0)
    out = np.zeros(len(fleet.column_class), dtype=bool)
    gone: set[int] = set()
    for i, j in sorted(np.argwhere(covers).tolist(), reverse=True):
        if i == j or i in gone or j in gone:
            continue
        mine, other = (np.flatnonzero(fleet.column_market == here[k]) for k in (i, j))
        least = np.full((len(fleet.count), 2), np.inf)
        least[fleet.column_class[other], 0] = fleet.column_workers[other]
        least[fleet.column_class[other], 1] = fleet.column_usd_per_hour[other]
        asked = np.stack([fleet.column_workers[mine], fleet.column_usd_per_hour[mine]], axis=1)
        if (least[fleet.column_class[mine]] <= asked).all():
            out[mine] = True
            gone.add(i)
    return out


def _slots(fleet: Fleet, taken: Float[np.ndarray, "shape pool resource"]) -> Float[np.ndarray, "shape pool slot"]:
    """How much of a node's slot a worker takes: all where it is alone there or wants more than half of the CPU.

    Half of it where it wants just half. A node has one slot: it holds no two of whom each wants most of it.
    """
    if fleet.shape.shape[1] < 2:
        return np.zeros((*taken.shape[:2], 0))
    part = fleet.shape[:, None, 1] / np.maximum(fleet.capacity[None, :, 1], 1e-300)
    alone = (taken >= fleet.capacity[None] - _SLACK).all(axis=2)
    slots = np.where(alone | (part > 0.5 + _SLACK), 1.0, np.where(part >= 0.5 - _SLACK, 0.5, 0.0))
    return slots[:, :, None]


def _taken(fleet: Fleet) -> Float[np.ndarray, "shape pool resource"]:
    """What a worker takes of a node: what it wants, and what no other worker can use beside it.

    Some workers have no like beside them on a node: those beside whom nobody finds room, and those that want more
    than half of its CPU. The others find what these leave, and of that can use no more than they want: who has one
    GPU left has no use for the CPU of four. What is left then is lost to everybody, in whole plans; so to count it
    keeps the bound a bound, and makes it a better one.
    """
    pools = len(fleet.limit)
    taken = np.repeat(fleet.shape[:, None, :], pools, axis=1)
    gpus = fleet.shape[:, 0]
    if fleet.shape.shape[1] < 2 or (gpus != np.round(gpus)).any():
        return taken
    come = np.zeros((fleet.markets, len(fleet.shape)), dtype=bool)
    come[fleet.column_market, fleet.class_shape[fleet.column_class]] = True
    known: dict[bytes, Float[np.ndarray, "shape resource"]] = {}
    for p in range(pools):
        capacity, who = fleet.capacity[p], come[fleet.market[p]]
        key = capacity.tobytes() + who.tobytes()
        if key not in known:
            mine = np.flatnonzero(who & (fleet.shape <= capacity + _SLACK).all(axis=1))
            known[key] = fleet.shape.copy()
            known[key][mine] = _taken_of(capacity, fleet.shape[mine])
        taken[:, p] = known[key]
    return taken


def _taken_of(
    capacity: Float[np.ndarray, " resource"], shape: Float[np.ndarray, "shape resource"]
) -> Float[np.ndarray, "shape resource"]:
    """Of one node, by each of the workers that come to its market and fit on it."""
    rest = np.maximum(capacity - shape, 0.0)
    gpus = shape[:, 0].astype(np.int64)
    use = np.zeros_like(shape)
    # GPUs that others can use: those that come with enough of all else, if each of theirs comes with the least
    asks = gpus > 0
    least = (shape[asks] / shape[asks, :1]).min(axis=0, initial=np.inf)
    use[:, 0] = np.floor(np.where(least > 0, rest / np.maximum(least, 1e-300), np.inf).min(axis=1) + _SLACK)
    use[:, 0] = np.minimum(use[:, 0], np.floor(rest[:, 0]))
    # of all else: the most that workers want who have so many GPUs together
    most = np.full((int(capacity[0]) + 1, len(capacity)), 0.0 if asks.all() else np.inf)
    for g in range(1, len(most)):
        for s in np.unique(gpus[asks & (gpus <= g)]):
            most[g] = np.maximum(most[g], most[g - s] + shape[gpus == s].max(axis=0))
    use[:, 1:] = most[use[:, 0].astype(np.int64), 1:]
    beside = np.ones((len(shape), len(shape)), dtype=bool)
    for r in range(shape.shape[1]):
        beside &= shape[:, r] <= rest[:, r, None] + _SLACK
    alone = np.logical_not(beside.any(axis=1))
    use = np.where(alone[:, None], 0.0, np.minimum(use, rest))
    lonely = alone | (shape[:, 1] > capacity[1] / 2.0 + _SLACK)
    taken: Float[np.ndarray, "shape resource"] = np.where(lonely[:, None], np.maximum(shape, capacity - use), shape)
    return taken
