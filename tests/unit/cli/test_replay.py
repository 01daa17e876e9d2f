"""`stint replay`: what an operator has stored is decided again."""

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from stint.cli.main import main
from stint.controllers import planner_worker
from stint.controllers.planner_client import as_it_is
from stint.controllers.recorder import DecisionRecorder
from stint.decide import decide
from stint.model.situation import Settings
from stint.sim.loop import simulate
from stint.sim.policies import POLICIES
from stint.testing.builders import a_job, a_node, a_situation
from tests.golden import situations
from tests.queues import a_newcomer, queue, then
from tests.stages import ON_DEMAND, SPOT, a_stage, submitted

SITUATION = a_situation(
    offerings=[ON_DEMAND], nodes=[a_node("a", ON_DEMAND)], jobs=[a_job("x", gpus=8), a_job("y", gpus=8)]
)


def _stored(folder: Path, situation, plan, minutes: int = 0) -> None:
    later = situation.now + timedelta(minutes=minutes)
    DecisionRecorder(folder).keep(replace(situation, now=later), replace(plan, decided_at=later))


def test_a_month_that_was_recorded_is_decided_again_to_the_byte(tmp_path, capsys):
    recorder = DecisionRecorder(tmp_path)
    jobs = [submitted(f"j{i}", i * 0.3, hours=1.0 + i % 3, gpus=2 ** (i % 4)) for i in range(10)]
    stage = a_stage(jobs, [ON_DEMAND, SPOT], settings=Settings(solver="portfolio"))
    simulate(stage, POLICIES["stint"], keep=recorder.keep)
    stored = len(list(tmp_path.glob("*.json")))
    assert stored > 10
    assert main(["replay", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{stored} decisions: {stored} are made again to the byte, 0 differ, 0 ")


def test_decisions_about_newcomers_are_stored_with_what_stood_before_and_decided_again(tmp_path, capsys):
    recorder = DecisionRecorder(tmp_path)
    first = decide(queue())
    recorder.keep(queue(), first)
    nobody_came, somebody = then(first, seconds=2.0), then(first, a_newcomer())
    for situation in (nobody_came, somebody):
        recorder.keep(situation, decide(situation))
    assert len(list(tmp_path.glob("*.json"))) == 2, "where nobody came there is nothing to be kept"
    assert main(["replay", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("2 decisions: 2 are made again to the byte, 0 differ, 0 ")
    latest = max(tmp_path.glob("*.json"))
    assert main(["plan", "-f", str(latest), "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["holds"]) == len(first.holds), "people are told of everybody"
    assert "standing" not in told


def test_the_stored_decisions_of_the_golden_tests(tmp_path, capsys):
    for name in situations.SITUATIONS:
        shutil.copy(situations.HERE / f"{name}.json", tmp_path)
    assert main(["replay", str(tmp_path), "-o", "json"]) == 0
    assert [r["verdict"] for r in json.loads(capsys.readouterr().out)] == ["agrees"] * len(situations.SITUATIONS)


def test_the_solver_is_the_one_that_the_settings_name(tmp_path, capsys):
    greedy = replace(SITUATION, settings=Settings(solver="greedy"))
    _stored(tmp_path, SITUATION, decide(greedy))
    assert main(["replay", str(tmp_path)]) == 3
    assert "certificate.solver: stored 'greedy', now 'portfolio'" in capsys.readouterr().out


def test_the_first_difference_is_told(tmp_path, capsys):
    plan = decide(SITUATION)
    (hold,) = plan.holds
    _stored(tmp_path, SITUATION, plan)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace(hold.message, "for no reason"))
    assert main(["replay", str(tmp_path)]) == 3
    out = capsys.readouterr().out
    assert "1 decisions: 0 are made again to the byte, 1 differ" in out
    assert f"{file.name}: holds[0].message: stored 'for no reason', now '{hold.message[:40]}" in out


def test_one_job_more_or_less_is_a_difference(tmp_path, capsys):
    plan = decide(SITUATION)
    _stored(tmp_path, SITUATION, replace(plan, holds=()))
    assert main(["replay", str(tmp_path)]) == 3
    assert "holds[0]: stored None, now {" in capsys.readouterr().out


def test_what_was_left_as_it_was_counts_apart(tmp_path, capsys):
    _stored(tmp_path, SITUATION, decide(SITUATION))
    _stored(tmp_path, SITUATION, as_it_is(SITUATION, "solver x hung"), minutes=1)
    assert main(["replay", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "2 decisions: 1 are made again to the byte, 0 differ, 1 had no plan that could be made again" in out


def test_jobs_that_could_not_be_decided_about_are_left_out_again(tmp_path, monkeypatch):
    def picky(situation, **how):
        if any(j.id == "team/y" for j in situation.jobs):
            raise ZeroDivisionError("poison")
        return decide(situation, **how)

    monkeypatch.setattr(planner_worker, "decide", picky)
    monkeypatch.setattr("stint.cli.replay.decide", picky)
    greedy = replace(SITUATION, settings=Settings(solver="greedy"))
    _stored(tmp_path, greedy, planner_worker.without_culprits(greedy))
    assert main(["replay", str(tmp_path)]) == 0


def test_a_plan_that_cannot_be_made_any_more_differs(tmp_path, capsys):
    _stored(tmp_path, replace(SITUATION, settings=Settings(solver="gone")), decide(SITUATION))
    assert main(["replay", str(tmp_path)]) == 3
    assert "stored: a plan; now: KeyError(\"solver 'gone' must be one of annealing, exact" in capsys.readouterr().out


def test_a_file_that_is_none_is_told_and_the_others_are_replayed(tmp_path, capsys):
    _stored(tmp_path, SITUATION, decide(SITUATION))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('{"format": "v2"}')
    assert main(["replay", str(tmp_path)]) == 2
    out = capsys.readouterr()
    assert out.out.startswith("1 decisions: 1 are made again")
    assert "broken.json the file" in out.err
    assert "other.json format: 'v2'" in out.err


@pytest.mark.parametrize("name", ["empty", "none"])
def test_nothing_to_replay_is_told(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert main(["replay", str(tmp_path / name)]) == 1
    assert ("stint run --record-dir" if name == "empty" else "No such file") in capsys.readouterr().err
