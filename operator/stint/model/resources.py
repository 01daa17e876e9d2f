"""What a worker asks for and a node has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AXES = ("gpus", "cpu", "memory_gib", "pods")  # the order of every `resource` axis, before those named in a problem
Extended = tuple[tuple[str, float], ...]  # sorted by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """An amount of each schedulable resource."""

    gpus: int = 0
    cpu: float = 0.0  # cores
    memory_gib: float = 0.0
    pods: int = 0
    extended: Extended = ()  # of every other resource by its name (rdma/hca, ephemeral-storage), in base units

    def as_row(self) -> tuple[float, float, float, float]:
        """In the order of `AXES`."""
        return (float(self.gpus), self.cpu, self.memory_gib, float(self.pods))

    def row(self, names: Sequence[str]) -> tuple[float, ...]:
        """The same, followed by the extended resources of these names."""
        if not names:
            return self.as_row()
        amounts = dict(self.extended)
        return (*self.as_row(), *(amounts.get(name, 0.0) for name in names))

    def share_of(self, node: Resources) -> float:
        """The largest part of any resource of a node that this takes, at most all of it: its fair part of the price."""
        pairs = zip(self.as_row()[:3], node.as_row()[:3], strict=True)
        return min(1.0, max((need / have for need, have in pairs if need > 0 and have > 0), default=0.0))

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            gpus=self.gpus + other.gpus,
            cpu=self.cpu + other.cpu,
            memory_gib=self.memory_gib + other.memory_gib,
            pods=self.pods + other.pods,
            extended=_sum(self.extended, other.extended),
        )

    def at_least(self, other: Resources) -> Resources:
        """The larger amount of each resource."""
        theirs, mine = dict(other.extended), dict(self.extended)
        return Resources(
            gpus=max(self.gpus, other.gpus),
            cpu=max(self.cpu, other.cpu),
            memory_gib=max(self.memory_gib, other.memory_gib),
            pods=max(self.pods, other.pods),
            extended=tuple((n, max(mine.get(n, 0.0), theirs.get(n, 0.0))) for n in sorted(mine.keys() | theirs.keys())),
        )

    def less(self, taken: Resources) -> Resources:
        """What is left of it; nothing of what was taken whole, or more than whole."""
        gone = dict(taken.extended)
        return Resources(
            gpus=max(0, self.gpus - taken.gpus),
            cpu=max(0.0, self.cpu - taken.cpu),
            memory_gib=max(0.0, self.memory_gib - taken.memory_gib),
            pods=max(0, self.pods - taken.pods),
            extended=tuple((name, max(0.0, amount - gone.get(name, 0.0))) for name, amount in self.extended),
        )


def _sum(some: Extended, others: Extended) -> Extended:
    if not others:
        return some
    if not some:
        return others
    total = dict(some)
    for name, amount in others:
        total[name] = total.get(name, 0.0) + amount
    return tuple(sorted(total.items()))
