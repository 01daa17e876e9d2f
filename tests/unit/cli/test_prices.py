"""`stint prices`: each figure that decisions use, once, with what is wrong with it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from stint.api.meta import Meta
from stint.api.pricebook import PriceBook, Quarantined, SourceStatus, Spec, Status
from stint.cli import prices
from stint.cli.main import main
from stint.model.offering import CapacityType
from stint.model.situation import Rates
from stint.testing.builders import NOW, a_figure, a_situation, an_offering

SAMPLE = "hack/samples/situation.json"
OFFERINGS = [
    an_offering("od", usd=8.0, stale=("price",)),
    an_offering("ri", usd=0.0, billed_usd_per_node_hour=a_figure(5.0)),
    an_offering("spot", usd=None, capacity=CapacityType.SPOT, interruptions_per_hour=0.05),
    an_offering("own", usd=1.0, capacity=CapacityType.OWNED, provider="dc", usd_per_kwh=a_figure(0.2)),
]


def told(*quarantined: str) -> dict[tuple[str, str], tuple[float | None, str]]:
    """Value and marks by what and where."""
    status = SourceStatus(name="api", quarantined=[Quarantined(what=q, value="9", why="no") for q in quarantined])
    book = PriceBook(metadata=Meta(name="mine"), spec=Spec(), status=Status(sources=[status]))
    rates = Rates(licence_usd_per_gpu_hour={"suite": a_figure(0.5)}, carbon_usd_per_tonne=a_figure(80))
    lines = prices.lines(a_situation(offerings=OFFERINGS, rates=rates), [book])
    cells = [line.cells(NOW.date()) for line in lines]
    found = {(str(c["what"]), str(c["where"])): (c["value"], str(c["marks"])) for c in cells}
    assert len(found) == len(cells), "each once"
    return found  # type: ignore[return-value]


def test_prices_have_their_marks():
    found = {k: v for k, v in told().items() if k[0] in ("price", "billed", "interruptions")}
    assert {(what, where.split("/")[0]): v for (what, where), v in found.items()} == {
        ("price", "od"): (8.0, "stale"),
        ("price", "ri"): (0.0, "committed"),
        ("billed", "ri"): (5.0, "committed"),
        ("price", "spot"): (None, "unknown"),
        ("interruptions", "spot"): (0.05, ""),
        ("price", "own"): (1.0, ""),
    }


def test_what_places_have_alike_is_told_once_and_rates_too():
    found = told()
    assert found["tariff", "dc/us-east-1"] == (0.2, "")
    assert found["carbon", "aws/us-east-1"] == (380.0, "")
    assert found["licence", "suite"] == (0.5, "")
    assert found["carbon price", "*"] == (80, "")
    assert ("tariff", "aws/us-east-1") not in found


@pytest.mark.parametrize(
    ("what", "marked"),
    [
        ("aws/us-east-1/p4de.24xlarge/on-demand", {"od", "ri"}),
        ("aws/us-east-1/p4de.24xlarge/on-demand/us-east-1a", {"od", "ri"}),
        ("aws/*/p4de.24xlarge/spot", {"spot"}),
        ("aws/us-east-1/p4de.24xlarge/on-demand/us-east-1b", set()),
        ("tariff us-east-1", {"dc"}),
        ("carbon marginal aws/us-east-1", {"aws"}),
    ],
)
def test_what_a_source_lies_about_is_marked_where_it_would_count(what, marked):
    found = {where.split("/")[0] for (_, where), (_, marks) in told(what).items() if "quarantined" in marks}
    assert found == marked


def test_a_situation_of_a_file_as_json_and_csv(capsys: pytest.CaptureFixture[str]):
    assert main(["prices", "-f", SAMPLE, "-o", "json", "--provider", "gcp"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    (price,) = [f for f in figures if f["what"] == "price"]
    assert price["where"] == "gke-a100/a2-ultragpu-8g/us-central1-a/on-demand"
    assert (price["value"], price["source"], price["unit"]) == (40.5504, "cyclenerd-gcp", "USD/node-h")
    assert main(["prices", "-f", SAMPLE, "-o", "csv", "--gpu", "A100-80GB"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {r["where"].split("/")[0] for r in rows if r["what"] == "price"} == {"dc1-a100", "gke-a100"}
    assert list(rows[0]) == ["what", "where", "value", "unit", "source", "as_of", "age_days", "confidence", "marks"]


def test_the_catalogue_needs_no_cluster(capsys: pytest.CaptureFixture[str]):
    assert main(["prices", "--catalogue", "--gpu", "H100", "--provider", "aws", "-o", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {r["gpus"] for r in rows} == {"8 x H100-SXM", "1 x H100-SXM"}
    assert main(["prices", "--gpus"]) == 0
    assert "B200" in capsys.readouterr().out


def test_how_sources_are_is_told_beside():
    status = SourceStatus(name="api", up=False, last_good=NOW, figures=3, refused=1, message="no answer")
    book = PriceBook(metadata=Meta(name="mine"), spec=Spec(), status=Status(sources=[status]))
    assert prices.sources([book]) == [
        {
            "source": "mine/api",
            "up": "no",
            "last_good": NOW.isoformat(),
            "figures": 3,
            "quarantined": 1,
            "message": "no answer",
        }
    ]


def test_offerings_that_differ_in_a_figure_of_their_place_are_both_told():
    other = replace(OFFERINGS[0], id=OFFERINGS[0].id + "x", g_co2_per_kwh=a_figure(1))  # type: ignore[arg-type, operator]
    lines = prices.lines(a_situation(offerings=[OFFERINGS[0], other]), [])
    assert sorted(line.figure.value for line in lines if line.what == "carbon" and line.figure) == [1, 380]
