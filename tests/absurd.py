"""Two hundred objects that nobody should write: made by hand, and by changing good ones at random."""

from __future__ import annotations

import copy
import random
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
