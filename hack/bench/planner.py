"""The fleet planner: plans from nothing, one more job, consolidation, and the 500 pods that Karpenter was given."""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from hack.bench.fleets import JOBS, fleet
from stint.feeds import bundled
from stint.model.offering import CapacityType
from stint.placement.fleet.certificate import Proof
from stint.placement.fleet.consolidate import Gate, consolidate, with_moves_charged
from stint.placement.fleet.exact import solve_whole
from stint.placement.fleet.fluid import FluidProgramme
from stint.placement.fleet.incremental import Standing
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.offers import offers_of, offers_worth_a_look
from stint.placement.fleet.plan import Effort, Planned, plan_fleet
from stint.placement.fleet.verify import broken_rules

_SEEDS = {"S": range(20), "M": range(20), "L": range(5), "XL": range(3)}
_RUNS = 3
Rows = list[dict[str, Any]]


def _plan(given: Fleet) -> Planned:
    return plan_fleet(given, effort=Effort(), rng=np.random.default_rng(0))


def _sound(given: Fleet, plan: FleetPlan) -> None:
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
                planned = _plan(given)
                seconds.append(time.perf_counter() - started)
                digests.add(_digest(planned.plan))
            _sound(given, planned.plan)
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
        planned = _plan(there)
        standing = Standing(there, planned.plan, planned.fluid.proof)
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
        planned = _plan(given)
        ended = np.sort(rng.choice(len(given.count), size=3 * len(given.count) // 10, replace=False))
        usd = np.zeros(len(given.count))
        np.add.at(usd, planned.plan.worker_job, _workers_usd(given, planned.plan, planned.fluid.proof))
        hours = 8.0
        standing = Gate(move_usd=0.25 * usd, hours=np.full(len(usd), hours))
        charged = with_moves_charged(given, planned.plan, standing)
        offers = offers_worth_a_look(charged)
        there, kept = _without(given, ended)
        before = _left_behind(there, planned.plan, kept)
        _sound(there, before)
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
        _sound(there, after.plan)
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


_SNAPSHOT = ((1, 4, 16), (1, 8, 32), (2, 12, 64), (4, 24, 128), (8, 48, 256))
_NOT_NVIDIA = ("inf", "trn", "dl1", "g4ad")


def _pods(wanted: list[tuple[int, int, int]]) -> Fleet:
    catalogue = bundled.load()
    pools = []
    for name, machine in sorted((m.name, m) for m in catalogue.instances.values() if m.provider == "aws"):
        price = catalogue.price("aws", "us-east-1", name, CapacityType.ON_DEMAND)
        if price is not None and not name.startswith(_NOT_NVIDIA):
            pools.append((machine.gpu_count, machine.vcpu, machine.memory_gib, price.value))
    count = Counter(wanted)
    table, shapes = np.array(pools), sorted(count)
    one = np.zeros(len(shapes), dtype=np.int64)
    return Fleet(
        capacity=table[:, :3],
        usd_per_hour=table[:, 3],
        limit=np.full(len(table), np.inf),
        market=np.zeros(len(table), dtype=np.int64),
        shape=np.array(shapes, dtype=float),
        class_shape=np.arange(len(shapes)),
        count=np.array([count[s] for s in shapes], dtype=np.int64),
        column_class=np.arange(len(shapes)),
        column_market=one,
        column_workers=one + 1,
        column_usd_per_hour=np.zeros(len(shapes)),
    )


def snapshot500(_: argparse.Namespace) -> Rows:
    """500 pods of any GPU model at once; then half of them end, and the rest is consolidated."""
    dice = random.Random(1)
    pods = dice.choices(_SNAPSHOT, [0.4, 0.2, 0.15, 0.1, 0.15], k=500)
    ended = set(dice.sample(range(500), 250))
    given = _pods(pods)
    started = time.perf_counter()
    planned = _plan(given)
    seconds = time.perf_counter() - started
    _sound(given, planned.plan)
    rows = [_snapshot_row("all", planned.plan, planned.bound_usd_per_hour, 0, seconds)]

    order = np.argsort([sorted(set(pods)).index(p) for p in pods], kind="stable")  # jobs are in the order of classes
    kept = np.flatnonzero([int(i) not in ended for i in order])
    half = _pods([pods[i] for i in range(500) if i not in ended])
    stays = np.isin(planned.plan.worker_job, kept)
    used = np.unique(planned.plan.worker_node[stays])
    pools = planned.plan.node_pool[used]
    before = FleetPlan(
        column=np.repeat(np.arange(len(half.count)), half.count),
        node_pool=pools,
        worker_job=np.searchsorted(kept, planned.plan.worker_job[stays]),
        worker_node=np.searchsorted(used, planned.plan.worker_node[stays]),
        workers=planned.plan.workers[stays],
        usd_per_hour=float(half.usd_per_hour[pools].sum()),
    )
    _sound(half, before)
    proof = FluidProgramme(half, offers_of(half)).solve().proof
    nothing = np.zeros(250)
    started = time.perf_counter()
    after = consolidate(half, before, proof, Gate(move_usd=nothing, hours=nothing + 1.0, most_moves=60))
    seconds = time.perf_counter() - started
    _sound(half, after.plan)
    rows.append(_snapshot_row("half, empty nodes given back", before, proof.bound_usd_per_hour, 0, 0.0))
    rows.append(_snapshot_row("half", after.plan, proof.bound_usd_per_hour, len(after.moved), seconds))
    return rows


def _snapshot_row(moment: str, plan: FleetPlan, bound: float, moves: int, seconds: float) -> dict[str, Any]:
    return {
        "moment": moment,
        "usd_h": round(plan.usd_per_hour, 2),
        "bound_usd_h": round(bound, 2),
        "over_bound_pct": round(100.0 * (plan.usd_per_hour / bound - 1.0), 2),
        "moves": moves,
        "seconds": round(seconds, 3),
        "nodes": len(plan.node_pool),
    }
