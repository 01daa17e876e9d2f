"""How far a job is: as it says itself, where it does, else by its speed.

| who says it | where | wins over |
|---|---|---|
| a metric | `spec.progress.metric` | all others |
| its pods | annotation `stint.dev/units-done`, the largest | the next |
| whoever writes to the TrainingJob | the same annotation on it | the next |
| a TrainJob | status.trainerStatus.progressPercentage | the estimate |

Units count from the beginning of the job, with those that a checkpoint brought back. What is told is believed with two
limits: it is a number from 0 to `spec.work.units`, and it goes back no further than to the last checkpoint, however a
counter restarts. What nobody says any more goes on from the last word, by the job's speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from stint.api.trainingjob import TrainingJob
from stint.api.trainingjob_status import Progress
from stint.errors import Mistake
from stint.estimate.runtime import hours_between, units_after, units_per_hour
from stint.kube.observe.gang import Gang
from stint.kube.records import UNITS_DONE
from stint.model.gang import GangState
from stint.model.job import Job, job_id
from stint.model.measured import Measured

SOURCES = ("Metric", "Pods", "TrainingJob", "Workload")
_OUTLIVE = ("Metric", "TrainingJob")  # words that may stand although the pods that they are of are gone
_REMEDY = "must be a number from 0 to spec.work.units ({units:g}), counted from the beginning of the job"


@dataclass(frozen=True, slots=True)
class Told:
    """What a job says of itself."""

    units: float | None = None  # None: nothing that can be used
    source: str = ""  # one of SOURCES
    mistake: Mistake | None = None  # what it says and cannot be
    silent: str = ""  # why the metric that was asked for says nothing


def tell(resource: TrainingJob, gang: Gang, measured: Measured) -> Told:
    """What is said at the moment."""
    spec, meta = resource.spec, resource.metadata
    units = spec.work.units
    if spec.progress is not None and spec.progress.metric is not None:
        metric = spec.progress.metric
        value = measured.told.get(job_id(meta.namespace, meta.name))
        if value is not None:
            return _judged(f"{value:g}", units, "Metric", f"spec.progress.metric {metric.name}")
        if gang.plan is None:
            return Told()
        silent = measured.metrics_wrong or measured.wrong or f"no series of {metric.name} belongs to it"
        return Told(silent="no Prometheus is configured" if not measured.asked else silent)
    said = {p.gang.name: p.gang.units_done for p in gang.pods if p.gang is not None and p.gang.units_done}
    if said:
        judged = [_judged(text, units, "Pods", f"annotation {UNITS_DONE} of pod {pod}") for pod, text in said.items()]
        right = [t for t in judged if t.units is not None]
        return max(right, key=lambda t: t.units or 0.0) if right else judged[0]
    if text := meta.annotations.get(UNITS_DONE, ""):
        return _judged(text, units, "TrainingJob", f"annotation {UNITS_DONE}")
    if gang.theirs is not None and gang.theirs.progress is not None:
        return Told(gang.theirs.progress * units, "Workload")
    return Told()


def _judged(text: str, units: float, source: str, path: str) -> Told:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= units:
        return Told(source=source, mistake=Mistake(path, repr(text[:40]), _REMEDY.format(units=units)))
    return Told(value, source)


def progress(job: Job, gang: Gang, known: Progress, told: Told, now: datetime) -> Progress:
    """How far a job is by now; what survived, while it does not run.

    Args:
        known: as its status had it last.
    """
    runs = gang.running or known.running_since is not None  # workers that end one by one still are a running gang
    if gang.plan is None or gang.state is not GangState.PLACED or not runs:
        return Progress(units_done=known.units_done, estimate=known.units_done, told=_last_run(known))
    since, workers = known.running_since or now, len(gang.plan.nodes)
    if told.units is not None and not (told.source in _OUTLIVE and told.units == _last_run(known)):
        done = _survived(job, gang, known, told.units)
        same = known.told == told.units and known.told_at is not None
        return Progress(
            units_done=done,
            estimate=max(done, told.units),
            running_since=since,
            told=told.units,
            told_at=known.told_at if same else now,
            source=told.source,
        )
    if known.source and known.told_at is not None:
        # Nobody says it any more: from the last word on, by its speed.
        last = known.told if known.told is not None else known.estimate
        hours = max(0.0, hours_between(known.told_at, now))
        more = units_per_hour(job, gang.plan.gpu_model, workers) * hours
        estimate = min(job.work.units, max(known.units_done, last + more))
        return Progress(
            units_done=known.units_done,
            estimate=estimate,
            running_since=since,
            told=known.told,
            told_at=known.told_at,
            source=known.source,
        )
    estimate = units_after(job, gang.plan.gpu_model, workers, hours=hours_between(since, now))
    return Progress(units_done=known.units_done, estimate=estimate, running_since=since, told=_last_run(known))


def _last_run(known: Progress) -> float | None:
    """What was said before the gang was taken back: as long as nothing else is said, it speaks of work that is lost."""
    return known.told if known.told_at is None else None


def _survived(job: Job, gang: Gang, known: Progress, units: float) -> float:
    """Units that stand whatever a counter says: those before this run, and once it falls, all but one interval's.

    A counter falls where workers start anew in their pods. They have gone back to their last checkpoint then.
    """
    fell = bool(known.source) and known.told is not None and units < known.told
    if not fell or job.checkpoint.every is None or gang.plan is None:
        return known.units_done
    hours = job.checkpoint.every.total_seconds() / 3600
    interval = units_per_hour(job, gang.plan.gpu_model, len(gang.plan.nodes)) * hours
    return max(known.units_done, known.estimate - interval)


def kept(job: Job, progress_: Progress, *, ran_hours: float) -> float:
    """Units that survive losing the nodes, of a run whose progress was told: those of its last whole checkpoint."""
    every = job.checkpoint.every
    if every is None or ran_hours <= 0:
        return progress_.units_done
    step = every.total_seconds() / 3600
    share = min(1.0, ran_hours // step * step / ran_hours)
    return progress_.units_done + (progress_.estimate - progress_.units_done) * share
