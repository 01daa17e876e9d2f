from __future__ import annotations

import csv
import io
import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stint.api.ledger import Components, DaySpec, Line, NodeRow, Row, Uses
from stint.cli.main import main
from stint.cli.top import moment
from stint.feeds import bundled
from stint.kube.observe.snapshot import Caches, observe
from stint.ledger.report import FOCUS, KEYS, NOBODY, entries, focus_rows, report
from stint.model.situation import Settings
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_record, a_resource

FIRST, LAST = date(2026, 11, 25), date(2026, 11, 26)


def a_row(job: str, usd: float, *, day: str = "2026-11-26", team: str = "", pool: str = "h100") -> Row:
    """Three quarters of it useful, a dollar for its data."""
    line = Line(
        day=day,
        pool=pool,
        gpu_model="H100",
        capacity_type="spot",
        gpu_seconds=Uses(useful=2700.0, idle=900.0),
        usd=Uses(useful=usd * 0.75, idle=usd * 0.25),
        components=Components(hardware=usd, transfer=1.0),
        energy_kwh=2.0,
        carbon_g=500.0,
        baseline_usd=3 * usd,
    )
    return Row(job=job, uid=job, team=team, through=NOW, line=line)


def a_day(*rows: Row, day: str = "2026-11-26", nodes: float | None = None) -> DaySpec:
    own = [] if nodes is None else [NodeRow(pool="h100", gpu_model="H100", capacity_type="spot", usd=nodes)]
    return DaySpec(day=day, rows=list(rows), nodes=own, through=NOW)


DAYS = [
    ("vision", a_day(a_row("a", 10.0, team="x"), a_row("b", 20.0))),
    ("speech", a_day(a_row("a", 40.0, team="x"))),
    ("vision", a_day(a_row("a", 5.0, day="2026-11-25"), day="2026-11-25")),
    ("vision", a_day(a_row("old", 99.0, day="2026-11-01"), day="2026-11-01")),
    ("stint-system", a_day(nodes=100.0)),
]


def summed(by: str) -> dict[str, float]:
    made = report(entries(DAYS, first=FIRST, last=LAST), by, first=FIRST, last=LAST)
    return {g.name: round(g.usd, 2) for g in made.groups}


def test_it_is_summed_up_by_whatever_is_asked_and_adds_up_to_what_nodes_cost():
    assert summed("namespace") == {"speech": 41.0, "vision": 38.0, NOBODY: 30.0}
    assert summed("team") == {"x": 52.0, "(no team)": 27.0, NOBODY: 30.0}
    assert summed("job") == {"speech/a": 41.0, "vision/b": 21.0, "vision/a": 17.0, NOBODY: 30.0}
    assert summed("day") == {"2026-11-25": 6.0, "2026-11-26": 103.0}
    assert summed("model") == {"H100": 109.0}
    for by in KEYS:
        made = report(entries(DAYS, first=FIRST, last=LAST), by, first=FIRST, last=LAST)
        assert made.total.usd == pytest.approx(sum(g.usd for g in made.groups)) == pytest.approx(100 + 5 + 4)


def test_what_nobody_had_is_never_less_than_nothing_and_is_missed_where_it_is_not_known():
    (group,) = report(
        entries([("n", a_day(a_row("a", 10.0), nodes=9.0))], first=FIRST, last=LAST), "pool", first=FIRST, last=LAST
    ).groups
    assert group.unallocated_usd == 0.0
    alone = report(entries(DAYS[:2], first=FIRST, last=LAST), "team", first=FIRST, last=LAST)
    assert "what nobody had is not known" in alone.notes[0]
    with pytest.raises(ValueError, match="colour is none of namespace"):
        report([], "colour", first=FIRST, last=LAST)


def test_what_is_not_known_is_said():
    row = a_row("a", 10.0)
    line = msgspec.structs.replace(row.line, unrated_kwh=1.5, unpriced_gpu_seconds=7200.0)
    day = a_day(msgspec.structs.replace(row, line=line), nodes=20.0)
    notes = report(entries([("n", day)], first=FIRST, last=LAST), "team", first=FIRST, last=LAST).notes
    assert notes[0].startswith("2.0 GPU-hours have no price and count as 0")
    assert notes[1].startswith("1.5 of the kWh are of places whose carbon intensity nobody gives")


def test_csv_has_a_row_for_each_line_under_names_that_finops_tools_know():
    rows = list(focus_rows(entries(DAYS, first=FIRST, last=LAST)))
    assert all(tuple(row) == FOCUS for row in rows)
    assert sum(float(row["BilledCost"]) for row in rows) == pytest.approx(109.0)
    first = rows[0]
    assert (first["ChargePeriodStart"], first["ChargePeriodEnd"]) == ("2026-11-26T00:00:00Z", "2026-11-27T00:00:00Z")
    assert (first["SubAccountId"], first["ResourceName"], json.loads(first["Tags"])) == ("vision", "a", {"team": "x"})
    assert (first["BillingCurrency"], first["x_UsefulCost"], first["x_TransferCost"]) == ("USD", "7.500000", "1.000000")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    items = [
        {"metadata": {"name": spec.day, "namespace": namespace}, "spec": msgspec.to_builtins(spec)}
        for namespace, spec in DAYS
    ]
    file = tmp_path / "days.json"
    file.write_text(json.dumps({"items": items}))
    return file


class TestCommands:
    def run(self, capsys: pytest.CaptureFixture[str], *words: Any, code: int = 0) -> str:
        assert main([str(w) for w in words]) == code
        return capsys.readouterr().out

    def test_report_as_a_table_for_people(self, capsys, kept):
        told = self.run(capsys, "report", "-f", kept, "--from", FIRST, "--to", LAST, "--by", "team")
        lines = [line.split() for line in told.splitlines()]
        assert lines[2][:6] == ["x", "2", "52.00", "37.50", "12.50", "2.00"]
        assert lines[4][:4] == [NOBODY, "30.00", "30.00", "0.0"]
        assert lines[5][:3] == ["TOTAL", "3", "109.00"]

    def test_report_of_the_operators_own_namespace_blames_nobody_for_what_others_had(self, capsys, kept):
        told = self.run(capsys, "report", "-f", kept, "--from", FIRST, "--to", LAST, "-n", "stint-system", "-o", "json")
        assert json.loads(told)["total"]["usd"] == 0.0

    def test_report_for_machines(self, capsys, kept):
        options = ("report", "-f", kept, "--from", FIRST, "--to", LAST, "-o")
        told = json.loads(self.run(capsys, *options, "json"))
        assert told["total"]["usd"] == pytest.approx(109.0)
        assert [g["name"] for g in told["groups"]] == ["speech", "vision", NOBODY]
        rows = list(csv.DictReader(io.StringIO(self.run(capsys, *options, "csv"))))
        assert sum(float(row["EffectiveCost"]) for row in rows) == pytest.approx(109.0)
        page = self.run(capsys, *options, "html")
        assert page.count("<tr>") == 1 + 3 + 1
        assert "http" not in page
        assert "rework" not in page  # nothing was spent on it
        rows = page.split("<tr>")[2:]
        bars = [sum(float(part) for part in re.findall(r"width:([0-9.]+)%;background", row)) for row in rows]
        assert bars == pytest.approx([100, 100 * 38 / 41, 100 * 30 / 41, 0], abs=0.01)  # 41 dollars: the longest

    def test_report_of_what_is_no_list_or_of_time_that_runs_backwards(self, capsys, tmp_path):
        wrong = tmp_path / "wrong.json"
        wrong.write_text('{"items": 3}')
        assert main(["report", "-f", str(wrong)]) == 1
        assert "give what `kubectl get dailyspends -A -o json` prints" in capsys.readouterr().err
        assert main(["report", "-f", str(wrong), "--from", "2026-11-26", "--to", "2026-11-01"]) == 1
        assert "swap them" in capsys.readouterr().err

    def test_reconcile_proposes_a_price_and_fails_where_it_drifts(self, capsys, tmp_path):
        spec = {
            "day": "2026-11-26",
            "nodes": [
                {"pool": "h100", "gpuModel": "H100", "capacityType": "on-demand", "nodeSeconds": 86400, "usd": 1200.0}
            ],
            "prices": [{"offering": "h100/p5.48xlarge/us-east-1a/on-demand", "since": NOW.isoformat()}],
        }
        days, bill = tmp_path / "days.json", tmp_path / "bill.csv"
        meta = {"name": "2026-11-26", "namespace": "stint-system"}
        later = {**spec, "day": "2026-11-27", "prices": []}  # is on the next bill
        days.write_text(json.dumps({"items": [{"metadata": meta, "spec": spec}, {"metadata": meta, "spec": later}]}))
        bill.write_text(
            "BilledCost,BillingCurrency,ChargePeriodStart,ConsumedQuantity,ChargeDescription\n"
            "2400,USD,2026-11-26T00:00:00Z,24,p5.48xlarge\n"
        )
        told = self.run(capsys, "reconcile", bill, "-f", days, code=3)
        assert "50.0000 USD a node-hour was booked, 100.0000 billed" in told
        assert (
            "{provider: PROVIDER, instanceType: p5.48xlarge, capacityType: on-demand, usdPerNodeHour: 100.0000}" in told
        )
        (drift,) = json.loads(self.run(capsys, "reconcile", bill, "-f", days, "-o", "json", code=3))["drifts"]
        assert (drift["cause"], drift["usd"]) == ("price", 1200.0)
        bill.write_text("when,what\n1,2\n")
        assert main(["reconcile", str(bill), "-f", str(days)]) == 2
        assert "are of no export that is known" in capsys.readouterr().err
        assert main(["reconcile", str(tmp_path / "none.csv"), "-f", str(days)]) == 1
        bill.write_text("BilledCost,BillingCurrency,ChargePeriodStart,Tags\n1,USD,2026-11-26," + "x" * 200_000)
        assert main(["reconcile", str(bill), "-f", str(days)]) == 1
        assert "it must be CSV" in capsys.readouterr().err


def test_top_shows_what_runs_what_is_free_and_what_is_not_measured():
    pods = [a_gang_pod(0, node="n1", phase="Running", gated=False)]
    status = {
        "phase": "Running",
        "usdPerHour": "8.00",
        "gpus": 4,
        "usage": {"gpuRatio": 0.5, "idleGpus": 1},
        "progress": {"runningSince": NOW.isoformat()},
    }
    caches = Caches(
        trainingjobs=[a_resource(status)],
        gpu_pools=[],
        price_books=[],
        nodes=[a_record(), a_record("n2")],
        pods=pods,
        jobs=[a_batch_job()],
    )
    seen = observe(caches, bundled.load(), Settings(), now=NOW, created={"u": NOW}, empty_since={})
    figures = moment(seen)
    (job,) = figures["jobs"]
    assert (job["job"], job["usdPerHour"], job["idleUsdPerHour"]) == ("team/unet", 8.0, 2.0)
    assert (job["utilisation"], job["watts"], job["wasteRatio"]) == (0.5, None, None)
    (pool,) = figures["pools"]
    price = seen.situation.offerings[0].usd_per_node_hour
    assert price is not None
    assert (pool["nodes"], pool["gpus"], pool["free"]) == (2, 16, 8)
    assert pool["freeUsdPerHour"] == pytest.approx(price.value)
    assert moment(seen, "another")["jobs"] == []
