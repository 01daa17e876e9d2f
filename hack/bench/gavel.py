"""Jobs with deadlines on three types of GPUs, at Gavel's prices: its own policies beside ours.

`hack/bench.py gavel --traces DIR`: DIR/gavel has `prices.csv`, `throughputs.csv` and `jobs_<workload>.csv`. Every such
file is a workload. Where all its jobs have one GPU the cluster is 16 nodes of one GPU of each type, otherwise four
nodes of eight. A job pays for the time that it uses, as in Gavel. Ours is the operator's own decision on the
simulator's world, where a gang that is moved loses what it did since its last checkpoint, a minute ago at most.

Jobs that would be late on an empty cluster are counted apart: whoever runs them, they miss.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from hack.bench import gavel_peer as peer
from hack.bench.gavel_peer import Types, Work
from stint.model.figure import Confidence, Figure
from stint.model.job import Checkpoint, Job, Objective, job_id
from stint.model.job import Work as JobWork
from stint.model.market import Offering, Pool, PoolName, offering_id
from stint.model.offering import CapacityType
from stint.model.resources import Resources
from stint.model.situation import Settings
from stint.sim.loop import simulate
from stint.sim.policy import Decides
from stint.sim.stage import Stage

START = datetime(2026, 1, 1, tzinfo=UTC)
FASTEST_FIRST = ("v100", "p100", "k80")
NODE = 8  # GPUs, where a job may have more than one
USD_PER_HOUR = 0.02  # what having a result an hour sooner is worth to each job: next to nothing
CHECKPOINT = Checkpoint(every=timedelta(minutes=1))
PEERS: Mapping[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], bool]] = {
    "gavel-max-throughput": (peer.throughput, False),
    "gavel-per-dollar": (peer.per_dollar, False),
    "gavel-per-dollar-slo": (peer.per_dollar, True),
}


def _table(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))


def read(folder: Path, workload: str) -> tuple[list[Work], Types]:
    """The jobs of one file, by arrival, and the cluster that they are meant for."""
    listed = {r["gpu_type"]: float(r["usd_per_gpu_hour"]) for r in _table(folder / "prices.csv")}
    names = tuple(sorted(listed, key=lambda n: (FASTEST_FIRST.index(n) if n in FASTEST_FIRST else 99, n)))
    speeds = {
        (r["job_type"], int(r["scale_factor"])): tuple(float(r[n] or 0) for n in names)
        for r in _table(folder / "throughputs.csv")
    }
    jobs = [
        Work(
            name=r["job_id"],
            arrives_s=float(r["arrival_s"]),
            gpus=int(r["scale_factor"]),
            steps=float(r["total_steps"]),
            steps_per_s=speeds[r["job_type"], int(r["scale_factor"])],
            due_s=float(r["arrival_s"]) + float(r["slo_ratio"]) * float(r["duration_on_v100_s"]),
        )
        for r in _table(folder / f"jobs_{workload}.csv")
    ]
    alone = all(j.gpus == 1 for j in jobs)
    types = Types(
        names=names,
        usd_per_gpu_hour=tuple(listed[n] for n in names),
        gpus=(16 if alone else 32,) * len(names),
        gpus_per_node=1 if alone else NODE,
    )
    return sorted(jobs, key=lambda j: j.arrives_s), types


def _stage(jobs: Sequence[Work], types: Types) -> Stage:
    offerings = [
        _offering(n, usd, types.gpus_per_node) for n, usd in zip(types.names, types.usd_per_gpu_hour, strict=True)
    ]
    return Stage(
        name="gavel",
        start=START,
        offerings=tuple(offerings),
        pools=tuple(Pool(name=o.pool, offerings=(o.id,), inferred=True) for o in offerings),
        standing={o.id: g // types.gpus_per_node for o, g in zip(offerings, types.gpus, strict=True)},
        jobs=tuple(_job(j, types) for j in jobs),
        settings=Settings(start_seconds=0.0, moves_per_hour=60),
    )


def _offering(model: str, usd_per_gpu_hour: float, gpus: int) -> Offering:
    name, on_demand = PoolName(model), CapacityType.ON_DEMAND
    usd = Figure(value=usd_per_gpu_hour * gpus, source="Gavel", as_of=None, confidence=Confidence.LIST_PRICE)
    return Offering(
        id=offering_id(name, model, "", on_demand),
        pool=name,
        provider="gcp",
        region="",
        zone="",
        instance_type=model,
        capacity_type=on_demand,
        gpu_model=model,
        gpu_memory_gib=16.0,
        per_node=Resources(gpus=gpus, cpu=float(gpus), memory_gib=float(gpus), pods=110),
        usd_per_node_hour=usd,
    )


def _job(work: Work, types: Types) -> Job:
    workers = -(-work.gpus // types.gpus_per_node)
    created = START + timedelta(seconds=work.arrives_s)
    return Job(
        id=job_id("gavel", f"{int(work.name):06}"),
        uid=work.name,
        created=created,
        workers=workers,
        min_workers=workers,
        max_workers=workers,
        per_worker=Resources(gpus=work.gpus // workers, pods=1),
        work=JobWork(
            units=work.steps,
            units_per_second={n: s for n, s in zip(types.names, work.steps_per_s, strict=True) if s > 0},
        ),
        checkpoint=CHECKPOINT,
        deadline=START + timedelta(seconds=work.due_s),
        objective=Objective(usd_per_hour=USD_PER_HOUR),
    )


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a workload and policy. The files hold no seeds."""
    if options.traces is None:
        raise SystemExit("gavel: --traces DIR says where the traces are")
    folder = Path(options.traces) / "gavel"
    every = sorted(p.stem.removeprefix("jobs_") for p in folder.glob("jobs_*.csv"))
    if not every or options.workload not in (None, *every):
        raise SystemExit(
            f"gavel: --workload {options.workload} must be one of {', '.join(every) or 'none'} in {folder}"
        )
    return [row for w in ([options.workload] if options.workload else every) for row in _rows(folder, w)]


def _rows(folder: Path, workload: str) -> list[dict[str, Any]]:
    jobs, types = read(folder, workload)
    late = {j.name for j in jobs if j.late_anywhere}
    limit = sum(_least_usd(j, types) for j in jobs)
    found = []

    def add(policy: str, usd: float, missed: set[str], jct_s: float) -> None:
        found.append(
            {
                "policy": policy,
                "jobs": workload,
                "total_usd": round(usd, 2),
                "misses": len(missed - late),
                "late_on_an_empty_cluster": len(late),
                "mean_jct_h": round(jct_s / 3600, 3),
                "limit_usd": round(limit, 2),
            }
        )

    for name, (value, deadlines) in PEERS.items():
        ended = peer.run(jobs, types, value, deadlines=deadlines)
        missed = {j.name for j, end in zip(jobs, ended.end_s, strict=True) if end > j.due_s}
        add(name, ended.usd, missed, float(np.mean([e - j.arrives_s for j, e in zip(jobs, ended.end_s, strict=True)])))
    outcome = simulate(_stage(jobs, types), Decides("stint"))
    if outcome.unfinished:
        raise SystemExit(f"gavel: unfinished: {dict(outcome.unfinished)}")
    in_use = outcome.total_usd - outcome.usd["idle"]
    names: dict[str, str] = {_job(j, types).id: j.name for j in jobs}
    add("stint", in_use, {names[id_] for id_ in outcome.late}, outcome.mean_jct_h * 3600)
    return found


def _least_usd(job: Work, types: Types) -> float:
    """On the cheapest type that is in time, or the cheapest where none is; on an empty cluster, without moving."""
    ways = [
        (job.arrives_s + job.steps / s > job.due_s, usd * job.gpus * job.steps / s / 3600.0)
        for s, usd in zip(job.steps_per_s, types.usd_per_gpu_hour, strict=True)
        if s > 0
    ]
    return min((usd for late, usd in ways if not late), default=min(usd for _, usd in ways))
