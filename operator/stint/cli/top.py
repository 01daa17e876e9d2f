"""`stint top`: what runs, what it costs at this moment, and what of that is wasted."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from stint.api.trainingjob_status import Status
from stint.cli import tables
from stint.cli.sources import look
from stint.estimate.runtime import SECONDS_PER_HOUR
from stint.kube.observe.snapshot import Observation, Seen
from stint.ledger.days import whole
from stint.model.figure import value_of
from stint.model.job import Phase

_AGAIN_S = 5.0
_RUNS = (Phase.STARTING.value, Phase.RUNNING.value)


def add_parser(verbs: Any) -> None:
    """Its command line."""
    verb = verbs.add_parser("top", help="what runs, what it costs now, and what of that is wasted")
    verb.add_argument("-w", "--watch", action="store_true", help="again every few seconds, until Ctrl-C")
    verb.add_argument("-n", "--namespace", help="only this one's jobs (default: all)")
    verb.add_argument("--kubeconfig", type=Path, help="by default $KUBECONFIG, or the usual file")
    verb.add_argument("-o", "--output", choices=("table", "json"), default="table")


def top(options: argparse.Namespace) -> int:
    """`stint top`"""
    figures = _look(options)
    if options.output == "json":
        json.dump(figures, sys.stdout, indent=2)
        print()
        return 0
    out = tables.console()
    if not options.watch:
        out.print(_shown(figures))
        return 0
    try:
        with Live(_shown(figures), console=out, screen=out.is_terminal, auto_refresh=False) as live:
            while True:
                time.sleep(_AGAIN_S)
                live.update(_shown(_look(options)), refresh=True)
    except KeyboardInterrupt:
        return 0


def _look(options: argparse.Namespace) -> dict[str, Any]:
    return moment(asyncio.run(look(options.kubeconfig))[0], options.namespace)


def moment(observation: Observation, namespace: str | None = None) -> dict[str, Any]:
    """Everything that is shown. What is not measured is null."""
    seen = [s for s in observation.seen.values() if namespace is None or s.resource.metadata.namespace == namespace]
    jobs = sorted((_job(s) for s in seen if s.job is not None), key=lambda j: (-j["usdPerHour"], j["job"]))
    offerings, paid = observation.inventory.offerings, observation.paid_shares
    pools: dict[tuple[str, str, str], dict[str, Any]] = {}
    for node in observation.situation.nodes:
        o = offerings[node.offering]
        if node.ready_at is not None or not o.per_node.gpus:
            continue
        pool = pools.setdefault(
            (o.pool, o.gpu_model, o.capacity_type.value),
            {"nodes": 0, "gpus": 0.0, "free": 0.0, "usdPerHour": 0.0, "freeUsdPerHour": 0.0, "priced": True},
        )
        price = value_of(o.billed_price, 0.0)
        free = max(0, node.allocatable.gpus - node.used.gpus)
        pool["nodes"] += 1
        pool["gpus"] += o.whole_gpus(node.allocatable.gpus)
        pool["free"] += o.whole_gpus(free)
        pool["usdPerHour"] += price
        nobodys = free / node.allocatable.gpus if node.allocatable.gpus else 0.0
        pool["freeUsdPerHour"] += price * max(0.0, nobodys - paid.get(node.name, 0.0))
        pool["priced"] &= o.billed_price is not None
    listed = [{"pool": k[0], "model": k[1], "capacityType": k[2], **p} for k, p in sorted(pools.items())]
    return {"at": observation.situation.now.isoformat(), "jobs": jobs, "pools": listed}


def _job(seen: Seen) -> dict[str, Any]:
    status, meta, usage = seen.resource.status, seen.resource.metadata, seen.resource.status.usage
    line = whole(seen.spending.ledger)
    gpu_seconds = line.gpu_seconds.total if line else 0.0
    rate = float(status.usd_per_hour or 0) if status.phase in _RUNS else 0.0
    idle = usage.idle_gpus if usage is not None else None
    units = seen.job.work.units if seen.job else 0.0
    return {
        "job": f"{meta.namespace}/{meta.name}",
        "phase": status.phase,
        "pool": status.pool,
        "model": status.gpu_model,
        "gpus": status.gpus if status.phase in _RUNS else 0,
        "usdPerHour": rate,
        "spentUsd": seen.spent_usd,
        "estimatedUsd": float(status.estimated_usd) if status.estimated_usd else None,
        "wasteRatio": 1 - line.gpu_seconds.useful / gpu_seconds if line and gpu_seconds else None,
        "gpuHours": gpu_seconds / SECONDS_PER_HOUR,
        "utilisation": usage.gpu_ratio if usage is not None else None,
        "watts": usage.watts if usage is not None else None,
        "idleGpus": idle,
        "idleUsdPerHour": rate * idle / status.gpus if idle is not None and status.gpus else None,
        "doneRatio": seen.progress.estimate / units if units else None,
        "slack": _slack(status),
    }


def _slack(status: Status) -> str:
    return status.slack if status.deadline is not None else ""


def _shown(figures: dict[str, Any]) -> Group:
    jobs, pools = figures["jobs"], figures["pools"]
    right = ("GPUS", "$/H", "SPENT", "EST", "DONE", "WASTE", "UTIL", "WATTS", "IDLE", "IDLE $/H", "SLACK")
    table = tables.table("JOB", "PHASE", "WHERE", *right, right=right)
    for job in jobs:
        where = f"{job['pool']} ({job['model']})" if job["pool"] else "-"
        table.add_row(
            job["job"],
            job["phase"],
            where,
            str(job["gpus"] or ""),
            tables.usd(job["usdPerHour"]),
            tables.usd(job["spentUsd"]),
            tables.usd(job["estimatedUsd"]),
            _percent(job["doneRatio"]),
            _percent(job["wasteRatio"]),
            _percent(job["utilisation"]),
            "?" if job["watts"] is None else f"{job['watts']:,.0f}",
            "?" if job["idleGpus"] is None else str(job["idleGpus"]),
            "" if not job["idleUsdPerHour"] else tables.usd(job["idleUsdPerHour"]),
            job["slack"],
        )
    numbers = ("NODES", "GPUS", "FREE", "$/H", "FREE $/H")
    nodes = tables.table("POOL", "MODEL", "TERMS", *numbers, right=numbers)
    for pool in pools:
        nodes.add_row(
            pool["pool"],
            pool["model"],
            pool["capacityType"],
            str(pool["nodes"]),
            f"{pool['gpus']:g}",
            f"{pool['free']:g}",
            tables.usd(pool["usdPerHour"]) if pool["priced"] else "no price",
            tables.usd(pool["freeUsdPerHour"]) if pool["priced"] else "",
        )
    nodes_usd, free_usd = (sum(p[k] for p in pools) for k in ("usdPerHour", "freeUsdPerHour"))
    idle_usd = sum(j["idleUsdPerHour"] or 0.0 for j in jobs)
    head = (
        f"{figures['at'][:19].replace('T', ' ')} UTC: nodes cost {tables.usd(nodes_usd)} USD/h; nobody has "
        f"{tables.usd(free_usd)} USD/h of them, and GPUs that jobs hold idle are {tables.usd(idle_usd)} USD/h"
    )
    return Group(Text(head, style="bold"), Text(), table if jobs else Text("No jobs."), Text(), nodes)


def _percent(ratio: float | None) -> str:
    """? for what nobody has measured."""
    return "?" if ratio is None else f"{ratio:.0%}"
