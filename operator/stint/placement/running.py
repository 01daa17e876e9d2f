"""Gangs that keep their placement: what they will still cost."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from stint.estimate.runtime import hours_after
from stint.model.job import Job, JobId
from stint.model.plan import Stay
from stint.model.situation import Situation
from stint.placement.columns import Rows, price_columns


def stays(situation: Situation, *, besides: Collection[JobId] = ()) -> tuple[Stay, ...]:
    """For every job with a placement that keeps it: what it will still cost, and when it will be done.

    Args:
        besides: jobs that are requeued.
    """
    staying = (j for j in situation.jobs if j.assignment is not None and j.id not in besides)
    return _stays(situation, sorted(staying, key=lambda j: j.id))


def _stays(situation: Situation, jobs: list[Job]) -> tuple[Stay, ...]:
    """Their cost from now on, in one vectorised call. Where a place lost its offering or price, the old word stands."""
    offerings = tuple(sorted(situation.offerings, key=lambda o: o.id))
    pools = tuple(sorted(situation.pools, key=lambda p: p.name))
    index = {o.id: i for i, o in enumerate(offerings)}
    pool_index = {p.name: i for i, p in enumerate(pools)}
    pool_of = np.array([pool_index[o.pool] for o in offerings], dtype=np.int64)
    known = [(j, a) for j in jobs if (a := j.assignment) is not None and a.offering in index]
    rows = Rows.running([index[a.offering] for _, a in known], [len(a.nodes) for _, a in known])
    columns = price_columns(situation, [j for j, _ in known], offerings, pools, pool_of, rows)
    stays = {}
    for i, (job, assignment) in enumerate(known):
        hours = float(columns.cost.finish_hours[i])
        usd = float(columns.cost.total_usd[i])
        rate = float(columns.usd_per_node_hour[i] * columns.share[i]) * len(assignment.nodes)
        stays[job.id] = Stay(
            job=job.id,
            cost_to_finish_usd=usd if math.isfinite(usd) else 0.0,
            usd_per_hour=rate if math.isfinite(rate) else assignment.usd_per_hour,
            finish=hours_after(situation.now, hours) if math.isfinite(hours) else assignment.finish,
        )
    for job in jobs:
        if job.id not in stays and job.assignment is not None:
            rate = job.assignment.usd_per_hour
            stays[job.id] = Stay(job=job.id, cost_to_finish_usd=0.0, usd_per_hour=rate, finish=job.assignment.finish)
    return tuple(stays[j.id] for j in jobs)
