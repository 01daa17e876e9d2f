"""Two hundred absurd objects on a real API server: refused, or told what is wrong; and nobody else suffers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from hack.cluster import Operator, eventually
from stint.kube.client import Api, ApiError, connect
from tests import absurd

pytestmark = pytest.mark.e2e

PLURAL = {"TrainingJob": "trainingjobs", "GPUPool": "gpupools", "PriceBook": "pricebooks"}


def _path(thing: dict[str, Any]) -> str:
    namespace = thing["metadata"].get("namespace")
    where = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/stint.dev/v1alpha1/{where}{PLURAL[thing['kind']]}"


async def _create(world, things: list[dict[str, Any]]) -> list[ApiError | None]:
    """For each: how the API server refuses it; None: it does not."""

    async def one(api: Api, thing: dict[str, Any]) -> ApiError | None:
        try:
            await api.raw("POST", _path(thing), body=thing, params={"fieldValidation": "Strict"})
        except ApiError as error:
            return error
        return None

    async with Api(connect(world.cluster.kubeconfig)) as api:
        return list(await asyncio.gather(*(one(api, t) for t in things)))


def test_each_is_refused_or_told_and_a_good_job_runs_beside_them(world, shared_operator: Operator):
    things = absurd.objects(world.name)
    answers = asyncio.run(_create(world, things))
    accepted = [t for t, refusal in zip(things, answers, strict=True) if refusal is None]
    world.made += [(t["kind"].lower(), t["metadata"]["name"]) for t in accepted if t["kind"] != "TrainingJob"]
    for refusal in filter(None, answers):
        assert refusal.status in (400, 422), refusal
        assert "spec" in refusal.message, refusal
    assert 20 < len(accepted) < len(things) - 20
    world.node("a")
    world.apply(world.job(workers=2, gpus=2))
    world.until("Running", timeout=60)

    def untold() -> list[str]:
        missing = []
        for kind, plural in PLURAL.items():
            names = {t["metadata"]["name"] for t in accepted if t["kind"] == kind}
            listed = json.loads(world.kubectl("get", plural, "-o", "json"))["items"]
            found = {t["metadata"]["name"]: t for t in listed}
            missing += [n for n in names if not found[n].get("status", {}).get("conditions")]
        return missing

    eventually(lambda: not untold(), timeout=60, what="every one of them to have conditions")
    for job in json.loads(world.kubectl("get", "tj", "-o", "json"))["items"]:
        status = job["status"]
        if status["phase"] == "Invalid":
            assert status["message"].startswith(("spec.", "metadata.")), status
            assert status["message"].count(": ") >= 2, "field, value and remedy"
        elif job["metadata"]["name"] != "job":
            # Some are legal after all: one that lost its nodeSelector may even run.
            assert status["phase"] in ("Queued", "Suspended", "Starting", "Running"), status
            assert status["message"], status
    assert "stint_unforeseen_errors_total 0.0" in shared_operator.metrics()


def test_a_raw_template_with_affinity_gates_and_init_containers_of_its_own_is_respected(world):
    near, far = world.node("near", labels={"rack": "r1"}), world.node("far", labels={"rack": "r2"})
    job = world.job(workers=2, gpus=2)
    template = job["spec"].pop("template")
    terms = [{"matchExpressions": [{"key": "rack", "operator": "In", "values": [rack]}]} for rack in ("r1", "r2")]
    template["spec"] |= {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}},
        "initContainers": [{"name": "fetch", "image": "x", "resources": {"requests": {"cpu": "2"}}}],
        "hostNetwork": True,
        "schedulerName": "default-scheduler",
    }
    template["metadata"]["annotations"] = {"example.com/note": "übergröße \U0001f680"}
    world.apply({**job, "spec": {**job["spec"], "podTemplate": template}})
    (where,) = world.until("Running")["nodes"]
    assert where in (near, far)
    for pod in world.pods():
        required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert [t["matchExpressions"] for t in required["nodeSelectorTerms"]] == [t["matchExpressions"] for t in terms]
        assert all(t["matchFields"][0]["values"] == [where] for t in required["nodeSelectorTerms"])


def test_the_longest_name_works_and_a_longer_one_is_told_the_limit(world):
    world.node("a")
    world.apply(world.job("n" * 58, workers=2, gpus=1))
    world.until("Running", "n" * 58)
    with pytest.raises(RuntimeError, match="may have at most 58 characters"):
        world.apply(world.job("n" * 59, workers=2, gpus=1))


def test_ten_thousand_events_in_its_namespace_do_not_hold_up_a_job(world):
    async def flood() -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{world.name}/events"
        about = {"apiVersion": "v1", "kind": "Pod", "name": "nobody", "namespace": world.name}
        event = {
            "eventTime": "2026-11-24T00:00:00.000000Z",
            "reportingController": "example.com/flood",
            "reportingInstance": "flood",
            "action": "Flood",
            "reason": "Flood",
            "type": "Normal",
            "regarding": about,
            "note": "one of ten thousand",
        }
        async with Api(connect(world.cluster.kubeconfig), concurrency=64) as api:
            await asyncio.gather(
                *(api.raw("POST", path, body={"metadata": {"name": f"flood-{i}"}, **event}) for i in range(10_000))
            )

    asyncio.run(flood())
    world.node("a")
    world.apply(world.job())
    world.until("Running")
    assert "USD/h" in world.events()["Placed"]
