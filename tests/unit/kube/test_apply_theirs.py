"""How a gang of somebody else's pods is taken back: what is written, to what."""

from __future__ import annotations

from typing import Any

from stint.kube.act.apply import Actuator
from stint.kube.client.api import Api
from stint.kube.observe.groups import look_group
from tests.unit.kube.objects import a_plan
from tests.unit.kube.theirs import group, let_go, workload


class NotingApi(Api):
    """Notes verbs, last parts of paths, and bodies."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []

    async def raw(self, verb: str, path: str, *, body: object = None, **_: Any) -> bytes:
        self.asked.append((verb, "/".join(path.split("/")[-2:]), body))
        return b"{}"


class NotingActuator(Actuator):
    def __init__(self, api: NotingApi) -> None:
        self._api = api


def gang(*pods, chain, lost=frozenset({"gone"})):
    return look_group(group(*pods, workloads=(chain,)), a_plan(), taken_back=None, lost_nodes=lost)


async def take_back(gang) -> list[tuple[str, str, Any]]:
    api = NotingApi()
    await NotingActuator(api).take_back(gang)
    await NotingActuator(api).forget(gang)
    return api.asked


PODS = [let_go("a", 0, node="gone"), let_go("b", 1)]


async def test_a_job_is_suspended_with_a_note_and_its_pods_are_left_to_it():
    """Deleted before it is suspended, each would count as a failure of it."""
    ((verb, what, body),) = await take_back(gang(*PODS, chain=workload()))
    assert (verb, what) == ("PATCH", "jobs/train")
    assert body == {
        "metadata": {"uid": "uid-train", "annotations": {"stint.dev/resume": "true"}},
        "spec": {"suspend": True},
    }


async def test_once_it_deletes_them_itself_those_on_lost_nodes_are_forgotten():
    suspended = workload(spec={"parallelism": 2, "suspend": True, "template": {"spec": {}}})
    dying = [let_go("a", 0, node="gone", deleting=True), let_go("b", 1, deleting=True)]
    ((verb, what, body),) = await take_back(gang(*dying, chain=suspended))
    assert (verb, what) == ("DELETE", "pods/a")
    assert body == {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-a"}}


async def test_what_cannot_be_suspended_has_its_pods_deleted_in_order_and_by_uid():
    asked = await take_back(gang(*PODS, chain=workload(labels={"kueue.x-k8s.io/queue-name": "q"})))
    assert [(verb, what) for verb, what, _ in asked] == [("DELETE", "pods/b"), ("DELETE", "pods/a")]
    assert asked[0][2] == {"preconditions": {"uid": "uid-b"}}, "with the time that it asks for to end"


async def test_resuming_takes_the_note_off():
    api = NotingApi()
    await NotingActuator(api).resume(workload("PyTorchJob", spec={}))
    ((verb, what, body),) = api.asked
    assert (verb, what) == ("PATCH", "pytorchjobs/train")
    assert body == {
        "metadata": {"uid": "uid-train", "annotations": {"stint.dev/resume": None}},
        "spec": {"runPolicy": {"suspend": False}},
    }
