"""What a TrainingJob's status says of what was measured: usage, advice, calibration, and their conditions. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from stint.api.meta import Condition
from stint.api.trainingjob_status import Advice, Calibration, Status, Usage
from stint.autoscale.advice import advise
from stint.kube.observe.snapshot import Seen
from stint.model.cluster import Utilisation
from stint.model.gang import GangState
from stint.model.job import OnIdle
from stint.model.market import Offering
from stint.model.measured import Measured, Speed
from stint.model.offering import OfferingId
from stint.views.node_status import NODES_READY

Fact = tuple[str, str, str]
_FIRST_SCRAPES = timedelta(minutes=2)  # within which nobody misses what is not measured yet


def usage(found: Utilisation | None) -> Usage | None:
    """Rounded, so that it does not change all the time."""
    if found is None:
        return None

    def rounded(value: float | None, digits: int) -> float | None:
        return None if value is None else round(value, digits)

    return Usage(
        gpu_ratio=rounded(found.gpu_ratio, 3),
        watts=rounded(found.watts, 1),
        idle_gpus=found.idle_gpus,
        work_ratio=rounded(found.work_ratio, 3),
        processless_gpus=found.processless_gpus,
        memory_gi_b=rounded(found.memory_gib, 1),
        measured_at=found.measured_at,
    )


def advice(seen: Seen, measured: Measured, offerings: Mapping[OfferingId, Offering]) -> list[Advice]:
    """Of a gang that runs."""
    if seen.job is None:
        return []
    found = advise(seen.job, measured.usage.get(seen.job.id), offerings)
    return [Advice(what=w.what, usd_per_hour=round(w.usd_per_hour, 2), why=w.why) for w in found]


def calibration(seen: Seen, measured: Measured) -> list[Calibration]:
    """By GPU model that a speed is stated for."""
    if seen.job is None:
        return seen.resource.status.calibration
    speeds = sorted(measured.speeds.get(seen.job.id, {}).items())
    return [_calibration(m, s, used=measured.use_speeds and s.trusted) for m, s in speeds[:16]]


def _calibration(model: str, speed: Speed, *, used: bool) -> Calibration:
    over = f"over {speed.runs} run" + ("s" if speed.runs != 1 else "")
    if speed.own:
        over = "in this run"
    by = "measured" if used else "stated"
    text = f"stated {speed.stated:.3g}, measured {speed.units_per_second:.3g} ± {speed.spread:.2g} {over}"
    return Calibration(
        gpu_model=model,
        stated=speed.stated,
        measured=float(f"{speed.units_per_second:.4g}"),
        spread=float(f"{speed.spread:.3g}"),
        runs=speed.runs,
        watts_per_gpu=None if speed.watts_per_gpu is None else round(speed.watts_per_gpu, 1),
        used=used,
        text=f"{text}; decisions go by what was {by}",
    )


def facts(seen: Seen, measured: Measured, old: Mapping[str, Condition], now: datetime) -> dict[str, Fact]:
    """Conditions: whether its GPUs are measured, whether they do nothing, and whether it says how far it is.

    Those of a job that nobody measures and that says nothing are left out.
    """
    found: dict[str, Fact] = {}
    job, runs = seen.job, seen.gang.state is GangState.PLACED and seen.progress.running_since is not None
    used = measured.usage.get(job.id) if job else None
    if measured.asked and runs:
        if used is not None and used.measured:
            found["Measured"] = ("True", "Measured", "")
        elif "Measured" in old or (seen.progress.running_since and now - seen.progress.running_since > _FIRST_SCRAPES):
            why = measured.wrong or "utilisation is unknown: no series of its GPUs names its pods"
            found["Measured"] = ("Unknown", "NoMeasurement", why)
    if seen.idle.due:
        found["Idle"] = ("True", "GpusDoNothing", f"{seen.idle.due}; {_remedy(seen)}")
    elif "Idle" in old:
        found["Idle"] = ("False", "Works" if runs else "Released", "")
    told = seen.told
    if told.mistake is not None:
        found["ProgressTold"] = ("False", "Refused", f"{told.mistake}; it goes by its speed meanwhile")
    elif told.units is not None:
        found["ProgressTold"] = ("True", told.source, "")
    elif told.silent:
        found["ProgressTold"] = ("Unknown", "Silent", f"spec.progress.metric: {told.silent}; it goes by its speed")
    elif "ProgressTold" in old and runs:
        found["ProgressTold"] = ("Unknown", "Silent", "nobody says how far it is any more; it goes by its speed")
    return found


def _remedy(seen: Seen) -> str:
    if seen.resource.spec.idle_policy.action is OnIdle.ADVISE:
        return "end it, or have it taken back with spec.idlePolicy.action: Checkpoint"
    return f"spec.idlePolicy.action is {seen.resource.spec.idle_policy.action.value}"


def news(old: Status, new: Status) -> Iterator[tuple[str, str]]:
    """What is worth an event, once: reason and note."""
    known = {a.what for a in old.advice}
    for each in new.advice:
        if each.what not in known and each.what != "Idle":
            yield "Advice", f"{each.why}: {each.usd_per_hour:.2f} USD/h less"
    before = {c.type: c.status for c in old.conditions}
    for condition in new.conditions:
        if (condition.type, condition.status) == ("Idle", "True") and before.get("Idle") != "True":
            yield "GpusIdle", condition.message
        if (condition.type, condition.status) == (NODES_READY, "False") and before.get(NODES_READY) != "False":
            yield condition.reason, condition.message
        if (condition.type, condition.reason) == ("ProgressTold", "Refused") and before.get("ProgressTold") != "False":
            yield "ProgressRefused", condition.message
