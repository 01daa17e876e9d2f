"""`stint reconcile BILL.csv`: a provider's bill beside the ledger."""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from stint.cli import tables
from stint.cli.report import from_cluster, from_file
from stint.cli.sources import BROKEN_PROMISE
from stint.errors import StintError
from stint.feeds import bundled
from stint.ledger.bill import TOLERANCE, Bill, Correction, Drift, corrections, drifts, read


def add_parser(verbs: Any) -> None:
    """Its command line."""
    verb = verbs.add_parser("reconcile", help="compare a provider's bill with what was booked, by pool and day")
    verb.add_argument("bill", type=Path, help="CSV: FOCUS, AWS CUR, Google Cloud billing export or Azure cost export")
    verb.add_argument("--from", dest="first", type=date.fromisoformat, help="first day (default: the bill's)")
    verb.add_argument("--to", dest="last", type=date.fromisoformat, help="last day, inclusive (default: the bill's)")
    verb.add_argument(
        "--usd-per", type=_rate, action="append", default=[], metavar="EUR=1.08", help="for a bill in another currency"
    )
    verb.add_argument("-f", "--file", type=Path, help="kubectl get dailyspends -A -o json, instead of a cluster")
    verb.add_argument("--kubeconfig", type=Path, help="by default $KUBECONFIG, or the usual file")
    verb.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _rate(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    if not name.isalpha() or not 0 < float(rate) < 1e6:
        raise ValueError
    return name.upper(), float(rate)


def reconcile(options: argparse.Namespace) -> int:
    """`stint reconcile`: 3 where they are more than a little apart."""
    kept = from_file(options.file) if options.file else asyncio.run(from_cluster(options.kubeconfig, None))
    days = [spec for _, spec in kept]
    machines = {t.name: t.gpu_count for t in bundled.load().instance_types()}
    try:
        text = options.bill.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StintError(f"{options.bill}: {getattr(error, 'strerror', None) or error}") from error
    rates = dict(options.usd_per)
    rows = csv.DictReader(io.StringIO(text))
    try:
        bill = read(rows, days, machines=machines, usd_per=rates, name=str(options.bill))
    except csv.Error as error:
        raise StintError(f"{options.bill} line {rows.line_num}: {error}; it must be CSV") from error
    billed = [date.fromisoformat(charge.day) for charge in bill.charges]
    first = options.first or min(billed, default=date.min)  # what comes before or after may be on another bill
    last = options.last or max(billed, default=date.max)
    found = drifts(bill, days, first=first, last=last)
    proposed = corrections(bill, found)
    if options.output == "json":
        _json(bill, found, proposed)
    else:
        _show(bill, found, proposed)
    return BROKEN_PROMISE if any(d.ratio > TOLERANCE for d in found) else 0


def _show(bill: Bill, found: list[Drift], proposed: list[Correction]) -> None:
    out = tables.console()
    numbers = ("BOOKED $", "BILLED $", "DRIFT $", "DRIFT", "NODE-H BOOKED", "BILLED")
    table = tables.table("DAY", "POOL", *numbers, "CAUSE", right=numbers)
    for d in found:
        table.add_row(d.day, d.pool, *_figures(d), d.cause)
    if found:
        whole = Drift(
            day="",
            pool="",
            booked_usd=sum(d.booked_usd for d in found),
            billed_usd=sum(d.billed_usd for d in found),
            booked_hours=sum(d.booked_hours for d in found),
            billed_hours=sum(d.billed_hours for d in found),
        )
        table.add_section()
        table.add_row("TOTAL", "", *_figures(whole), "", style="bold")
    out.print(table if found else "Neither the bill nor the ledger has a node in this time.")
    out.print(f"{bill.shape} export: {len(bill.charges)} lines of nodes, {bill.others} of other things left out.")
    for machine, usd in sorted(bill.strange_usd.items(), key=lambda item: -item[1]):
        out.print(f"note: {tables.usd(usd)} USD for {machine}, which no pool has had in this time")
    for c in proposed:
        out.print(
            f"{c.pool}: hours agree, dollars do not: {c.booked_usd_per_node_hour:.4f} USD a node-hour was booked, "
            f"{c.usd_per_node_hour:.4f} billed. In a PriceBook:"
        )
    if proposed:
        out.print("  spec:\n    prices:")
    for c in proposed:
        terms = "spot" if c.capacity == "spot" else "on-demand"
        price = f"usdPerNodeHour: {c.usd_per_node_hour:.4f}"
        out.print(f"      - {{provider: PROVIDER, instanceType: {c.instance_type}, capacityType: {terms}, {price}}}")


def _figures(d: Drift) -> tuple[str, ...]:
    return (
        tables.usd(d.booked_usd),
        tables.usd(d.billed_usd),
        f"{d.usd:+,.2f}",
        f"{d.ratio:.1%}",
        f"{d.booked_hours:,.1f}",
        f"{d.billed_hours:,.1f}",
    )


def _json(bill: Bill, found: list[Drift], proposed: list[Correction]) -> None:
    body = {
        "shape": bill.shape.value,
        "drifts": [{**asdict(d), "usd": d.usd, "ratio": d.ratio, "cause": d.cause} for d in found],
        "corrections": [asdict(c) for c in proposed],
        "unknownMachinesUsd": bill.strange_usd,
        "otherLines": bill.others,
    }
    json.dump(body, sys.stdout, indent=2)
    print()
