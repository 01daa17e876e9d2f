from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from stint.api.trainingjob import TrainingJob
from stint.controllers.steering import Steering
from stint.kube.act.apply import Actuator
from stint.kube.act.proxy_jobs import MADE_FROM
from stint.kube.client.api import Api, ApiError
from stint.kube.client.events import About, Recorder
from stint.kube.records import PodRecord
from stint.kube.workloads import WorkloadRecord
from tests.unit.kube.theirs import POD_SPEC, SPEC, let_go, pod, workload


@dataclass
class Written:
    """What was asked for."""

    calls: list[tuple[str, Any]] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    refusal: ApiError | None = None


class NotingApi(Api):
    def __init__(self, written: Written) -> None:
        self.written = written

    def _note(self, verb: str, what: Any) -> None:
        self.written.calls.append((verb, what))
        if self.written.refusal:
            raise self.written.refusal

    async def create(self, path: str, body: Any) -> Any:
        self._note("create", body)
        assert path.endswith("/trainingjobs")
        return body

    async def patch(self, path: str, body: Any, **_: Any) -> Any:
        self._note("patch", body)
        return {"path": path}

    async def delete(self, path: str, **_: Any) -> bool:
        self._note("delete", path.rpartition("/")[2])
        return True


class NotingRecorder(Recorder):
    def __init__(self, written: Written) -> None:
        self.written = written

    async def tell(self, about: About, reason: str, note: str, **_: Any) -> None:
        self.written.events.append((about.kind, reason, note))


class NotingActuator(Actuator):
    def __init__(self, written: Written) -> None:
        self.written = written

    async def let_go_anywhere(self, pod: PodRecord) -> None:
        which = pod.gang or pod.unplaced
        assert which is not None
        self.written.calls.append(("let go", which.name))

    async def resume(self, owner: WorkloadRecord) -> None:
        self.written.calls.append(("resume", owner.name))


async def tend(*pods: Any, workloads: Any = (), there: Any = (), twice: bool = False, refusal: Any = None) -> Written:
    written = Written(refusal=refusal)
    steering = Steering(
        api=NotingApi(written),
        actuator=NotingActuator(written),
        events=NotingRecorder(written),
        pods=lambda: pods,
        workloads=lambda: workloads,
        trainingjobs=lambda: there,
        absorb=lambda _: None,
    )
    await steering.tend()
    if twice:
        await steering.tend()
    return written


def stand_in(body: dict[str, Any], **annotations: str) -> TrainingJob:
    meta = {**body["metadata"], "uid": "u", "resourceVersion": "7"}
    meta["annotations"] = {**meta["annotations"], **annotations}
    return msgspec.convert({**body, "metadata": meta}, TrainingJob)


async def made() -> dict[str, Any]:
    ((_, body),) = (await tend(pod("a"), pod("b"), workloads=(workload(),))).calls
    return body


async def test_a_group_gets_its_trainingjob_also_before_it_is_complete():
    written = await tend(pod("a"), workloads=(workload(),))
    ((verb, body),) = written.calls
    assert (verb, body["metadata"]["name"], body["spec"]["workers"]) == ("create", "job-train", 2)


async def test_one_that_is_there_and_right_is_left_alone():
    assert (await tend(pod("a"), pod("b"), workloads=(workload(),), there=[stand_in(await made())])).calls == []


async def test_a_new_annotation_replaces_the_spec_and_keeps_what_is_noted_beside_it():
    there = stand_in(await made(), **{"stint.dev/plan": "p"})
    there = msgspec.structs.replace(there, spec=msgspec.structs.replace(there.spec, suspend=True))
    written = await tend(
        pod("a"), workloads=(workload(annotations={"stint.dev/spec": SPEC + "\npriority: 3"}),), there=[there]
    )
    ((verb, ops),) = written.calls
    assert verb == "patch"
    values = {op["path"]: op["value"] for op in ops}
    assert values["/metadata/uid"] == "u"
    assert values["/metadata/resourceVersion"] == "7"
    assert (values["/spec"]["priority"], values["/spec"]["suspend"]) == (3, True)
    assert values["/metadata/annotations"]["stint.dev/plan"] == "p"
    assert values["/metadata/annotations"][MADE_FROM] != there.metadata.annotations[MADE_FROM]


async def test_a_refusal_is_told_once_on_the_workload_and_on_a_pod():
    nameless = workload(annotations={"stint.dev/spec": ""})
    written = await tend(pod("a"), workloads=(nameless,), twice=True)
    assert written.calls == []
    assert [(kind, reason) for kind, reason, _ in written.events] == [("Job", "NotSteered"), ("Pod", "NotSteered")]


@pytest.mark.parametrize(("status", "events"), [(422, 2), (403, 2), (409, 0)])
async def test_what_the_api_server_says_of_it_is_told(status, events):
    written = await tend(pod("a"), workloads=(workload(),), refusal=ApiError(status, "R", "work: Required"), twice=True)
    assert len(written.events) == events
    assert len(written.calls) == (1 if events else 2), "a conflict is tried again, a refusal later"
    assert all("work: Required" in note for _, _, note in written.events)


async def test_pods_that_run_without_a_trainingjob_get_none():
    assert (await tend(let_go("a", 0), let_go("b", 1), workloads=(workload(),))).calls == []


async def test_the_escape_hatch_opens_gates_and_takes_the_trainingjob_away():
    now = {"stint.dev/release": "now"}
    there = stand_in(await made())
    written = await tend(pod("a", annotations=now), pod("b"), workloads=(workload(),), there=[there])
    assert written.calls == [("let go", "a"), ("delete", "job-train")]
    assert [reason for _, reason, _ in written.events] == ["Released", "Released"]


async def test_a_trainingjob_of_somebodys_own_is_never_deleted_or_written():
    own = msgspec.convert(
        {
            "metadata": {"name": "job-train", "namespace": "team", "uid": "o"},
            "spec": {"work": {"units": 1, "unitsPerSecond": {"H100": 1}}},
        },
        TrainingJob,
    )
    written = await tend(pod("a", annotations={"stint.dev/release": "now"}), workloads=(workload(),), there=[own])
    assert written.calls == [("let go", "a")]
    written = await tend(pod("a"), workloads=(workload(),), there=[own])
    assert (written.calls, len(written.events)) == ([], 2)


@pytest.mark.parametrize(
    ("pods", "suspend", "resumed"),
    [((), True, True), ((let_go("a", 0),), True, False), ((pod("a"),), False, True)],
    ids=["no pod is left", "one is", "somebody else has resumed it"],
)
async def test_what_was_suspended_is_resumed_once_its_pods_are_gone(pods, suspend, resumed):
    spec = {"parallelism": 2, "suspend": suspend, "template": {"spec": {}}}
    suspended = workload(spec=spec, annotations={"stint.dev/resume": "true"})
    written = await tend(*pods, workloads=(suspended,))
    assert (("resume", "train") in written.calls) == resumed


NOW = {"stint.dev/release": "now"}
STRAY = {"app": "x"}
REPLICA_SET = ("ReplicaSet", "web-1", "apps/v1")


async def test_a_pod_that_nothing_explains_is_told_once_on_it_and_on_what_makes_it():
    written = await tend(pod("a", labels=STRAY, owner=("CloneSet", "c", "apps.kruise.io/v1")), twice=True)
    assert written.calls == []
    assert [(kind, reason) for kind, reason, _ in written.events] == [("Pod", "NotSteered"), ("CloneSet", "NotSteered")]
    assert all("stint.dev/release=now" in note for _, _, note in written.events)


async def test_of_many_pods_of_one_object_the_first_is_told():
    made = ("CloneSet", "c", "apps.kruise.io/v1")
    written = await tend(*(pod(f"p{i}", labels=STRAY, owner=made) for i in range(50)))
    assert len(written.events) == 2


async def test_a_pod_of_a_deployment_is_opened_and_told():
    written = await tend(pod("a", labels=STRAY, owner=REPLICA_SET), pod("b", labels=STRAY, owner=REPLICA_SET))
    assert written.calls == [("let go", "a"), ("let go", "b")]
    assert [kind for kind, _, _ in written.events] == ["Pod", "ReplicaSet"]
    written = await tend(pod("a", labels=STRAY, owner=REPLICA_SET, gates=()))
    assert written.calls == []
    assert len(written.events) == 2


async def test_what_a_label_on_a_deployment_or_a_wrong_one_on_a_job_does_is_told():
    deployment = workload("Deployment", "web", spec={})
    job = workload(labels={"stint.dev/managed": "True"})
    written = await tend(workloads=(deployment, job), twice=True)
    assert [(kind, note[:30]) for kind, _, note in written.events] == [
        ("Deployment", "Stint does not place Deploymen"),
        ("Job", "label stint.dev/managed is 'Tr"),
    ]


@pytest.mark.parametrize(
    "waiting",
    [
        pod("a", labels=STRAY, annotations=NOW),
        pod("a", labels=STRAY, annotations=NOW, gpus=0),
        pod("a", labels={"stint.dev/managed": "no"}, annotations=NOW),
        pod("a", labels=STRAY, annotations=NOW, owner=REPLICA_SET),
        pod("a", annotations={**NOW, "stint.dev/group-size": "x"}),
        pod("a", labels={"stint.dev/group": "g"}, annotations=NOW),
        pod(
            "a",
            labels={"stint.dev/trainingjob": "t", "batch.kubernetes.io/job-name": "t"},
            annotations={**NOW, "batch.kubernetes.io/job-completion-index": "0"},
        ),
    ],
    ids=["unknown", "no GPUs", "wrong label", "a Deployment's", "wrong size", "no size", "said to be ours"],
)
async def test_release_now_always_opens_the_gate(waiting):
    assert (await tend(waiting)).calls == [("let go", "a")]


async def test_another_value_of_release_is_told_and_changes_nothing():
    written = await tend(pod("a", annotations={"stint.dev/release": "yes"}), pod("b"), workloads=(workload(),))
    assert [verb for verb, _ in written.calls] == ["create"]
    assert [(kind, "write now" in note) for kind, _, note in written.events] == [("Pod", True)]


LWS = {"leaderworkerset.sigs.k8s.io/name": "vllm"}
LWS_SPEC = {"leaderWorkerTemplate": {"size": 1, "workerTemplate": {"spec": POD_SPEC}}}


async def test_the_trainingjob_of_a_group_that_was_scaled_away_goes():
    def scaled(replicas: int) -> tuple[WorkloadRecord, ...]:
        return (workload("LeaderWorkerSet", "vllm", spec={**LWS_SPEC, "replicas": replicas}),)

    pods = [pod(f"p{i}", labels={**LWS, "leaderworkerset.sigs.k8s.io/group-index": str(i)}) for i in range(3)]
    written = await tend(*pods, workloads=scaled(3))
    there = [stand_in(body) for _, body in written.calls]
    assert [t.metadata.name for t in there] == [f"leaderworkerset-vllm-{i}" for i in range(3)]
    assert (await tend(*pods[:2], workloads=scaled(3), there=there)).calls == [], "its pod is made anew"
    assert (await tend(*pods[:2], workloads=scaled(2), there=there)).calls == [("delete", "leaderworkerset-vllm-2")]
