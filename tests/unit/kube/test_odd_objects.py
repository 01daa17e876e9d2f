"""What one object says is no other object's affair, whatever it says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.api.trainingjob import TrainingJob
from stint.controllers.calibrator import family
from stint.controllers.own_resources import OwnResources
from stint.controllers.store import Store
from stint.feeds import bundled
from stint.kube import reduce
from stint.kube.client.events import About, Recorder
from stint.kube.observe import gangs
from stint.kube.observe.snapshot import Caches, observe
from stint.kube.reduce import reduce_pod
from stint.kube.steered import GATE
from stint.kube.wire import WirePod
from stint.kube.workloads import WireWorkload, reducer
from stint.model.job import JobId, Phase
from stint.model.situation import Settings
from stint.testing.builders import NOW
from stint.workloads.registry import KINDS
from tests.unit.kube.objects import a_batch_job, a_record, a_resource


def wire_pod(**changes: Any) -> WirePod:
    body = {
        "metadata": {
            "name": "p",
            "namespace": "team",
            "uid": "u",
            "labels": {"stint.dev/managed": "true", "batch.kubernetes.io/job-name": "train"},
            "deletionTimestamp": "2026-11-01T00:00:00Z",
            **changes,
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{"resources": {"requests": {"nvidia.com/gpu": "8"}}}],
            "schedulingGates": [{"name": GATE}],
        },
        "status": {"phase": "Running"},
    }
    return msgspec.convert(body, WirePod)


def test_a_grace_period_longer_than_there_are_dates_is_bounded():
    record = reduce_pod(wire_pod(deletionGracePeriodSeconds=2**63 - 1))[2]
    assert record.gang is not None
    assert record.gang.times.leaving is not None


def test_what_an_unreadable_pod_takes_of_its_node_counts_and_it_is_told(monkeypatch):
    def fails(*_: Any, **__: Any) -> None:
        raise TypeError("something new")

    monkeypatch.setattr(reduce, "find", fails)
    record = reduce_pod(wire_pod())[2]
    assert (record.where, record.requests.gpus, record.gang) == ("n1", 8, None)
    assert record.unplaced is not None
    assert "TypeError('something new')" in record.unplaced.why


@pytest.mark.parametrize(
    "spec",
    [
        {"replicatedJobs": 7},
        {"replicatedJobs": [[]]},
        {"replicatedJobs": [{"replicas": 10**30, "template": {"spec": {"template": {"spec": {"containers": [3]}}}}}]},
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_workload_of_any_shape_is_read_or_told(kind, spec):
    meta = {"name": "x", "uid": "x", "namespace": "team", "labels": {"stint.dev/managed": "true"}}
    shapes = [
        spec,
        dict.fromkeys(("template", "tasks", "pytorchReplicaSpecs", "workerGroupSpecs"), spec["replicatedJobs"]),
    ]
    for each in shapes:
        body = {"metadata": meta, "spec": each, "status": {"conditions": spec["replicatedJobs"]}}
        record = reducer(KINDS[kind])(msgspec.convert(body, WireWorkload))[2]
        assert record.managed or "Stint cannot read" in record.wrong or KINDS[kind].refused


@pytest.mark.parametrize("template", [{"spec": [1]}, {"spec": {"containers": "x"}}, {"spec": {"containers": [7]}}, {}])
def test_a_template_of_any_shape_has_a_family(template):
    assert family(a_resource(template=None, podTemplate=template)) == "unet"


def test_a_gang_that_cannot_be_read_is_told_and_hides_no_other(monkeypatch):
    bad, good = a_resource(), a_resource()
    meta = msgspec.structs.replace(good.metadata, name="other", uid="o")
    good = msgspec.structs.replace(good, metadata=meta)
    real = gangs.look_at

    def look_at(job: Any, *more: Any, **named: Any) -> Any:
        if job is not None:
            raise OverflowError("too big")
        return real(job, *more, **named)

    monkeypatch.setattr(gangs, "look_at", look_at)
    caches = Caches(
        trainingjobs=[bad, good], gpu_pools=[], price_books=[], nodes=[a_record()], pods=[], jobs=[a_batch_job()]
    )
    seen = observe(caches, bundled.load(), Settings(), now=NOW, created={"u": NOW, "o": NOW}, empty_since={}).seen
    assert seen[JobId("team/unet")].phase is Phase.INVALID
    assert "OverflowError" in str(seen[JobId("team/unet")].invalid)
    assert seen[JobId("team/other")].job is not None


class Notes(Recorder):
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    async def tell(self, about: About, reason: str, note: str, **_: Any) -> None:
        self.told.append((about.name, reason, note))


class Statuses:
    """What is written into statuses."""

    def __init__(self) -> None:
        self.written: list[tuple[str, dict[str, Any]]] = []

    async def patch(self, path: str, body: dict[str, Any]) -> None:
        self.written.append((path, body))


async def test_a_job_that_could_never_be_read_says_so_in_its_status_and_conditions():
    body = msgspec.to_builtins(a_resource())
    store = Store(TrainingJob)
    store.put({**body, "spec": {**body["spec"], "workers": "x"}})
    own, statuses = OwnResources.__new__(OwnResources), Statuses()
    own.stores, own.trainingjobs, own._told_unread = {"trainingjobs": store}, store, {}
    own._api = statuses
    await own.tell_unread(Notes())
    await own.tell_unread(Notes())
    ((path, told),) = statuses.written
    assert path.endswith("/namespaces/team/trainingjobs/unet/status")
    assert told["metadata"] == {"uid": "u"}
    assert (told["status"]["phase"], told["status"]["reason"]) == ("Invalid", "CannotBeRead")
    (said,) = told["status"]["conditions"]
    assert (said["type"], said["status"]) == ("Admitted", "False")
    assert "$.spec.workers" in said["message"]


async def test_an_object_of_ours_that_cannot_be_read_is_told_once_until_it_is_mended():
    body = msgspec.to_builtins(a_resource())
    store = Store(TrainingJob)
    store.put(body)
    broken = {
        **body,
        "metadata": {**body["metadata"], "resourceVersion": "2"},
        "spec": {**body["spec"], "workers": "x"},
    }
    store.put(broken)
    assert store.items["u"].spec.workers == 2
    own, notes = OwnResources.__new__(OwnResources), Notes()
    own.stores, own.trainingjobs, own._told_unread = {"trainingjobs": store}, store, {}
    await own.tell_unread(notes)
    await own.tell_unread(notes)
    ((name, reason, note),) = notes.told
    assert (name, reason) == ("unet", "CannotBeRead")
    assert "Expected `int`, got `str` - at `$.spec.workers`; correct that field" in note
    store.put({**body, "metadata": {**body["metadata"], "resourceVersion": "3"}})
    assert store.unread == {}
