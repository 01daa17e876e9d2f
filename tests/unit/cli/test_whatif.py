"""`stint plan` with changes, and `stint quote`, on the sample that the README uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from hack.cluster import ROOT
from stint.cli.main import main

SAMPLES = ROOT / "hack" / "samples"
SITUATION = str(SAMPLES / "situation.json")


def test_two_plans_stand_side_by_side(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "-f", SITUATION, "--add-pool", "p5.48xlarge:1@us-east-1b:spot", "--price", "dc1-a100=x2"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split()[:6] == ["JOB", "NOW", "STARTS", "DONE", "$", "NOW"]
    assert "now : 1,028.90 USD, the last one done in 48.7 h; every deadline and budget holds" in text
    assert "\nthe change costs " in text


def test_a_change_that_breaks_a_promise_exits_with_3_and_names_it(capsys: pytest.CaptureFixture[str]):
    arguments = ["plan", "-f", SITUATION, "--deadline", "imaging/mri-knee=3h"]
    assert main(arguments) == 3
    assert "imaging/mri-knee: deadline: done " in capsys.readouterr().out
    assert main([*arguments, "-o", "json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["broken_before"] == []
    assert [(b["job"], b["promise"]) for b in told["broken_after"]] == [("imaging/mri-knee", "deadline")]
    assert len(told["jobs"]) == 8


def test_another_policy_is_a_change_too(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "-f", SITUATION, "--policy", "stint-greedy", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [told[k]["certificate"]["solver"] for k in ("before", "after")] == ["portfolio", "greedy"]


def test_without_changes_it_is_the_plan_alone(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "-f", SITUATION, "-o", "json"]) == 0
    assert {"placements", "holds"} <= json.loads(capsys.readouterr().out).keys()


def test_mistakes_end_with_2(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "-f", SITUATION, "--drop-pool", "x", "--budget", "y=1"]) == 2
    assert capsys.readouterr().err.startswith("the command line has 2 mistakes:\n  --drop-pool: 'x': is no pool")


def test_a_quote_tells_start_end_cost_and_how_sure_it_is(capsys: pytest.CaptureFixture[str]):
    assert main(["quote", "-f", str(SAMPLES / "first.yaml"), "--situation", SITUATION]) == 0
    text = capsys.readouterr().out
    assert text.startswith("default/ct-scan-unet would run on 2 workers of dc1-a100/dgx-a100/dc1/owned\n")
    for line in (
        "starts ",
        "done ",
        "USD to finish ",
        "USD/h ",
        "  price: 3.65 USD/h a node: ",
        "  speed: ",
        "  next best: ",
    ):
        assert f"\n{line}" in text
    assert "It would change something for " in text


def test_what_cannot_be_kept_exits_with_3(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    job = yaml.safe_load((SAMPLES / "first.yaml").read_text())
    job["spec"]["within"] = "1h"
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    assert main(["quote", "-f", str(file), "--situation", SITUATION, "-o", "json"]) == 3
    (quote,) = json.loads(capsys.readouterr().out)["quotes"]
    assert [b["promise"] for b in quote["broken"]] == ["deadline"]


def test_several_jobs_are_quoted_together(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    job = yaml.safe_load((SAMPLES / "first.yaml").read_text())
    other = {**job, "metadata": {"name": "other", "namespace": "imaging"}}
    file = tmp_path / "jobs.yaml"
    file.write_text(yaml.safe_dump_all([job, other]))
    assert main(["quote", "-f", str(file), "--situation", SITUATION, "-n", "mine", "-o", "json"]) == 0
    assert [q["job"]["id"] for q in json.loads(capsys.readouterr().out)["quotes"]] == [
        "mine/ct-scan-unet",
        "imaging/other",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must hold a TrainingJob"),
        ("- 1", "must be a TrainingJob of apiVersion stint.dev/v1alpha1"),
        ("kind: Job\napiVersion: batch/v1", "must be a TrainingJob of apiVersion stint.dev/v1alpha1"),
        ("{", "must be YAML or JSON"),
    ],
)
def test_what_is_no_job_is_told(text: str, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    file = tmp_path / "job.yaml"
    file.write_text(text)
    assert main(["quote", "-f", str(file), "--situation", SITUATION]) == 2
    assert told in capsys.readouterr().err


def test_every_mistake_of_a_job_is_told_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    job = yaml.safe_load((SAMPLES / "first.yaml").read_text())
    job["spec"] |= {"workers": "two", "priority": "high"}
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    assert main(["quote", "-f", str(file), "--situation", SITUATION]) == 2
    told = capsys.readouterr().err
    assert "spec.priority: 'high'" in told
    assert "spec.workers: 'two'" in told


def test_a_file_that_is_not_there_ends_with_1(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["quote", "-f", str(tmp_path / "none.yaml"), "--situation", SITUATION]) == 1
    assert "none.yaml" in capsys.readouterr().err
