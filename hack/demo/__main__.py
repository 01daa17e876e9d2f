"""The demo. Everything below the jobs is real but the machines: API server, scheduler, Stint, prices."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hack import build, fleet
from hack.build import step
from hack.cluster import Cluster, eventually, running_cluster
from hack.demo import baselines, picture, recount, scenarios
from hack.demo.workers import Workers
from hack.processes import HopelessError
from stint.cli.report import from_cluster, show
from stint.cli.sources import situation_from_cluster
from stint.ledger.report import entries, report

PACE = 2400.0  # seconds that pass for the jobs in one of ours
PICTURE_AFTER_S = 14.0
MOST_S = 180.0  # it takes half of that, but on a slow machine

FLEET = (
    fleet.owned("dc1-a100", nodes=2),
    fleet.Group(pool="eks-l40s", provider="aws", instance_type="g6e.12xlarge", zone="us-east-1a", nodes=2, most=4),
    fleet.Group(pool="eks-h100", provider="aws", instance_type="p5.48xlarge", zone="us-east-1a", nodes=1, most=4),
    fleet.spot(pool="eks-l40s-spot", provider="aws", instance_type="g6e.12xlarge", zone="us-east-1b", nodes=1, most=4),
    fleet.spot(pool="eks-h100-spot", provider="aws", instance_type="p5.48xlarge", zone="us-east-1b", nodes=0, most=4),
    fleet.Group(pool="gke-a100", provider="gcp", instance_type="a2-ultragpu-8g", zone="us-central1-a", nodes=1, most=4),
)
console = Console(highlight=False, width=None if sys.stdout.isatty() else 132)


def table(jobs: list[dict[str, Any]], news: list[str], elapsed: float) -> Group:
    """What the jobs do and cost at this moment."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in (
        ("JOB", "left"),
        ("PHASE", "left"),
        ("WHERE", "left"),
        ("GPUS", "right"),
        ("$/H", "right"),
        ("SPENT", "right"),
        ("EST", "right"),
        ("BUDGET", "right"),
        ("SLACK", "right"),
    ):
        shown.add_column(name, justify=side, no_wrap=True)  # type: ignore[arg-type]
    colours = {"Running": "green", "Succeeded": "dim", "Provisioning": "yellow", "Queued": "yellow", "Failed": "red"}
    for job in jobs:
        s = job.get("status", {})
        where = f"{s.get('pool', '-')} ({s.get('gpuModel', '')})" if s.get("pool") else "-"
        phase = s.get("phase", "")
        shown.add_row(
            f"{job['metadata']['namespace']}/{job['metadata']['name']}",
            Text(phase, style=colours.get(phase, "")),
            where,
            str(s.get("gpus", "")),
            s.get("usdPerHour", ""),
            s.get("spentUsd", ""),
            s.get("estimatedUsd", ""),
            s.get("budgetUsd", ""),
            s.get("slack", ""),
        )
    hours = elapsed * PACE / 3600
    clock = f"{elapsed:3.0f} s here, {hours:4.1f} h for the jobs (time runs {PACE:.0f} times as fast)"
    return Group(Text(clock, style="bold"), shown, *(Text(f"  {line}", style="cyan") for line in news[-4:]))


def watch(cluster: Cluster, workers: Workers, started: float) -> tuple[list[dict[str, Any]], list[str]]:
    """Show the jobs until all have ended."""
    news: list[str] = []
    pools: dict[str, int] = {}
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        printed = 0.0
        while True:
            jobs = cluster.get("tj", "-A")["items"]
            elapsed = time.monotonic() - started
            for pool in cluster.get("gp")["items"]:
                name, nodes = pool["metadata"]["name"], pool.get("status", {}).get("nodes", 0)
                if name in pools and nodes != pools[name]:
                    verb = "grew" if nodes > pools[name] else "shrank"
                    news.append(f"pool {name} {verb} from {pools[name]} to {nodes} nodes")
                pools[name] = nodes
            if workers.taken and workers.taken not in news:
                news.append(workers.taken)
            live.update(table(jobs, news, elapsed))
            if not console.is_terminal and elapsed - printed > 15:
                printed = elapsed
                console.print(table(jobs, news, elapsed))
            ended = [j for j in jobs if j.get("status", {}).get("phase") in ("Succeeded", "Failed")]
            if len(ended) == len(jobs) or elapsed > MOST_S:
                return jobs, news
            time.sleep(0.5)


def closed(cluster: Cluster) -> bool:
    """Whether every job's ledger is, and the days have all of it."""
    jobs = cluster.get("tj", "-A")["items"]
    rows = [row for day in cluster.get("dailyspends", "-A")["items"] for row in day["spec"].get("rows", [])]
    booked = sum(float(j["status"].get("spentExactly", 0)) for j in jobs)
    kept = sum(sum(row["line"].get("components", {}).values()) for row in rows)
    return all(j["status"].get("ledger", {}).get("closed") for j in jobs) and abs(booked - kept) < 0.005


def spend_report(cluster: Cluster, recounted: float) -> None:
    """Who spent what, as `stint report` has it; and the same recounted from pods' own times."""
    days = asyncio.run(from_cluster(cluster.kubeconfig, None))
    first, last = (f(date.fromisoformat(spec.day) for _, spec in days) for f in (min, max))
    found = entries(days, first=first, last=last)
    for by in ("namespace", "pool"):
        console.print()
        show(report(found, by, first=first, last=last), days, console)
    booked = sum(e.line.components.hardware for e in found if e.job)
    console.print(
        f"What jobs paid for nodes, counted once more from the API server's own pod times by other code: "
        f"{recounted:,.2f} USD; in the ledger {booked:,.2f} USD; difference {abs(recounted - booked):.2f} USD."
    )


def summary(jobs: list[dict[str, Any]], others: list[baselines.Bill], news: list[str]) -> int:
    """The bill, and whether promises were kept; the exit code says whether every job finished."""
    done = [j for j in jobs if j["status"].get("phase") == "Succeeded"]
    spent = sum(float(j["status"].get("spentUsd") or 0) for j in jobs)
    late = sum(1 for j in done if j["status"]["finish"] > j["status"]["deadline"])
    result = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("THE BILL", "USD", "AGAINST STINT", "DEADLINES MISSED"):
        result.add_column(name, justify="left" if name == "THE BILL" else "right")
    result.add_row("Stint, as spent, interruption and all", f"{spent:,.2f}", "", f"{late} of {len(jobs)}")
    for bill in others:
        more = f"{bill.usd / spent - 1:+.0%}" if spent else ""
        result.add_row(bill.rule, f"{bill.usd:,.2f}", more, f"{bill.late + bill.unplaced} of {len(jobs)}")
    console.print()
    console.print(result)
    for bill in others:
        if bill.unplaced:
            console.print(
                f"By the rule of {bill.rule.split(',')[0]}, {bill.unplaced} finds no room; its cost is not in that sum."
            )
    taken = next((line for line in news if "takes spot node" in line), "")
    if taken:
        console.print(f"On the way, {taken}.")
    else:
        console.print("[yellow]No gang was on a spot node when one was to be taken.[/yellow]")
    console.print(f"""
{len(done)} of {len(jobs)} jobs finished. Real: API server, scheduler, Stint with its chart, instance types, prices.
Simulated: machines and training (KWOK), {PACE:.0f} times as fast. The rules below Stint are computed for the same jobs
on the same fleet; they pay for interruptions as expected, Stint for the one that happened.

Try next:  make up                                     the same by hand, in your own time
           kubectl apply -f hack/samples/first.yaml    then: kubectl get tj -w; stint explain ct-scan-unet
           stint prices --catalogue --gpu H100         what things cost, from where, as of when""")
    return 0 if len(done) == len(jobs) else 1


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hack.demo")
    parser.add_argument("--state", type=Path, help="keep logs and decisions there")
    parser.add_argument("--picture", type=Path, help="write the dashboard as an HTML page there")
    options = parser.parse_args()
    state = options.state or Path(tempfile.mkdtemp(prefix="stint-demo-"))
    try:
        build.control_plane(build.versions()["default_kubernetes"])
        for tool in (build.kwok, build.helm, build.prometheus):
            tool()
        with running_cluster(state, name="embedded") as cluster:
            with step("starting cluster, chart, fleet, Prometheus and Stint"):
                cluster.install_chart()
                cluster.apply(fleet.objects(FLEET))
                url = cluster.start_monitoring()
                cluster.start_operator(f"--pace={PACE}", f"--prometheus-url={url}", record_dir=state / "decisions")
            with step("submitting three teams' jobs"):
                for pack in scenarios.packs():
                    cluster.apply(scenarios.manifests(pack))
            before = asyncio.run(situation_from_cluster(cluster.kubeconfig, as_if_new=True))
            workers = Workers(cluster, PACE)
            workers.start()
            started = time.monotonic()
            began = time.time()
            try:
                with recount.Recount(cluster.kubeconfig) as counter:
                    eventually(lambda: all(j.get("status") for j in cluster.get("tj", "-A")["items"]), what="statuses")
                    jobs, news = watch(cluster, workers, started)
                    eventually(lambda: closed(cluster), timeout=60, what="the ledgers to be closed")
                    prices = {
                        str(o.pool): (o.usd_per_node_hour.value, o.per_node.gpus)
                        for o in before.offerings
                        if o.usd_per_node_hour is not None
                    }
                    recounted = counter.usd(prices, PACE)
            finally:
                workers.stop()
            spend_report(cluster, recounted)
            if options.picture is not None:
                options.picture.write_text(picture.page(url, began, time.time(), at=began + PICTURE_AFTER_S))
            return summary(jobs, baselines.bills(before), news)
    except HopelessError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        if options.state is None:
            shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
