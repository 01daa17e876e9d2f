"""Changes to a situation, each a pure function of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, runtime_checkable

from stint.model.cluster import Node
from stint.model.figure import Confidence, Figure
from stint.model.job import Job, JobId, NodeName
from stint.model.market import Offering, Pool, PoolName
from stint.model.offering import OfferingId
from stint.model.situation import Situation

_COLD_START_S = 300.0  # where no pool of the situation is resized


@runtime_checkable
class Change(Protocol):
    """One thing that is otherwise."""

    def applied(self, situation: Situation) -> Situation:
        """The situation as it would be then."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPool:
    """Nodes of one offering in a pool of their own: that stand there, or that could be bought."""

    offering: Offering
    nodes: int
    stand_there: bool  # False: they are bought where that pays, and cost nothing otherwise

    def applied(self, situation: Situation) -> Situation:
        """With the pool."""
        there = self.nodes if self.stand_there else 0
        pool = Pool(
            name=self.offering.pool,
            offerings=(self.offering.id,),
            scaler=None if self.stand_there else "WhatIf",
            advise_only=self.stand_there,
            max_nodes=self.nodes,
            cold_start_seconds=max((p.cold_start_seconds for p in situation.pools if p.scaler), default=_COLD_START_S),
        )
        new = tuple(
            Node(
                name=NodeName(f"{pool.name}-{i}"),
                offering=self.offering.id,
                allocatable=self.offering.per_node,
                labels=self.offering.labels,
                taints=self.offering.taints,
            )
            for i in range(there)
        )
        return replace(
            situation,
            offerings=(*situation.offerings, self.offering),
            pools=(*situation.pools, pool),
            nodes=(*situation.nodes, *new),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DropPool:
    """A pool, its offerings and its nodes are gone; who runs there waits again, with the work that is done."""

    pool: PoolName

    def applied(self, situation: Situation) -> Situation:
        """Without the pool."""
        gone = {o.id for o in situation.offerings if o.pool == self.pool}
        return replace(
            situation,
            offerings=tuple(o for o in situation.offerings if o.id not in gone),
            pools=tuple(p for p in situation.pools if p.name != self.pool),
            nodes=tuple(n for n in situation.nodes if n.offering not in gone),
            jobs=tuple(_without_place(j, gone) for j in situation.jobs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprice:
    """Offerings cost so much, or so many times what they do."""

    offerings: frozenset[OfferingId]
    usd_per_hour: float | None  # of a node; None: `factor` holds
    factor: float = 1.0

    def applied(self, situation: Situation) -> Situation:
        """At the new price."""
        return replace(
            situation,
            offerings=tuple(self._priced(o) if o.id in self.offerings else o for o in situation.offerings),
        )

    def _priced(self, offering: Offering) -> Offering:
        old = offering.usd_per_node_hour
        usd = self.usd_per_hour if self.usd_per_hour is not None else old.value * self.factor if old else None
        if usd is None:
            return offering
        figure = Figure(value=usd, source="what if", as_of=None, confidence=Confidence.OVERRIDE)
        return replace(
            offering,
            usd_per_node_hour=figure,
            usd_per_new_node_hour=None,
            stale=tuple(s for s in offering.stale if s != "price"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeadline:
    """A job has another deadline, or none."""

    job: JobId
    deadline: datetime | None

    def applied(self, situation: Situation) -> Situation:
        """With that deadline."""
        jobs = tuple(replace(j, deadline=self.deadline) if j.id == self.job else j for j in situation.jobs)
        return replace(situation, jobs=jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBudget:
    """A job has another budget, or none."""

    job: JobId
    usd: float | None

    def applied(self, situation: Situation) -> Situation:
        """With that budget."""
        jobs = tuple(replace(j, budget_usd=self.usd) if j.id == self.job else j for j in situation.jobs)
        return replace(situation, jobs=jobs)


def apply(situation: Situation, changes: Sequence[Change]) -> Situation:
    """All of them, one after the other."""
    for change in changes:
        situation = change.applied(situation)
    return situation


def _without_place(job: Job, gone: set[OfferingId]) -> Job:
    if job.assignment is None or job.assignment.offering not in gone:
        return job
    return replace(job, assignment=None)
