"""Teams share a cluster by dollars: one with a quota waits in money, and of two that compete the poorer goes first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hack.bench.scale import job
from hack.cluster import Cluster, eventually, running_cluster
from hack.fleet import a100

pytestmark = pytest.mark.e2e

TEAMS = ("bound", "rich", "poor")
NODE_USD = 27.4472  # p4de.24xlarge, of eight GPUs


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With two nodes, and an operator that knows a quota and shares."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.install_chart()
        for team in TEAMS:
            cluster.kubectl("create", "namespace", team)
        cluster.apply([a100("a"), a100("b")])
        quotas = [{"namespace": "bound", "usdPerHour": 0.8 * NODE_USD, "gpus": {"A100": 12}}]
        cluster.start_operator(f"--quotas={json.dumps(quotas)}", '--fair-share={"weights": {"rich": 1, "poor": 1}}')
        yield cluster


def _apply(cluster: Cluster, team: str, name: str, *, gpus: int) -> None:
    made = job(name, workers=1, gpus=gpus)
    made["metadata"]["namespace"] = team
    made["spec"]["objective"] = {"usdPerHour": 1000}  # whoever can start does
    cluster.apply([made])


def _status(cluster: Cluster, team: str, name: str) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(cluster.kubectl("get", "tj", name, "-n", team, "-o", "json")).get("status", {})
    return status


def _until(cluster: Cluster, team: str, name: str, phase: str, reason: str = "") -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        status = _status(cluster, team, name)
        told = {c["reason"] for c in status.get("conditions", [])}
        return status if status.get("phase") == phase and (not reason or reason in told) else None

    return eventually(there, timeout=60, what=f"{team}/{name} to be {phase} {reason}")


@pytest.fixture(autouse=True)
def _nobody_is_left(shared: Cluster) -> Iterator[None]:
    yield
    for team in TEAMS:  # the garbage collector needs half a minute to learn of new kinds
        shared.kubectl("delete", "tj,jobs,pods", "--all", "-n", team)


def test_who_has_a_quota_waits_for_it_with_nodes_free_and_goes_on_when_it_has_room(shared: Cluster):
    _apply(shared, "bound", "first", gpus=4)
    _until(shared, "bound", "first", "Running")
    _apply(shared, "bound", "second", gpus=4)  # half a node each: more than 0.8 of one
    waits = _until(shared, "bound", "second", "Queued", "OverQuota")
    half = f"{NODE_USD / 2:.2f}"
    assert waits["message"].endswith(
        f"may spend {0.8 * NODE_USD:.2f} USD/h; {half} USD/h are in use, and this would add {half}"
    )
    _apply(shared, "rich", "other", gpus=4)  # nobody else is bound by it
    _until(shared, "rich", "other", "Running")
    shared.kubectl("delete", "tj", "first", "-n", "bound")
    _until(shared, "bound", "second", "Running")


def test_of_two_that_compete_the_one_that_has_less_goes_first_although_it_came_later(shared: Cluster):
    _apply(shared, "rich", "has-all", gpus=8)
    _apply(shared, "rich", "has-more", gpus=8)
    for name in ("has-all", "has-more"):
        _until(shared, "rich", name, "Running")
    _apply(shared, "rich", "wants-more", gpus=8)
    _until(shared, "rich", "wants-more", "Queued")
    _apply(shared, "poor", "wants-some", gpus=8)
    _until(shared, "poor", "wants-some", "Queued")
    shared.kubectl("delete", "tj", "has-all", "-n", "rich")
    _until(shared, "poor", "wants-some", "Running")
    assert _status(shared, "rich", "wants-more")["phase"] == "Queued"
