"""A node of the simulated world: ordered, under way, there, taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from stint.model.cluster import HOSTNAME, Node
from stint.model.figure import value_of
from stint.model.job import JobId, NodeName
from stint.model.market import Offering
from stint.model.resources import Resources
from stint.sim.books import Books
from stint.sim.gang import Gang

STILL_COMING, GIVEN_UP_AFTER = 0.1, 3.0  # of a cold start: as the operator reckons with nodes that are late


@dataclass(slots=True)
class Machine:
    """One node and who has how much of it."""

    name: NodeName
    offering: Offering
    number: int  # of its offering, in the order of orders
    ordered_s: float
    cold_s: float  # how long it is expected to take
    comes: bool = True  # False: the provider has none, and does not say so
    bought: bool = True  # ours to give back
    up_s: float | None = None
    interrupted: bool = False
    empty_since_s: float | None = None
    ordered_for: set[JobId] = field(default_factory=set)  # those of them that have not started yet
    shares: dict[JobId, float] = field(default_factory=dict)  # parts of the node that gangs pay for
    used: Resources = field(default_factory=Resources)
    settled_s: float = 0.0
    seen: Node | None = None  # as it looked last; None: it has changed

    @property
    def usd_per_hour(self) -> float:
        """What it costs, whoever uses it."""
        return value_of(self.offering.usd_per_node_hour, 0.0)

    def settle(self, books: Books, gangs: dict[JobId, Gang], now_s: float) -> None:
        """Book the time since it was last settled. To be called before anything about the node changes."""
        start, self.settled_s = self.settled_s, now_s
        hours = (now_s - start) / 3600.0
        if hours <= 0.0 or not self.comes:
            return
        usd = hours * self.usd_per_hour
        books.node_usd += usd
        gpus = self.offering.whole_gpus(self.offering.per_node.gpus)
        books.gpu_hours["paid"] += hours * gpus
        if self.up_s is None:
            books.add("startup", usd, start, now_s)
            return
        taken = sum(self.shares.values())
        for job, share in self.shares.items():
            gangs[job].usd += usd * share / max(1.0, taken)
        books.gpu_hours["taken"] += hours * self.offering.whole_gpus(self.used.gpus)
        books.add("held" if self.ordered_for else "idle", usd * max(0.0, 1.0 - taken), start, now_s)

    def look(self, start: datetime, now_s: float) -> Node:
        """As the operator would see it."""
        if self.seen is not None and self.up_s is not None:
            return self.seen
        coming = None
        if self.up_s is None:
            expected = max(self.ordered_s + self.cold_s, now_s + self.cold_s * STILL_COMING)
            coming = start + timedelta(seconds=expected)
        empty = self.empty_since_s
        self.seen = Node(
            name=self.name,
            offering=self.offering.id,
            allocatable=self.offering.per_node,
            used=self.used,
            ready=self.up_s is not None,
            interrupted=self.interrupted,
            ready_at=coming,
            empty_since=None if empty is None else start + timedelta(seconds=empty),
            removable=self.bought,
            labels={**self.offering.labels, HOSTNAME: self.name},
            taints=self.offering.taints,
        )
        return self.seen
