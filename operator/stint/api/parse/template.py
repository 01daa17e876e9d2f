"""The template of a worker as people write it: whether it can be used, and what its pods ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from stint.api.parse.constraints import Written, constraints_of
from stint.api.pod_requests import pod_requests
from stint.api.quantity import amounts, as_resources
from stint.api.trainingjob import Spec
from stint.errors import Mistake
from stint.model.constraints import UNCONSTRAINED, PodConstraints, Terms
from stint.model.job import Role, Toleration
from stint.model.resources import Resources

JOB_LABEL = "stint.dev/trainingjob"
JOB_NAME_LABELS = ("batch.kubernetes.io/job-name", "job-name")  # that the Job controller gives its pods
MOST_LEVELS = 100  # of a raw template: copying and encoding it recurse, and no PodTemplateSpec needs a quarter of that


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """What is known of the pods of a job that somebody else makes them for."""

    per_worker: Resources | None  # None: there are none at the moment
    node_selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...]
    constraints: PodConstraints = UNCONSTRAINED
    claims: tuple[str, ...] = ()  # PersistentVolumeClaims that they mount
    lacking: str = ""  # what keeps them from being placed
    roles: tuple[Role, ...] = ()  # those that are unlike the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is known of a PersistentVolumeClaim: where it can be mounted, or why not yet."""

    where: Terms | None = None  # None: anywhere
    lacking: str = ""  # what keeps pods with it from being scheduled at all
    of_one_pod: bool = False  # no second pod is scheduled while one uses it


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What its namespace and the cluster make of a pod, beside what its template says."""

    claims: Mapping[str, Claim] | None = None  # PersistentVolumeClaims by name; None: nothing is known of them
    overheads: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # by RuntimeClass, in base units
    container_requests: Mapping[str, float] = field(default_factory=dict)  # LimitRange: of what a container leaves out


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


def within_levels(value: Any, most: int) -> bool:
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


def where_it_is(spec: Spec) -> str:
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


def misshapen(spec: Spec, template: Mapping[str, Any], mistakes: list[Mistake]) -> bool:
    try:
        # A raw one with its nulls: one as the value of a label or a request is nothing left out, but a mistake.
        msgspec.convert(template if spec.pod_template is None else spec.pod_template, _RawTemplate)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        path = where_it_is(spec) + where.rstrip("`")
        mistakes.append(Mistake(path, what, "must be a PodTemplateSpec; `kubectl explain job.spec.template` shows it"))
        return True
    return False


def per_worker_of(spec: Spec, template: Mapping[str, Any], mistakes: list[Mistake], around: Surroundings) -> Resources:
    """What the scheduler will count for a worker; its GPUs are those of spec.gpu, which the first container gets."""
    where, pod = f"{where_it_is(spec)}.spec", template.get("spec") or {}
    containers = pod.get("containers") or []
    if not containers:
        mistakes.append(Mistake(f"{where}.containers", str(containers), "needs at least one container"))
        return Resources(gpus=spec.gpu.per_worker, pods=1)

    def asked(field: str, i: int, container: Mapping[str, Any], most_gpus: int) -> dict[str, float]:
        path = f"{where}.{field}[{i}].resources"
        found = _asked(container.get("resources") or {}, path, spec, mistakes, most_gpus=most_gpus)
        return {**around.container_requests, **found}

    total = pod_requests(
        [asked("containers", i, c, 0 if i else spec.gpu.per_worker) for i, c in enumerate(containers)],
        [
            (asked("initContainers", i, c, 0 if is_sidecar else spec.gpu.per_worker), is_sidecar)
            for i, c in enumerate(pod.get("initContainers") or [])
            for is_sidecar in [c.get("restartPolicy") == "Always"]
        ],
        pod_level=_read((pod.get("resources") or {}).get("requests") or {}, f"{where}.resources.requests", mistakes),
        pod_limits=_read((pod.get("resources") or {}).get("limits") or {}, f"{where}.resources.limits", mistakes),
        overhead=_read(pod.get("overhead") or {}, f"{where}.overhead", mistakes)
        or around.overheads.get(str(pod.get("runtimeClassName") or ""), {}),
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


def written_constraints(
    spec: Spec, template: Mapping[str, Any], *, namespace: str, name: str, mistakes: list[Mistake]
) -> Written:
    """What a worker demands of its node and of other pods."""
    given = (template.get("metadata") or {}).get("labels") or {}
    own = {JOB_LABEL: name, **dict.fromkeys(JOB_NAME_LABELS, name)}
    try:
        return constraints_of(template.get("spec") or {}, labels={**given, **own}, namespace=namespace)
    except ValueError as error:
        what, _, where = str(error).partition(" - at `$")
        path = f"{where_it_is(spec)}.spec{where.rstrip('`')}"
        mistakes.append(Mistake(path, what, "must be as in core/v1; `kubectl explain pod.spec` shows it"))
        return Written(UNCONSTRAINED)


_EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
_OPERATORS = ("", "Exists", "Equal", "Lt", "Gt")


def check_tolerations(spec: Spec, template: Mapping[str, Any], mistakes: list[Mistake]) -> None:
    for i, given in enumerate((template.get("spec") or {}).get("tolerations") or []):
        for key, known in (("operator", _OPERATORS), ("effect", _EFFECTS)):
            found = given.get(key) or ""
            if found not in known:
                path = f"{where_it_is(spec)}.spec.tolerations[{i}].{key}"
                mistakes.append(Mistake(path, repr(found), f"must be left out or one of {', '.join(known[1:])}"))


def tolerations_of(template: Mapping[str, Any], gpu_resource: str) -> tuple[Toleration, ...]:
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
