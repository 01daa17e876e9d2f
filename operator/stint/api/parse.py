"""From resources as people write them to the core's nouns. Every mistake of an object is told at once.

What the CRD's schema and CEL rules refuse never gets here; what is left needs the catalogue, the clock or a second
field: a GPU model that nobody knows, a quantity that is none, a name too long for that many workers.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from stint.api.pod_requests import pod_requests
from stint.api.pricebook import PriceBook, as_of
from stint.api.quantity import amounts, as_resources, duration
from stint.api.trainingjob import Spec, TrainingJob
from stint.catalogue.catalogue import Catalogue
from stint.catalogue.commitments import Commitment, OwnedMachine, in_order
from stint.catalogue.layer import CarbonSignal, Place, PriceKey, Route, SpotKey
from stint.catalogue.overrides import Overrides
from stint.catalogue.quote import FreshnessLimits
from stint.errors import InvalidInputError, Mistake
from stint.estimate.runtime import work_hours_left
from stint.model.job import (
    Binding,
    Checkpoint,
    Data,
    Job,
    NodeName,
    Objective,
    OnExceed,
    Toleration,
    Topology,
    Work,
    job_id,
)
from stint.model.resources import Resources

HOST_NAME_LIMIT = 63
LONGEST_HOURS = 5e7  # nearly six thousand years: what ends later than that ends on no date that could be written
SHORTEST_CHECKPOINT = timedelta(seconds=1)
MOST_LEVELS = 100  # of a raw template: copying and encoding it recurse, and no PodTemplateSpec needs a quarter of that
_Key = TypeVar("_Key", bound=Hashable)

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """What is known of the pods of a job that somebody else makes them for."""

    per_worker: Resources | None  # None: there are none at the moment
    node_selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...]
    lacking: str = ""  # what keeps them from being placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a job beside its spec: where it is, what it did, what it cost."""

    assignment: Binding | None = None
    units_done: float = 0.0
    spent_usd: float = 0.0
    not_before: datetime | None = None
    avoid: tuple[NodeName, ...] = ()
    moved_at: datetime | None = None
    pods: Pods | None = None  # None: they are made from the job's own template


def to_job(resource: TrainingJob, catalogue: Catalogue, known: Known, *, created: datetime) -> Job:
    """The core's noun for a TrainingJob.

    Args:
        created: when it was submitted, on the clock that decisions use.
    Raises:
        InvalidInputError: with every mistake.
    """
    spec, meta = resource.spec, resource.metadata
    mistakes: list[Mistake] = []
    if not _within_levels(spec.pod_template, MOST_LEVELS):
        text = f"must not be nested more than {MOST_LEVELS} levels deep; `kubectl explain job.spec.template` shows it"
        mistake = Mistake("spec.podTemplate", f"more than {MOST_LEVELS} levels", text)
        raise InvalidInputError(f"TrainingJob {meta.namespace}/{meta.name}", [mistake])
    speeds = _speeds(spec, catalogue, mistakes)
    models = _models(spec, catalogue, mistakes)
    pods = _own_pods(spec, f"TrainingJob {meta.namespace}/{meta.name}", mistakes) if spec.steers is None else known.pods
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
    data = spec.data
    provider, _, region = (data.at if data else "").partition("/")
    job = Job(
        id=job_id(meta.namespace, meta.name),
        uid=meta.uid,
        created=created,
        workers=spec.workers,
        min_workers=spec.elastic.min if spec.elastic else spec.workers,
        max_workers=widest,
        per_worker=pods.per_worker or Resources(gpus=spec.gpu.per_worker, pods=1),
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
        node_selector=dict(pods.node_selector),
        tolerations=pods.tolerations,
        topology=Topology(key=spec.topology.within, required=spec.topology.required) if spec.topology else None,
        suspended=spec.suspend,
        assignment=known.assignment,
        not_before=known.not_before,
        avoid=known.avoid,
        moved_at=known.moved_at,
        lacking=pods.lacking,
    )
    _check_length(job, spec, catalogue, mistakes)
    if mistakes:
        raise InvalidInputError(f"TrainingJob {meta.namespace}/{meta.name}", mistakes)
    return job


def _own_pods(spec: Spec, about: str, mistakes: list[Mistake]) -> Pods:
    """What the pods are like that are made from the job's own template.

    Raises:
        InvalidInputError: it has the wrong shape, so that nothing more can be said of it.
    """
    template = worker_template(spec)
    if _misshapen(spec, template, mistakes):
        raise InvalidInputError(about, mistakes)
    if node := (template.get("spec") or {}).get("nodeName"):
        text = "must be left out: Stint decides where workers run; narrow that with spec.nodeSelector"
        mistakes.append(Mistake("spec.podTemplate.spec.nodeName", repr(node), text))
    per_worker = _per_worker(spec, template, mistakes)
    _check_tolerations(spec, template, mistakes)
    return Pods(
        per_worker=per_worker,
        node_selector=dict(template.get("spec", {}).get("nodeSelector") or {}),
        tolerations=_tolerations(template, spec.gpu.resource),
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


def worker_template(spec: Spec) -> dict[str, Any]:
    """The PodTemplateSpec that a person wrote, in either of its two forms.

    A field that is null (`env:` with all its lines commented out) is one that is left out, as everywhere in Kubernetes.
    The API server sees to that itself only where it knows the fields, which in a raw template it does not.
    """
    if spec.pod_template is not None:
        raw: dict[str, Any] = _without_nulls(spec.pod_template)
        return raw
    built: dict[str, Any] = msgspec.to_builtins(spec.template) if spec.template else {}
    return built


def _within_levels(value: Any, most: int) -> bool:
    """Level by level instead of by recursion, which is what a deeper one would break."""
    level = [value]
    for _ in range(most + 1):
        below: list[Any] = []
        for v in level:
            if isinstance(v, (dict, list)):
                below += v.values() if isinstance(v, dict) else v
        if not below:
            return True
        level = below
    return False


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def _where(spec: Spec) -> str:
    """The path of the worker's template, for messages."""
    return "spec.podTemplate" if spec.pod_template is not None else "spec.template"


class _RawMeta(msgspec.Struct):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _RawResources(msgspec.Struct):
    limits: dict[str, str | int | float] | None = None
    requests: dict[str, str | int | float] | None = None


class _RawToleration(msgspec.Struct):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None


class _RawContainer(msgspec.Struct):
    name: str
    resources: _RawResources | None = None
    env: list[dict[str, Any]] | None = None


class _RawPodSpec(msgspec.Struct, rename="camel"):
    containers: list[_RawContainer]
    init_containers: list[_RawContainer] | None = None
    resources: _RawResources | None = None
    overhead: dict[str, str | int | float] | None = None
    node_selector: dict[str, str] | None = None
    tolerations: list[_RawToleration] | None = None
    affinity: dict[str, Any] | None = None
    scheduling_gates: list[dict[str, str]] | None = None


class _RawTemplate(msgspec.Struct):
    """Of a PodTemplateSpec, what Stint itself reads and adds to; the API server judges the rest."""

    spec: _RawPodSpec
    metadata: _RawMeta | None = None


def _misshapen(spec: Spec, template: Mapping[str, Any], mistakes: list[Mistake]) -> bool:
    try:
        # A raw one with its nulls: one as the value of a label or a request is nothing left out, but a mistake.
        msgspec.convert(template if spec.pod_template is None else spec.pod_template, _RawTemplate)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        path = _where(spec) + where.rstrip("`")
        mistakes.append(Mistake(path, what, "must be a PodTemplateSpec; `kubectl explain job.spec.template` shows it"))
        return True
    return False


def _suggest(model: str, catalogue: Catalogue) -> str:
    near = difflib.get_close_matches(model.upper(), catalogue.gpus, n=3, cutoff=0.4)
    return f"is no GPU that the catalogue knows; did you mean {' or '.join(near) if near else 'H100'}?"


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


def _per_worker(spec: Spec, template: Mapping[str, Any], mistakes: list[Mistake]) -> Resources:
    """What the scheduler will count for a worker; its GPUs are those of spec.gpu, which the first container gets."""
    where, pod = f"{_where(spec)}.spec", template.get("spec") or {}
    containers = pod.get("containers") or []
    if not containers:
        mistakes.append(Mistake(f"{where}.containers", str(containers), "needs at least one container"))
        return Resources(gpus=spec.gpu.per_worker, pods=1)

    def asked(field: str, i: int, container: Mapping[str, Any], most_gpus: int) -> dict[str, float]:
        path = f"{where}.{field}[{i}].resources"
        return _asked(container.get("resources") or {}, path, spec, mistakes, most_gpus=most_gpus)

    total = pod_requests(
        [asked("containers", i, c, 0 if i else spec.gpu.per_worker) for i, c in enumerate(containers)],
        [
            (asked("initContainers", i, c, 0 if is_sidecar else spec.gpu.per_worker), is_sidecar)
            for i, c in enumerate(pod.get("initContainers") or [])
            for is_sidecar in [c.get("restartPolicy") == "Always"]
        ],
        pod_level=_read((pod.get("resources") or {}).get("requests") or {}, f"{where}.resources.requests", mistakes),
        pod_limits=_read((pod.get("resources") or {}).get("limits") or {}, f"{where}.resources.limits", mistakes),
        overhead=_read(pod.get("overhead") or {}, f"{where}.overhead", mistakes),
    )
    return replace(as_resources(total), gpus=spec.gpu.per_worker, pods=1)


def _asked(
    resources: Mapping[str, Any], path: str, spec: Spec, mistakes: list[Mistake], *, most_gpus: int
) -> dict[str, float]:
    """What one container asks for. Its GPUs are only compared with what the worker has: none, or all of them."""
    found = _read({**(resources.get("limits") or {}), **(resources.get("requests") or {})}, path, mistakes)
    gpus = found.get(spec.gpu.resource, 0)
    if gpus not in (0, most_gpus):
        text = f"contradicts spec.gpu.perWorker {spec.gpu.per_worker}; leave {spec.gpu.resource} out here"
        if most_gpus == 0:
            text = f"would come on top of spec.gpu.perWorker, which the first container gets; {text.partition('; ')[2]}"
        mistakes.append(Mistake(path, f"{gpus:g} GPUs", text))
    return found


def _read(written: Mapping[str, Any], path: str, mistakes: list[Mistake]) -> dict[str, float]:
    texts = {name: str(amount) for name, amount in written.items()}
    try:
        found = amounts(texts)
    except ValueError as error:
        mistakes.append(Mistake(path, str(texts), f"is no quantity ({error}); write 500m, 4 or 64Gi"))
        return {}
    if any(amount < 0 for amount in found.values()):
        mistakes.append(Mistake(path, str(texts), "must not be negative"))
    return found


def _check_length(job: Job, spec: Spec, catalogue: Catalogue, mistakes: list[Mistake]) -> None:
    for name, speed in spec.work.units_per_second.items():
        if work_hours_left(job, catalogue.canonical_gpu(name) or "", job.min_workers) > LONGEST_HOURS:
            text = f"{spec.work.units:g} units would take thousands of years; give fewer units or a higher speed"
            mistakes.append(Mistake(f"spec.work.unitsPerSecond[{name}]", f"{speed:g}", text))


_EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
_OPERATORS = ("", "Exists", "Equal", "Lt", "Gt")


def _check_tolerations(spec: Spec, template: Mapping[str, Any], mistakes: list[Mistake]) -> None:
    for i, given in enumerate((template.get("spec") or {}).get("tolerations") or []):
        for key, known in (("operator", _OPERATORS), ("effect", _EFFECTS)):
            found = given.get(key) or ""
            if found not in known:
                path = f"{_where(spec)}.spec.tolerations[{i}].{key}"
                mistakes.append(Mistake(path, repr(found), f"must be left out or one of {', '.join(known[1:])}"))


def _check_name(name: str, workers: int, mistakes: list[Mistake]) -> None:
    room = HOST_NAME_LIMIT - 1 - len(str(workers - 1))
    if len(name) > room:
        text = f"has {len(name)} characters; with {workers} workers it may have {room}, as host names end at 63"
        mistakes.append(Mistake("metadata.name", name, text))


def _tolerations(template: Mapping[str, Any], gpu_resource: str) -> tuple[Toleration, ...]:
    given = (template.get("spec") or {}).get("tolerations") or []
    own = Toleration(key=gpu_resource, operator="Exists", effect="NoSchedule")
    read = [
        Toleration(
            key=t.get("key") or "",
            operator=t.get("operator") or "Equal",
            value=t.get("value") or "",
            effect=t.get("effect") or "",
        )
        for t in given
    ]
    return (*read, own)


def to_overrides(book: PriceBook) -> Overrides:
    """The catalogue's noun for a PriceBook.

    Raises:
        InvalidInputError: a date or a number that cannot be, or two numbers for one thing.
    """
    spec = book.spec
    mistakes: list[Mistake] = []
    if spec.as_of and as_of(book) is None:
        mistakes.append(Mistake("spec.asOf", spec.as_of, "is no date; write it as 2026-11-01"))
    energy, carbon = spec.energy, spec.carbon

    def once(path: str, entries: Iterable[tuple[_Key, float]]) -> dict[_Key, float]:
        return _once(path, entries, mistakes)

    overrides = Overrides(
        name=book.metadata.name,
        as_of=as_of(book),
        prices=once(
            "spec.prices",
            (
                (PriceKey(p.provider, p.region, p.instance_type, p.capacity_type, p.zone), p.usd_per_node_hour)
                for p in spec.prices
            ),
        ),
        egress=once(
            "spec.egress", ((Route(*e.source.split("/"), *e.to.split("/")), e.usd_per_gb) for e in spec.egress)
        ),
        storage=once("spec.storage", ((Place(*s.at.split("/")), s.usd_per_gb_month) for s in spec.storage)),
        carbon=once(
            "spec.carbon.intensities",
            ((Place(*i.at.split("/")), i.g_per_kwh) for i in (carbon.intensities if carbon else ())),
        ),
        carbon_signal=(carbon and carbon.signal) or CarbonSignal.AVERAGE_LIFECYCLE,
        pue=once("spec.energy.pue", ((Place(*p.at.split("/")), p.ratio) for p in (energy.pue if energy else ()))),
        tariffs=once("spec.energy.tariffs", ((t.region, t.usd_per_kwh) for t in (energy.tariffs if energy else ()))),
        interruptions=once(
            "spec.interruptions",
            ((SpotKey(i.provider, i.region, i.what, i.zone), i.per_hour) for i in spec.interruptions),
        ),
        licences=once("spec.licences", ((entry.name, entry.usd_per_gpu_hour) for entry in spec.licences)),
        labour_usd_per_job_hour=spec.labour.usd_per_job_hour if spec.labour else None,
        carbon_usd_per_tonne=carbon.usd_per_tonne if carbon else None,
    )
    if mistakes:
        raise InvalidInputError(f"PriceBook {book.metadata.name}", mistakes)
    return overrides


def _once(path: str, entries: Iterable[tuple[_Key, float]], mistakes: list[Mistake]) -> dict[_Key, float]:
    """By key. Which of two figures for one thing is meant nobody can know; the same one twice does no harm."""
    said: dict[_Key, tuple[int, float]] = {}
    for i, (key, value) in enumerate(entries):
        before, known = said.setdefault(key, (i, value))
        if known != value:
            text = f"contradicts {path}[{before}], which says {known:g} for the same; leave one of them out"
            mistakes.append(Mistake(f"{path}[{i}]", f"{value:g}", text))
    return {key: value for key, (_, value) in said.items()}


def to_commitments(book: PriceBook) -> tuple[Commitment, ...]:
    """What a PriceBook says is paid for anyway."""
    return tuple(
        Commitment(
            name=c.name,
            source=f"pricebook/{book.metadata.name}",
            provider=c.provider,
            region=c.region,
            zone=c.zone,
            instance_type=c.instance_type,
            nodes=c.nodes,
            usd_per_node_hour=c.usd_per_node_hour,
            plan_usd_per_hour=c.savings_plan.usd_per_hour if c.savings_plan else None,
            plan_discount=c.savings_plan.discount if c.savings_plan else 0.0,
            owned=OwnedMachine(
                capex_usd=c.owned.capex_usd,
                depreciation_years=c.owned.depreciation_years,
                idle_watts=c.owned.idle_watts,
                usd_per_kwh=c.owned.usd_per_kwh,
                pue=c.owned.pue,
            )
            if c.owned
            else None,
            start=c.start,
            end=c.end,
        )
        for c in book.spec.commitments
    )


def by_precedence(books: Iterable[PriceBook]) -> list[PriceBook]:
    """The one that counts most last: of the highest precedence, then of the later name."""
    return sorted(books, key=lambda b: (b.spec.precedence, b.metadata.name))


def carbon_signal(books: Iterable[PriceBook]) -> CarbonSignal | None:
    """Which kind of carbon intensity decisions use: what the last book says that says anything."""
    said = [b.spec.carbon.signal for b in by_precedence(books) if b.spec.carbon and b.spec.carbon.signal]
    return said[-1] if said else None


def with_books(catalogue: Catalogue, books: Iterable[PriceBook]) -> Catalogue:
    """The catalogue with every valid book on top; higher precedence wins, then the later name."""
    books = by_precedence(books)
    if signal := carbon_signal(books):
        catalogue = replace(catalogue, carbon_signal=signal)
    commitments: list[Commitment] = []
    for book in books:
        try:
            catalogue = catalogue.with_overrides(to_overrides(book))
            commitments += to_commitments(book)
        except (InvalidInputError, ValueError):
            continue  # its own status says what is wrong
    return replace(catalogue, commitments=in_order(commitments)) if commitments else catalogue


def freshness(books: Iterable[PriceBook]) -> FreshnessLimits:
    """The limits of the book that comes last; the usual ones where none says anything."""
    said = [b for b in by_precedence(books) if b.spec.freshness]
    if not said or said[-1].spec.freshness is None:
        return FreshnessLimits()
    last = said[-1].spec.freshness
    return FreshnessLimits(list_price_days=last.list_price_days, spot_price_days=last.spot_price_days)
