"""What was measured of jobs that run, as far as decisions and people are to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from stint.model.cluster import Utilisation
from stint.model.job import JobId


class Aggregate(StrEnum):
    """How the figures of a gang's pods become one."""

    MAX = "Max"  # every worker counts the whole job's units
    SUM = "Sum"  # every worker counts its own


@dataclass(frozen=True, slots=True)
class Selector:
    """Series of a metric of somebody's choice."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """The metric that tells a job's progress."""

    selector: Selector
    aggregate: Aggregate = Aggregate.MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a workload family does on a GPU model, over its latest runs; of the gang's own size."""

    units_per_second: float  # mean
    spread: float  # sample standard deviation; 0 with a single run
    runs: int
    watts_per_gpu: float | None = None
    trusted: bool = False  # runs enough, near enough to each other, to decide by
    own: bool = False  # what the present run of the job itself does
    stated: float = 0.0  # what its spec says


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All of it at one moment."""

    usage: Mapping[JobId, Utilisation] = field(default_factory=dict)
    told: Mapping[JobId, float] = field(default_factory=dict)  # units by their metric; may be NaN
    metrics_wrong: str = ""  # why no metric tells anything; empty: all were asked
    speeds: Mapping[JobId, Mapping[str, Speed]] = field(default_factory=dict)  # by GPU model
    use_speeds: bool = True
    asked: bool = False  # a Prometheus is configured
    wrong: str = ""  # why utilisation is unknown; empty: it is read
