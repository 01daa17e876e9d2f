"""Is a fleet plan sound, and does it cost what it says? By code that had no part in making it."""

from __future__ import annotations

import numpy as np

from stint.placement.fleet.model import Fleet, FleetPlan

_SLACK = 1e-6


def broken_rules(fleet: Fleet, plan: FleetPlan) -> list[str]:
    """Every rule that the plan breaks, in words; empty: it is sound."""
    class_of = np.repeat(np.arange(len(fleet.count)), fleet.count)
    if len(plan.column) != len(class_of):
        return [f"{len(plan.column)} columns for {len(class_of)} jobs"]
    texts = []
    if (wrong := np.flatnonzero(fleet.column_class[plan.column] != class_of)).size:
        texts.append(f"job {wrong[0]} has a column of another class")
    placed = np.bincount(plan.worker_job, weights=plan.workers, minlength=len(class_of))
    if (short := np.flatnonzero(placed != fleet.column_workers[plan.column])).size:
        texts.append(
            f"job {short[0]} has {placed[short[0]]:g} of {fleet.column_workers[plan.column[short[0]]]} workers"
        )
    away = fleet.market[plan.node_pool[plan.worker_node]] != fleet.column_market[plan.column[plan.worker_job]]
    if away.any():
        texts.append(f"job {plan.worker_job[away][0]} has workers in another market")
    used = np.zeros((len(plan.node_pool), fleet.capacity.shape[1]))
    need = fleet.shape[fleet.class_shape[class_of[plan.worker_job]]]
    np.add.at(used, plan.worker_node, need * plan.workers[:, None])
    if (full := np.flatnonzero((used > fleet.capacity[plan.node_pool] + _SLACK).any(axis=1))).size:
        texts.append(f"node {full[0]} holds more than it has")
    count = np.bincount(plan.node_pool, minlength=len(fleet.limit))
    if (over := np.flatnonzero(count > fleet.limit)).size:
        texts.append(f"pool {over[0]} has {count[over[0]]} nodes, {fleet.limit[over[0]]:g} are allowed")
    usd = float(fleet.usd_per_hour[plan.node_pool].sum() + fleet.column_usd_per_hour[plan.column].sum())
    if abs(usd - plan.usd_per_hour) > _SLACK * max(1.0, usd):
        texts.append(f"says it costs {plan.usd_per_hour:.4f} USD/h, and costs {usd:.4f}")
    return texts
