"""Every column on every pool that holds its workers: what sifting, rounding and the proof all look through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.fleet.model import Fleet, fits


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """Every column on every pool of its market that holds a worker."""

    column: Int[np.ndarray, " offer"]
    pool: Int[np.ndarray, " offer"]
    of_class: Int[np.ndarray, " offer"]  # sorted
    use: Float[np.ndarray, "offer resource"]  # of the whole gang, and the GPUs that it leaves nobody a use for
    alone_usd: Float[np.ndarray, " offer"]  # at the largest share of a node that it takes

    def only(self, keep: Bool[np.ndarray, " offer"] | Int[np.ndarray, " some"]) -> Offers:
        """Some of them, in the same order."""
        return Offers(
            column=self.column[keep],
            pool=self.pool[keep],
            of_class=self.of_class[keep],
            use=self.use[keep],
            alone_usd=self.alone_usd[keep],
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

    def priced(self, fleet: Fleet, unit_usd: Float[np.ndarray, "pool resource"]) -> Float[np.ndarray, " offer"]:
        """What each would cost at given prices of resources."""
        nodes: Float[np.ndarray, " offer"] = np.einsum("or,or->o", self.use, unit_usd[self.pool])
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
    use = fleet.shape[shape] * fleet.column_workers[column][:, None]
    use[:, 0] = _gpus_taken(fleet)[shape, pool] * fleet.column_workers[column]
    share = (use / np.maximum(fleet.capacity[pool], 1e-12)).max(axis=1)
    return Offers(
        column=column,
        pool=pool,
        of_class=fleet.column_class[column],
        use=use,
        alone_usd=share * fleet.usd_per_hour[pool] + fleet.column_usd_per_hour[column],
    )


def _gpus_taken(fleet: Fleet) -> Float[np.ndarray, "shape pool"]:
    """GPUs that a worker takes of a node: its own, and those that no other worker can use beside it.

    Of workers that want more than half of a node's CPU there is one on a node at most; the others find what CPU and
    memory it leaves, and each of their GPUs comes with some. What is left of the GPUs then is lost to everybody, in
    whole plans; so to count it keeps the bound a bound, and makes it a better one.
    """
    gpus = fleet.shape[:, 0]
    asks = gpus > 0
    if fleet.shape.shape[1] < 2 or not asks.any() or (gpus != np.round(gpus)).any():
        return np.repeat(gpus[:, None], len(fleet.limit), axis=1)
    least = (fleet.shape[asks, 1:] / gpus[asks, None]).min(axis=0)
    rest = fleet.capacity[None, :, 1:] - fleet.shape[:, None, 1:]
    beside = np.where(least > 0, rest / np.maximum(least, 1e-300), np.inf).min(axis=2)
    left = np.maximum(np.floor(beside + 1e-9), 0.0)
    heavy = fleet.shape[:, None, 1] > fleet.capacity[None, :, 1] / 2.0 + 1e-9
    taken: Float[np.ndarray, "shape pool"] = np.where(
        heavy, np.maximum(gpus[:, None], fleet.capacity[None, :, 0] - left), gpus[:, None]
    )
    return taken
