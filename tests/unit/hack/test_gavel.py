"""The benchmark beside Gavel, on a few jobs made up here."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from hack.bench import gavel
from hack.bench import gavel_peer as peer
from hack.bench.gavel_peer import Types, Work

TYPES = Types(names=("v100", "k80"), usd_per_gpu_hour=(0.8, 0.1), gpus=(1, 1), gpus_per_node=1)


def work(name: str = "0", *, at: float = 0.0, steps: float = 7200.0, speeds=(2.0, 1.0), due: float = 1e9) -> Work:
    return Work(name=name, arrives_s=at, gpus=1, steps=steps, steps_per_s=speeds, due_s=due)


def test_alone_a_job_runs_on_the_fastest_type_although_it_should_be_on_the_cheapest():
    ended = peer.run([work()], TYPES, peer.per_dollar)
    assert ended.end_s == (pytest.approx(3600.0),)
    assert ended.usd == pytest.approx(0.8)


def test_two_share_what_there_is_and_none_waits_for_ever():
    ended = peer.run([work("0"), work("1", at=10.0)], TYPES, peer.throughput)
    assert max(ended.end_s) < 7200.0
    assert 0.2 < ended.usd < 1.6


def test_with_deadlines_the_urgent_one_gets_the_fast_type():
    jobs = [work("0"), work("1", due=4000.0)]
    assert peer.run(jobs, TYPES, peer.per_dollar, deadlines=True).end_s[1] <= 4000.0


def test_a_job_that_nothing_is_fast_enough_for_is_late_anywhere():
    assert work(due=3599.0).late_anywhere
    assert not work(due=3601.0).late_anywhere


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "gavel"
    folder.mkdir()
    (folder / "prices.csv").write_text("gpu_type,usd_per_gpu_hour\nv100,0.8\nk80,0.1\n")
    (folder / "throughputs.csv").write_text(
        "job_type,scale_factor,v100,k80\nsmall,1,2.0,1.0\nsmall,8,16.0,0\nsmall,16,30.0,0\n"
    )
    head = "job_id,arrival_s,job_type,scale_factor,total_steps,duration_on_v100_s,slo_ratio\n"
    (folder / "jobs_one.csv").write_text(
        head + "0,0.0,small,1,7200,3600,10\n1,5.0,small,1,7200,3600,1.2\n2,9.0,small,1,7200,3600,0.9\n"
    )
    (folder / "jobs_more.csv").write_text(head + "0,0.0,small,8,57600,3600,10\n1,5.0,small,16,57600,1920,3\n")
    return tmp_path


def test_every_file_is_a_workload_and_who_must_be_late_is_counted_apart(traces: Path):
    options = argparse.Namespace(traces=traces, workload=None)
    rows = {(r["jobs"], r["policy"]): r for r in gavel.rows(options)}
    assert {jobs for jobs, _ in rows} == {"one", "more"}
    assert len(rows) == 2 * (len(gavel.PEERS) + 1)
    ours = rows["one", "stint"]
    assert (ours["misses"], ours["late_on_an_empty_cluster"]) == (0, 1)
    assert ours["total_usd"] == pytest.approx(0.2 + 0.8 + 0.2, abs=0.02)
    assert ours["limit_usd"] == pytest.approx(0.2 + 0.8 + 0.2)
    assert rows["more", "stint"]["misses"] == 0


def test_a_workload_that_is_not_there_is_told(traces: Path):
    with pytest.raises(SystemExit, match="must be one of more, one"):
        gavel.rows(argparse.Namespace(traces=traces, workload="none"))
    with pytest.raises(SystemExit, match="--traces DIR"):
        gavel.rows(argparse.Namespace(traces=None, workload=None))
