"""What no plan can beat, from prices alone. In numpy: it trusts no solver.

Weak duality. Let u >= 0 be any price of a unit of each resource of each pool, pi_sm the cheapest a worker of shape s
can be had at those prices in market m, and mu the cheapest a job of a class can be had in any of its columns. A plan
pays usd_p for every node; of that, u_p R_p is earned back by what its resources are worth, so

    cost >= sum count mu - sum_p n_p max(0, u_p R_p - usd_p) >= sum count mu - sum_p limit_p max(0, u_p R_p - usd_p)

for whole nodes and gangs as well as for fractions. Where a pool has no limit, u_p R_p is brought down to usd_p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stint.placement.fleet.model import Fleet
from stint.placement.fleet.offers import Offers


def sound_prices(
    fleet: Fleet,
    offers: Offers,
    measure_usd: Float[np.ndarray, "pool measure"],
    class_usd: Float[np.ndarray, " class"],
) -> Float[np.ndarray, "pool measure"]:
    """The same prices where they can stand in the proof, mended where not.

    Where a node's resources are priced at less than the node costs, the rest goes on one of them, or on all: where
    it leaves the least that `class_usd` finds too cheap. That is free, and makes the proof tighter. Where there is no
    limit, what they are priced at is brought down to what the node costs.
    """
    u = np.where(np.isfinite(measure_usd), np.maximum(measure_usd, 0.0), 0.0)
    short = np.maximum(fleet.usd_per_hour - (u * offers.capacity).sum(axis=1), 0.0)
    pools, resources = offers.capacity.shape
    there = (offers.capacity > 0).astype(float)
    ways = [np.eye(resources)[r] * there for r in range(resources)]
    ways.append(there / np.maximum(there.sum(axis=1, keepdims=True), 1.0))
    mended = [u + short[:, None] * way / np.maximum(offers.capacity, 1e-300) for way in ways]
    mended = [np.where(there > 0, m, 0.0) for m in mended]
    matters = np.flatnonzero((short > 0)[offers.pool])
    pool, have = offers.pool[matters], class_usd[offers.of_class[matters]]
    some = offers.only(matters)
    cheap = np.array(
        [np.bincount(pool, np.maximum(have - some.priced(fleet, m), 0.0), minlength=pools) for m in mended]
    )
    u = np.array(mended)[np.argmin(cheap, axis=0), np.arange(pools)]
    worth = (u * offers.capacity).sum(axis=1)
    over = np.isinf(fleet.limit) & (worth > fleet.usd_per_hour)
    sound: Float[np.ndarray, "pool measure"] = (
        u * np.where(over, fleet.usd_per_hour / np.maximum(worth, 1e-300), 1.0)[:, None]
    )
    return sound


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A bound and the prices it stands on."""

    bound_usd_per_hour: float  # no plan of this fleet costs less
    measure_usd: Float[np.ndarray, "pool measure"]
    unit_usd: Float[np.ndarray, "pool resource"]  # the same by resource: what slots are worth goes with CPU
    class_usd: Float[np.ndarray, " class"]  # what one more such job costs at these prices
    node_worth_usd: Float[np.ndarray, " pool"]  # what one more node is worth beyond its own price; 0: no limit binds


def prove(
    fleet: Fleet,
    offers: Offers,
    measure_usd: Float[np.ndarray, "pool measure"],
    class_usd: Float[np.ndarray, " class"],
    count: Float[np.ndarray, " class"] | None = None,
) -> Proof:
    """The bound that some prices prove, whatever they are; good ones prove a good one.

    Args:
        count: jobs of each class, where they are not the fleet's.
    """
    u = sound_prices(fleet, offers, measure_usd, class_usd)
    mu = offers.least(offers.priced(fleet, u), len(fleet.count))
    mu = np.where(np.isfinite(mu), mu, 0.0)  # a class that fits nowhere is no part of any plan
    rent = np.maximum((u * offers.capacity).sum(axis=1) - fleet.usd_per_hour, 0.0)
    rent = np.where(np.isinf(fleet.limit), 0.0, rent)
    rented = rent * np.where(np.isinf(fleet.limit), 0.0, fleet.limit)
    bound = max(0.0, float(((fleet.count if count is None else count) * mu).sum() - rented.sum()))
    return Proof(
        bound_usd_per_hour=bound, measure_usd=u, unit_usd=_by_resource(fleet, u), class_usd=mu, node_worth_usd=rent
    )


def _by_resource(fleet: Fleet, measure_usd: Float[np.ndarray, "pool measure"]) -> Float[np.ndarray, "pool resource"]:
    resources = fleet.capacity.shape[1]
    unit = measure_usd[:, :resources].copy()
    if resources > 1:
        unit[:, 1] += measure_usd[:, resources:].sum(axis=1) / np.maximum(fleet.capacity[:, 1], 1e-300)
    return unit
