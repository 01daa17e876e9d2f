"""`stint report`: who spent what, for showback."""

from __future__ import annotations

import argparse
import asyncio
import csv
import html
import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from stint.api.ledger import DailySpend, DaySpec
from stint.cli import tables
from stint.controllers.daily_spend import PAGE
from stint.errors import StintError
from stint.kube.client.api import Api, ApiError, connect
from stint.ledger.report import FOCUS, KEYS, NOBODY, Entry, Group, Report, entries, focus_rows, report

COLOURS = {
    "useful": "#2a8f5b",
    "rework": "#cf4a3c",
    "idle": "#b9bdc5",
    "held": "#d9a514",
    "startup": "#3b78c9",
    "transfer": "#8a5cc2",
    "unallocated": "#6b7280",
}

_SHORT = {"transfer": "DATA", "unallocated": "FREE"}
_FIGURES = ("GPU-h", "used well", "kWh", "CO2 kg", "saved")


def add_parser(verbs: Any) -> None:
    """Its command line."""
    verb = verbs.add_parser("report", help="who spent what, and what nobody had; it adds up to what all nodes cost")
    verb.add_argument("--from", dest="first", type=_day, help="first day, as 2026-11-01 or -7d (default: -30d)")
    verb.add_argument("--to", dest="last", type=_day, help="last day, inclusive (default: today, UTC)")
    verb.add_argument("--by", choices=KEYS, default="namespace", help="what is summed up (default: %(default)s)")
    verb.add_argument("-n", "--namespace", help="only this one's jobs (default: all)")
    verb.add_argument("-f", "--file", type=Path, help="kubectl get dailyspends -A -o json, instead of a cluster")
    verb.add_argument("--kubeconfig", type=Path, help="by default $KUBECONFIG, or the usual file")
    verb.add_argument("-o", "--output", choices=("table", "csv", "json", "html"), default="table")


def _day(text: str) -> date:
    if text.startswith("-") and text.endswith("d") and text[1:-1].isdigit():
        return datetime.now(UTC).date() - timedelta(days=int(text[1:-1]))
    return date.fromisoformat(text)


def spending(options: argparse.Namespace) -> int:
    """`stint report`"""
    last = options.last or datetime.now(UTC).date()
    first = options.first or last - timedelta(days=30)
    if first > last:
        raise StintError(f"--from {first} is later than --to {last}; swap them")
    days = from_file(options.file) if options.file else asyncio.run(from_cluster(options.kubeconfig, options.namespace))
    if options.namespace:
        # Without the others' rows, all that they had of the nodes would seem to have been nobody's.
        days = [(n, msgspec.structs.replace(spec, nodes=[])) for n, spec in days if n == options.namespace]
    found = entries(days, first=first, last=last)
    made = report(found, options.by, first=first, last=last)
    if options.output == "table":
        show(made, days, tables.console())
    elif options.output == "csv":
        _csv(found)
    elif options.output == "json":
        _json(made)
    else:
        sys.stdout.write(page(made))
    return 0


def from_file(path: Path) -> list[tuple[str, DaySpec]]:
    """What kubectl has printed.

    Raises:
        StintError: it cannot be read, or is something else.
    """
    try:
        text = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        items = msgspec.json.decode(text, type=_List).items
    except OSError as error:
        raise StintError(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise StintError(f"{path}: {error}; give what `kubectl get dailyspends -A -o json` prints") from error
    return [(d.metadata.namespace, d.spec) for d in items]


async def from_cluster(kubeconfig: Path | None, namespace: str | None) -> list[tuple[str, DaySpec]]:
    """Everything that is kept.

    Raises:
        StintError: there is no such kind there.
    """
    where = f"namespaces/{namespace}/" if namespace else ""
    found: list[tuple[str, DaySpec]] = []
    async with Api(connect(kubeconfig)) as api:
        try:
            async for part in api.pages(f"/apis/stint.dev/v1alpha1/{where}dailyspends", limit=PAGE):
                read = [msgspec.json.decode(item, type=DailySpend) for item in part.items]
                found += [(d.metadata.namespace, d.spec) for d in read]
        except ApiError as error:
            if error.status == 404:
                raise StintError("the cluster has no DailySpends; install the CRDs that come with the chart") from error
            raise
    return found


class _List(msgspec.Struct):
    items: list[DailySpend]


def show(made: Report, days: list[tuple[str, DaySpec]], out: Console) -> None:
    """As a table for people."""
    if not made.groups:
        out.print(f"Nothing was booked from {made.first} to {made.last}.")
        return
    uses = _uses(made)
    numbers = ("JOBS", "USD", *(_SHORT.get(use, use.upper()) for use in uses), *(f.upper() for f in _FIGURES))
    table = tables.table(made.by.upper(), *numbers, right=numbers)
    for group in made.groups:
        table.add_row(*_cells(group, uses))
    table.add_section()
    table.add_row(*_cells(made.total, uses), style="bold")
    out.print(f"Spent from {made.first} to {made.last} (UTC), in USD")
    out.print(table)
    out.print("FREE is what nobody had; SAVED is against the default scheduler, each job on its first GPU, on demand.")
    through = max((spec.through for _, spec in days if spec.through), default=None)
    if through is not None:
        out.print(f"Booked until {through:%Y-%m-%d %H:%M} UTC, at the prices that were known to hold; before tax.")
    for note in made.notes:
        out.print(f"note: {note}")


def _uses(made: Report) -> list[str]:
    """Those that anything was spent on."""
    by_use = made.total.figures()["usdByUse"]
    return [use for use in COLOURS if by_use[use] >= 0.005]


def _cells(group: Group, uses: Sequence[str]) -> list[str]:
    figures = group.figures()
    by_use = figures["usdByUse"]
    useful = figures["usefulGpuHours"] / group.gpu_hours if group.gpu_hours else None
    saved = figures["baselineUsd"] - (group.line.total_usd if group.line else 0.0) if figures["baselineUsd"] else None
    return [
        group.name,
        str(group.jobs) if group.jobs else "",
        tables.usd(group.usd),
        *(tables.usd(by_use[use]) if by_use[use] >= 0.005 else "" for use in uses),
        f"{group.gpu_hours:,.1f}",
        f"{useful:.0%}" if useful is not None else "",
        f"{figures['energyKwh']:,.1f}" if group.line else "",
        f"{figures['carbonKg']:,.1f}" if group.line else "",
        f"{saved:+,.2f}" if saved is not None else "",
    ]


def _csv(found: list[Entry]) -> None:
    writer = csv.DictWriter(sys.stdout, FOCUS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(focus_rows(found))


def _json(made: Report) -> None:
    body = {
        "by": made.by,
        "from": made.first.isoformat(),
        "to": made.last.isoformat(),
        "currency": "USD",
        "groups": [g.figures() for g in made.groups],
        "total": made.total.figures(),
        "notes": list(made.notes),
    }
    print(json.dumps(body, indent=2))


def _bars(group: Group, most: float, uses: Sequence[str]) -> str:
    by_use = group.figures()["usdByUse"]
    return "".join(
        f'<i style="width:{100 * by_use[use] / most:.3f}%;background:{COLOURS[use]}" '
        f'title="{use}: {by_use[use]:,.2f} USD"></i>'
        for use in uses
        if by_use[use] > 0
    )


def page(made: Report) -> str:
    """HTML that needs nothing else: a bar for each group, split by what the money was for."""
    most = max((g.usd for g in made.groups), default=0.0) or 1.0
    uses = _uses(made)
    rows = []
    for group in (*made.groups, made.total):
        bars = _bars(group, most, uses) if group is not made.total else ""
        cells = "".join(f"<td>{html.escape(c)}</td>" for c in _cells(group, uses)[1:])
        rows.append(f"<tr><th>{html.escape(group.name)}</th><td class=bar>{bars}</td>{cells}</tr>")
    heads = (made.by, "", "jobs", "USD", *uses, *_FIGURES)
    head = "".join(f"<th>{h}</th>" for h in heads)
    key = "".join(f'<span><i style="background:{COLOURS[use]}"></i>{use}</span>' for use in uses)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in made.notes)
    title = f"Spent from {made.first} to {made.last}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Stint: {title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><style>'
        "body{font:14px system-ui;margin:2rem;max-width:100rem}h1{font-size:1.4rem}"
        ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
        "th,td{padding:.3rem .5rem;text-align:right;white-space:nowrap}th:first-child{text-align:left}"
        "thead th{border-bottom:1px solid;font-weight:600}tbody th{font-weight:400}"
        "tbody tr:last-child>*{border-top:1px solid;font-weight:600}"
        # Every row has the same width for its bar, also where the numbers leave none over.
        ".bar{width:100%;min-width:14rem;text-align:left;font-size:0}.bar i{display:inline-block;height:1rem}"
        ".key span{display:inline-block;margin-right:1rem}.key i{display:inline-block;width:.8rem;height:.8rem;"
        "margin-right:.3rem}@media(max-width:40rem){body{margin:1rem}.bar{min-width:8rem}}</style></head><body>"
        f"<h1>{title} (UTC), in USD</h1><p class=key>{key}</p>"
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"<p>{html.escape(NOBODY)}: nodes, or parts of them, that no job had. At the prices that were known to hold; "
        f"before tax.</p>{notes}</body></html>\n"
    )
