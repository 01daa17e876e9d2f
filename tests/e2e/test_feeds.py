"""Prices from outside on a live cluster: they place jobs, lies are not believed, what was good outlives its source."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hack.cluster import NAMESPACE, ROOT, eventually
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e

OFTEN = 0.01  # minutes
A100 = "p4de.24xlarge"


@dataclass
class Rates:
    """A price API of our contract."""

    value: float
    region: str
    url: str = ""
    server: ThreadingHTTPServer | None = None

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@pytest.fixture
def rates(world: World) -> Iterator[Rates]:
    told = Rates(value=12.5, region=f"mars-{world.name}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            row = {"provider": "aws", "region": told.region, "instanceType": A100, "value": told.value}
            body = json.dumps({"rows": [row]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    told.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{told.server.server_address[1]}/prices"
    threading.Thread(target=told.server.serve_forever, daemon=True).start()
    yield told
    told.stop()


def stint_prices(world: World, *arguments: str) -> str:
    command = [sys.executable, "-m", "stint.cli.main", "prices", "--kubeconfig", str(world.cluster.kubeconfig)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    return subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, check=True).stdout


def figure(world: World, region: str) -> dict[str, Any]:
    """The price of the only offering there, as `stint prices` tells it."""
    told = json.loads(stint_prices(world, "--region", region, "-o", "json"))["figures"]
    (found,) = [f for f in told if f["what"] == "price"]
    return dict(found)


def test_a_fed_price_places_a_job_a_lie_is_quarantined_and_the_last_good_one_outlives_its_source(
    world: World, rates: Rates
):
    venus = f"venus-{world.name}"
    world.node("listed")
    for name, region in (("mars", rates.region), ("venus", venus)):
        labels = {"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": region}
        world.node(name, labels=labels | {"stint.dev/pool": f"{world.name}-{name}"})
    text = f"provider,region,instanceType,value,asOf\naws,{venus},{A100},14,2026-11-01\n"
    world.cluster.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "e2e-rates", "namespace": NAMESPACE},
                "data": {"prices.csv": text},
            }
        ]
    )
    book = f"{world.name}-book"
    sources = [
        {"name": "api", "type": "Http", "url": rates.url, "everyMinutes": OFTEN},
        {"name": "file", "type": "ConfigMap", "configMap": {"name": "e2e-rates"}, "everyMinutes": OFTEN},
    ]
    world.apply(
        {
            "apiVersion": "stint.dev/v1alpha1",
            "kind": "PriceBook",
            "metadata": {"name": book},
            "spec": {"sources": sources},
        }
    )

    def good(status: str, reason: str) -> dict[str, Any]:
        told = json.loads(world.kubectl("get", "pb", book, "-o", "json"))["status"]
        condition = next(c for c in told["conditions"] if c["type"] == "SourcesGood")
        assert (condition["status"], condition["reason"]) == (status, reason), condition
        return {**told, "message": condition.get("message", "")}

    eventually(lambda: good("True", "Good"), what="both sources to be read")
    world.apply(world.job("first", workers=1, gpus=8))
    assert float(world.until("Running", "first")["usdPerHour"]) == 12.5
    world.apply(world.job("second", workers=1, gpus=8, objective={"usdPerHour": 100}))  # it does not wait for Mars
    assert float(world.until("Running", "second")["usdPerHour"]) == 14
    assert (figure(world, rates.region)["value"], figure(world, rates.region)["source"]) == (12.5, f"feed/{book}/api")

    rates.value = 125.0
    told = eventually(lambda: good("False", "Quarantined"), what="the lie to be quarantined")
    assert f"api: aws/{rates.region}/{A100}/on-demand says 125: 10 times or more away from" in told["message"]
    assert "spec.prices" in told["message"]
    (api, file) = told["sources"]
    assert (api["up"], [q["value"] for q in api["quarantined"]]) == (True, ["125"])
    assert (file["up"], file.get("quarantined", [])) == (True, [])
    found = figure(world, rates.region)
    assert (found["value"], found["marks"]) == (12.5, "quarantined")

    rates.stop()
    told = eventually(lambda: good("False", "SourceDown"), what="the source to be down")
    assert "its last good figures are of" in told["message"]
    assert figure(world, rates.region)["value"] == 12.5
    rows = list(csv.DictReader(io.StringIO(stint_prices(world, "--region", venus, "-o", "csv"))))
    assert next(r for r in rows if r["what"] == "price")["source"] == f"feed/{book}/file"
