"""The state of a world, and its nodes: ordered, under way, up, given back, taken."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from stint.model.figure import value_of
from stint.model.job import Job, JobId, NodeName
from stint.model.market import Offering, Pool, PoolName
from stint.model.offering import CapacityType, OfferingId
from stint.model.plan import Resize
from stint.sim.books import Books
from stint.sim.events import Events, Kind
from stint.sim.gang import Gang
from stint.sim.machine import GIVEN_UP_AFTER, Machine
from stint.sim.stage import Stage

_AFTER_S = 0.001  # a node has stood empty for long enough just after the time, whatever rounding makes of it


@dataclass(slots=True)
class Life:
    """A job from its submission to its end. `job` is as the next situation shows it, but for its progress."""

    job: Job
    submitted_s: float
    gang: Gang | None = None
    starts: int = 0
    interruptions: int = 0  # that cost it its place
    first_start_s: float | None = None
    ended_s: float | None = None
    spent_usd: float = 0.0
    retries: int = 0  # used
    failed_starts: int = 0  # in a row


@dataclass(slots=True)
class ClusterState:
    """Everything that changes. The dice of a node follow from the seed and its number, whatever else happens."""

    stage: Stage
    seed: int
    now_s: float = 0.0
    events: Events = field(default_factory=Events)
    books: Books = field(default_factory=Books)
    lives: dict[JobId, Life] = field(default_factory=dict)  # those that have been submitted
    open: dict[JobId, Life] = field(default_factory=dict)  # those of them that have not ended
    machines: dict[NodeName, Machine] = field(default_factory=dict)
    gangs: dict[JobId, Gang] = field(default_factory=dict)
    interruptions: int = 0
    offerings: dict[OfferingId, Offering] = field(default_factory=dict)
    pools: dict[PoolName, Pool] = field(default_factory=dict)
    _numbers: Counter[str] = field(default_factory=Counter)

    def machine(self, offering: Offering, *, bought: bool) -> Machine:
        """A new one, under way."""
        number, in_pool = self._numbers[offering.id], self._numbers[f"pool {offering.pool}"]
        self._numbers.update((offering.id, f"pool {offering.pool}"))
        name = NodeName(f"{offering.pool}-{in_pool}")
        cold = self.pools[offering.pool].cold_start_seconds
        machine = Machine(name, offering, number, self.now_s, cold, bought=bought, settled_s=self.now_s)
        self.machines[name] = machine
        return machine

    def _dice(self, machine: Machine, what: int) -> np.random.Generator:
        index = list(self.offerings).index(machine.offering.id)
        return np.random.default_rng((self.seed, index, machine.number, what))

    def up(self, machine: Machine) -> None:
        """It is there; if it is spot, for how long is written in its dice."""
        machine.settle(self.books, self.gangs, self.now_s)
        machine.up_s, machine.seen = self.now_s, None
        self.empty(machine)
        believed = value_of(machine.offering.interruptions_per_hour, 0.0)
        rate = self.stage.conditions.interruptions_per_hour.get(machine.offering.id, believed)
        if machine.offering.capacity_type is CapacityType.SPOT and rate > 0:
            hours = float(self._dice(machine, 0).exponential(1.0 / rate))
            self.events.foresee(self.now_s + hours * 3600.0, Kind.NOTICE, machine.name)

    def patience_s(self, machine: Machine) -> float:
        """How long it may stand empty."""
        return self.pools[machine.offering.pool].give_back_after_seconds

    def empty(self, machine: Machine) -> None:
        """Nobody has it any more."""
        machine.empty_since_s = self.now_s
        if machine.bought:
            self.events.foresee(self.now_s + self.patience_s(machine) + _AFTER_S, Kind.LOOK, machine.name)

    def gone(self, machine: Machine) -> None:
        """Given back, taken, or never come."""
        machine.settle(self.books, self.gangs, self.now_s)
        del self.machines[machine.name]

    def resize(self, resize: Resize) -> None:
        """Order nodes, or give some back."""
        for name in resize.give_back:
            self.gone(self.machines[name])
        have = sum(m.offering.id == resize.offering for m in self.machines.values())
        stock = self.stage.conditions.stock.get(resize.offering)
        for i in range(max(0, resize.to_nodes - have)):
            self._order(
                self.offerings[resize.offering], resize.for_jobs, sold_out=stock is not None and have + i >= stock
            )

    def _order(self, offering: Offering, for_jobs: Iterable[JobId], *, sold_out: bool) -> None:
        machine = self.machine(offering, bought=True)
        machine.ordered_for = {job for job in for_jobs if job in self.open}
        dice, world = self._dice(machine, 1), self.stage.conditions
        machine.comes = not sold_out and float(dice.random()) >= world.out_of_stock
        if machine.comes:
            late = math.exp(world.start_sigma * float(dice.standard_normal()))
            self.events.foresee(self.now_s + machine.cold_s * late, Kind.NODE_UP, machine.name)
        else:
            self.events.foresee(self.now_s + machine.cold_s * GIVEN_UP_AFTER + 1.0, Kind.ORDER_LOST, machine.name)
