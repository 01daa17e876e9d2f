"""Job logs, good and bad."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from stint.errors import InvalidInputError
from stint.model.offering import CapacityType
from stint.sim.trace import read_rows
from stint.sim.workload import Habits, generate, jobs_of
from stint.testing.builders import NOW


def test_dates_count_from_the_first_one():
    text = "timestamp,duration,num_gpus,cluster\n2017-10-01 00:01:00,60,2,x\n2017-10-01 00:00:00,30,1,y\n"
    rows = read_rows(text.splitlines(), name="log")
    assert [(r.at, r.duration_s, r.gpus) for r in rows] == [(timedelta(0), 30.0, 1), (timedelta(seconds=60), 60.0, 2)]


def test_every_bad_line_is_told_with_its_number():
    lines = [
        "id,arrival_s,duration_s,gpus",
        "a,0,10,1",
        "a,5,10,1",
        "b,-5,10,1",
        "c,soon,10,1",
        "d,1,-1,1",
        "e,1,10,1.5",
        "f,1,nan,0",
        "g,1",
        "zero,1,0,1",
        "year,1,31536000,1",
    ]
    with pytest.raises(InvalidInputError) as caught:
        read_rows(lines, name="log.csv")
    told = [(m.path, m.found) for m in caught.value.mistakes]
    assert told == [
        ("line 3, id", "'a'"),
        ("line 4, time", "-5.0"),
        ("line 5, time", "'soon'"),
        ("line 6, duration", "'-1'"),
        ("line 7, gpus", "1.5"),
        ("line 8, duration", "'nan'"),
        ("line 8, gpus", "0"),
        ("line 9, columns", "2"),
    ]
    assert "before time zero" in caught.value.mistakes[1].remedy


def test_jobs_before_the_start_are_told():
    text = "timestamp,duration,num_gpus\n2017-10-01 00:01:00,60,2\n"
    with pytest.raises(InvalidInputError, match="line 2, time"):
        read_rows(text.splitlines(), name="log", start=datetime(2017, 10, 2, tzinfo=UTC))


def test_a_log_without_its_columns_is_told_which_are_missing():
    with pytest.raises(InvalidInputError, match=r"must name duration \(duration_s or duration\), gpus"):
        read_rows(["arrival_s"], name="log")
    with pytest.raises(InvalidInputError, match="must name at"):
        read_rows([], name="log")


def test_gangs_are_whole_and_of_like_workers():
    rows = read_rows(["arrival_s,duration_s,gpus", "0,60,12", "1,60,32", "2,60,3"], name="log")
    jobs = jobs_of(rows, Habits(), start=NOW, rng=np.random.default_rng(0))
    assert [(j.workers, j.per_worker.gpus) for j in jobs] == [(2, 6), (4, 8), (1, 3)]


def test_habits_are_as_frequent_as_they_say():
    rows = generate(
        2000, mean_gap_hours=0.1, median_hours=1, sigma=1, gpus=((1, 3), (8, 1)), rng=np.random.default_rng(0)
    )
    jobs = jobs_of(rows, Habits(), start=NOW, rng=np.random.default_rng(1))
    assert np.mean([bool(j.gpu_models) for j in jobs]) == pytest.approx(0.33, abs=0.04)
    assert np.mean([CapacityType.SPOT in j.capacity_types for j in jobs]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([j.deadline is not None for j in jobs]) == pytest.approx(0.33, abs=0.04)
    assert np.mean([r.gpus == 8 for r in rows]) == pytest.approx(0.25, abs=0.04)
    assert float(np.median([r.duration_s for r in rows])) == pytest.approx(3600, rel=0.1)
