"""Objects that nobody should write: two hundred by changing good ones, and by hand more, with what becomes of each."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import Any

NAMES = ("trainingjob", "gpupool", "pricebook")
_LONG = "x" * 253
# What is put in a field's place: the wrong kind, the wrong size, the wrong alphabet.
NONSENSE: tuple[Any, ...] = (
    None,
    "",
    " ",
    "ü\u202e\U0001f4a5",
    _LONG,
    "1e400",
    "-0",
    "NaN",
    "1Ki",
    True,
    -1,
    0,
    -0.0,
    0.1,
    1e308,
    2**31,
    2**63,
    -(2**63),
    [],
    [[]],
    {},
    {"": ""},
    {f"k{i}": "v" for i in range(10_000)},
    "2026-13-45T99:99:99Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "-5h",
    "999999999h",
    "3 fortnights",
)


def trainingjob(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A good one, unless told otherwise; None leaves a field out."""
    full = {
        "workers": 1,
        "gpu": {"perWorker": 1, "models": ["A100-80GB"], "resource": "nvidia.com/gpu"},
        "work": {"units": 3600, "unit": "step", "unitsPerSecond": {"A100-80GB": 1.0}, "scalingExponent": 1.0},
        "checkpoint": {"everyMinutes": 10, "takesSeconds": 5, "restartSeconds": 30},
        "within": "48h",
        "budget": {"usd": 1000, "onExceed": "Warn"},
        "objective": {"performance": 1.0, "cost": 1.0, "usdPerHour": 1.0},
        "elastic": {"min": 1, "max": 1},
        "data": {"gib": 10, "at": "aws/us-east-1", "scratchGiB": 1},
        "capacityTypes": ["on-demand"],
        "priority": 0,
        "queue": "night",
        "retries": 3,
        "placementTimeoutSeconds": 60,
        "template": {"spec": {"containers": [{"name": "train", "image": "x"}], "nodeSelector": {"no": "where"}}},
        **spec,
    }
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {k: v for k, v in full.items() if v is not None},
    }


def gpupool(name: str) -> dict[str, Any]:
    """A good one that is only advised about, and that selects nothing."""
    offering = {"provider": "aws", "zone": "us-east-1b", "instanceType": "g6e.12xlarge", "capacityType": "spot"}
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"absurd": name},
            "offerings": [offering],
            "limits": {"maxNodes": 3},
            "scaler": {"adapter": "Kwok", "mode": "Advise"},
            "coldStartSeconds": 60,
            "giveBackAfterSeconds": 60,
        },
    }


def pricebook(name: str) -> dict[str, Any]:
    """A good one, for machines that nobody has."""
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "PriceBook",
        "metadata": {"name": name},
        "spec": {
            "asOf": "2026-11-01",
            "prices": [
                {"provider": "nobody", "instanceType": "none.large", "region": "nowhere", "usdPerNodeHour": 1.0},
            ],
        },
    }


def _paths(thing: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(thing, dict):
        for key, value in thing.items():
            found += _paths(value, (*path, key))
    elif isinstance(thing, list):
        for i, value in enumerate(thing):
            found += _paths(value, (*path, i))
    return found


def changed(thing: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The same object with another value at a path in its spec."""
    made = copy.deepcopy(thing)
    where = made["spec"]
    for step in path[:-1]:
        where = where[step]
    where[path[-1]] = value
    return made


def objects(namespace: str, *, seed: int = 5) -> list[dict[str, Any]]:
    """Two hundred, the same ones for the same seed: 140 TrainingJobs, 40 GPUPools, 20 PriceBooks."""
    dice = random.Random(seed)
    made = []
    for kind, count in (("trainingjob", 140 - len(BY_HAND)), ("gpupool", 40), ("pricebook", 20)):
        for i in range(count):
            name = f"absurd-{namespace}-{i}"
            good = {
                "trainingjob": lambda name=name: trainingjob(name, namespace),
                "gpupool": lambda name=name: gpupool(name),
                "pricebook": lambda name=name: pricebook(name),
            }[kind]()
            made.append(changed(good, dice.choice(_paths(good["spec"])), dice.choice(NONSENSE)))
    return made + [trainingjob(f"by-hand-{i}", namespace, **spec) for i, spec in enumerate(BY_HAND)]


def _template(**container: Any) -> dict[str, Any]:
    return {"spec": {"nodeSelector": {"no": "where"}, "containers": [{"name": "train", "image": "x", **container}]}}


def _pod(**spec: Any) -> dict[str, Any]:
    """A raw template, for which no schema but the API server's own is there to refuse it."""
    good = {"nodeSelector": {"no": "where"}, "containers": [{"name": "train", "image": "x"}]}
    return {"template": None, "podTemplate": {"spec": {**good, **spec}}}


BY_HAND: tuple[dict[str, Any], ...] = (
    {"deadline": "2001-01-01T00:00:00Z", "within": None},
    {"gpu": {"perWorker": 1, "models": ["Voodoo2"]}, "work": {"units": 1, "unitsPerSecond": {"Voodoo2": 1}}},
    {"work": {"units": 1e-300, "unitsPerSecond": {"A100-80GB": 1e300}}},
    {"work": {"units": 1e300, "unitsPerSecond": {"A100-80GB": 1e-300}}},
    {"objective": {"performance": 0, "cost": 0}},
    {"objective": {"performance": 1e300, "cost": 1e300, "usdPerHour": 1e300}},
    {"budget": {"usd": 1e-300}},
    {"priority": 2**31 - 1},
    {"elastic": {"min": 5, "max": 2}},
    {"template": _template(resources={"requests": {"cpu": "lots"}})},
    {"template": _template(resources={"limits": {"nvidia.com/gpu": "-4"}})},
    {"template": _template(resources={"limits": {"nvidia.com/gpu": "1Ki"}})},
    {"template": _template(resources={"requests": {"memory": "9999Ei"}})},
    {"template": _template(env=[{"name": "WORLD_SIZE", "value": "many"}])},
    {"template": {"spec": {"containers": []}}},
    _pod(containers=[]),
    _pod(containers="train"),
    _pod(containers=[{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]),
    _pod(restartPolicy="Always"),
    _pod(nodeName="somewhere"),
    _pod(schedulerName="nobody"),
    _pod(hostNetwork=True, nodeSelector={"no": "where"}),
    _pod(tolerations=[{"operator": "Sometimes"}]),
    _pod(nodeSelector={"": ""}),
    _pod(nodeSelector=["a"]),
    _pod(affinity="none"),
    {"template": None, "podTemplate": {}},
    {"template": None, "podTemplate": {"spec": None}},
    {
        "template": None,
        "podTemplate": {
            "metadata": {"labels": {"a b": "c"}},
            "spec": {"nodeSelector": {"no": "where"}, "containers": [{"name": "a"}]},
        },
    },
    {"template": None, "podTemplate": {"metadata": {"annotations": {"ü": "v" * 300_000}}, "spec": {"containers": []}}},
)


# --- Made by hand, each with what must become of it. ---

REFUSED = "refused"  # by the API server, when it is written
INVALID = "invalid"  # taken, and told so in status; it never reaches a decision
REFUSED_LATER = "refused later"  # what only the API server can judge: it refuses the batch Job, and that is told
TOO_LARGE = "told that it is larger than a namespace may have"
WAITS = "waits"  # legal, and told why nothing can be had for it
RUNS = "runs"  # legal and harmless after all


@dataclass(frozen=True)
class Case:
    """One absurdity: what is changed, what becomes of it, and words that must be told (field, value, remedy)."""

    spec: dict[str, Any]
    fate: str
    says: tuple[str, ...] = ()


def _asks(**amounts: Any) -> dict[str, Any]:
    return {"template": _home(containers=[{"name": "train", "image": "x", "resources": {"requests": amounts}}])}


def _home(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "train", "image": "x"}], **spec}}


def _raw(metadata: Any = "none", **spec: Any) -> dict[str, Any]:
    made = _home(**spec) | ({} if metadata == "none" else {"metadata": metadata})
    return {"template": None, "podTemplate": made}


def nested(levels: int) -> dict[str, Any]:
    """A map in a map in a map."""
    made: dict[str, Any] = {}
    for _ in range(levels):
        made = {"a": made}
    return made


_TWO = [{"name": "train", "image": "x"}, {"name": "side", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 1}}}]
_WORK = {"units": 3600, "unitsPerSecond": {"A100-80GB": 1.0}}
_QUANTITY = "is no quantity"

JOBS: dict[str, Case] = {
    # dates and durations
    "deadline-year-0": Case({"deadline": "0000-01-01T00:00:00Z", "within": None}, REFUSED, ("spec.deadline", "0000-")),
    "deadline-comma": Case({"deadline": "2030-01-01T00:00:00,5Z", "within": None}, REFUSED, ("spec.deadline", "00,5Z")),
    "deadline-offset": Case(
        {"deadline": "2030-01-01T00:00:00+99:99", "within": None}, REFUSED, ("spec.deadline", "+99:99")
    ),
    "deadline-month-13": Case(
        {"deadline": "2026-13-45T99:99:99Z", "within": None}, REFUSED, ("spec.deadline", "13-45")
    ),
    "deadline-past": Case(
        {"deadline": "2001-01-01T00:00:00Z", "within": None}, INVALID, ("spec.deadline: 2001", "give a later one")
    ),
    "deadline-year-1": Case(
        {"deadline": "1000-01-01T00:00:00+14:00", "within": None}, INVALID, ("spec.deadline: 1000", "give a later one")
    ),
    "deadline-last": Case({"deadline": "9999-12-31T23:59:59-12:00", "within": None}, RUNS),
    "within-words": Case({"within": "3 fortnights"}, REFUSED, ("spec.within", "3 fortnights")),
    "within-negative": Case({"within": "-5h"}, REFUSED, ("spec.within", "-5h")),
    "within-zero": Case({"within": "0h"}, REFUSED, ("spec.within", "0h")),
    "within-endless": Case({"within": "999999999h"}, INVALID, ("spec.within: '999999999h'", "give a shorter one")),
    "within-overflow": Case({"within": "99999999999999d"}, INVALID, ("spec.within: '9999", "give a shorter one")),
    # numbers
    "workers-0": Case({"workers": 0}, REFUSED, ("spec.workers", "0")),
    "workers-2e63": Case({"workers": 2**63}, REFUSED, ("spec.workers",)),
    "workers-text": Case({"workers": "3"}, REFUSED, ("spec.workers", "string")),
    "workers-half": Case({"workers": 1.5}, REFUSED, ("spec.workers",)),
    "gpus-17": Case({"gpu": {"perWorker": 17}}, REFUSED, ("spec.gpu.perWorker", "17")),
    "units-text": Case({"work": {**_WORK, "units": "1e400"}}, REFUSED, ("spec.work.units", "string")),
    "units-negative": Case({"work": {**_WORK, "units": -1}}, REFUSED, ("spec.work.units", "-1")),
    "units-most": Case(
        {"work": {**_WORK, "units": 1e18}}, INVALID, ("unitsPerSecond[A100-80GB]: 1", "give fewer units or a higher")
    ),
    "speed-least": Case(
        {"gpu": {"perWorker": 1}, "work": {**_WORK, "unitsPerSecond": {"NVIDIA-A100-SXM4-80GB": 5e-324}}},
        INVALID,
        ("unitsPerSecond[NVIDIA-A100-SXM4-80GB]: 4.94066e-324", "give fewer units or a higher"),
    ),
    "speeds-none": Case({"work": {"units": 1, "unitsPerSecond": {}}}, REFUSED, ("spec.work.unitsPerSecond",)),
    "speeds-10000": Case(
        {"work": {"units": 1, "unitsPerSecond": {f"k{i}": 1 for i in range(10_000)}}},
        REFUSED,
        ("spec.work.unitsPerSecond", "32"),
    ),
    "unknown-gpu": Case(
        {"gpu": {"perWorker": 1, "models": []}, "work": {"units": 1, "unitsPerSecond": {"Voodoo2": 1}}},
        INVALID,
        ("spec.work.unitsPerSecond[Voodoo2]: 'Voodoo2'", "did you mean"),
    ),
    "scaling-2": Case({"work": {**_WORK, "scalingExponent": 2}}, REFUSED, ("spec.work.scalingExponent", "2")),
    "checkpoint-0": Case({"checkpoint": {"everyMinutes": 0}}, REFUSED, ("spec.checkpoint.everyMinutes", "0")),
    "checkpoint-always": Case(
        {"checkpoint": {"everyMinutes": 1e-9}}, INVALID, ("spec.checkpoint.everyMinutes: 1e-09", "write minutes, as 10")
    ),
    "budget-least": Case({"budget": {"usd": 5e-324}}, WAITS, ("OverBudget", "the budget has 0.00 USD left")),
    "budget-text": Case({"budget": {"usd": "NaN"}}, REFUSED, ("spec.budget.usd", "string")),
    "priority-most": Case({"priority": 2**31}, REFUSED, ("spec.priority", "1000")),
    "retries-negative": Case({"retries": -1}, REFUSED, ("spec.retries", "-1")),
    "timeout-1": Case({"placementTimeoutSeconds": 1}, REFUSED, ("spec.placementTimeoutSeconds", "1")),
    "indifferent": Case({"objective": {"performance": 0, "cost": 0, "usdPerHour": 0}}, RUNS),
    # texts and lists
    "queue-64": Case({"queue": "q" * 64}, REFUSED, ("spec.queue", "63")),
    "queue-control": Case({"queue": "a\u0000\u001b[31m\u202e\U0001f4a5"}, RUNS),
    "unit-control": Case({"work": {**_WORK, "unit": "\u0007\u202e"}}, RUNS),
    "no-capacity-type": Case({"capacityTypes": []}, REFUSED, ("spec.capacityTypes",)),
    "licences-twice": Case({"licences": ["a", "a"]}, REFUSED, ("spec.licences", "Duplicate")),
    "data-moon": Case({"data": {"gib": 1, "at": "the moon"}}, REFUSED, ("spec.data.at", "the moon")),
    "data-nowhere": Case({"data": {"gib": 1e9, "at": "nobody/nowhere"}}, WAITS, ("NoPrice", "under spec.egress")),
    "data-stays": Case(
        {"data": {"at": "nobody/nowhere", "mayLeaveRegion": False}}, WAITS, ("DataMustStay", "nobody/nowhere")
    ),
    "gpu-memory": Case({"gpu": {"perWorker": 1, "memoryGiB": 4096}}, WAITS, ("GpuMemoryTooSmall", "asks for 4096")),
    "owned-only": Case({"capacityTypes": ["owned"]}, WAITS, ("CapacityTypeNotAllowed", "owned")),
    # the template
    "containers-none": Case({"template": {"spec": {"containers": []}}}, REFUSED, ("spec.template.spec.containers",)),
    "container-name": Case(
        {"template": {"spec": {"containers": [{"name": "A B", "image": "x"}]}}}, REFUSED, ("containers[0].name", "A B")
    ),
    "container-typo": Case(
        {"template": {"spec": {"containers": [{"name": "a", "image": "x", "imagee": "y"}]}}}, REFUSED, ("imagee",)
    ),
    "env-twice": Case(
        {"template": _home(containers=[{"name": "a", "image": "x", "env": [{"name": "A"}, {"name": "A"}]}])},
        REFUSED,
        ("containers[0].env[1]", "Duplicate"),
    ),
    "selector-33": Case(
        {"template": _home(nodeSelector={f"k{i}": "v" for i in range(33)})}, REFUSED, ("spec.nodeSelector", "32")
    ),
    "selector-nobody": Case(
        {"template": _home(nodeSelector={"no": "where"})}, WAITS, ("NodeSelectorMismatch", "no=where")
    ),
    "cpu-words": Case(_asks(cpu="lots"), INVALID, ("containers[0].resources", "lots", _QUANTITY, "write 500m")),
    "cpu-nan": Case(_asks(cpu="NaN"), INVALID, ("containers[0].resources", "NaN", _QUANTITY, "write 500m")),
    "cpu-infinite": Case(_asks(cpu="Infinity"), INVALID, ("containers[0].resources", "Infinity", _QUANTITY)),
    "cpu-python": Case(_asks(cpu="1_0"), INVALID, ("containers[0].resources", "1_0", _QUANTITY)),
    "cpu-other-digits": Case(_asks(cpu="٣"), INVALID, ("containers[0].resources", "٣", _QUANTITY)),
    "cpu-list": Case(_asks(cpu=[1]), INVALID, ("containers[0].resources.requests", "array", "kubectl explain")),
    "cpu-most": Case(_asks(cpu="1e400"), WAITS, ("WorkerExceedsNode", "a worker asks for")),
    "memory-negative": Case(_asks(memory="-1Gi"), INVALID, ("containers[0].resources", "-1Gi", "not be negative")),
    "memory-most": Case(_asks(memory="9999Ei"), WAITS, ("WorkerExceedsNode", "a worker asks for")),
    "disk-words": Case(_asks(**{"ephemeral-storage": "much"}), INVALID, ("resources", "much", _QUANTITY)),
    "gpus-negative": Case(
        _asks(**{"nvidia.com/gpu": "-4"}), INVALID, ("resources: -4 GPUs", "leave nvidia.com/gpu out")
    ),
    "gpus-ki": Case(_asks(**{"nvidia.com/gpu": "1Ki"}), INVALID, ("resources: 1024 GPUs", "leave nvidia.com/gpu out")),
    "gpus-half": Case(_asks(**{"nvidia.com/gpu": "0.5"}), INVALID, ("resources: 0.5 GPUs", "leave nvidia.com/gpu out")),
    "gpus-infinite": Case(_asks(**{"nvidia.com/gpu": "Infinity"}), INVALID, ("resources", "Infinity", _QUANTITY)),
    "gpus-zero": Case(_asks(**{"nvidia.com/gpu": "0"}), RUNS),
    "gpus-twice": Case(
        {"template": _home(containers=_TWO)}, INVALID, ("containers[1].resources: 1 GPUs", "leave nvidia.com/gpu out")
    ),
    "toleration-list": Case(
        {"template": _home(tolerations=[{"key": ["a"]}])}, INVALID, ("spec.template.spec.tolerations", "array")
    ),
    "toleration-everything": Case({"template": _home(tolerations=[{"operator": "Exists"}])}, RUNS),
    "own-variable": Case(
        {"template": _home(containers=[{"name": "a", "image": "x", "env": [{"name": "WORLD_SIZE", "value": "many"}]}])},
        RUNS,
    ),
    # the raw template
    "raw-empty": Case({"template": None, "podTemplate": {}}, INVALID, ("spec.podTemplate", "kubectl explain")),
    "raw-null": Case({"template": None, "podTemplate": {"spec": None}}, INVALID, ("spec.podTemplate.spec", "null")),
    "raw-containers-none": Case(_raw(containers=[]), INVALID, ("podTemplate.spec.containers: []", "at least one")),
    "raw-containers-text": Case(_raw(containers="train"), INVALID, ("podTemplate.spec.containers", "str", "explain")),
    "raw-container-null": Case(_raw(containers=[None]), INVALID, ("podTemplate.spec.containers", "null", "explain")),
    "raw-node-name": Case(_raw(nodeName="there"), INVALID, ("podTemplate.spec.nodeName: 'there'", "spec.nodeSelector")),
    "raw-selector-list": Case(_raw(nodeSelector=["a"]), INVALID, ("podTemplate.spec.nodeSelector", "array", "explain")),
    "raw-label-null": Case(_raw({"labels": {"a": None}}), INVALID, ("podTemplate.metadata.labels", "null", "explain")),
    "raw-affinity-text": Case(_raw(affinity="none"), INVALID, ("podTemplate.spec.affinity", "str", "explain")),
    # Not deeper than kopf can copy, which is before anything of ours reads it.
    "raw-nested": Case(_raw(affinity=nested(200)), INVALID, ("spec.podTemplate: more than 100 levels", "explain")),
    "raw-gates-text": Case(_raw(schedulingGates="a"), INVALID, ("podTemplate.spec.schedulingGates", "str", "explain")),
    "raw-toleration-operator": Case(
        _raw(tolerations=[{"operator": "Sometimes"}]),
        INVALID,
        ("tolerations[0].operator: 'Sometimes'", "one of Exists"),
    ),
    "raw-toleration-effect": Case(
        _raw(tolerations=[{"operator": "Exists", "effect": "Never"}]),
        INVALID,
        ("tolerations[0].effect: 'Never'", "one of NoSchedule"),
    ),
    "raw-toleration-map": Case(
        _raw(tolerations=[{"key": {}}]), INVALID, ("podTemplate.spec.tolerations", "object", "explain")
    ),
    "raw-init-gpus": Case(
        _raw(initContainers=[{"name": "i", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "9"}}}]),
        INVALID,
        ("initContainers[0].resources: 9 GPUs", "leave nvidia.com/gpu out"),
    ),
    "raw-sidecar-gpus": Case(
        _raw(
            initContainers=[
                {"name": "i", "image": "x", "restartPolicy": "Always", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
            ]
        ),
        INVALID,
        ("initContainers[0].resources: 1 GPUs", "leave nvidia.com/gpu out"),
    ),
    "raw-init-cpu": Case(
        _raw(initContainers=[{"name": "i", "image": "x", "resources": {"requests": {"cpu": "5k"}}}]),
        WAITS,
        ("WorkerExceedsNode", "a worker asks for"),
    ),
    "raw-nulls": Case(
        _raw(
            {"labels": None, "annotations": None},
            containers=[{"name": "a", "image": "x", "env": None, "resources": {"limits": None, "requests": None}}],
            initContainers=None,
            tolerations=None,
            schedulingGates=None,
            affinity=None,
        ),
        RUNS,
    ),
    "raw-metadata-null": Case(_raw(None, containers=[{"name": "a", "image": "x", "resources": None}]), RUNS),
    "raw-restarts": Case(_raw(restartPolicy="Always"), RUNS),
    "raw-host-network": Case(_raw(hostNetwork=True), RUNS),
    "raw-annotations": Case(_raw({"annotations": {"example.com/a": "\u202e\U0001f4a5\u0007 ü"}}), RUNS),
    "raw-our-label": Case(_raw({"labels": {"stint.dev/trainingjob": "another", "a": "b" * 63}}), RUNS),
    "raw-names-twice": Case(
        _raw(containers=[{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]),
        REFUSED_LATER,
        ("containers[1].name", 'Duplicate value: "a"'),
    ),
    "raw-label": Case(_raw({"labels": {"a b": "c"}}), REFUSED_LATER, ("template.labels", '"a b"')),
    "raw-label-64": Case(_raw({"labels": {"a": "b" * 64}}), REFUSED_LATER, ("template.labels", "63")),
    "raw-no-image": Case(_raw(containers=[{"name": "a"}]), REFUSED_LATER, ("containers[0].image", "Required value")),
    "raw-huge-annotation": Case(
        _raw({"annotations": {"a": "v" * 300_000}}),
        TOO_LARGE,
        ("CannotBeRead", "spec: 300", "put large data into a ConfigMap"),
    ),
}


def hand_made(name: str, namespace: str, node_selector: dict[str, str]) -> dict[str, Any]:
    """One of `JOBS`, on these nodes unless it names its own: a bad one that is taken for a good one would run."""
    case = JOBS[name]
    made = trainingjob(name, namespace, **({"template": _home()} | case.spec))
    for form in ("template", "podTemplate"):
        template = made["spec"].get(form)
        if isinstance(template, dict) and isinstance(template.get("spec"), dict):
            made["spec"][form] = {**template, "spec": {"nodeSelector": node_selector, **template["spec"]}}
    return made


_OFFERING = {"provider": "aws", "zone": "us-east-1b", "instanceType": "g6e.12xlarge", "capacityType": "spot"}

POOLS: dict[str, Case] = {
    "most-negative": Case({"limits": {"maxNodes": -1}}, REFUSED, ("spec.limits.maxNodes", "-1")),
    "most-10001": Case({"limits": {"maxNodes": 10_001}}, REFUSED, ("spec.limits.maxNodes", "10000")),
    "least-over-most": Case({"limits": {"minNodes": 2, "maxNodes": 1}}, REFUSED, ("minNodes must not be larger",)),
    "selects-all": Case({"nodeSelector": {}}, REFUSED, ("spec.nodeSelector",)),
    "selects-17": Case({"nodeSelector": {f"k{i}": "v" for i in range(17)}}, REFUSED, ("spec.nodeSelector", "16")),
    "selects-10000": Case({"nodeSelector": {f"k{i}": "v" for i in range(10_000)}}, REFUSED, ("spec.nodeSelector",)),
    "selects-long": Case({"nodeSelector": {"a": "b" * 64}}, REFUSED, ("spec.nodeSelector", "63")),
    "no-limits": Case({"limits": None}, REFUSED, ("spec.scaler without spec.limits",)),
    "no-offering": Case({"offerings": []}, REFUSED, ("spec.scaler without spec.offerings",)),
    "homeless": Case({"offerings": [{**_OFFERING, "zone": ""}]}, REFUSED, ("needs a region or a zone",)),
    "free": Case(
        {"offerings": [{**_OFFERING, "capacityType": "free"}]}, REFUSED, ("offerings[0].capacityType", "free")
    ),
    "gpus-65": Case({"offerings": [{**_OFFERING, "gpus": 65}]}, REFUSED, ("offerings[0].gpus", "65")),
    "offerings-17": Case({"offerings": [_OFFERING] * 17}, REFUSED, ("spec.offerings", "16")),
    "adapter": Case({"scaler": {"adapter": "Magic"}}, REFUSED, ("spec.scaler.adapter", "Magic")),
    "cold-start": Case({"coldStartSeconds": -1}, REFUSED, ("spec.coldStartSeconds", "-1")),
    "unknown-model": Case(
        {"offerings": [{**_OFFERING, "gpuModel": "Voodoo2"}]},
        INVALID,
        ("spec.offerings[0]", "'Voodoo2'", "give gpuModel, gpus, cpu, memoryGiB and gpuMemoryGiB"),
    ),
    "unknown-machine": Case(
        {"offerings": [{**_OFFERING, "instanceType": "tele\u0007type"}]},
        INVALID,
        ("spec.offerings[0]", "tele\u0007type is no machine", "give gpuModel"),
    ),
    "no-gpus": Case(
        {"offerings": [{**_OFFERING, "instanceType": "m5.large"}]}, INVALID, ("m5.large is no machine", "give gpuModel")
    ),
    "no-price": Case(
        {"offerings": [{**_OFFERING, "zone": "", "region": "*"}]}, WAITS, ("g6e.12xlarge", "add it to a PriceBook")
    ),
    "most-0": Case({"limits": {"maxNodes": 0}}, RUNS),
    "most-10000": Case({"limits": {"minNodes": 10_000, "maxNodes": 10_000}}, RUNS),
    "selects-nobody": Case({"nodeSelector": {"a b": "c d"}}, RUNS),
    "offering-twice": Case({"offerings": [_OFFERING, _OFFERING]}, RUNS),
    "at-once": Case({"coldStartSeconds": 0, "giveBackAfterSeconds": 0}, RUNS),
}


def _priced(*dollars: Any, **more: Any) -> dict[str, Any]:
    machine = {"provider": "nobody", "instanceType": "none.large", "region": "nowhere"}
    return {"prices": [{**machine, **more, "usdPerNodeHour": d} for d in dollars]}


BOOKS: dict[str, Case] = {
    "negative": Case(_priced(-1), REFUSED, ("spec.prices[0].usdPerNodeHour", "-1")),
    "too-dear": Case(_priced(1e7), REFUSED, ("spec.prices[0].usdPerNodeHour", "1e+06")),
    "words": Case(_priced("free"), REFUSED, ("spec.prices[0].usdPerNodeHour", "string")),
    "provider-65": Case(_priced(1, provider="p" * 65), REFUSED, ("spec.prices[0].provider", "64")),
    "prices-2001": Case(_priced(*[1] * 2001), REFUSED, ("spec.prices", "2000")),
    "carbon-negative": Case({"carbon": {"usdPerTonne": -5}}, REFUSED, ("spec.carbon.usdPerTonne", "-5")),
    "carbon-endless": Case({"carbon": {"usdPerTonne": 1e308}}, REFUSED, ("spec.carbon.usdPerTonne", "1e+06")),
    "pue-half": Case({"energy": {"pue": [{"at": "aws/*", "ratio": 0.5}]}}, REFUSED, ("energy.pue[0].ratio", "0.5")),
    "nowhere": Case({"storage": [{"at": "the moon", "usdPerGBMonth": 1}]}, REFUSED, ("storage[0].at", "the moon")),
    "date-american": Case({"asOf": "11/01/2026"}, REFUSED, ("spec.asOf", "11/01/2026")),
    "date-month-13": Case({"asOf": "2026-13-01"}, INVALID, ("spec.asOf: 2026-13-01", "write it as 2026-11-01")),
    "date-zero": Case({"asOf": "0000-00-00"}, INVALID, ("spec.asOf: 0000-00-00", "write it as 2026-11-01")),
    "contradiction": Case(
        _priced(1, 2), INVALID, ("spec.prices[1]: 2: contradicts spec.prices[0], which says 1", "leave one of them out")
    ),
    "tariffs": Case(
        {"energy": {"tariffs": [{"region": "dc", "usdPerKwh": 1}, {"region": "dc", "usdPerKwh": 3}]}},
        INVALID,
        ("spec.energy.tariffs[1]: 3: contradicts", "leave one of them out"),
    ),
    "routes": Case(
        {"egress": [{"from": "a/b", "to": "c/d", "usdPerGB": usd} for usd in (1, 1, 2)]},
        INVALID,
        ("spec.egress[2]: 2: contradicts spec.egress[0]", "leave one of them out"),
    ),
    "twice-the-same": Case(_priced(1, 1), RUNS),
    "for-nothing": Case(_priced(0), RUNS),
    "empty": Case({"prices": []}, RUNS),
    "source-of-nobody": Case({"sources": [{"name": "x", "type": "Http", "url": "http://127.0.0.1:1/"}]}, RUNS),
    "source-of-mars-time": Case(
        {"sources": [{"name": "x", "type": "Tariff", "tariffs": [{"region": "x", "perKwh": 1, "timeZone": "Mars"}]}]},
        RUNS,
    ),
    "currency-without-rate": Case(
        {"sources": [{"name": "x", "type": "NodeOverlays", "currency": "EUR"}]}, REFUSED, ("usdPer", "1.08")
    ),
    "commitment-to-nothing": Case(
        {"commitments": [{"name": "x", "provider": "aws", "instanceType": "y", "nodes": 1}]},
        REFUSED,
        ("a commitment is one of",),
    ),
    "block-that-ends-first": Case(
        {
            "commitments": [
                {
                    "name": "x",
                    "provider": "nobody",
                    "instanceType": "y",
                    "nodes": 1,
                    "usdPerNodeHour": 1,
                    "start": "2026-12-02T00:00:00Z",
                    "end": "2026-12-01T00:00:00Z",
                }
            ]
        },
        REFUSED,
        ("end must lie after start",),
    ),
}


def hand_made_pool(name: str, prefix: str) -> dict[str, Any]:
    """One of `POOLS`; no node is its own."""
    made = gpupool(f"{prefix}-{name}")
    made["spec"] = {k: v for k, v in {**made["spec"], **POOLS[name].spec}.items() if v is not None}
    return made


def hand_made_book(name: str, prefix: str) -> dict[str, Any]:
    """One of `BOOKS`, for machines that nobody has."""
    made = pricebook(f"{prefix}-{name}")
    made["spec"] = {"asOf": "2026-11-01", **BOOKS[name].spec}
    return made


@dataclass(frozen=True)
class Machine:
    """What is changed of a good node of eight A100."""

    labels: dict[str, str] = field(default_factory=dict)
    allocatable: dict[str, str] = field(default_factory=dict)
    says: str = ""  # how the API server refuses it; empty: it is taken
    gpus: int = 8  # as Stint counts them


_MOST = 2**31 - 1  # things of a kind on a node, as far as Stint counts

NODES: dict[str, Machine] = {
    "negative": Machine(allocatable={"nvidia.com/gpu": "-4"}, says="status.allocatable.nvidia.com/gpu"),
    "fraction": Machine(allocatable={"nvidia.com/gpu": "8500m"}, says="status.allocatable.nvidia.com/gpu"),
    "nan": Machine(allocatable={"nvidia.com/gpu": "NaN"}, says="quantities must match"),
    "label-64": Machine(labels={"x": "a" * 64}, says="metadata.labels"),
    "label-unicode": Machine(labels={"nvidia.com/gpu.memory": "²"}, says="metadata.labels"),
    "ki": Machine(allocatable={"nvidia.com/gpu": "1Ki"}, gpus=1024),
    "most": Machine(allocatable={"nvidia.com/gpu": str(2**63 - 1)}, gpus=_MOST),
    "beyond": Machine(allocatable={"nvidia.com/gpu": "1e400"}, gpus=_MOST),
    "cpu-beyond": Machine(allocatable={"cpu": "1e400"}),
    "no-memory": Machine(allocatable={"memory": "0"}),
    "memory-words": Machine(labels={"nvidia.com/gpu.memory": "lots"}),
    "memory-nan": Machine(labels={"nvidia.com/gpu.memory": "NaN"}),
    "memory-beyond": Machine(labels={"nvidia.com/gpu.memory": "9" * 63}),
    "zone-letters": Machine(labels={"topology.kubernetes.io/zone": "abcdef", "topology.kubernetes.io/region": ""}),
    "capacity": Machine(labels={"karpenter.sh/capacity-type": "free"}),
}

# Of pods that are not ours: GPUs asked for, and how many Stint counts on their node; None: the API server refuses them.
PODS: dict[str, int | None] = {"-4": None, "500m": None, "1Ki": 1024, "9223372036854775808": _MOST, "1e400": _MOST}
