"""Runs one benchmark, or all of them, and prints what it measured."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from hack.bench import decide, gang, idle, informer, kind, plain, recover, storm

NAMES: Mapping[str, Callable[[], list[dict[str, Any]]]] = {
    "informer": informer.rows,
    "gang": gang.rows,
    "decide": decide.rows,
    "storm": storm.rows,
    "plain": plain.rows,
    "idle": idle.rows,
    "failover": recover.failover,
    "recover": recover.recover,
    "kind": kind.rows,
}


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hack.bench", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--json", action="store_true", help="one JSON object a benchmark instead of text")
    options = parser.parse_args()
    for name in NAMES if options.name == "all" else [options.name]:
        started = time.monotonic()
        rows = NAMES[name]()
        result = {"benchmark": name, "rows": rows, "seconds": round(time.monotonic() - started, 2)}
        if options.json:
            print(json.dumps(result))
        else:
            for row in rows:
                print(name, "  ".join(f"{k}={v}" for k, v in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
