"""What was spent is booked once, from pods' own times, and outlives job and operator. On a real API server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hack.cluster import Operator, eventually
from hack.demo import recount
from stint.cli.main import main

pytestmark = pytest.mark.e2e


def rows(world: Any) -> list[dict[str, Any]]:
    """Of the namespace's DailySpends."""
    days = json.loads(world.kubectl("get", "dailyspends", "-o", "json"))["items"]
    return [row for day in days for row in day["spec"].get("rows", [])]


def usd(row: dict[str, Any]) -> float:
    return float(sum(row["line"]["components"].values()))


@contextmanager
def counted(world: Any) -> Iterator[Callable[[float], float]]:
    """What the pods of this namespace cost by their own times, at a price for a node of eight GPUs."""
    with recount.Recount(world.cluster.kubeconfig, namespace=world.name) as counter:

        def so_far(price: float) -> float:
            return counter.usd({f"{world.name}-inferred": (price, 8)}, pace=1.0)

        yield so_far


def test_a_job_that_is_deleted_while_it_runs_keeps_its_place_in_the_books(world, capsys):
    world.node("a")
    world.apply(world.job(gpus=2))
    world.until("Running")
    with counted(world) as by_pods:
        world.kubectl("delete", "tj", "job", "--wait=true")
        eventually(lambda: not world.pods(), timeout=90, what="its pods to be gone")
        (row,) = eventually(lambda: rows(world), timeout=30, what="its row")
        truth = by_pods(27.4472)

        def booked() -> bool:
            assert usd(rows(world)[0]) == pytest.approx(by_pods(27.4472), abs=0.01)
            return True

        eventually(booked, timeout=30, what="all of it to be booked")
    assert truth > 0
    assert (row["job"], row["line"]["gpuModel"]) == ("job", "A100-80GB")
    told = world.kubectl("get", "spend")
    assert told.split()[:2] == ["NAME", "USD"]
    assert main(["report", "--kubeconfig", str(world.cluster.kubeconfig), "-n", world.name, "--by", "job"]) == 0
    assert f"{world.name}/job" in capsys.readouterr().out


def test_an_operator_that_is_killed_books_what_happened_while_it_was_dead(world, shared_operator: Operator):
    world.node("a")
    world.apply(world.job(gpus=4, annotations={"sim.stint.dev/run-for": "4s"}))
    world.until("Running")
    with counted(world) as by_pods:
        shared_operator.crash()
        world.until("Succeeded", timeout=60)
        done = world.paid()
        truth = by_pods(27.4472)
    assert truth > 0
    assert done["spentExactly"] == pytest.approx(truth, abs=0.01)
    line = done["ledger"]["lines"][0]
    assert sum(line["gpuSeconds"].values()) == pytest.approx(truth / 27.4472 * 3600 * 8, rel=0.01)
    assert line["gpuSeconds"]["useful"] > 0
    assert "default scheduler, 8 A100-80GB on demand" in done["ledger"]["baseline"]
    wide = world.kubectl("get", "tj", "-o", "wide").splitlines()
    assert "VS-DEFAULT" in wide[0]
    eventually(lambda: [usd(r) for r in rows(world)] == [pytest.approx(truth, abs=0.01)], timeout=30, what="its row")


def test_top_tells_what_runs_and_what_nobody_has(world, capsys):
    world.node("a")
    world.apply(world.job(workers=1, gpus=4))
    world.until("Running")
    options = ["top", "--kubeconfig", str(world.cluster.kubeconfig), "-n", world.name]
    assert main([*options, "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (job,) = told["jobs"]
    assert (job["job"], job["gpus"]) == (f"{world.name}/job", 4)
    assert job["usdPerHour"] == pytest.approx(27.4472 / 2, rel=0.01)
    (pool,) = [p for p in told["pools"] if p["pool"] == f"{world.name}-inferred"]
    assert (pool["gpus"], pool["free"]) == (8, 4)
    assert pool["freeUsdPerHour"] == pytest.approx(27.4472 / 2, rel=0.01)
    assert main(options) == 0
    shown = capsys.readouterr().out
    assert "nodes cost" in shown
    assert f"{world.name}/job" in shown
