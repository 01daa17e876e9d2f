"""What workload families did on each GPU model in their latest runs: speed and power, with their spread.

A family is what is expected to go equally fast: see `family_of`. Each run counts once, by what it did over all the
time that it was looked at; so the same run looked at again, by the next operator too, changes its own figure and adds
none. Only the latest runs are kept: a mean over them follows a workload that changes, and their number is bounded.

Speeds are kept as speed / workers^exponent, the law of `stint.estimate.runtime`, so that gangs of two sizes compare.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import NamedTuple

from stint.model.job import Job
from stint.model.measured import Speed

MOST_RUNS = 20  # of one key
MOST_KEYS = 500
MOST_OF_A_NAMESPACE = 50  # keys: one namespace pushes out none of another's before all are full
ENOUGH_RUNS = 3
MOST_SPREAD = 0.3  # of the mean, in figures to decide by: what differs more is no family
# What generators of names append: Jobs of CronJobs, Helm, Argo, dates, numbers, hashes with a digit in them.
_SUFFIX = re.compile(r"(-(\d+|[0-9a-f]{6,}|(?=[a-z0-9]*\d)[a-z0-9]{5,10}))+$")


class Key(NamedTuple):
    """By what runs compare."""

    namespace: str  # nobody's figures come from another team
    family: str
    unit: str
    gpu_model: str


class Run(NamedTuple):
    """One run of a gang."""

    id: str
    speed: float  # units per second, over workers^exponent
    watts_per_gpu: float | None = None


def family_of(label: str, *, image: str, queue: str, owner: str) -> str:
    """What a workload is expected to share its speed with.

    Args:
        label: what its owner says: the label stint.dev/family. It wins.
        image: of the first container; with the queue it is next: the same program, used for the same purpose. Its tag
            and digest say which build, which changes too often to tell families apart.
        owner: the name of what makes the pods, where there is no image of ours; without the suffix that tells it from
            the next one of its kind.
    """
    if label:
        return label
    if image:
        name = image.partition("@")[0]
        head, slash, tail = name.rpartition("/")
        return f"{head}{slash}{tail.partition(':')[0]} {queue}"
    return _SUFFIX.sub("", owner)


@dataclass(slots=True)
class Book:
    """The latest runs by key, the keys by when they were last noted."""

    runs: dict[Key, tuple[Run, ...]] = field(default_factory=dict)
    _summaries: dict[Key, Speed] = field(default_factory=dict)  # of a gang of one

    def note(self, key: Key, run: Run) -> bool:
        """Take in what a run did. False: nothing that matters is new, or it is no figure.

        A figure within 0.5 % of the one that is known is the same one.
        """
        if not (math.isfinite(run.speed) and run.speed > 0):
            return False
        old = self.runs.get(key, ())
        known = next((r for r in old if r.id == run.id), None)
        watts = run.watts_per_gpu if run.watts_per_gpu is not None or known is None else known.watts_per_gpu
        if (
            known
            and math.isclose(known.speed, run.speed, rel_tol=5e-3)
            and (watts is None) == (known.watts_per_gpu is None)
        ):
            return False
        self.runs.pop(key, None)  # to the end
        self._summaries.clear()
        others = [r for r in old if r.id != run.id]
        self.runs[key] = (*others, run._replace(watts_per_gpu=watts))[-MOST_RUNS:]
        self._make_room(key.namespace)
        return True

    def _make_room(self, namespace: str) -> None:
        """The oldest key goes of the namespace that has too many; where all have too many, of the one with most."""
        counts = Counter(key.namespace for key in self.runs)
        while counts[namespace] > MOST_OF_A_NAMESPACE:
            self._drop_oldest(namespace)
            counts[namespace] -= 1
        while counts.total() > MOST_KEYS:
            largest = max(counts, key=lambda n: (counts[n], n))
            self._drop_oldest(largest)
            counts[largest] -= 1

    def _drop_oldest(self, namespace: str) -> None:
        del self.runs[next(key for key in self.runs if key.namespace == namespace)]

    def speed(self, key: Key, *, workers: int, exponent: float) -> Speed | None:
        """What a gang of that size does; None: no run of its family is known."""
        summary = self._summaries.get(key)
        if summary is None:
            if key not in self.runs:
                return None
            summary = self._summaries[key] = _summary(self.runs[key])
        size = workers**exponent
        return replace(summary, units_per_second=summary.units_per_second * size, spread=summary.spread * size)

    def entries(self) -> list[tuple[Key, tuple[Run, ...]]]:
        """All of it, to be stored."""
        return list(self.runs.items())

    @classmethod
    def of(cls, entries: Iterable[tuple[Key, Iterable[Run]]]) -> Book:
        """From what was stored, as far as it makes sense."""
        book = cls()
        for key, runs in entries:
            for run in runs:
                book.note(key, run)
        return book


def _summary(runs: tuple[Run, ...]) -> Speed:
    speeds = [r.speed for r in runs]
    mean, spread = fmean(speeds), stdev(speeds) if len(speeds) > 1 else 0.0
    watts = [r.watts_per_gpu for r in runs if r.watts_per_gpu is not None]
    return Speed(
        units_per_second=mean,
        spread=spread,
        runs=len(runs),
        watts_per_gpu=fmean(watts) if watts else None,
        trusted=len(runs) >= ENOUGH_RUNS and spread <= MOST_SPREAD * mean,
    )


def with_speeds(job: Job, speeds: Mapping[str, Speed]) -> Job:
    """The job, with what can be trusted of what was measured in place of what was stated.

    A model that nobody has stated a speed for stays one that is not considered.
    """
    stated = job.work.units_per_second
    measured = {m: s.units_per_second for m, s in speeds.items() if s.trusted and m in stated}
    return replace(job, work=replace(job.work, units_per_second={**stated, **measured})) if measured else job
