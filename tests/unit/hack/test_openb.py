"""The packing benchmark runs what its files hold, whatever that is."""

from __future__ import annotations

import gzip
from argparse import Namespace
from pathlib import Path

import pytest

from hack.bench import __main__ as bench
from hack.bench import openb
from hack.bench.fragmentation import GPU, Shape

BIG, SMALL = Shape(1000, gpus=1, gpu_milli=800), Shape(1000, gpus=1, gpu_milli=200)


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Two nodes with a GPU each, and a workload of our own."""
    folder = tmp_path / "openb"
    folder.mkdir()
    (folder / "nodes_gpu.csv").write_text("sn,cpu_milli,memory_mib,gpu,model\nn0,8000,8192,1,X\nn1,8000,8192,1,X\n")
    pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\nbig,1000,0,1,800\nsmall,1000,0,1,200\ncpu,1000,0,0,0\n"
    names = ["big", "cpu", "big", "small", "small", "big"]
    order = [f"ours,{seed},{at},{name},0" for seed in (7, 8) for at, name in enumerate(names)]
    peer = (
        "workload,policy,seed,arrived_pct,gpu_alloc_pct,frag_pct_of_gpus\nours,FGD,7,100,80.5,9\nours,FGD,7,130,90,8\n"
    )
    for name, text in {
        "pods_ours": pods,
        "arrival_order": "\n".join(["workload,seed,position,pod_name,is_resampled", *order]),
        "peer_published": peer,
    }.items():
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_runs_every_workload_and_seed_of_the_files(traces: Path) -> None:
    rows = openb.rows(Namespace(traces=traces, workload=None, seeds=None))
    assert [(row["policy"], row["seed"]) for row in rows] == [
        *((policy, seed) for policy in openb.POLICIES for seed in (7, 8)),
        *((policy, "mean") for policy in openb.POLICIES),
    ]
    for row in rows:
        assert row["alloc_pct"] == {"100": 100, "110": 100, "120": 100, "130": 100}
    fgd = next(row for row in rows if row["policy"] == "fgd" and row["seed"] == 7)
    assert fgd["published"] == {"alloc_pct": {"100": 80.5, "130": 90.0}, "frag_pct": {"100": 9.0, "130": 8.0}}


def test_runs_the_seeds_asked_for_and_says_if_there_are_none(traces: Path) -> None:
    rows = openb.rows(Namespace(traces=traces, workload="ours", seeds=(8, 9)))
    assert {row["seed"] for row in rows} == {8, "mean"}
    with pytest.raises(SystemExit, match=r"\[7, 8\]"):
        openb.rows(Namespace(traces=traces, workload="ours", seeds=(9,)))
    with pytest.raises(SystemExit, match="nothing"):
        openb.rows(Namespace(traces=traces, workload="nothing", seeds=None))


def test_the_limit_counts_the_holes_nobody_fills() -> None:
    assert openb.limit_pct([BIG] * 20, 10 * GPU) == pytest.approx(80)
    assert openb.limit_pct([BIG] * 20 + [SMALL] * 5, 10 * GPU) == pytest.approx(90)
    assert openb.limit_pct([SMALL] * 100, 10 * GPU) == 100


def test_typical_pods_cover_what_they_should() -> None:
    assert openb.typical([BIG] * 19 + [SMALL]) == [(BIG, 1.0)]
    assert openb.typical([BIG] * 18 + [SMALL] * 2) == [(BIG, 0.9), (SMALL, 0.1)]


def test_seeds_are_numbers_and_ranges() -> None:
    assert bench.seeds("42-44,51") == (42, 43, 44, 51)
