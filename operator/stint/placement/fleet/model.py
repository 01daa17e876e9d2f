"""What the fleet planner is given and what it answers: arrays, frozen, sorted by stable ids.

A **market** is where a whole gang must live (a GPU model, a zone, a capacity type); it offers **pools** of like nodes.
A **class** is a number of jobs that may be treated alike; a **column** is one way to run a job of a class: a market,
a number of workers, and what it costs an hour beside its nodes. Nodes are paid whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One batch to be planned. USD are per hour; every job has at least one column.

    Raises:
        ValueError: naming the array that has the wrong length or holds what no price and no node can be.
    """

    capacity: Float[np.ndarray, "pool resource"]  # of one node
    usd_per_hour: Float[np.ndarray, " pool"]  # of one node, everything included
    limit: Float[np.ndarray, " pool"]  # nodes; inf: as many as wanted
    market: Int[np.ndarray, " pool"]
    shape: Float[np.ndarray, "shape resource"]  # of one worker
    class_shape: Int[np.ndarray, " class"]
    count: Int[np.ndarray, " class"]  # jobs
    column_class: Int[np.ndarray, " column"]  # sorted
    column_market: Int[np.ndarray, " column"]
    column_workers: Int[np.ndarray, " column"]
    column_usd_per_hour: Float[np.ndarray, " column"]  # of one job, beside its nodes

    def __post_init__(self) -> None:
        """Refuse what would only show as a strange plan."""
        same = {
            "usd_per_hour": (self.usd_per_hour, self.capacity),
            "limit": (self.limit, self.capacity),
            "market": (self.market, self.capacity),
            "count": (self.count, self.class_shape),
            "column_market": (self.column_market, self.column_class),
            "column_workers": (self.column_workers, self.column_class),
            "column_usd_per_hour": (self.column_usd_per_hour, self.column_class),
        }
        for name, (array, other) in same.items():
            if len(array) != len(other):
                raise ValueError(f"{name} has {len(array)} entries, {len(other)} are needed")
        for name in ("capacity", "usd_per_hour", "shape", "column_usd_per_hour"):
            values = getattr(self, name)
            if not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(f"{name} must be finite and >= 0")
        if not (self.limit >= 0).all():
            raise ValueError("limit must be >= 0, inf for none")
        if len(self.column_workers) and self.column_workers.min() < 1:
            raise ValueError("column_workers must be >= 1")
        if (np.diff(self.column_class) < 0).any():
            raise ValueError("columns must be sorted by class")
        if len(np.unique(self.column_class)) != len(self.count):
            raise ValueError("every class needs a column")

    def only(self, classes: Bool[np.ndarray, " class"]) -> Fleet:
        """The same fleet for some of its classes."""
        columns = classes[self.column_class]
        return replace(
            self,
            class_shape=self.class_shape[classes],
            count=self.count[classes],
            column_class=(np.cumsum(classes) - 1)[self.column_class[columns]],
            column_market=self.column_market[columns],
            column_workers=self.column_workers[columns],
            column_usd_per_hour=self.column_usd_per_hour[columns],
        )

    @property
    def class_of(self) -> Int[np.ndarray, " job"]:
        """The class of every job, jobs in the order of classes."""
        return np.repeat(np.arange(len(self.count)), self.count)

    @property
    def markets(self) -> int:
        """How many there are."""
        return int(self.market.max(initial=-1)) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """Whole gangs on whole nodes. `nodes` are in the order of pools; `worker_*` has one entry a (job, node) pair."""

    column: Int[np.ndarray, " job"]  # of every job, jobs in the order of classes
    node_pool: Int[np.ndarray, " node"]
    worker_job: Int[np.ndarray, " entry"]
    worker_node: Int[np.ndarray, " entry"]
    workers: Int[np.ndarray, " entry"]
    usd_per_hour: float


def fits(fleet: Fleet) -> Bool[np.ndarray, "shape pool"]:
    """Whether a worker fits on an empty node."""
    fit: Bool[np.ndarray, "shape pool"] = np.all(fleet.shape[:, None, :] <= fleet.capacity[None] + 1e-9, axis=2)
    return fit
