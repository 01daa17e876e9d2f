"""Runs one benchmark, or all of them, and prints what it measured."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hack.bench import (
    cases,
    decide,
    eva,
    fit,
    gang,
    gavel,
    hostile,
    idle,
    informer,
    kind,
    ledger,
    month,
    newcomers,
    openb,
    plain,
    planner,
    prometheus,
    recover,
    snapshot,
    storm,
)
from hack.bench.fleets import JOBS

Rows = list[dict[str, Any]]


def _without_options(rows: Callable[[], Rows]) -> Callable[[argparse.Namespace], Rows]:
    return lambda _: rows()


NAMES: Mapping[str, Callable[[argparse.Namespace], Rows]] = {
    "informer": _without_options(informer.rows),
    "gang": _without_options(gang.rows),
    "decide": _without_options(decide.rows),
    "newcomers": _without_options(newcomers.rows),
    "storm": _without_options(storm.rows),
    "plain": _without_options(plain.rows),
    "idle": _without_options(idle.rows),
    "failover": _without_options(recover.failover),
    "recover": _without_options(recover.recover),
    "kind": _without_options(kind.rows),
    "prometheus": _without_options(prometheus.rows),
    "fit": fit.rows,
    "cases": cases.rows,
    "openb": openb.rows,
    "planner": planner.planner,
    "incremental": planner.incremental,
    "consolidate": planner.consolidation,
    "snapshot500": snapshot.rows,
    "eva": eva.rows,
    "gavel": gavel.rows,
    "month": month.month,
    "simspeed": month.simspeed,
    "ledger": ledger.rows,
    "hostile": _without_options(hostile.rows),
}
TRACED = ("openb", "eva", "gavel", "month", "simspeed")  # left out of `all` where there are no traces


def seeds(spec: str) -> tuple[int, ...]:
    """`42-46,51` as numbers.

    Raises:
        ValueError: if it is not made of numbers and ranges.
    """
    found: list[int] = []
    for part in spec.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hack.bench", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--json", action="store_true", help="one JSON object a benchmark instead of text")
    parser.add_argument("--traces", type=Path, metavar="DIR", help="where the public traces are")
    parser.add_argument("--seeds", type=seeds, metavar="SPEC", help="42-46 or 42,43; without it, all there are")
    parser.add_argument("--size", choices=tuple(JOBS), help="of the planner's fleet; without it, all")
    parser.add_argument("--workload", metavar="NAME", help="one of those there are; without it, all")
    options = parser.parse_args()
    every = [name for name in NAMES if options.traces or name not in TRACED]
    for name in every if options.name == "all" else [options.name]:
        started = time.monotonic()
        rows = NAMES[name](options)
        result = {"benchmark": name, "rows": rows, "seconds": round(time.monotonic() - started, 2)}
        if options.json:
            print(json.dumps(result))
        else:
            for row in rows:
                print(name, "  ".join(f"{k}={v}" for k, v in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
