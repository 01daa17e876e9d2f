from __future__ import annotations

from typing import Any

import msgspec

from stint.api.trainingjob import TrainingJob
from stint.controllers.room import Room
from stint.controllers.store import Store
from stint.model.limits import Limits, NamespaceLimits
from tests.unit.kube.objects import a_resource

LIMITS = NamespaceLimits(
    default=Limits(training_jobs=2, spec_bytes=2_000, total_bytes=3_500), namespaces={"big": Limits()}
)


def a_store() -> Store[TrainingJob]:
    return Store(TrainingJob, Room(LIMITS))


def body(uid: str, *, namespace: str = "team", words: int = 0, phase: str = "", version: int = 1) -> dict[str, Any]:
    made = msgspec.to_builtins(a_resource(template=None, podTemplate={"spec": {"args": ["x" * words]}}))
    meta = {"name": uid, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {**made, "metadata": meta, "status": {"phase": phase}}


def why(store: Store[TrainingJob], uid: str) -> str:
    return store.unread[uid][1]


def test_a_spec_that_is_too_large_is_not_kept_and_told():
    store = a_store()
    assert not store.put(body("a", words=5_000))
    assert store.items == {}
    assert "bytes: may have 2000 in namespace team; put large data into a ConfigMap" in why(store, "a")
    assert store.put(body("a", version=2))
    assert store.unread == {}
    assert store.put(body("b", namespace="big", words=5_000))


def test_from_a_list_too():
    store = a_store()
    page = [msgspec.Raw(msgspec.json.encode(body(u, words=w))) for u, w in (("a", 5_000), ("b", 0))]
    assert store.put_page(page) == ({"a", "b"}, True)
    assert list(store.items) == ["b"]
    assert "may have 2000" in why(store, "a")
    store.keep_only({"b"}, "9")
    assert store.unread == {}


def test_one_that_runs_keeps_its_place_however_long_its_spec_is():
    assert a_store().put(body("a", words=3_000, phase="Running"))


def test_a_namespace_has_so_many_that_have_not_ended_and_no_other_one_is_hurt():
    store = a_store()
    for uid, phase in (("a", ""), ("b", "Queued"), ("done", "Succeeded")):
        assert store.put(body(uid, phase=phase))
    assert not store.put(body("c"))
    assert "metadata.namespace: team: has 2 TrainingJobs that have not ended, and may have 2" in why(store, "c")
    assert store.put(body("x", namespace="other"))
    store.put(body("a", phase="Running", version=2))
    assert store.items["a"].status.phase == "Running", "what is there may go on"
    store.drop("b", "3")
    assert store.put(body("c", version=4))


def test_a_namespace_has_so_many_bytes():
    store = a_store()
    assert store.put(body("a", words=1_400))
    assert store.put(body("b", words=1_000, phase="Succeeded"))
    assert not store.put(body("c", words=1_000, phase="Succeeded"))
    assert "would have more than 3500; delete those that have ended" in why(store, "c")
    store.drop("a", "2")
    assert store.put(body("c", words=1_000, phase="Succeeded", version=3))
