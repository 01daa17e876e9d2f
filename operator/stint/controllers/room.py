"""How much of the operator's memory each namespace may take with its TrainingJobs: what is beyond that is not kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from stint.model.limits import NamespaceLimits


class _Taken(NamedTuple):
    namespace: str
    bytes: int
    open: bool


@dataclass(slots=True)
class Room:
    """Counts what is kept, by uid."""

    limits: NamespaceLimits = field(default_factory=NamespaceLimits)
    _taken: dict[str, _Taken] = field(default_factory=dict)
    _bytes: Counter[str] = field(default_factory=Counter)
    _open: Counter[str] = field(default_factory=Counter)

    def refusal(self, uid: str, namespace: str, size: int, *, ended: bool, runs: bool = False) -> str:
        """Why an object may not be kept, and what to do; empty: it may.

        Args:
            size: of its spec as JSON, in bytes.
            ended: it takes no part in decisions any more.
            runs: its gang has its place, and keeps it however long its spec is.
        """
        mine, before = self.limits.of(namespace), self._taken.get(uid)
        if size > mine.spec_bytes and not runs:
            return (
                f"spec: {size} bytes: may have {mine.spec_bytes} in namespace {namespace}; put large data into a "
                "ConfigMap and mount that"
            )
        others = self._bytes[namespace] - (before.bytes if before else 0)
        if others + size > mine.total_bytes:
            return (
                f"metadata.namespace: {namespace}: its TrainingJobs have {others} bytes, and with this one would have "
                f"more than {mine.total_bytes}; delete those that have ended"
            )
        competing = self._open[namespace] - (before.open if before else 0)
        if not ended and competing >= mine.training_jobs:
            return (
                f"metadata.namespace: {namespace}: has {competing} TrainingJobs that have not ended, and may have "
                f"{mine.training_jobs}; wait for some to end, or delete some"
            )
        return ""

    def take(self, uid: str, namespace: str, size: int, *, ended: bool) -> None:
        """It is kept."""
        self.leave(uid)
        self._taken[uid] = _Taken(namespace, size, not ended)
        self._bytes[namespace] += size
        self._open[namespace] += not ended

    def leave(self, uid: str) -> None:
        """It is kept no more."""
        if (was := self._taken.pop(uid, None)) is not None:
            self._bytes[was.namespace] -= was.bytes
            self._open[was.namespace] -= was.open
