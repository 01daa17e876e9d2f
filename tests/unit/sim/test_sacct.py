"""Slurm's accounting, good and bad."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from stint.errors import InvalidInputError
from stint.feeds import bundled
from stint.sim.sacct import read_sacct
from stint.sim.trace import Models
from stint.sim.workload import SPEEDS, Habits, jobs_of
from stint.testing.builders import NOW

HEADER = "JobID|JobName|User|Account|Partition|Submit|Start|End|Elapsed|State|AllocTRES|ReqTRES"
SUBMIT, START = "2026-10-01T00:00:00", "2026-10-01T00:05:00"
MODELS = Models(bundled.load(), SPEEDS)


def _line(job="17", *, submit=SUBMIT, start=START, elapsed="01:00:00", state="COMPLETED", had="gres/gpu=1", asked=""):
    return "|".join((job, "train", "ann", "nlp", "gpu", submit, start, "Unknown", elapsed, state, had, asked))


def _read(*lines):
    return read_sacct([HEADER, *lines], name="sacct.txt", models=MODELS)


def test_a_job_has_the_gpus_that_it_had_and_is_bound_to_the_model_that_it_asked_for():
    had = "billing=16,cpu=16,gres/gpu:h100=16,gres/gpu=16,gres/gpumem=640G,mem=128G,node=2"
    log = _read(_line(had=had, asked="gres/gpu=16"), _line("18", had=had, asked="gres/gpu:h100=16"))
    assert [(r.gpus, r.gpu_model, r.pinned, r.workers, r.owner) for r in log.rows] == [
        (16, "H100-SXM", False, 2, "nlp"),
        (16, "H100-SXM", True, 2, "nlp"),
    ]
    assert log.zero == datetime(2026, 10, 1, tzinfo=UTC)
    jobs = jobs_of(log.rows, Habits(), start=NOW, rng=np.random.default_rng(0))
    assert [(j.id, j.workers, j.per_worker.gpus, j.gpu_models) for j in jobs] == [
        ("nlp/17", 2, 8, ()),
        ("nlp/18", 2, 8, ("H100-SXM",)),
    ]
    assert jobs[0].work.units_per_second["H100-SXM"] == 1.0  # its hour was an hour on that


def test_steps_are_parts_of_jobs_and_tasks_of_an_array_are_jobs():
    log = _read(_line("17_1"), _line("17_1.batch"), _line("17_1.0"), _line("17_2"), _line("20+1"))
    assert [r.id for r in log.rows] == ["17_1", "17_2", "20+1"]


def test_of_a_requeued_job_the_last_run_counts_from_its_first_submission_on():
    log = _read(
        _line("21", state="REQUEUED", elapsed="00:20:00"),
        _line("21", submit="2026-10-01T00:32:00", elapsed="02:00:00"),
        _line("9", submit="2026-09-30T23:00:00"),
    )
    assert [(r.id, r.at, r.duration_s) for r in log.rows] == [
        ("9", timedelta(0), 3600.0),
        ("21", timedelta(hours=1), 7200.0),
    ]


def test_what_failed_has_cost_what_it_ran():
    states = ("CANCELLED by 1000", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
    log = _read(*(_line(str(i), state=s, elapsed="1-00:00:01") for i, s in enumerate(states)))
    assert [r.duration_s for r in log.rows] == [86_401.0] * len(states)


def test_who_cannot_be_used_is_counted_with_the_reason():
    log = _read(
        _line("1", state="RUNNING"),
        _line("2_[3-9%2]", state="PENDING", start="Unknown", elapsed="00:00:00", had="", asked="gres/gpu:h100=1"),
        _line("3", state="CANCELLED by 0", start="None", elapsed="00:00:00", had=""),
        _line("4", state="CANCELLED by 0", elapsed="00:00:00", had="", asked="gres/gpu=1"),
        _line("5", had="cpu=4,node=1"),
        _line("6", had="gres/gpu:h100=1,gres/gpu:t4=1"),
    )
    assert log.rows == ()
    assert log.unused == {
        "asked for no GPU": 1,
        "ended before they started": 2,
        "had GPUs of several models": 1,
        "have not started": 1,
        "still run": 1,
    }


def test_the_end_says_how_long_where_no_column_does():
    head = "JobID|Submit|Start|End|State|ReqTRES|"  # --parsable, with one | more
    row = f"17|{SUBMIT}|{START}|2026-10-01T01:00:00|COMPLETED|gres/gpu=2|"
    (found,) = read_sacct([head, row], name="sacct.txt", models=MODELS).rows
    assert (found.duration_s, found.gpus) == (3300.0, 2)


def test_every_bad_line_is_told_with_its_number():
    with pytest.raises(InvalidInputError) as caught:
        _read(
            _line("17"),
            _line("17"),
            _line("x"),
            _line("18", submit="Unknown"),
            _line("19", start="soon"),
            _line("20", elapsed="1h"),
            _line("21", state="DONE"),
            _line("22", had="gres/gpu:zz9=8,gres/gpu=8"),
            _line("23", had="gres/gpu:k80=8"),
            _line("24", had="gres/gpu=many"),
            "25|short",
        )
    assert [(m.path, m.found) for m in caught.value.mistakes] == [
        ("line 2, JobID", "'17'"),
        ("line 4, JobID", "'x'"),
        ("line 5, Submit", "'Unknown'"),
        ("line 6, Start", "'soon'"),
        ("line 7, Elapsed", "'1h'"),
        ("line 8, State", "'DONE'"),
        ("line 9, gpu model", "'zz9'"),
        ("line 10, gpu model", "'k80'"),
        ("line 11, TRES", "'many'"),
        ("line 12, columns", "2"),
    ]
    assert "stint prices --gpus" in caught.value.mistakes[6].remedy
    assert "K80, whose speed nobody knows" in caught.value.mistakes[7].remedy


def test_a_file_without_its_columns_is_told_how_to_make_one():
    with pytest.raises(InvalidInputError, match="must name Submit, Start, AllocTRES or ReqTRES: sacct --allusers"):
        read_sacct(["JobID|State|Elapsed"], name="sacct.txt", models=MODELS)
    with pytest.raises(InvalidInputError, match="must name JobID"):
        read_sacct([], name="sacct.txt", models=MODELS)
