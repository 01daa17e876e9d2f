"""What the API server refuses, and what gets a condition instead: each names field, value and remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack.cluster import eventually

pytestmark = pytest.mark.e2e


def refusal(world, thing: dict[str, Any]) -> str:
    with pytest.raises(RuntimeError) as refused:
        world.cluster.apply([thing])
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"workers": 0}, "spec.workers"),
        ({"workers": 5000}, "4096"),
        ({"work": {"units": -5, "unitsPerSecond": {"H100-SXM": 1}}}, "spec.work.units"),
        ({"work": {"units": 5, "unitsPerSecond": {}}}, "unitsPerSecond"),
        ({"work": {"units": 5, "unitsPerSecond": {"H100-SXM": 0}}}, "greater than 0"),
        ({"gpu": {"perWorker": 2, "fraction": 0.5}}, "spec.gpu.fraction is a part of one GPU"),
        ({"gpu": {"fraction": 1}}, "spec.gpu.fraction"),
        ({"gpu": {"perWorker": 1, "models": ["H100-SXM"]}}, "no model of spec.gpu.models has a speed"),
        ({"budget": {"usd": 0}}, "spec.budget.usd"),
        ({"within": "soon"}, "spec.within"),
        ({"within": "2h", "deadline": "2030-01-01T00:00:00Z"}, "either spec.deadline or spec.within"),
        ({"elastic": {"min": 4, "max": 2}}, "spec.elastic.min must not be larger than max"),
        ({"elastic": {"min": 4, "max": 8}}, "must lie between spec.elastic.min and max"),
        ({"capacityTypes": ["free"]}, "Unsupported value"),
        ({"data": {"gib": 5}}, "say where the data lies"),
        ({"data": {"mayLeaveRegion": False}}, "which region it must not leave"),
        ({"template": None}, "exactly one of spec.template, spec.podTemplate and spec.steers"),
        ({"checkpoint": {"everyMinutes": 0}}, "everyMinutes"),
        ({"objective": {"cost": -1}}, "spec.objective.cost"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_the_api_server_refuses_a_job_and_says_what_to_do(world, change, told):
    job = world.job()
    job["spec"] |= change
    assert told in refusal(world, job)


def test_names_at_the_limit(world):
    assert "at most 58 characters" in refusal(world, world.job("n" * 59))
    assert "begins with a letter" in refusal(world, world.job("1st"))
    world.node("a")
    world.apply(world.job("n" * 58))
    world.until("Running", "n" * 58)


def test_a_pool_that_contradicts_itself_is_refused(world):
    def pool(**spec: Any) -> dict[str, Any]:
        full = {"nodeSelector": {"a": "b"}, **spec}
        return {"apiVersion": "stint.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": "bad"}, "spec": full}

    offering = {"provider": "aws", "zone": "us-east-1a", "instanceType": "p5.48xlarge"}
    assert "without spec.limits" in refusal(world, pool(scaler={"adapter": "Kwok"}, offerings=[offering]))
    limits = {"minNodes": 5, "maxNodes": 2}
    assert "minNodes must not be larger" in refusal(world, pool(limits=limits))
    scale = {"adapter": "Scale"}
    assert "needs spec.scaler.target" in refusal(
        world, pool(scaler=scale, limits={"maxNodes": 2}, offerings=[offering])
    )
    homeless = {"provider": "aws", "instanceType": "p5.48xlarge"}
    assert "needs a region or a zone" in refusal(world, pool(offerings=[homeless]))


def test_an_unknown_gpu_gets_a_condition_with_a_suggestion_and_mending_it_helps(world):
    world.node("a")
    work = {"units": 10, "unitsPerSecond": {"A100-80G": 1}}
    world.apply(world.job(work=work))
    status = world.until("Invalid", reason="InvalidSpec")
    assert status["message"].startswith("spec.work.unitsPerSecond[A100-80G]: 'A100-80G': is no GPU")
    assert "did you mean A100-80GB" in status["message"]
    world.apply(world.job())
    world.until("Running")


def test_a_job_that_can_never_fit_is_told_so(world):
    world.node("a")
    world.apply(world.job(workers=1, gpus=16))
    status = world.until("Queued", reason="WorkerExceedsNode")
    assert f"a worker asks for 16 GPUs, {world.name}-a has 8" in status["message"]


def test_a_zone_without_a_price_is_told_until_a_price_book_gives_one(world):
    world.node("a", labels={"topology.kubernetes.io/zone": "mars-1a", "topology.kubernetes.io/region": "mars-1"})
    world.apply(world.job())
    status = world.until("Queued", reason="NoPrice")
    assert "add it to a PriceBook under spec.prices" in status["message"]
    assert next(c for c in status["conditions"] if c["type"] == "Priced")["status"] == "False"
    price = {"provider": "aws", "region": "mars-1", "instanceType": "p4de.24xlarge", "usdPerNodeHour": 12.5}
    world.apply(
        {
            "apiVersion": "stint.dev/v1alpha1",
            "kind": "PriceBook",
            "metadata": {"name": f"{world.name}-mars"},
            "spec": {"asOf": "2026-11-01", "prices": [price]},
        }
    )
    assert float(world.until("Running")["usdPerHour"]) == 12.5


def test_two_pools_that_claim_one_node_say_so(world):
    labels = {"stint.dev/pool": "contested"}
    world.node("a", labels=labels)
    for name in ("x", "y"):
        world.pool(name, most=2, nodeSelector=labels)

    def told() -> bool:
        pools = json.loads(world.kubectl("get", "gp", f"{world.name}-x", f"{world.name}-y", "-o", "json"))["items"]
        valid = [c for p in pools for c in p.get("status", {}).get("conditions", []) if c["type"] == "Valid"]
        return len(valid) == 2 and all("both select it" in c["message"] for c in valid)

    eventually(told, what="both pools to say so")


def test_every_field_is_explained(world):
    text = world.kubectl("explain", "trainingjob.spec", "--recursive")
    assert "unitsPerSecond" in text
    assert "US dollars that the job may cost" in world.kubectl("explain", "trainingjob.spec.budget")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"sources": [{"name": "a", "type": "Http"}]}, "needs a url"),
        ({"sources": [{"name": "a", "type": "Http", "url": "ftp://x"}]}, "url"),
        ({"sources": [{"name": "a", "type": "ConfigMap"}]}, "needs configMap.name"),
        ({"sources": [{"name": "a", "type": "WattTime"}]}, "needs zones"),
        ({"sources": [{"name": "a", "type": "Tariff", "tariffs": []}]}, "needs tariffs"),
        ({"sources": [{"name": "a", "type": "Http", "url": "http://x", "currency": "EUR"}]}, "needs usdPer"),
        ({"sources": [{"name": "a", "type": "Http", "url": "http://x", "token": "../key"}]}, "token"),
        ({"sources": [{"name": "a", "type": "NodeOverlays"}, {"name": "a", "type": "NodeOverlays"}]}, "Duplicate"),
        ({"commitments": [{"name": "a", "provider": "aws", "instanceType": "x", "nodes": 1}]}, "is one of"),
        ({"commitments": [{"name": "a", "provider": "aws", "usdPerNodeHour": 1, "nodes": 1}]}, "which instanceType"),
        (
            {"commitments": [{"name": "a", "provider": "aws", "usdPerNodeHour": 1, "instanceType": "x"}]},
            "how many nodes",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_price_book_that_cannot_be_meant_is_refused(world, spec, told):
    book = {"apiVersion": "stint.dev/v1alpha1", "kind": "PriceBook", "metadata": {"name": "bad"}, "spec": spec}
    assert told in refusal(world, book)
