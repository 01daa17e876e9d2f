"""Pod groups are made where they are served and asked for, and gangs go on without anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
import pytest

from stint.api.ledger import Ledger
from stint.kube.act import podgroups
from stint.kube.act.apply import Actuator
from stint.kube.act.manifests import group_name, indexed_job, pod_group
from stint.kube.act.podgroups import VERSION_PATH, PodGroups
from stint.kube.client.api import Api, ApiError
from stint.kube.client.informer import Informer
from stint.kube.observe.gang import Gang, look
from stint.kube.observe.snapshot import Seen, Spending
from stint.kube.plan_note import PlanNote
from stint.kube.reduce import reduce_job, reduce_pod, reduce_service
from stint.kube.wire import WireJob, WirePod, WireService
from stint.model.gang import GangState
from stint.model.job import job_id
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_plan, a_resource

SERVED = {"resources": [{"name": "workloads"}, {"name": "podgroups"}, {"name": "podgroups/status"}]}
GROUP = "unet-gang-0a1b2c3d"
UNET = job_id("team", "unet")


class Cluster(Api):
    """Answers discovery with what `serves` says, keeps PodGroups, and notes what is written."""

    def __init__(self, serves: Any) -> None:  # opens no session
        self.serves = serves
        self.asked = 0
        self.may_list = True
        self.groups: dict[str, dict[str, Any]] = {}
        self.written: list[tuple[str, str]] = []

    async def get(self, path: str, params: Any = None) -> Any:
        if params:
            return msgspec.json.decode(await self.raw("GET", path))
        assert path == VERSION_PATH
        self.asked += 1
        if isinstance(self.serves, Exception):
            raise self.serves
        return self.serves

    async def raw(self, verb: str, path: str, *, body: Any = None, **_: Any) -> bytes:  # type: ignore[override]
        if verb == "GET":
            if not self.may_list:
                raise ApiError(403, "Forbidden", "podgroups is forbidden")
            return msgspec.json.encode({"metadata": {"resourceVersion": "1"}, "items": list(self.groups.values())})
        self.written.append((verb, path))
        if not path.endswith("/podgroups"):
            return msgspec.json.encode({"metadata": {"name": "unet", "uid": "j", "namespace": "team"}})
        name = body["metadata"]["name"]
        if name in self.groups:
            raise ApiError(409, "AlreadyExists", name)
        meta = {**body["metadata"], "uid": name, "namespace": "team", "resourceVersion": "7"}
        self.groups[name] = {**body, "metadata": meta}
        return msgspec.json.encode(self.groups[name])

    async def delete(self, path: str, **_: Any) -> bool:  # type: ignore[override]
        self.written.append(("DELETE", path))
        return True

    def watch(self, *_: Any) -> Any:  # type: ignore[override]
        raise TimeoutError


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
async def following(monkeypatch):
    """Starts `PodGroups` on a cluster; asks so often that tests need not wait."""
    monkeypatch.setattr(podgroups, "ASK_EVERY_S", 0.01)
    monkeypatch.setattr(podgroups, "ASK_AGAIN_S", 0.01)
    tasks = []

    def start(api: Cluster, **more: Any) -> PodGroups:
        groups = PodGroups(api, **{"wanted": True, **more})
        tasks.append(asyncio.create_task(groups.run()))
        return groups

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TestDetection:
    async def test_who_does_not_ask_for_them_is_never_behind_and_asks_nothing(self, following):
        api = Cluster(SERVED)
        groups = following(api, wanted=False)
        await asyncio.sleep(0.03)
        assert (groups.behind, groups.usable, api.asked) == (False, False, 0)

    async def test_nothing_is_placed_before_it_is_known_what_is_served(self, following):
        known: list[bool] = []
        groups = following(Cluster(SERVED), on_known=lambda: known.append(groups.usable))
        assert (groups.behind, groups.usable) == (True, False)
        await until(lambda: known)
        assert (groups.behind, groups.usable, known) == (False, True, [True])

    @pytest.mark.parametrize(
        "answer",
        [
            ApiError(404, "NotFound", "the server could not find the requested resource"),
            ApiError(403, "Forbidden", "discovery is not for everybody"),
            {"resources": [{"name": "workloads"}]},
        ],
        ids=["not served", "forbidden", "without podgroups"],
    )
    async def test_where_they_are_not_served_it_goes_on_without_and_says_so_once(self, following, caplog, answer):
        api, known = Cluster(answer), []
        groups = following(api, on_known=lambda: known.append(True))
        await until(lambda: api.asked > 3)
        assert (groups.behind, groups.usable, known) == (False, False, [True])
        assert caplog.text.count("gangs go on without") == 1

    @pytest.mark.parametrize(
        "answer", [ApiError(500, "InternalError", ""), TimeoutError(), aiohttp.ClientConnectionError()]
    )
    async def test_no_answer_is_not_a_no(self, following, answer):
        api = Cluster(answer)
        groups = following(api)
        await until(lambda: api.asked > 1)
        assert groups.behind
        api.serves = SERVED
        await until(lambda: groups.usable)
        api.serves, asked = answer, api.asked
        await until(lambda: api.asked > asked + 1)
        assert groups.usable

    async def test_where_we_may_not_list_them_gangs_go_on_without_until_we_may(self, following):
        api = Cluster(SERVED)
        api.may_list = False
        groups = following(api)
        await until(lambda: not groups.behind)
        assert (groups.served, groups.usable) == (True, False)
        api.may_list = True
        await until(lambda: groups.usable)

    async def test_what_is_turned_on_or_off_later_is_noticed(self, following):
        api = Cluster(ApiError(404, "NotFound", ""))
        groups = following(api)
        await until(lambda: api.asked > 1)
        assert not groups.usable
        api.serves = SERVED
        await until(lambda: groups.usable)
        api.serves = ApiError(404, "NotFound", "")
        await until(lambda: not groups.usable)
        assert not groups.behind


class TestManifests:
    def test_the_pods_of_a_job_name_a_group_that_wants_all_of_them_and_goes_with_the_job(self):
        job = a_made_job(a_plan(("n1", "n1", "n2")), grouped=True)
        name = job["spec"]["template"]["spec"]["schedulingGroup"]["podGroupName"]
        group = pod_group(name, "unet", "uid-of-job", workers=3, priority_class="")
        assert group["spec"] == {"schedulingPolicy": {"gang": {"minCount": 3}}}
        assert group["metadata"]["name"] == name
        assert group["metadata"]["labels"]["stint.dev/trainingjob"] == "unet"
        (owner,) = group["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", "unet", "uid-of-job")

    def test_it_has_the_priority_of_its_pods(self):
        group = pod_group(GROUP, "unet", "u", workers=1, priority_class="urgent")
        assert group["spec"]["priorityClassName"] == "urgent"

    def test_without_being_asked_for_there_is_none(self):
        assert "schedulingGroup" not in a_made_job(a_plan(), grouped=False)["spec"]["template"]["spec"]

    def test_a_group_that_the_template_names_is_its_authors(self):
        theirs = {"schedulingGroup": {"podGroupName": "mine"}}
        job = a_made_job(a_plan(), grouped=True, **theirs)
        assert job["spec"]["template"]["spec"]["schedulingGroup"] == {"podGroupName": "mine"}
        assert read(job) == ""

    def test_the_next_job_has_another_group(self):
        later = a_plan(since=NOW.replace(microsecond=1))
        assert group_name("unet", a_plan()) != group_name("unet", later)
        assert group_name("unet", a_plan()) == group_name("unet", a_plan(usd_per_hour=1.0))

    def test_the_operator_knows_its_own_groups_again(self):
        assert read(a_made_job(a_plan(), grouped=True)) == group_name("unet", a_plan())
        assert read(a_made_job(a_plan(), grouped=False)) == ""


def a_made_job(plan: PlanNote, *, grouped: bool, **spec: Any) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "train", "image": "x"}], **spec}}
    return indexed_job(
        "unet",
        "uid",
        template,
        workers=len(plan.nodes),
        gpus_per_worker=1,
        gpu_resource="nvidia.com/gpu",
        plan=plan,
        key=b"",
        grouped=grouped,
    )


def read(job: dict[str, Any]) -> str:
    """The group that the informer takes for ours."""
    job["metadata"]["uid"] = "j"
    return reduce_job(msgspec.convert(job, WireJob))[2].pod_group


def an_actuator(api: Cluster, *, usable: bool) -> tuple[Actuator, PodGroups]:
    groups = PodGroups(api, wanted=usable)
    if usable:
        groups.served = True
        groups.informer.synced.set()
    jobs = Informer(api, "/jobs", WireJob, reduce_job)
    pods = Informer(api, "/pods", WirePod, reduce_pod)
    services = Informer(api, "/services", WireService, reduce_service)
    return Actuator(api, jobs, pods, services, groups, lambda _: None, key=lambda: b""), groups


def a_gang(*, group: str = GROUP, node: str = "", gated: bool = True, pods: int = 2) -> Gang:
    job = a_batch_job(pod_group=group)
    return look(job, [a_gang_pod(i, node=node, gated=gated) for i in range(pods)], lost_nodes=frozenset())


class TestGrouping:
    async def test_a_gang_gets_its_group_once(self):
        api = Cluster(SERVED)
        actuator, groups = an_actuator(api, usable=True)
        assert actuator.ungrouped({UNET: a_gang()}) == {UNET}
        await actuator.group(a_gang())
        assert api.groups[GROUP]["spec"]["schedulingPolicy"]["gang"]["minCount"] == 2
        assert actuator.ungrouped({UNET: a_gang()}) == set()
        groups.informer.records.clear()  # killed before the watch had told of it
        await actuator.group(a_gang())
        assert list(api.groups) == [GROUP]

    @pytest.mark.parametrize(
        "gang",
        [a_gang(group=""), a_gang(node="n1", gated=False), a_gang(pods=0)],
        ids=["it names none", "all are bound", "no pods yet"],
    )
    async def test_who_needs_none_gets_none(self, gang):
        actuator, _ = an_actuator(Cluster(SERVED), usable=True)
        assert actuator.ungrouped({UNET: gang}) == set()

    async def test_nobody_gets_one_where_they_are_not_served(self):
        actuator, _ = an_actuator(Cluster(SERVED), usable=False)
        assert actuator.ungrouped({UNET: a_gang()}) == set()

    @pytest.mark.parametrize(
        ("group", "usable", "again"), [(GROUP, True, False), ("", False, False), ("", True, True), (GROUP, False, True)]
    )
    async def test_a_parked_job_is_resumed_only_where_its_group_is_what_would_be_made_now(self, group, usable, again):
        """Its pods name their group for good: with none there they would wait for ever."""
        api = Cluster(SERVED)
        actuator, _ = an_actuator(api, usable=usable)
        job = a_batch_job(pod_group=group, suspended=True)
        gang = look(job, [], lost_nodes=frozenset())
        assert gang.state is GangState.PARKED
        spending = Spending(ledger=Ledger(), through=None, settled_usd=0.0, usd=0.0)
        seen = Seen(resource=a_resource(), created=NOW, gang=gang, job=None, spending=spending)
        assert await actuator.place(seen, a_plan()) is not again
        assert [verb for verb, _ in api.written] == (["DELETE"] if again else ["PATCH"])
