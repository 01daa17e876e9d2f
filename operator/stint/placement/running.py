"""Gangs that have their place: what they will still cost, and whether they can go on."""

from __future__ import annotations

import math

import numpy as np

from stint.estimate.runtime import hours_after
from stint.model.cluster import Node
from stint.model.job import Job, NodeName, OnExceed
from stint.model.plan import Reason, Recall, Stay
from stint.model.situation import Situation
from stint.placement.columns import Rows, price_columns


def look_after(situation: Situation) -> tuple[tuple[Stay, ...], tuple[Recall, ...]]:
    """For every job with a place: it stays, or its whole gang is recalled because part of it cannot go on."""
    nodes = {n.name: n for n in situation.nodes}
    placed = sorted((j for j in situation.jobs if j.assignment is not None), key=lambda j: j.id)
    recalls = {j.id: r for j in placed if (r := _recall(j, nodes)) is not None}
    staying = [j for j in placed if j.id not in recalls]
    return _stays(situation, staying), tuple(recalls.values())


def _recall(job: Job, nodes: dict[NodeName, Node]) -> Recall | None:
    assert job.assignment is not None
    for name in sorted(set(job.assignment.nodes)):
        node = nodes.get(name)
        if node is None or not node.ready:
            what = "is gone" if node is None else "is not ready"
            text = f"node {name} {what}; the gang starts again elsewhere from its last checkpoint"
            return Recall(job=job.id, reason=Reason.NODE_LOST, message=text)
        if node.interrupted:
            text = f"the provider takes node {name}; the gang starts again elsewhere from its last checkpoint"
            return Recall(job=job.id, reason=Reason.NODE_INTERRUPTED, message=text)
        if not node.schedulable and not job.assignment.running:
            text = f"node {name} was cordoned before the gang ran; it starts elsewhere"
            return Recall(job=job.id, reason=Reason.NODE_LOST, message=text)
    if job.budget_usd is not None and job.spent_usd >= job.budget_usd and job.on_exceed is OnExceed.CHECKPOINT_AND_STOP:
        text = f"spent {job.spent_usd:.2f} of {job.budget_usd:.2f} USD; raise spec.budget.usd to go on"
        return Recall(job=job.id, reason=Reason.OVER_BUDGET, message=text)
    return None


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
