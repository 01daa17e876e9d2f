"""Who pays for what: every node-second is booked once, and the sum is the integral of node prices over time.

    useful   work that was kept
    rework   work that was lost, checkpoints, and coming back from them
    startup  nodes under way, and gangs that start up
    held     nodes that wait for the gang they were ordered for, or that a gang broken by an interruption still has
    idle     the part of a node that nobody has

Beside them, what is paid for apart from nodes: egress, energy, storage, licence and labour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

BUCKETS_PER_DAY = 24
NODES = ("useful", "idle", "held", "rework", "startup")
APART = ("egress", "energy", "storage", "licence", "labour")
COMPONENTS = (*NODES, *APART)
_BUCKET_S = 86_400.0 / BUCKETS_PER_DAY


class Books:
    """Dollars by component, altogether and by the hour."""

    def __init__(self) -> None:
        self.usd: dict[str, float] = dict.fromkeys(COMPONENTS, 0.0)
        self.hourly: dict[str, list[float]] = {name: [] for name in COMPONENTS}
        self.node_usd = 0.0  # the integral, kept by itself
        self.gpu_hours = {"paid": 0.0, "taken": 0.0}

    def add(self, component: str, usd: float, start_s: float, end_s: float) -> None:
        """Book dollars that were spent evenly from `start_s` to `end_s`.

        Raises:
            ValueError: if they are negative or no number: no price list gives that.
        """
        if not 0 <= usd < math.inf:
            raise ValueError(f"{component} costs {usd} USD")
        if usd == 0.0:
            return
        self.usd[component] += usd
        series = self.hourly[component]
        first, last = int(start_s // _BUCKET_S), int(end_s // _BUCKET_S)
        if last >= len(series):
            series.extend([0.0] * (last + 1 - len(series)))
        if last == first:
            series[first] += usd
            return
        rate = usd / (end_s - start_s)
        series[first] += rate * ((first + 1) * _BUCKET_S - start_s)
        series[last] += rate * (end_s - last * _BUCKET_S)
        for i in range(first + 1, last):
            series[i] += rate * _BUCKET_S

    def totals(self) -> Mapping[str, float]:
        """Every component in USD, and their sum as `total`."""
        return {**self.usd, "total": sum(self.usd.values())}
