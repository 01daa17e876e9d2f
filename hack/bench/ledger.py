"""Bookkeeping beside the truth: what everything cost, and what the ledgers say after kills and lost scrapes."""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from typing import Any

from hack.bench.bookings import Cluster, Operator, booked_usd, live

JOBS, WORKERS, KILLS, LOST, HOURS = 1000, 5, 50, 0.1, 8.0
EVERY_S, DOWN_S = 120.0, 60.0  # a settled cluster is looked at once a minute; here half as often, for time's sake


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each seed."""
    return [_row(seed) for seed in options.seeds or (0,)]


async def _live(cluster: Cluster, operator: Operator) -> float:
    """What the ledgers come to in the end."""
    usd = 0.0
    async for observation in live(cluster, operator, kills=KILLS, every_s=EVERY_S, down_s=DOWN_S):
        usd = booked_usd(observation)
    return usd


def _row(seed: int) -> dict[str, Any]:
    cluster = Cluster(rng=random.Random(seed), jobs=JOBS, workers=WORKERS, hours=HOURS, price_steps=10)
    operator = Operator(cluster=cluster, rng=random.Random(seed + 1), lost_scrapes=LOST)
    booked = asyncio.run(_live(cluster, operator))
    truth = cluster.dollars()
    kept = sum(row.line.total_usd for day in operator.api.days() for row in day.rows)
    most = max(pods for pods, _ in operator.cpu_s)
    full = [seconds for pods, seconds in operator.cpu_s if pods >= 0.95 * most]
    return {
        "seed": seed,
        "jobs": JOBS,
        "kills": KILLS,
        "lost_scrapes_pct": 100 * LOST,
        "truth_usd": round(truth, 2),
        "booked_usd": round(booked, 2),
        "in_daily_spends_usd": round(kept, 2),
        "drift_pct": round(100 * abs(booked / truth - 1), 4),
        "pods": most,
        "cpu_ms_per_cycle": round(1000 * statistics.median(full), 1),
    }
