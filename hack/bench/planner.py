"""The fleet planner: plans from nothing, one more job, and consolidation."""

from __future__ import annotations

import argparse
import hashlib
import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np

from hack.bench.consolidate import Gate, consolidate, with_moves_charged
from hack.bench.fleets import JOBS, fleet
from hack.bench.incremental import LastFullPlan
from stint.placement.fleet.certificate import Proof
from stint.placement.fleet.exact import solve_whole
from stint.placement.fleet.fluid import FluidProgramme
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.offers import offers_of, offers_worth_a_look
from stint.placement.fleet.plan import Effort, Planned, plan_fleet
from stint.placement.fleet.verify import broken_rules

_SEEDS = {"S": range(20), "M": range(20), "L": range(5), "XL": range(3)}
_RUNS = 3
Rows = list[dict[str, Any]]


def plan_from_nothing(given: Fleet) -> Planned:
    """With the effort that is usual."""
    return plan_fleet(given, effort=Effort(), rng=np.random.default_rng(0))


def sound(given: Fleet, plan: FleetPlan) -> None:
    """Asked of code that had no part in it."""
    broken = broken_rules(given, plan)
    assert not broken, broken


def _digest(plan: FleetPlan) -> str:
    parts = (plan.column, plan.node_pool, plan.worker_job, plan.worker_node, plan.workers)
    return hashlib.sha256(b"".join(p.astype(np.int64).tobytes() for p in parts)).hexdigest()[:16]


def planner(options: argparse.Namespace) -> Rows:
    """A row a size and seed. The bound of S and M is branch and bound's, found outside of the time that is shown."""
    rows = []
    for size in (options.size,) if options.size else tuple(JOBS):
        for seed in options.seeds or _SEEDS[size]:
            given = fleet(size, seed)
            seconds, digests = [], set()
            for _ in range(_RUNS):
                started = time.perf_counter()
                planned = plan_from_nothing(given)
                seconds.append(time.perf_counter() - started)
                digests.add(_digest(planned.plan))
            sound(given, planned.plan)
            assert len(digests) == 1, "the same fleet gave different plans"
            bound = max(planned.bound_usd_per_hour, planned.solver_bound_usd_per_hour)
            if size == "M":  # prices alone prove little here, and a plan has no time for the rest
                whole = solve_whole(given, offers_worth_a_look(given), nodes=1, gap=1e-4)
                bound = max(bound, whole.bound_usd_per_hour if whole else 0.0)
            rows.append(
                {
                    "size": size,
                    "seed": seed,
                    "jobs": int(given.count.sum()),
                    "nodes": len(planned.plan.node_pool),
                    "seconds": {"p50": round(float(np.median(seconds)), 3)},
                    "gap_pct": round(100.0 * (planned.plan.usd_per_hour / bound - 1.0), 3),
                    "proved_gap_pct": round(100.0 * (planned.plan.usd_per_hour / planned.bound_usd_per_hour - 1.0), 3),
                    "bound_usd_h": round(bound, 2),
                    "cost_usd_h": round(planned.plan.usd_per_hour, 2),
                    "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                    "digest": digests.pop(),
                }
            )
    return rows


def incremental(options: argparse.Namespace) -> Rows:
    """One more job in an L fleet, and the prices again after a batch of jobs has come and gone."""
    rows = []
    for seed in options.seeds or range(3):
        given = fleet("L", seed)
        rng = np.random.default_rng(seed)
        late = np.sort(rng.choice(len(given.count), size=len(given.count) // 10, replace=False))
        there = given.only(np.isin(np.arange(len(given.count)), late, invert=True))
        planned = plan_from_nothing(there)
        standing = LastFullPlan(there, planned.plan, planned.fluid.proof)
        ms, regret, usd = [], 0.0, 0.0
        for c in late:
            mine = slice(*np.searchsorted(given.column_class, [c, c + 1]))
            need = given.shape[given.class_shape[c]]
            asked = given.column_market[mine], given.column_workers[mine], given.column_usd_per_hour[mine]
            started = time.perf_counter()
            spot = standing.find(need, *asked)
            assert spot is not None
            standing.take(spot, need)
            ms.append(1000.0 * (time.perf_counter() - started))
            regret += spot.regret_usd_per_hour
            usd += spot.usd_per_hour
        programme = FluidProgramme(given, offers_worth_a_look(given))
        programme.solve()
        refresh = []
        for batch in np.array_split(rng.permutation(late), 20):
            for jobs in (0, 1):
                started = time.perf_counter()
                programme.recount(batch, np.full(len(batch), jobs))
                programme.refresh()
                refresh.append(1000.0 * (time.perf_counter() - started))
        p50, p99 = np.percentile(ms, [50, 99])
        r50, r99 = np.percentile(refresh, [50, 99])
        rows.append(
            {
                "seed": seed,
                "jobs": len(there.count),
                "nodes": len(planned.plan.node_pool),
                "placed": len(late),
                "ms": {"p50": round(float(p50), 3), "p99": round(float(p99), 3)},
                "refresh_ms": {"p50": round(float(r50), 2), "p99": round(float(r99), 2)},
                "batch": len(late) // 20,
                "regret_pct": round(100.0 * regret / usd, 2),
            }
        )
    return rows


def _without(given: Fleet, out: np.ndarray) -> tuple[Fleet, np.ndarray]:
    """The same fleet where some classes have no job any more, and which do."""
    count = given.count.copy()
    count[out] = 0
    return replace(given, count=count), np.flatnonzero(count)


def _left_behind(there: Fleet, plan: FleetPlan, kept: np.ndarray) -> FleetPlan:
    """What a plan comes to when only some of its jobs go on: nodes that fall empty are given back."""
    index = np.full(len(plan.column), -1)
    index[kept] = np.arange(len(kept))
    stays = index[plan.worker_job] >= 0
    used = np.unique(plan.worker_node[stays])
    pools, column = plan.node_pool[used], plan.column[kept]
    return FleetPlan(
        column=column,
        node_pool=pools,
        worker_job=index[plan.worker_job[stays]],
        worker_node=np.searchsorted(used, plan.worker_node[stays]),
        workers=plan.workers[stays],
        usd_per_hour=float(there.usd_per_hour[pools].sum() + there.column_usd_per_hour[column].sum()),
    )


def consolidation(options: argparse.Namespace) -> Rows:
    """30 % of the jobs of an L plan have ended; a move pauses its whole gang for a quarter of an hour.

    The programme in which every move is charged is kept from when the plan was made; that jobs ended is news to it, and
    finding its prices again is part of the time.
    """
    rows = []
    for seed in options.seeds or range(5):
        given = fleet("L", seed)
        rng = np.random.default_rng(seed)
        planned = plan_from_nothing(given)
        ended = np.sort(rng.choice(len(given.count), size=3 * len(given.count) // 10, replace=False))
        usd = np.zeros(len(given.count))
        np.add.at(usd, planned.plan.worker_job, _workers_usd(given, planned.plan, planned.fluid.proof))
        hours = 8.0
        standing = Gate(move_usd=0.25 * usd, hours=np.full(len(usd), hours))
        charged = with_moves_charged(given, planned.plan, standing)
        offers = offers_worth_a_look(charged)
        there, kept = _without(given, ended)
        before = _left_behind(there, planned.plan, kept)
        sound(there, before)
        gate = Gate(move_usd=standing.move_usd[kept], hours=standing.hours[kept])
        bound = FluidProgramme(there, offers_of(there)).solve().proof.bound_usd_per_hour
        seconds, digests = [], set()
        for _ in range(_RUNS):
            programme = FluidProgramme(charged, offers)
            programme.solve()
            started = time.perf_counter()
            programme.recount(ended, np.zeros(len(ended), dtype=np.int64))
            fluid = programme.dive(programme.solve(close=0.02), rounds=1, each=2)
            after = consolidate(there, before, fluid.proof, gate, (offers, fluid))
            seconds.append(time.perf_counter() - started)
            digests.add(_digest(after.plan))
        sound(there, after.plan)
        assert len(digests) == 1, "the same fleet gave different plans"
        reachable = bound + after.move_usd / hours
        rows.append(
            {
                "seed": seed,
                "nodes": len(before.node_pool),
                "ms": round(1000.0 * float(np.median(seconds)), 1),
                "saved_pct": round(100.0 * (1.0 - after.plan.usd_per_hour / before.usd_per_hour), 2),
                "moved_pct": round(100.0 * len(after.moved) / len(kept), 2),
                "over_bound_pct": round(100.0 * (after.plan.usd_per_hour / reachable - 1.0), 2),
                "over_scratch_pct": round(100.0 * (after.plan.usd_per_hour / bound - 1.0), 2),
                "over_bound_before_pct": round(100.0 * (before.usd_per_hour / bound - 1.0), 2),
                "move_usd": round(after.move_usd, 2),
                "digest": digests.pop(),
            }
        )
    return rows


def _workers_usd(given: Fleet, plan: FleetPlan, proof: Proof) -> np.ndarray:
    need = given.shape[given.class_shape[plan.worker_job]] * plan.workers[:, None]
    return np.asarray(np.einsum("er,er->e", need, proof.unit_usd[plan.node_pool[plan.worker_node]]))
