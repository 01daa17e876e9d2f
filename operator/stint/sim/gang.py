"""How a gang runs: it starts up, works, writes checkpoints, and loses what came after the last one when it is stopped.

    placed ---- start-up ----|-- tau --|d|-- tau --|d|-- what is left --| finished
                             works      checkpoints take d each

This is what happens, not what is expected: it shares no code with `stint.cost.interruption`, which foresees it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from stint.model.job import Checkpoint, JobId, NodeName
from stint.model.offering import OfferingId
from stint.sim.books import Books

_ROUNDING = 1e-9


class Mishap(StrEnum):
    """What goes wrong with a gang on nodes that are fine."""

    FAILED = "failed"  # a worker, by itself
    EVICTED = "evicted"  # a worker, by something else than Stint
    HUNG = "hung"  # a worker never runs


@dataclass(frozen=True, slots=True)
class Tempo:
    """The work of one start, and the checkpoints in between. Seconds."""

    work_s: float
    every_s: float  # of work; inf: there are no checkpoints
    takes_s: float

    @classmethod
    def of(cls, checkpoint: Checkpoint, work_s: float) -> Tempo:
        """As the job's contract says."""
        every = checkpoint.every
        return cls(work_s, math.inf if every is None else every.total_seconds(), checkpoint.takes.total_seconds())

    @property
    def wall_s(self) -> float:
        """From working to finished, undisturbed: no checkpoint is written at the very end."""
        if math.isinf(self.every_s):
            return self.work_s
        return self.work_s + max(0, math.ceil(self.work_s / self.every_s - _ROUNDING) - 1) * self.takes_s

    def worked_s(self, ran_s: float) -> float:
        """Work done after running for so long."""
        if ran_s >= self.wall_s:
            return self.work_s
        if math.isinf(self.every_s):
            return max(0.0, ran_s)
        whole, rest = divmod(max(0.0, ran_s), self.every_s + self.takes_s)
        return min(self.work_s, whole * self.every_s + min(rest, self.every_s))

    def kept_s(self, ran_s: float) -> float:
        """Work that survives being stopped after so long: up to the last whole checkpoint; all of it at the end."""
        if ran_s >= self.wall_s - _ROUNDING:
            return self.work_s
        if math.isinf(self.every_s):
            return 0.0
        return min(self.work_s, (max(0.0, ran_s) + _ROUNDING) // (self.every_s + self.takes_s) * self.every_s)


@dataclass(slots=True)
class Gang:
    """One start of one job, from its placement until it is stopped or done."""

    job: JobId
    turn: int  # which start of the job it is
    offering: OfferingId
    nodes: tuple[NodeName, ...]
    tempo: Tempo
    units_per_s: float
    placed_s: float
    boot_s: float  # of which
    restore_s: float  # is coming back from a checkpoint
    apart_usd_per_hour: dict[str, float] = field(default_factory=dict)
    usd: float = 0.0  # what its share of its nodes has cost
    broken_s: float | None = None  # since when it stands still; until then its time is booked
    attempt: int = 0  # retries that its job had used when it was placed
    mishap: Mishap | None = None  # why it stands still, where no node is lost
    works: bool = False  # every worker has run

    @property
    def works_s(self) -> float:
        """When it starts to work."""
        return self.placed_s + self.boot_s

    def units_kept(self, now_s: float) -> float:
        """Units of work that outlive it, if it is stopped now."""
        return self.tempo.kept_s(self._ran_s(now_s)) * self.units_per_s

    def units_worked(self, now_s: float) -> float:
        """Units of work it has done."""
        return self.tempo.worked_s(self._ran_s(now_s)) * self.units_per_s

    def _ran_s(self, now_s: float) -> float:
        return (now_s if self.broken_s is None else self.broken_s) - self.works_s

    def book(self, books: Books, now_s: float, *, goes_on: bool = False) -> float:
        """Book what it has cost until now, by what its time went into. Returns the dollars, with what is paid apart.

        Work is useful if it outlives the gang: if it is not stopped (`goes_on`), all of it.
        """
        usd, self.usd = self.usd, 0.0
        if self.broken_s is not None:
            books.add("held", usd, self.broken_s, now_s)
            return usd
        whole = now_s - self.placed_s
        if whole <= 0.0:
            return 0.0
        booted = min(self.boot_s, whole)
        restored = max(0.0, booted - (self.boot_s - self.restore_s))
        outlives = self.tempo.worked_s if goes_on else self.tempo.kept_s
        kept = outlives(whole - booted) if whole > self.boot_s else 0.0
        works = self.placed_s + booted
        books.add("startup", usd * (booted - restored) / whole, self.placed_s, works)
        books.add("useful", usd * kept / whole, works, now_s)
        rework = usd * max(0.0, whole - booted - kept + restored) / whole
        books.add("rework", rework, self.placed_s if works == now_s else works, now_s)
        for component, per_hour in self.apart_usd_per_hour.items():
            apart = per_hour * whole / 3600.0
            books.add(component, apart, self.placed_s, now_s)
            usd += apart
        return usd
