"""One more job while a thousand wait: a decision about it alone, beside one about everybody."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from hack.bench.decide import situation
from stint.decide import decide
from stint.placement.newcomers import whole
from stint.testing.builders import carried_out

_WAIT = (1_000, 3_000)
_COME = 25  # one every two seconds


def rows() -> list[dict[str, Any]]:
    """A row a length of the queue."""
    found = []
    for wait in _WAIT:
        given = situation(wait + _COME)
        now = replace(given, jobs=given.jobs[:wait])
        started = time.perf_counter()
        last = decide(now)
        everybody_s = time.perf_counter() - started
        held = len(last.holds)
        now = carried_out(now, last)
        ms, alone, at_once = [], 0, 0
        for job in given.jobs[wait:]:
            at = now.now + timedelta(seconds=2)
            now = replace(now, now=at, jobs=(*now.jobs, job), before=last.standing)
            started = time.perf_counter()
            plan = decide(now)
            if plan.is_about_newcomers:
                ms.append(1000.0 * (time.perf_counter() - started))
                alone += 1
                at_once += len(plan.placements)
            last = whole(plan, last)
            now = carried_out(now, plan)
        p50, p99 = np.percentile(ms, [50, 99])
        assert last.standing is not None
        regret, most = last.standing.regret_usd, last.standing.most_regret_usd
        found.append(
            {
                "wait": held,
                "everybody_s": round(everybody_s, 2),
                "come": _COME,
                "alone": alone,
                "placed_at_once": at_once,
                "ms": {"p50": round(float(p50), 1), "p99": round(float(p99), 1)},
                "regret_of_most": round(regret / most, 3),
            }
        )
    return found
