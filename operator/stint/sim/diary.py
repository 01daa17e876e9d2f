"""What was decided and what it looked like then, for reports: words for people, numbers for plots."""

from __future__ import annotations

from dataclasses import dataclass, field

from stint.model.plan import Plan
from stint.sim.world import World

MOST_SAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a plan said."""

    hour: float
    what: str  # place, requeue, order, give back
    job: str
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """The world just after a decision."""

    hour: float
    waiting: int
    running: int
    gpus: float  # that are there
    taken_gpus: float


@dataclass(slots=True)
class Diary:
    """Kept as decisions are made."""

    entries: list[Entry] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)  # why jobs waited, when last looked at
    decisions: int = 0
    events: int = 0
    started: int = 0
    _every: int = 1

    def note(self, world: World, plan: Plan) -> str:
        """Write a decision down. Returns what is new in it, as text that is the same for the same decision."""
        hour = world.now_s / 3600.0
        new = [Entry(hour, "requeue", r.job, f"{r.reason.value}: {r.message}") for r in plan.requeues]
        for p in plan.placements:
            late = f", {p.late_by_hours:.1f} h late" if p.late_by_hours else ""
            text = f"{p.chosen.workers} x {p.chosen.offering} at {p.chosen.usd_per_hour:.2f} USD/h{late}: "
            new.append(Entry(hour, "place", p.job, text + ", ".join(dict.fromkeys(p.nodes))))
            self.started += world.lives[p.job].starts == 1
        for r in plan.resizes:
            if not r.advise_only:
                what = "order" if r.to_nodes > r.from_nodes else "give back"
                new.append(Entry(hour, what, ", ".join(r.for_jobs), f"{r.pool}: {r.message}"))
        self.entries += new
        for h in plan.holds:
            self.reasons[h.job] = f"{h.reason.value}: {h.message}"
        if self.decisions % self._every == 0:
            self._sample(world, hour)
        self.decisions += 1
        return "\n".join(f"{e.hour:.6f} {e.what} {e.job} {e.text}" for e in new)

    def _sample(self, world: World, hour: float) -> None:
        there = [m for m in world.machines.values() if m.up_s is not None]
        whole = sum(m.offering.whole_gpus(m.offering.per_node.gpus) for m in there)
        taken = sum(m.offering.whole_gpus(m.used.gpus) for m in there)
        running = len(world.gangs)
        self.samples.append(Sample(hour, len(world.open) - running, running, whole, taken))
        if len(self.samples) >= MOST_SAMPLES:
            self.samples = self.samples[::2]
            self._every *= 2
