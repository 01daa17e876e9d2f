"""What came of a run: dollars, waiting, deadlines, as one frozen noun that can be written as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from stint.sim.books import NODES
from stint.sim.cluster_state import Life
from stint.sim.diary import Diary, Entry, Sample
from stint.sim.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One policy, one seed."""

    policy: str
    seed: int
    interrupted: bool  # somebody stopped it: everything is as it was then
    jobs: int
    finished: int
    total_usd: float
    usd: Mapping[str, float]  # by component, see `stint.sim.books`
    node_usd: float  # the integral of node prices over time, counted by itself
    p50_wait_h: float  # from submission to the first start, of those that started
    p99_wait_h: float
    mean_jct_h: float  # from submission to the end, of those that ended
    misses: int
    late: tuple[str, ...]  # which ones missed their deadlines
    unfinished: Mapping[str, str]  # and why they waited last, where they did
    interruptions: int  # of nodes
    requeues: int  # of gangs
    paid_gpu_hours: float
    taken_gpu_hours: float
    hours: float
    decisions: int
    events: int
    digest: str  # of all that was decided
    hourly_usd: Mapping[str, Sequence[float]]
    samples: tuple[Sample, ...]
    miss_hours: tuple[float, ...]
    log: tuple[Entry, ...]

    @property
    def wasted_usd(self) -> Mapping[str, float]:
        """What the nodes cost beside useful work."""
        return {name: self.usd[name] for name in NODES if name != "useful"}


def conclude(world: World, policy: str, diary: Diary, *, digest: str, interrupted: bool) -> Outcome:
    """Add it all up."""
    lives = world.lives.values()
    waits = [(x.first_start_s - x.submitted_s) / 3600.0 for x in lives if x.first_start_s is not None]
    took = [(x.ended_s - x.submitted_s) / 3600.0 for x in lives if x.ended_s is not None]
    late = {x.job.id: hour for x in lives if (hour := _missed_at(world, x)) is not None}
    p50, p99 = np.percentile(waits, [50, 99]) if waits else (0.0, 0.0)
    return Outcome(
        policy=policy,
        seed=world.seed,
        interrupted=interrupted,
        jobs=len(world.lives) + world.unborn,
        finished=len(took),
        total_usd=sum(world.books.usd.values()),
        usd=dict(world.books.usd),
        node_usd=world.books.node_usd,
        p50_wait_h=float(p50),
        p99_wait_h=float(p99),
        mean_jct_h=float(np.mean(took)) if took else 0.0,
        misses=len(late),
        late=tuple(sorted(late)),
        unfinished={j: diary.reasons.get(j, "") for j in sorted(world.open)},
        interruptions=world.interruptions,
        requeues=sum(e.what == "requeue" for e in diary.entries),
        paid_gpu_hours=world.books.gpu_hours["paid"],
        taken_gpu_hours=world.books.gpu_hours["taken"],
        hours=world.now_s / 3600.0,
        decisions=diary.decisions,
        events=diary.events,
        digest=digest,
        hourly_usd={name: tuple(series) for name, series in world.books.hourly.items()},
        samples=tuple(diary.samples),
        miss_hours=tuple(sorted(late.values())),
        log=tuple(diary.entries),
    )


def _missed_at(world: World, life: Life) -> float | None:
    """The hour at which a job's deadline passed without it; None: it did not."""
    deadline = life.job.deadline
    if deadline is None:
        return None
    at_s = (deadline - world.stage.start) / timedelta(seconds=1)
    ended_s = world.now_s if life.ended_s is None else life.ended_s
    return at_s / 3600.0 if ended_s > at_s else None
