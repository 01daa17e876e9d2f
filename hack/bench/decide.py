"""How long a whole decision takes: 200 waiting jobs and more, 600 nodes of 24 offerings, some of them busy."""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np

from stint.decide import decide
from stint.model.situation import Settings, Situation
from stint.testing.builders import a_job, a_node, a_pool, a_situation, an_offering

CASES = (  # solver, jobs, runs; larger ones later, as the peak of the memory is the process's
    ("greedy", 200, 20),
    ("annealing", 200, 2),
    ("portfolio", 200, 20),
    ("portfolio", 1_000, 5),
    ("portfolio", 3_000, 3),
)
_MODELS = (("A100-80GB", 27.45, 1.0), ("H100-SXM", 55.04, 2.1), ("L40S", 15.07, 0.8), ("A10G", 8.14, 0.45))


def situation(jobs: int = 200, nodes: int = 600, seed: int = 0) -> Situation:
    """A batch like a morning's: mostly small, some gangs, a third with a deadline."""
    rng = np.random.default_rng(seed)
    offerings = [
        an_offering(
            f"{model}-{z}".lower(), usd=usd * (1 + 0.03 * z), model=model, zone=f"us-east-{z}a", instance_type=model
        )
        for z in range(6)
        for model, usd, _ in _MODELS
    ]
    speeds = {model: speed for model, _, speed in _MODELS}
    return a_situation(
        offerings=offerings,
        pools=[a_pool(o, scaler="kwok", most=60) for o in offerings],
        nodes=[
            a_node(f"n{i:04}", offerings[i % len(offerings)], used_gpus=int(rng.integers(0, 9))) for i in range(nodes)
        ],
        jobs=[
            a_job(
                f"j{i:04}",
                workers=int(rng.choice([1, 1, 1, 2, 4, 8])),
                gpus=int(rng.choice([1, 2, 4, 8])),
                hours=float(rng.lognormal(1, 1)),
                speeds=speeds,
                deadline_hours=float(rng.uniform(5, 100)) if rng.random() < 1 / 3 else None,
            )
            for i in range(jobs)
        ],
    )


def rows() -> list[dict[str, Any]]:
    """One row a solver and queue."""
    found = []
    for solver, jobs, runs in CASES:
        given = replace(situation(jobs), settings=Settings(solver=solver))
        plan = decide(given)
        seconds = []
        for _ in range(runs):
            started = time.perf_counter()
            decide(given)
            seconds.append(time.perf_counter() - started)
        p50, p99 = np.percentile(seconds, [50, 99])
        gap = plan.certificate.gap_ratio if plan.certificate else None
        found.append(
            {
                "solver": solver,
                "jobs": len(given.jobs),
                "nodes": len(given.nodes),
                "seconds": {"p50": round(float(p50), 3), "p99": round(float(p99), 3)},
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "cost_usd_h": round(sum(p.chosen.usd_per_hour for p in plan.placements), 2),
                "placed": len(plan.placements),
                "gap_pct": None if gap is None else round(100 * gap, 2),
            }
        )
    return found
