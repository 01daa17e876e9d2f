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
    use: Float[np.ndarray, "offer resource"]  # of the whole gang
    alone_usd: Float[np.ndarray, " offer"]  # at the largest share of a node that it takes

    def only(self, keep: Bool[np.ndarray, " offer"]) -> Offers:
        """Some of them."""
        return Offers(
            column=self.column[keep],
            pool=self.pool[keep],
            of_class=self.of_class[keep],
            use=self.use[keep],
            alone_usd=self.alone_usd[keep],
        )

    def near_best(self, usd: Float[np.ndarray, " offer"], within: float) -> Bool[np.ndarray, " offer"]:
        """Those that cost at most so much more, as a ratio, than the cheapest of their class."""
        classes = int(self.of_class.max(initial=-1)) + 1
        least = np.full(classes, np.inf)
        np.minimum.at(least, self.of_class, usd)
        near: Bool[np.ndarray, " offer"] = usd <= (1.0 + within) * least[self.of_class] + 1e-9
        return near

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
    share = (use / np.maximum(fleet.capacity[pool], 1e-12)).max(axis=1)
    return Offers(
        column=column,
        pool=pool,
        of_class=fleet.column_class[column],
        use=use,
        alone_usd=share * fleet.usd_per_hour[pool] + fleet.column_usd_per_hour[column],
    )
