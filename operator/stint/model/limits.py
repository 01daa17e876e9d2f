"""What one namespace may ask of all others: bounds that its own jobs cannot change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that counts of one namespace."""

    priority: int = 100  # a higher one counts as this
    lateness_usd_per_hour: float = 1_000.0  # and so does a higher worth of not being late
    usd_per_hour: float = 1_000.0  # and of finishing an hour sooner
    training_jobs: int = 5_000  # that have not ended; more are not read
    spec_bytes: int = 65_536  # of each TrainingJob, as JSON; a larger one is not read
    total_bytes: int = 2**25  # of all its TrainingJobs


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceLimits:
    """By namespace."""

    default: Limits = field(default_factory=Limits)
    namespaces: Mapping[str, Limits] = field(default_factory=dict)

    def of(self, namespace: str) -> Limits:
        """Those of one namespace."""
        return self.namespaces.get(namespace, self.default)
