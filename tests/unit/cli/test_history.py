"""`stint simulate --from-csv | --from-sacct`, and a cluster's fleet."""

import io
import json
from collections import Counter
from datetime import timedelta

import pytest

from stint.cli import history
from stint.cli.main import main
from stint.model.situation import Situation
from stint.sim.trace import Log, Row
from stint.testing.builders import NOW, a_node, a_pool, an_offering

CSV = (
    "id,timestamp,duration_s,gpus,gpu_type,user\n"
    "a,2026-10-01 00:00:00,3600,8,h100,ann\n"
    "b,2026-10-01 01:00:00,60,1,,bob\n"
)
SCENARIO = """
format: stint.dev/scenario/v1
start: 2026-01-01T00:00:00Z
policies: [fifo]
fleet:
  - {name: h100, offerings: [{provider: aws, instanceType: p5.48xlarge, zone: us-east-1a}], maxNodes: 4}
jobs:
  trace: {file: not-there.csv}
  habits: {reference: H100-SXM, deadlines: 0}
"""


def _json(capsys):
    out = capsys.readouterr()
    return json.loads(out.out), out.err


def test_a_log_alone_is_enough(tmp_path, capsys):
    path = tmp_path / "log.csv"
    path.write_text(CSV)
    assert main(["simulate", "--from-csv", str(path), "-o", "json", "--policy", "fifo"]) == 0
    (found,), said = _json(capsys)
    assert (found["jobs"], found["finished"]) == (2, 2)
    assert {e["job"] for e in found["log"]} >= {"ann/a", "bob/b"}
    assert "2 jobs from 2026-10-01 00:00 UTC on" in said
    assert "naming no GPU model, 1: they are taken to have run on A100-80GB" in said


def test_a_scenario_gives_the_fleet_and_not_its_jobs(tmp_path, capsys):
    path, scenario = tmp_path / "log.csv", tmp_path / "s.yaml"
    path.write_text(CSV)
    scenario.write_text(SCENARIO)
    assert main(["simulate", str(scenario), "--from-csv", str(path), "-o", "json"]) == 0
    (found,), _ = _json(capsys)
    assert (found["policy"], found["finished"]) == ("fifo", 2)


def test_sacct_comes_from_a_pipe(capsys, monkeypatch):
    text = (
        "JobID|Submit|Start|Elapsed|State|ReqTRES\n17|2026-10-01T00:00:00|2026-10-01T00:00:00|10:00|FAILED|gres/gpu=2\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(text + text.splitlines()[1].replace("17|", "18|").replace("gpu", "x")))
    assert main(["simulate", "--from-sacct", "-", "-o", "json"]) == 0
    (found,), said = _json(capsys)
    assert found["finished"] == 1
    assert "not used, 1: asked for no GPU" in said


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        ([], "", "name a scenario, or give --from-csv"),
        (["--from-csv", "-"], CSV.replace("h100", "zz9"), "standard input has 1 mistake:\n  line 2, gpu model: 'zz9'"),
        (["--from-csv", "-"], "arrival_s,duration,gpus\n", "none that can be used: it is empty"),
        (["--from-csv", "/not/there.csv"], "", "cannot be read: No such file"),
        (["--from-sacct", "-"], "", "must name JobID"),
    ],
)
def test_what_is_wrong_is_told(arguments, text, told, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["simulate", *arguments]) == 2
    assert told in capsys.readouterr().err


def _nodes(offering, count):
    return tuple(a_node(f"{offering.pool}-{i}", offering) for i in range(count))


def test_of_a_cluster_the_nodes_stand_that_stint_may_not_give_back():
    fixed, grows = an_offering("fixed"), an_offering("grows", model="H100-SXM")
    pools = (a_pool(fixed), a_pool(grows, scaler="kwok", most=8))
    situation = Situation(now=NOW, nodes=(*_nodes(fixed, 3), *_nodes(grows, 2)), offerings=(fixed, grows), pools=pools)
    read = history._of_cluster(situation)
    assert read.fleet.standing == {fixed.id: 3}
    assert read.scenario.jobs.habits.reference == fixed.gpu_model
    made = history._history(
        Log(rows=(Row(id="a", at=timedelta(0), duration_s=60.0, gpus=1),), zero=NOW), (), read, name="c", given=False
    )
    assert made.read.stage(0).standing == {fixed.id: 3}
    assert made.read.stage(0).start == NOW


def test_training_jobs_count_as_they_were_submitted_once_they_have_succeeded():
    spec = {"workers": 1, "gpu": {"perWorker": 1}, "work": {"units": 60, "unitsPerSecond": {"L40S": 1.0}}}
    spec["template"] = {"spec": {"containers": [{"name": "t", "image": "i"}]}}
    phases = ("Succeeded", "Failed", "Running")
    items = [
        {
            "metadata": {"name": p.lower(), "namespace": "ml", "uid": p, "creationTimestamp": "2026-10-01T00:00:00Z"},
            "spec": spec,
            "status": {"phase": p},
        }
        for p in phases
    ]
    unused = Counter()
    (job,) = history._training_jobs(items, unused)
    assert (job.id, job.work.units, job.assignment) == ("ml/succeeded", 60.0, None)
    assert unused == {"TrainingJobs that failed": 1, "TrainingJobs that have not ended": 1}
