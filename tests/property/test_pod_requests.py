"""What a pod asks for, against the rules as the documentation tells them, one after the other and in whole numbers.

https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
https://kubernetes.io/docs/tasks/configure-pod-container/assign-pod-level-resources/
https://kubernetes.io/docs/concepts/scheduling-eviction/pod-overhead/
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.api.parse.job import Known, to_job
from stint.api.trainingjob import TrainingJob
from stint.feeds import bundled
from stint.kube.records import PodRecord
from stint.kube.reduce import reduce_pod
from stint.kube.wire import WirePod
from stint.kube.workloads import gpus_of
from stint.model.resources import Resources
from stint.testing.builders import NOW

CATALOGUE = bundled.load()
CPU, MEMORY, GPU, MIG = "cpu", "memory", "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
UNITS = {CPU: "m", MEMORY: "Mi", GPU: "", MIG: ""}
BASE = {CPU: 1 / 1000, MEMORY: 1 / 1024, GPU: 1, MIG: 1}

Lots = dict[str, int]


def by_the_documentation(spec: dict[str, Any], resource: str) -> int:
    """Plays the start of the pod through, and asks at every moment what is in use at the same time."""

    def of(thing: dict[str, Any]) -> int:
        resources = thing.get("resources") or {}
        asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.get(resource)
        return 0 if asked is None else int(asked.removesuffix(UNITS[resource]))

    moments, running_sidecars = [], 0
    for container in spec.get("initContainers", []):
        if container.get("restartPolicy") == "Always":
            running_sidecars += of(container)
            moments.append(running_sidecars)
        else:
            moments.append(running_sidecars + of(container))
    moments.append(running_sidecars + sum(of(container) for container in spec["containers"]))
    most = max(moments)
    pod_level = spec.get("resources") or {}
    if resource in (CPU, MEMORY):
        if resource in (pod_level.get("requests") or {}):
            most = int(pod_level["requests"][resource].removesuffix(UNITS[resource]))
        elif resource in (pod_level.get("limits") or {}) and not _named_by_a_container(spec, resource):
            most = int(pod_level["limits"][resource].removesuffix(UNITS[resource]))
    overhead = spec.get("overhead", {}).get(resource)
    return most + (int(overhead.removesuffix(UNITS[resource])) if overhead else 0)


def _named_by_a_container(spec: dict[str, Any], resource: str) -> bool:
    every = [*spec["containers"], *spec.get("initContainers", [])]
    return any(resource in (c["resources"].get(kind) or {}) for c in every for kind in ("limits", "requests"))


def lots(*resources: str) -> st.SearchStrategy[dict[str, str]]:
    each = {r: st.integers(0, 20).map(lambda n, r=r: f"{n * (250 if UNITS[r] else 1)}{UNITS[r]}") for r in resources}
    return st.fixed_dictionaries({}, optional=each)


def pods(*resources: str, limits: bool) -> st.SearchStrategy[dict[str, Any]]:
    """Specs as the API server hands them over, or with limits, as people write them."""
    asked: dict[str, Any] = {"requests": lots(*resources)}
    if limits:
        asked["limits"] = lots(*resources)
    container = st.fixed_dictionaries({"name": st.just("c"), "resources": st.fixed_dictionaries({}, optional=asked)})
    first = st.builds(
        lambda c, policy: {**c, **({"restartPolicy": policy} if policy else {})},
        container,
        st.sampled_from(["", "Always"]),
    )
    level = lots(CPU, MEMORY)
    return st.fixed_dictionaries(
        {"containers": st.lists(container, min_size=1, max_size=3)},
        optional={
            "initContainers": st.lists(first, max_size=5),
            "overhead": lots(CPU, MEMORY),
            "resources": st.fixed_dictionaries(
                {}, optional={"requests": level, **({"limits": level} if limits else {})}
            ),
        },
    )


def reduced(spec: dict[str, Any]) -> PodRecord:
    return reduce_pod(msgspec.convert({"metadata": {"name": "p", "uid": "u"}, "spec": spec}, WirePod))[2]


def amounts(spec: dict[str, Any]) -> Resources:
    found = {r: by_the_documentation(spec, r) * BASE[r] for r in UNITS}
    return Resources(gpus=int(found[GPU]), cpu=found[CPU], memory_gib=found[MEMORY], pods=1)


@given(spec=pods(CPU, MEMORY, GPU, MIG, limits=False))
def test_a_pod_counts_as_the_scheduler_counts_it(spec):
    record = reduced(spec)
    assert record.requests.as_row() == pytest.approx(amounts(spec).as_row())
    assert record.slices == by_the_documentation(spec, MIG)


@given(spec=pods(CPU, MEMORY, limits=True))
def test_a_worker_is_expected_to_ask_for_what_its_pod_will(spec):
    body = {
        "metadata": {"name": "unet", "namespace": "team", "uid": "u"},
        "spec": {
            "workers": 1,
            "gpu": {"perWorker": 2},
            "work": {"units": 100, "unitsPerSecond": {"H100": 1.0}},
            "podTemplate": {"spec": spec},
        },
    }
    job = to_job(msgspec.convert(body, TrainingJob), CATALOGUE, Known(), created=NOW)
    expected = amounts(spec)
    assert job.per_worker.as_row() == pytest.approx((2, expected.cpu, expected.memory_gib, 1))


@given(spec=pods(GPU, limits=False))
def test_the_size_of_other_peoples_pods_is_counted_alike(spec):
    assert gpus_of(spec) == by_the_documentation(spec, GPU) == reduced(spec).requests.gpus


def test_init_containers_run_beside_the_sidecars_that_started_before_them():
    def asks(cpu: int, policy: str = "") -> dict[str, Any]:
        return {"name": "c", "resources": {"requests": {CPU: str(cpu)}}, "restartPolicy": policy}

    spec = {"containers": [asks(2)], "initContainers": [asks(5, "Always"), asks(8), asks(1, "Always"), asks(3)]}
    assert reduced(spec).requests.cpu == 13
    assert reduced({**spec, "overhead": {CPU: "1"}}).requests.cpu == 14
    assert reduced({**spec, "resources": {"requests": {CPU: "4"}}, "overhead": {CPU: "1"}}).requests.cpu == 5
