"""A month of jobs on a mixed fleet of ours: what each policy pays, wastes and misses; and how fast a month passes.

`hack/bench.py month --traces DIR`: DIR/philly_jobs has `jobs.csv.gz` with the columns timestamp, duration and
num_gpus. Of more jobs than `JOBS`, every so-manieth is taken, from the seed's offset on. Prices are the catalogue's.
"""

from __future__ import annotations

import argparse
import gzip
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hack import fleet
from hack.fleet import Group, spot
from stint.api.gpupool import GPUPool
from stint.catalogue.quote import FreshnessLimits
from stint.feeds import bundled
from stint.kube.observe.inventory import take_inventory
from stint.model.market import Offering, Pool
from stint.model.offering import OfferingId
from stint.model.situation import Settings
from stint.sim.loop import simulate
from stint.sim.outcome import Outcome
from stint.sim.policies import POLICIES
from stint.sim.stage import Conditions, Stage
from stint.sim.trace import Row, read_rows
from stint.sim.workload import Habits, jobs_of

JOBS = 10_000
OURS = ("stint", "stint-greedy")
EVERY_S = 300.0  # between decisions, at the least
START = datetime(2026, 1, 1, tzinfo=UTC)  # the day that most of the prices are as of
FLEET = (
    Group(pool="l40s", provider="aws", instance_type="g6e.12xlarge", zone="us-east-1a", most=24),
    spot(pool="l40s-spot", provider="aws", instance_type="g6e.12xlarge", zone="us-east-1b", most=8),
    Group(pool="a10g", provider="aws", instance_type="g5.12xlarge", zone="us-east-1a", most=24),
    Group(pool="a100", provider="aws", instance_type="p4de.24xlarge", zone="us-east-1a", most=24),
    spot(pool="a100-spot", provider="gcp", instance_type="a2-ultragpu-8g", zone="us-central1-a", most=8),
    Group(pool="h100", provider="aws", instance_type="p5.48xlarge", zone="us-east-1a", most=8),
    spot(pool="h100-spot", provider="aws", instance_type="p5.48xlarge", zone="us-east-1b", most=4),
)
OWNED = {
    "apiVersion": "stint.dev/v1alpha1",
    "kind": "GPUPool",
    "metadata": {"name": "a100-onprem"},
    "spec": {
        "nodeSelector": {"stint.dev/pool": "a100-onprem"},
        "offerings": [
            {
                "provider": "on-premises",
                "instanceType": "dgx-a100",
                "zone": "dc1",
                "capacityType": "owned",
                "gpuModel": "A100-80GB",
                "gpus": 8,
                "cpu": 128,
                "memoryGiB": 1024,
            }
        ],
    },
}
OWNED_NODES = 4


def market() -> tuple[tuple[Offering, ...], tuple[Pool, ...], dict[OfferingId, int]]:
    """Offerings, pools, and the nodes that are there from the start."""
    pools = [msgspec.convert(p, GPUPool) for p in (OWNED, *(fleet.pool(g) for g in FLEET))]
    today, limits = START.date(), FreshnessLimits()
    found = take_inventory((), pools, bundled.load(), today=today, limits=limits)
    if found.problems:
        raise SystemExit(f"month: {found.problems}")
    owned = next(o for o in found.offerings if o.startswith("a100-onprem/"))
    return tuple(found.offerings.values()), tuple(found.pools.values()), {owned: OWNED_NODES}


def rows_of(folder: Path, seed: int) -> tuple[Row, ...]:
    """The jobs of a seed."""
    with gzip.open(folder / "philly_jobs" / "jobs.csv.gz", "rt") as lines:
        every = read_rows(lines, name="philly_jobs/jobs.csv.gz")
    step = max(1, len(every) // JOBS)
    return every[seed % step :: step][:JOBS]


def stage(rows: Sequence[Row], seed: int) -> Stage:
    """A month of them."""
    offerings, pools, standing = market()
    habits = Habits()
    speeds = {m: s for m, s in habits.speeds.items() if m in {o.gpu_model for o in offerings}}
    jobs = jobs_of(rows, replace(habits, speeds=speeds), start=START, rng=np.random.default_rng(seed))
    return Stage(
        name="month",
        start=START,
        offerings=offerings,
        pools=pools,
        standing=standing,
        jobs=jobs,
        settings=Settings(reserve_seconds=2 * EVERY_S),
        conditions=Conditions(start_sigma=0.2, out_of_stock=0.02),
        every_s=EVERY_S,
    )


def _stage(options: argparse.Namespace, seed: int) -> Stage:
    if options.traces is None:
        raise SystemExit(f"{options.name}: --traces DIR says where the traces are")
    return stage(rows_of(Path(options.traces), seed), seed)


def month(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a policy and seed."""
    found = []
    for seed in options.seeds or (0,):
        given = _stage(options, seed)
        found += [_row(simulate(given, policy, seed=seed)) for policy in POLICIES.values()]
    return found


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "policy": outcome.policy,
        "seed": outcome.seed,
        "total_usd": round(outcome.total_usd, 2),
        "wasted_usd": {name: round(usd, 2) for name, usd in outcome.wasted_usd.items()},
        "p50_wait_h": round(outcome.p50_wait_h, 3),
        "p99_wait_h": round(outcome.p99_wait_h, 3),
        "misses": outcome.misses,
        "jobs": outcome.jobs,
        "finished": outcome.finished,
        "mean_jct_h": round(outcome.mean_jct_h, 3),
        "digest": outcome.digest[:16],
    }


def simspeed(options: argparse.Namespace) -> list[dict[str, Any]]:
    """How long our own policies take for a month of 10,000 jobs."""
    given = _stage(options, 0)
    rows = []
    for name in OURS:
        started = time.process_time()
        outcome = simulate(given, POLICIES[name])
        rows.append(
            {
                "policy": outcome.policy,
                "jobs": outcome.jobs,
                "finished": outcome.finished,
                "seconds": round(time.process_time() - started, 1),
                "decisions": outcome.decisions,
                "events": outcome.events,
            }
        )
    return rows
