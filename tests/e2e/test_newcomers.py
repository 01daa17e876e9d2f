"""A small job comes to a queue of hundreds: it is decided about alone, and those who wait keep their promises."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from hack.bench.scale import JOBS, all_of, job
from hack.cluster import eventually, running_cluster
from hack.fleet import a100
from stint.api import snapshot
from stint.cli.main import main
from stint.kube.client.api import Api, connect
from stint.placement.newcomers import MANY

pytestmark = pytest.mark.e2e


def test_a_small_job_that_comes_to_a_long_queue(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    decisions = tmp_path / "decisions"
    with running_cluster(tmp_path / "cluster") as cluster:
        cluster.install_chart()
        cluster.apply([a100("one"), a100("two")])
        cluster.apply([job("fills", workers=1, gpus=8), job("leaves-two", workers=1, gpus=6)])
        operator = cluster.start_operator(record_dir=decisions)

        def running() -> list[str]:
            listed = json.loads(cluster.kubectl("get", "tj", "-o", "json"))["items"]
            return sorted(t["metadata"]["name"] for t in listed if t.get("status", {}).get("phase") == "Running")

        def alone() -> list[snapshot.Record]:
            found = [snapshot.decode(f.read_bytes(), name=f.name) for f in operator.decisions(decisions)]
            return [r for r in found if r.plan is not None and r.plan.is_about_newcomers]

        eventually(lambda: running() == ["fills", "leaves-two"], timeout=60, what="two to run")

        async def crowd() -> None:
            async with Api(connect(cluster.kubeconfig), concurrency=32) as api:
                await all_of(api.create(JOBS, job(f"waits-{i:03}", workers=1, gpus=8)) for i in range(MANY + 20))

        asyncio.run(crowd())
        told = "{.items[*].status.phase}"
        everybody = MANY + 22
        eventually(
            lambda: len(cluster.kubectl("get", "tj", "-o", f"jsonpath={told}").split()) == everybody,
            timeout=90,
            what="everybody to be told",
        )

        small = job("small", workers=1, gpus=2)
        small["spec"]["work"]["units"] = 60  # gone before anybody who waits could need the room
        cluster.apply([small])
        eventually(lambda: "small" in running(), timeout=60, what="the small one to run")
        (made,) = [r for r in alone() if any(p.job == "default/small" for p in r.plan.placements)]
        assert len(made.situation.before.held) == MANY + 20
        assert made.plan.holds == ()
        waiting = cluster.kubectl("get", "tj", "-o", f"jsonpath={told}").split().count("Queued")
        assert waiting == MANY + 20, "who waits is still told so"
        assert re.search(r'^stint_plans_total{about="newcomers"} [1-9]', operator.metrics(), re.MULTILINE)

        cluster.kubectl("delete", "tj", "fills")
        eventually(lambda: any(name.startswith("waits-") for name in running()), timeout=60, what="the next to run")
        assert not re.search(r"^stint_plan_fallbacks_total{.*} [1-9]", operator.metrics(), re.MULTILINE)
        assert "stint_unforeseen_errors_total 0.0" in operator.metrics()
    assert main(["replay", str(decisions)]) == 0, capsys.readouterr().out
