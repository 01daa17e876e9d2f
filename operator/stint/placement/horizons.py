"""A problem as hours of capacity: what there is to use by each horizon, and what every start has used by then.

Starts fall into **buckets**: now; up to the first **horizon**; between two horizons; after the last. A gang that
starts in a bucket costs at least what it costs at the bucket's beginning, and by a horizon it has used at least what it
would have used had it started at the bucket's end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.placement.columns import Columns
from stint.placement.problem import Problem

HORIZONS = 6
AXES = 3  # pods are never scarce


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A problem as hours of capacity. `use` and `cost` have an entry for every possible column in every bucket."""

    horizon_hours: Float[np.ndarray, " horizon"]  # the first is 0: now
    capacity: Float[np.ndarray, "offering horizon resource"]  # what there is to use by then; at 0, at once
    per_node: Float[np.ndarray, "offering horizon resource"]  # what a bought node adds to it
    buyable: Int[np.ndarray, " offering"]
    column: Int[np.ndarray, " possible"]  # of the problem
    cost_usd: Float[np.ndarray, "possible bucket"]  # inf: no such start
    held_hours: Float[np.ndarray, " possible"]
    cold_hours: Float[np.ndarray, " possible"]  # until bought nodes are there; nan: it buys none

    def of(self, some: Bool[np.ndarray, " possible"]) -> Market:
        """The same market for some of the columns."""
        own = ("column", "cost_usd", "held_hours", "cold_hours")
        return replace(self, **{name: getattr(self, name)[some] for name in own})

    def overlap_hours(
        self, bucket: Int[np.ndarray, " entry"], possible: Int[np.ndarray, " entry"]
    ) -> Float[np.ndarray, "entry horizon"]:
        """What a start in a bucket has used by each horizon, at the least; at 0, 1 for what starts now."""
        horizons, held = self.horizon_hours[None], self.held_hours[possible][:, None]
        latest = np.concatenate([self.horizon_hours, [np.inf]])[bucket][:, None]
        overlap = np.minimum(held, np.maximum(horizons - latest, 0.0))
        overlap[:, 0] = bucket == 0
        cold = self.cold_hours[possible][:, None]
        bought = np.maximum(np.minimum(held, horizons) - cold, 0.0)
        hours: Float[np.ndarray, "entry horizon"] = np.where(np.isnan(cold), overlap, bought)
        return hours

    def rents(
        self, problem: Problem, unit_usd: Float[np.ndarray, "offering horizon resource"]
    ) -> Float[np.ndarray, "possible bucket"]:
        """What every column in every bucket that it may start in would pay for its capacity."""
        rents = np.zeros_like(self.cost_usd)
        pays = (np.count_nonzero(unit_usd, axis=(1, 2)) > 0)[problem.columns.offering[self.column]]
        if pays.any():
            rents[pays] = self.of(pays)._rents(problem, unit_usd)
        return rents

    def _rents(
        self, problem: Problem, unit_usd: Float[np.ndarray, "offering horizon resource"]
    ) -> Float[np.ndarray, "possible bucket"]:
        rents = np.zeros_like(self.cost_usd)
        hourly = self.hourly(problem, unit_usd)
        rents[:, 0] = self.rent(hourly, 0)
        waits = np.flatnonzero(np.isnan(self.cold_hours))  # whoever buys starts now
        held, hourly = self.held_hours[waits, None], hourly[waits]
        for b in range(1, rents.shape[1] - 1):  # a start after the last horizon uses nothing by then
            used = np.minimum(held, np.maximum(self.horizon_hours - self.horizon_hours[b], 0.0))
            rents[waits, b] = np.einsum("pt,pt->p", used, hourly)
        return rents

    def rent(self, hourly: Float[np.ndarray, "possible horizon"], bucket: int) -> Float[np.ndarray, " possible"]:
        """The same in one bucket, from what `hourly` says."""
        everything = np.arange(len(self.column))
        used = self.overlap_hours(np.full(len(everything), bucket), everything)
        rent: Float[np.ndarray, " possible"] = np.einsum("pt,pt->p", used, hourly)
        return rent

    def hourly(
        self, problem: Problem, unit_usd: Float[np.ndarray, "offering horizon resource"]
    ) -> Float[np.ndarray, "possible horizon"]:
        """The same for an hour, or a start now, before each horizon."""
        columns = problem.columns
        job, offering = columns.job[self.column], columns.offering[self.column]
        use = problem.use(job, columns.workers[self.column], AXES)
        hourly: Float[np.ndarray, "possible horizon"] = np.einsum("pr,ptr->pt", use, unit_usd[offering])
        return hourly


def usual_horizons(problem: Problem) -> Float[np.ndarray, " horizon"]:
    """Now, and from a fraction to a multiple of how long its gangs usually last."""
    columns = problem.columns
    held = columns.held_hours[np.isfinite(columns.objective_usd)]
    usual = float(np.median(held)) if len(held) else 1.0
    edges = max(usual, 1e-2) * 2.0 ** np.arange(1 - HORIZONS // 2, HORIZONS - HORIZONS // 2 + 1)
    return np.concatenate([[0.0], edges])


def lay_out(problem: Problem, horizons: Float[np.ndarray, " horizon"] | None = None) -> Market:
    """The problem's columns and capacity over time; without `horizons`, by its usual ones."""
    columns = problem.columns
    possible = np.flatnonzero(np.isfinite(columns.objective_usd))
    held = columns.held_hours[possible]
    horizons = usual_horizons(problem) if horizons is None else horizons
    lower = np.concatenate([[0.0], horizons])  # of buckets: now, then one before each horizon, then after the last
    buys = columns.buys[possible]
    cost = np.stack([_objective(problem, columns, possible, start) for start in lower], axis=1)
    cost[buys, 1:] = np.inf  # a gang that buys starts now, and waits for its nodes
    cold = _cold_hours(problem)
    capacity, per_node, buyable = _capacity(problem, horizons, cold)
    return Market(
        horizon_hours=horizons,
        capacity=capacity,
        per_node=per_node,
        buyable=buyable,
        column=possible,
        cost_usd=cost,
        held_hours=held,
        cold_hours=np.where(buys, cold[columns.offering[possible]], np.nan),
    )


def _objective(
    problem: Problem, columns: Columns, some: Int[np.ndarray, " some"], start: float
) -> Float[np.ndarray, " some"]:
    """`Problem.objective_at`, of many columns at once."""
    job = columns.job[some]
    wanted = [j.objective for j in problem.jobs]
    hourly = np.array([w.performance * w.usd_per_hour for w in wanted])[job]
    late_usd = np.array([w.cost * w.lateness_usd_per_hour for w in wanted])[job]
    finish, deadline = columns.cost.finish_hours[some], problem.deadline_hours[job]
    before = np.maximum(0.0, finish - deadline)
    late = np.maximum(0.0, finish + start - deadline)
    charge = problem.charge_usd(job, finish + start, columns.buys[some] | (start > 0))
    total: Float[np.ndarray, " some"] = (
        columns.objective_usd[some] + hourly * start + late_usd * (late - before) + charge
    )
    return total


def _cold_hours(problem: Problem) -> Float[np.ndarray, " offering"]:
    cold = np.full(len(problem.offerings), np.inf)
    new = np.flatnonzero(problem.node_is_new)
    np.minimum.at(cold, problem.node_offering[new], problem.node_from_hours[new])
    return cold


def _capacity(
    problem: Problem, horizons: Float[np.ndarray, " horizon"], cold: Float[np.ndarray, " offering"]
) -> tuple[
    Float[np.ndarray, "offering horizon resource"],
    Float[np.ndarray, "offering horizon resource"],
    Int[np.ndarray, " offering"],
]:
    shape = (len(problem.offerings), len(horizons), AXES)
    capacity, per_node = np.zeros(shape), np.zeros(shape)
    have = np.flatnonzero(~problem.node_is_new)
    since = problem.node_from_hours[have]
    hours = np.maximum(horizons[None] - since[:, None], 0.0)
    hours[:, 0] = since <= 1e-6
    np.add.at(capacity, problem.node_offering[have], hours[:, :, None] * problem.node_free[have][:, None, :AXES])
    for release in problem.releases:
        later = np.maximum(horizons - release.hours, 0.0)
        if np.isfinite(problem.node_from_hours[release.node]):
            capacity[problem.node_offering[release.node]] += later[:, None] * release.resources[None, :AXES]
    empty = np.array([o.per_node.as_row()[:AXES] for o in problem.offerings]).reshape(-1, AXES)
    sells = np.isfinite(cold)
    hours = np.maximum(horizons[None] - np.where(sells, cold, 0.0)[:, None], 0.0) * sells[:, None]
    per_node += hours[:, :, None] * empty[:, None, :]
    new = problem.node_offering[problem.node_is_new]
    return capacity, per_node, np.bincount(new, minlength=len(problem.offerings))
