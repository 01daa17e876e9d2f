"""From a TrainingJob to the core's noun. Every mistake of an object is told at once.

What the CRD's schema and CEL rules refuse never gets here; what is left needs the catalogue, the clock or a second
field: an unknown GPU model, an invalid quantity, a name too long for that many workers.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from stint.api.parse.constraints import with_volumes
from stint.api.parse.template import (
    MOST_LEVELS,
    Claim,
    Pods,
    Surroundings,
    check_tolerations,
    misshapen,
    per_worker_of,
    tolerations_of,
    within_levels,
    worker_template,
    written_constraints,
)
from stint.api.quantity import duration
from stint.api.trainingjob import Spec, TrainingJob
from stint.catalogue.catalogue import Catalogue
from stint.errors import InvalidInputError, Mistake
from stint.estimate.runtime import work_hours_left
from stint.model.gang import Admitted
from stint.model.job import (
    Binding,
    Checkpoint,
    Data,
    Job,
    NodeName,
    Objective,
    OnExceed,
    Topology,
    Work,
    job_id,
)
from stint.model.resources import Resources

HOST_NAME_LIMIT = 63
LONGEST_HOURS = 5e7  # nearly six thousand years: what ends later than that ends on no date that could be written
SHORTEST_CHECKPOINT = timedelta(seconds=1)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a job beside its spec: where it is, what it did, what it cost."""

    assignment: Binding | None = None
    units_done: float = 0.0
    spent_usd: float = 0.0
    not_before: datetime | None = None
    avoid: tuple[NodeName, ...] = ()
    moved_at: datetime | None = None
    moved_for: str = ""
    pods: Pods | None = None  # None: they are made from the job's own template
    around: Surroundings = field(default_factory=Surroundings)
    admitted: Admitted | None = None  # what admission made of its pods; None: nothing else than the template says


def to_job(resource: TrainingJob, catalogue: Catalogue, known: Known, *, created: datetime) -> Job:
    """The core's noun for a TrainingJob.

    Args:
        created: when it was submitted, on the clock that decisions use.
    Raises:
        InvalidInputError: with every mistake.
    """
    spec, meta = resource.spec, resource.metadata
    mistakes: list[Mistake] = []
    if not within_levels(spec.pod_template, MOST_LEVELS):
        text = f"must not be nested more than {MOST_LEVELS} levels deep; `kubectl explain job.spec.template` shows it"
        mistake = Mistake("spec.podTemplate", f"more than {MOST_LEVELS} levels", text)
        raise InvalidInputError(f"TrainingJob {meta.namespace}/{meta.name}", [mistake])
    speeds = _speeds(spec, catalogue, mistakes)
    models = _models(spec, catalogue, mistakes)
    pods = _own_pods(resource, known.around, mistakes) if spec.steers is None else known.pods
    pods = pods or Pods(per_worker=None, node_selector={}, tolerations=())
    widest = spec.elastic.max if spec.elastic else spec.workers
    if spec.steers is None:
        _check_name(meta.name, widest, mistakes)
    deadline = deadline_of(spec, created)
    if spec.deadline is not None and spec.deadline <= created:
        mistakes.append(
            Mistake("spec.deadline", spec.deadline.isoformat(), "lies before the job was created; give a later one")
        )
    if spec.within and deadline is None:
        text = "leads past the year 9999; give a shorter one, as 90m, 24h or 3d"
        mistakes.append(Mistake("spec.within", repr(spec.within), text))
    checkpoint = spec.checkpoint
    if checkpoint and timedelta(minutes=checkpoint.every_minutes) < SHORTEST_CHECKPOINT:
        text = "is less than a second, so there would be no time to work; write minutes, as 10"
        mistakes.append(Mistake("spec.checkpoint.everyMinutes", f"{checkpoint.every_minutes:g}", text))
    if models and not set(models) & set(speeds) and not mistakes:
        text = f"none of them has a speed in spec.work.unitsPerSecond, which has {sorted(speeds)}; add one"
        mistakes.append(Mistake("spec.gpu.models", str(list(models)), text))
    if mistakes:
        raise InvalidInputError(f"TrainingJob {meta.namespace}/{meta.name}", mistakes)
    there = known.around.claims
    claims = [there.get(name, _missing(name, meta.namespace)) for name in pods.claims] if there is not None else []
    mounted = [c.where for c in claims if c.where is not None]  # each by some pod of the gang, and counted for all
    data = spec.data
    provider, _, region = (data.at if data else "").partition("/")
    job = Job(
        id=job_id(meta.namespace, meta.name),
        uid=meta.uid,
        created=created,
        workers=spec.workers,
        min_workers=spec.elastic.min if spec.elastic else spec.workers,
        max_workers=widest,
        per_worker=known.admitted.requests
        if known.admitted
        else pods.per_worker or Resources(gpus=spec.gpu.per_worker, pods=1),
        roles=tuple(replace(r, constraints=with_volumes(r.constraints, mounted)) for r in pods.roles),
        gpu_models=models,
        gpu_memory_gib=spec.gpu.memory_gi_b or 0.0,
        gpu_fraction=spec.gpu.fraction,
        work=Work(
            units=spec.work.units,
            unit=spec.work.unit,
            units_per_second=speeds,
            scaling_exponent=spec.work.scaling_exponent,
            units_done=known.units_done,
        ),
        checkpoint=Checkpoint()
        if checkpoint is None
        else Checkpoint(
            every=timedelta(minutes=checkpoint.every_minutes),
            takes=timedelta(seconds=checkpoint.takes_seconds),
            restart=timedelta(seconds=checkpoint.restart_seconds),
        ),
        capacity_types=tuple(spec.capacity_types),
        priority=spec.priority,
        deadline=deadline,
        on_deadline_miss=spec.on_deadline_miss,
        budget_usd=spec.budget.usd if spec.budget else None,
        on_exceed=spec.budget.on_exceed if spec.budget else OnExceed.WARN,
        spent_usd=known.spent_usd,
        objective=Objective(
            performance=spec.objective.performance,
            cost=spec.objective.cost,
            usd_per_hour=spec.objective.usd_per_hour,
            lateness_usd_per_hour=spec.objective.lateness_usd_per_hour,
        ),
        data=Data()
        if data is None
        else Data(
            gib=data.gi_b,
            provider=provider,
            region=region,
            may_leave_region=data.may_leave_region,
            scratch_gib=data.scratch_gi_b,
        ),
        licences=tuple(spec.licences),
        node_selector={**pods.node_selector, **dict(known.admitted.node_selector if known.admitted else ())},
        tolerations=pods.tolerations,
        constraints=with_volumes(pods.constraints, mounted),
        topology=Topology(key=spec.topology.within, required=spec.topology.required) if spec.topology else None,
        suspended=spec.suspend,
        assignment=known.assignment,
        not_before=known.not_before,
        avoid=known.avoid,
        moved_at=known.moved_at,
        moved_for=known.moved_for,
        lacking=pods.lacking
        or next((c.lacking for c in claims if c.lacking), "")
        or _shared(pods, claims, spec.workers),
        read_as=_read_as((*spec.gpu.models, *spec.work.units_per_second), catalogue),
    )
    _check_length(job, spec, catalogue, mistakes)
    if mistakes:
        raise InvalidInputError(f"TrainingJob {meta.namespace}/{meta.name}", mistakes)
    return job


def _shared(pods: Pods, claims: Sequence[Claim], workers: int) -> str:
    """Filter VolumeRestrictions of kube-scheduler: a second pod of the gang would wait for the first to end."""
    alone = next((n for n, c in zip(pods.claims, claims, strict=False) if c.of_one_pod), "")
    if not alone or workers == 1:
        return ""
    return (
        f"PersistentVolumeClaim {alone} is ReadWriteOncePod, and all {workers} workers mount it; make it "
        "ReadWriteMany, or set spec.workers to 1"
    )


def _missing(claim: str, namespace: str) -> Claim:
    return Claim(lacking=f"PersistentVolumeClaim {claim} is not in namespace {namespace}; create it")


def _own_pods(resource: TrainingJob, around: Surroundings, mistakes: list[Mistake]) -> Pods:
    """What the pods are like that are made from the job's own template.

    Raises:
        InvalidInputError: it has the wrong shape, so that nothing more can be said of it.
    """
    spec, meta = resource.spec, resource.metadata
    template = worker_template(spec)
    if misshapen(spec, template, mistakes):
        raise InvalidInputError(f"TrainingJob {meta.namespace}/{meta.name}", mistakes)
    if node := (template.get("spec") or {}).get("nodeName"):
        text = "must be left out: Stint decides where workers run; narrow that with spec.nodeSelector"
        mistakes.append(Mistake("spec.podTemplate.spec.nodeName", repr(node), text))
    per_worker = per_worker_of(spec, template, mistakes, around)
    check_tolerations(spec, template, mistakes)
    written = written_constraints(spec, template, namespace=meta.namespace, name=meta.name, mistakes=mistakes)
    return Pods(
        per_worker=per_worker,
        node_selector=dict(template.get("spec", {}).get("nodeSelector") or {}),
        tolerations=tolerations_of(template, spec.gpu.resource),
        constraints=written.constraints,
        claims=written.claims,
    )


def _in_utc(moment: datetime) -> datetime:
    """The same moment; the first or last there is, where it is beyond those in UTC."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _FIRST if moment.year == _FIRST.year else _LAST


def deadline_of(spec: Spec, created: datetime) -> datetime | None:
    """spec.deadline, or the creation plus spec.within; None: neither is given, or it is later than there are dates."""
    if spec.deadline is not None:
        return _in_utc(spec.deadline)
    try:
        return created + duration(spec.within) if spec.within else None
    except OverflowError:
        return None


def _suggest(model: str, catalogue: Catalogue) -> str:
    near = difflib.get_close_matches(model.upper(), catalogue.gpus, n=3, cutoff=0.4)
    meant = " or ".join(near) if near else "H100"
    return (
        f"is no GPU that the catalogue knows; did you mean {meant}? Teach a model that it lacks in a PriceBook under "
        "spec.gpuModels"
    )


def _read_as(written: Iterable[str], catalogue: Catalogue) -> dict[str, str]:
    """Names of GPUs that are not the canonical ones, such as A100, and the models that they are taken for."""
    taken = {name: catalogue.canonical_gpu(name) or name for name in written}
    return {name: model for name, model in taken.items() if name != model}


def _speeds(spec: Spec, catalogue: Catalogue, mistakes: list[Mistake]) -> dict[str, float]:
    speeds = {}
    for name, speed in spec.work.units_per_second.items():
        model = catalogue.canonical_gpu(name)
        where = f"spec.work.unitsPerSecond[{name}]"
        if model is None:
            mistakes.append(Mistake(where, repr(name), _suggest(name, catalogue)))
        elif not (math.isfinite(speed) and speed > 0):
            mistakes.append(Mistake(where, str(speed), "must be a finite number greater than 0"))
        else:
            speeds[model] = speed
    return speeds


def _models(spec: Spec, catalogue: Catalogue, mistakes: list[Mistake]) -> tuple[str, ...]:
    models = []
    for i, name in enumerate(spec.gpu.models):
        model = catalogue.canonical_gpu(name)
        if model is None:
            mistakes.append(Mistake(f"spec.gpu.models[{i}]", repr(name), _suggest(name, catalogue)))
        else:
            models.append(model)
    return tuple(dict.fromkeys(models))


def _check_length(job: Job, spec: Spec, catalogue: Catalogue, mistakes: list[Mistake]) -> None:
    for name, speed in spec.work.units_per_second.items():
        if work_hours_left(job, catalogue.canonical_gpu(name) or "", job.min_workers) > LONGEST_HOURS:
            text = f"{spec.work.units:g} units would take thousands of years; give fewer units or a higher speed"
            mistakes.append(Mistake(f"spec.work.unitsPerSecond[{name}]", f"{speed:g}", text))


def _check_name(name: str, workers: int, mistakes: list[Mistake]) -> None:
    room = HOST_NAME_LIMIT - 1 - len(str(workers - 1))
    if len(name) > room:
        text = f"has {len(name)} characters; with {workers} workers it may have {room}, as host names end at 63"
        mistakes.append(Mistake("metadata.name", name, text))
