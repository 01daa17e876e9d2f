"""`stint simulate`: files with mistakes, tables, reports, and Ctrl-C."""

import json
import signal
from pathlib import Path

import pytest

from hack.demo.scenarios import packs, written
from stint.cli import scenario as files
from stint.cli.main import main
from stint.cli.simulate import Bounded
from stint.errors import InvalidInputError, StintError
from stint.model.plan import Plan, Reason, Requeue
from stint.sim import loop
from stint.sim.policies import POLICIES

GOOD = """
format: stint.dev/scenario/v1
name: small
start: 2026-01-01T00:00:00Z
policies: [stint-greedy, fifo]
fleet:
  - name: l40s
    offerings: [{provider: aws, instanceType: g6e.12xlarge, zone: us-east-1a}]
    maxNodes: 4
jobs:
  generate: {count: 8, meanGapHours: 0.5, medianHours: 1}
  habits: {reference: L40S}
"""


def _scenario(folder: Path, text: str) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(text)
    return path


def test_a_table_and_a_page(tmp_path, capsys):
    report = tmp_path / "r.html"
    assert main(["simulate", str(_scenario(tmp_path, GOOD)), "--report", str(report)]) == 0
    out = capsys.readouterr()
    assert [line.split()[0] for line in out.out.splitlines()] == ["POLICY", "stint-greedy", "fifo"]
    assert out.err == ""
    assert report.read_text().startswith("<!doctype html>")


def test_json_has_everything_and_the_command_line_beats_the_file(tmp_path, capsys):
    path = _scenario(tmp_path, GOOD)
    assert main(["simulate", str(path), "-o", "json", "--policy", "best-fit", "--seed", "3", "--seed", "4"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(o["policy"], o["seed"], o["finished"]) for o in found] == [("best-fit", 3, 8), ("best-fit", 4, 8)]
    assert sum(found[0]["usd"].values()) == pytest.approx(found[0]["total_usd"])


BAD = """
format: stint.dev/scenario/v1
start: 2026-01-01T00:00:00
policies: [stint, magic]
settings: {solver: best}
fleet:
  - name: l40s
    offerings: [{provider: aws, instanceType: no.such, zone: us-east-1a}]
  - name: l40s
    offerings: [{provider: aws, instanceType: g6e.12xlarge, zone: us-east-1a}]
    stock: -1
jobs:
  trace: {file: log.csv}
  generate: {count: 1, meanGapHours: 1, medianHours: 1}
  habits: {reference: nothing}
  trainingJobs: [{file: jobs.yaml}]
"""


def test_every_mistake_of_all_files_is_told_at_once(tmp_path):
    (tmp_path / "log.csv").write_text("arrival_s,duration_s,gpus\n0,1,1\n-1,1,1\n2,x,0\n")
    (tmp_path / "jobs.yaml").write_text(
        "kind: TrainingJob\nmetadata: {name: a}\nspec: {gpu: {perWorker: 0}}\n---\n{kind: Job}\n"
    )
    with pytest.raises(InvalidInputError) as caught:
        files.read(_scenario(tmp_path, BAD))
    where = [m.path for m in caught.value.mistakes]
    for path in (
        "start",
        "policies[1]",
        "settings.solver",
        "fleet[1].name",
        "fleet[1].stock",
        "jobs.habits.reference",
        "jobs",
        "GPUPool l40s spec.offerings[0]",
        "log.csv line 3, time",
        "log.csv line 4, duration",
        "log.csv line 4, gpus",
    ):
        assert path in where, where
    assert any("TrainingJob a" in path for path in where)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("maxNodes: 4", "maxNodes: -4"), "fleet[0].maxNodes"),
        (("maxNodes: 4", "maxNods: 4"), "fleet[0]"),
        (("count: 8", "count: many"), "jobs.generate.count"),
        (("count: 8, ", ""), "jobs.generate"),
        (("stint.dev/scenario/v1", "v2"), "format"),
        (("2026-01-01T00:00:00Z", "soon"), "start"),
        (("medianHours: 1}", "medianHours: 1, gpus: {x: 1}}"), "jobs.generate.gpus.x"),
        (("fleet:", "prices: {asOf: '2026-13-01'}\nfleet:"), "prices, spec.asOf"),
    ],
)
def test_what_the_schema_does_not_allow_is_named(tmp_path, change, path):
    with pytest.raises(InvalidInputError) as caught:
        files.read(_scenario(tmp_path, GOOD.replace(*change)))
    assert path in [m.path for m in caught.value.mistakes]


def test_a_file_that_is_not_there_is_told(tmp_path, capsys):
    assert main(["simulate", str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read: No such file or directory" in capsys.readouterr().err
    assert main(["simulate", str(_scenario(tmp_path, "a: [")), "--policy", "magic"]) == 2


def test_a_policy_that_there_is_not_is_told_with_those_that_there_are(tmp_path, capsys):
    assert main(["simulate", str(_scenario(tmp_path, GOOD)), "--policy", "magic"]) == 2
    assert "must be one of stint, " in capsys.readouterr().err


def test_a_fleet_of_nothing_places_nobody(tmp_path, capsys):
    text = GOOD[: GOOD.index("fleet:")] + GOOD[GOOD.index("jobs:") :]
    assert main(["simulate", str(_scenario(tmp_path, text)), "--policy", "stint"]) == 0
    assert "trace/j00000 has not ended" in capsys.readouterr().out


def test_ctrl_c_gives_what_there_is(tmp_path, capsys, monkeypatch):
    whole = loop.simulate

    def pressed(stage, policy, **given):
        def watch(progress):
            if progress.decisions == 5:
                signal.raise_signal(signal.SIGINT)
            given["watch"](progress)

        return whole(stage, policy, **{**given, "watch": watch})

    monkeypatch.setattr(loop, "simulate", pressed)
    before, report = signal.getsignal(signal.SIGINT), tmp_path / "r.html"
    assert main(["simulate", str(_scenario(tmp_path, GOOD)), "--report", str(report)]) == 130
    out = capsys.readouterr()
    assert "stint-greedy (stopped)" in out.out
    assert "fifo" not in out.out
    assert "(stopped)" in report.read_text()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_job_log_beside_the_scenario_is_run(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("id,arrival_s,duration_s,gpus\na,0,3600,1\nb,60,0,1\nc,90,600,12\n")
    (tmp_path / "jobs.yaml").write_text(written(packs()[2]))
    habits = "{reference: L40S, gpusPerWorker: 4}"
    jobs = f"jobs: {{trace: {{file: log.csv}}, habits: {habits}, trainingJobs: [{{file: jobs.yaml, atHours: 2}}]}}"
    path = _scenario(tmp_path, GOOD[: GOOD.index("jobs:")] + jobs)
    assert main(["simulate", str(path), "-o", "json", "--policy", "stint"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["jobs"], found["finished"]) == (6, 6)


def test_an_unsound_policy_does_not_keep_the_others_from_their_runs(tmp_path, capsys, monkeypatch):
    class Unsound:
        name = "unsound"

        def __call__(self, situation):
            requeue = Requeue(job="no/body", reason=Reason.NODE_LOST, message="")
            return Plan(decided_at=situation.now, requeues=(requeue,))

    monkeypatch.setattr("stint.cli.simulate.POLICIES", {"unsound": Unsound(), **POLICIES})
    assert main(["simulate", str(_scenario(tmp_path, GOOD)), "--policy", "unsound", "--policy", "fifo"]) == 1
    out = capsys.readouterr()
    assert "policy unsound made an unsound plan: job no/body has no place to be requeued from" in out.err
    assert "fifo" in out.out


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_policy_that_hangs_is_ended_and_the_others_have_their_runs(tmp_path, capsys, monkeypatch, stubborn):
    class Hangs:
        name = "hangs"

        def __call__(self, _):
            told = 0
            while True:
                try:
                    while True:
                        pass
                except StintError:
                    told += 1
                    if told > stubborn:
                        raise

    monkeypatch.setattr("stint.cli.simulate.POLICIES", {"hangs": Hangs(), **POLICIES})
    monkeypatch.setattr("stint.cli.simulate._AGAIN_S", 0.05)
    before = signal.getsignal(signal.SIGALRM)
    policies = ["--policy", "hangs", "--policy", "fifo"]
    path = str(_scenario(tmp_path, GOOD))
    monkeypatch.setattr("stint.cli.simulate.Bounded", _impatient_with("hangs"))
    assert main(["simulate", path, *policies]) == 1
    out = capsys.readouterr()
    assert "policy hangs has no plan for 2026-01-01" in out.err
    assert "fifo" in out.out
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def _impatient_with(name):
    """A busy machine must not end the others."""
    return lambda policy, limit_s: Bounded(policy, 0.05 if policy.name == name else limit_s)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_told(tmp_path, capsys, seconds):
    assert main(["simulate", str(_scenario(tmp_path, GOOD)), "--plan-timeout", seconds]) == 2
    assert "--plan-timeout" in capsys.readouterr().err


def test_ids_that_overlap_are_told_by_name(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("id,arrival_s,duration_s,gpus,owner\nnightly,0,60,1,ml\n")
    (tmp_path / "jobs.yaml").write_text(
        "kind: TrainingJob\nmetadata: {name: nightly, namespace: ml}\n"
        "spec: {workers: 1, gpu: {perWorker: 1}, work: {units: 60, unitsPerSecond: {L40S: 1}},\n"
        "  template: {spec: {containers: [{name: t, image: i}]}}}\n"
    )
    jobs = "jobs: {trace: {file: log.csv}, trainingJobs: [{file: jobs.yaml}], habits: {reference: L40S}}"
    path = _scenario(tmp_path, GOOD[: GOOD.index("jobs:")] + jobs)
    assert main(["simulate", str(path)]) == 2
    assert "jobs: 'ml/nightly': is there more than once" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_report(tmp_path, capsys, monkeypatch):
    report = tmp_path / "r.html"
    report.write_text("old")

    def full(self, text):
        raise OSError(28, "No space left on device")

    path = str(_scenario(tmp_path, GOOD))
    monkeypatch.setattr(Path, "write_text", full)
    assert main(["simulate", path, "--report", str(report)]) == 1
    out = capsys.readouterr()
    assert "No space left on device" in out.err
    assert "fifo" in out.out  # the figures are not lost
    assert report.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.html", "scenario.yaml"]


def test_the_sample_scenarios_can_be_read():
    for path in sorted(Path("hack/simulate").glob("*.yaml")):
        if "jobs" not in path.stem:
            assert files.read(path).stage(0).offerings


def test_the_packs_of_the_demo_are_simulated_as_they_are():
    for pack in packs():
        assert (Path("hack/simulate") / f"{pack['name']}-jobs.yaml").read_text() == written(pack)
