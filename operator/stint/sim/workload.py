"""Jobs from the rows of a log, which say little: habits fill in who needs what, by the dice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from stint.accelerators import registry
from stint.model.job import Checkpoint, Job, Objective, Work, job_id
from stint.model.offering import CapacityType
from stint.model.resources import Resources
from stint.sim.trace import Row

SPEEDS: Mapping[str, float] = {
    "T4": 0.22,
    "A10G": 0.48,
    "L4": 0.40,
    "L40S": 0.85,
    "V100-16GB": 0.55,
    "A100-40GB": 1.0,
    "A100-80GB": 1.08,
    "H100-SXM": 2.1,
    "H200-SXM": 2.4,
    "B200": 4.2,
}  # training on one GPU, A100-40GB = 1: rounded from public benchmarks; an assumption, not a measurement
_CHECKPOINT = Checkpoint(every=timedelta(minutes=20), takes=timedelta(seconds=30), restart=timedelta(minutes=3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Of those who submit jobs. Fractions are chances of each job by itself."""

    speeds: Mapping[str, float] = field(default_factory=lambda: dict(SPEEDS))  # of a GPU, by model
    reference: str = "A100-80GB"  # the model on which the log's durations were, or would have been, where it has none
    pinned: float = 0.33  # to the model that the durations were on
    spot: float = 0.5  # may be interrupted
    deadlines: float = 0.33
    slack: Sequence[float] = (1.2, 2.0, 10.0)  # deadline after so many times the duration, each as likely
    grace_hours: float = 1.0  # and so much more, for a start from nothing
    usd_per_hour: float = 1.0  # what having a result an hour sooner is worth
    checkpoint: Checkpoint = _CHECKPOINT
    gpus_per_worker: int = 8  # at most
    cpu_per_gpu: float = 3.5
    memory_gib_per_gpu: float = 14.0
    namespace: str = "trace"


def jobs_of(rows: Iterable[Row], habits: Habits, *, start: datetime, rng: np.random.Generator) -> tuple[Job, ...]:
    """One job a row; the same rows, habits and dice give the same jobs."""
    return tuple(_job(row, habits, start, rng.random(4)) for row in rows)


def generate(
    count: int,
    *,
    mean_gap_hours: float,
    median_hours: float,
    sigma: float,
    gpus: Sequence[tuple[int, float]],
    rng: np.random.Generator,
) -> tuple[Row, ...]:
    """A Poisson stream of jobs with lognormal durations.

    Args:
        sigma: of the logarithm of the duration.
        gpus: how many, and how often.
    """
    at = np.cumsum(rng.exponential(mean_gap_hours * 3600.0, count))
    durations = median_hours * 3600.0 * np.exp(sigma * rng.standard_normal(count))
    weights = np.array([w for _, w in gpus], dtype=float)
    sizes = rng.choice([g for g, _ in gpus], count, p=weights / weights.sum())
    return tuple(
        Row(id=f"j{i:05}", at=timedelta(seconds=round(float(a))), duration_s=round(float(d), 1), gpus=int(g))
        for i, (a, d, g) in enumerate(zip(at, durations, sizes, strict=True))
    )


def _job(row: Row, habits: Habits, start: datetime, draws: np.ndarray) -> Job:
    least = max(row.workers, math.ceil(row.gpus / habits.gpus_per_worker))
    workers = next((w for w in range(least, row.gpus + 1) if row.gpus % w == 0), row.gpus)
    gpus = row.gpus // workers
    created = start + row.at
    slack = habits.slack[int(draws[3] * len(habits.slack))] if habits.slack else 1.0
    due = timedelta(seconds=row.duration_s * slack) + timedelta(hours=habits.grace_hours)
    model = row.gpu_model or habits.reference
    pinned = draws[0] < habits.pinned if row.pinned is None else row.pinned
    reference = habits.speeds[model]
    allowed = set(CapacityType) if draws[1] < habits.spot else set(CapacityType) - {CapacityType.SPOT}
    return Job(
        id=job_id(row.owner or habits.namespace, row.id),
        uid=row.id,
        created=created,
        workers=workers,
        min_workers=workers,
        max_workers=workers,
        per_worker=Resources(
            gpus=gpus, cpu=habits.cpu_per_gpu * gpus, memory_gib=habits.memory_gib_per_gpu * gpus, pods=1
        ),
        gpu_models=(model,) if pinned else (),
        work=Work(
            units=row.duration_s,
            unit="second on the reference GPU",
            units_per_second={model: speed / reference for model, speed in habits.speeds.items()},
        ),
        checkpoint=habits.checkpoint,
        capacity_types=tuple(c for c in CapacityType if c in allowed),
        objective=Objective(usd_per_hour=habits.usd_per_hour),
        deadline=created + due if draws[2] < habits.deadlines else None,
        tolerations=registry.TOLERATIONS,
    )
