"""Gavel's policies in its rounds: what its authors' simulator does with a list of jobs, written anew.

Deepak Narayanan et al., "Heterogeneity-Aware Cluster Scheduling Policies for Deep Learning Workloads", OSDI 2020,
sections 3 to 5. Whenever a job comes or goes, a linear programme says which part of the time each job should have on
each type of GPU. Time passes in rounds of six minutes; in each, type after type takes the jobs that are furthest behind
what they should have had, V100 first. A GPU that nobody should have is given to somebody all the same. Pausing and
moving cost nothing, and a job pays for the time that it uses.

The authors' solver is an interior-point one: where the programme says nothing it says next to nothing, more of it where
that would cost the objective less. Those traces decide who gets idle GPUs, so they are put back here from the reduced
costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog

ROUND_S = 360.0
RESET_S = 1000.0  # between times at which what was had so far is forgotten
_TRACE, _SOFTENED = 1e-9, 1e-3
_FIRST = 1e9  # how far behind one is that should have something and has had nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A job: steps, and how fast they go on each type (0: not at all)."""

    name: str
    arrives_s: float
    gpus: int
    steps: float
    steps_per_s: tuple[float, ...]  # by type, as all of its GPUs do them
    due_s: float

    @property
    def late_anywhere(self) -> bool:
        """Whether it would miss its deadline on an empty cluster, started at once on its fastest type."""
        return self.arrives_s + self.steps / max(self.steps_per_s) > self.due_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Types:
    """What there is of each type, the fastest first, as ties go by that."""

    names: tuple[str, ...]
    usd_per_gpu_hour: tuple[float, ...]
    gpus: tuple[int, ...]
    gpus_per_node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a policy made of all jobs."""

    usd: float
    end_s: tuple[float, ...]  # by job


def per_dollar(speed: np.ndarray, usd: np.ndarray) -> np.ndarray:
    """What a share of a type's time is worth to the objective: steps a second for a dollar an hour."""
    worth: np.ndarray = speed / usd
    return worth


def throughput(speed: np.ndarray, usd: np.ndarray) -> np.ndarray:
    """Steps a second, whatever they cost."""
    del usd
    return speed


@dataclass(slots=True)
class _Run:
    jobs: Sequence[Work]
    types: Types
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    deadlines: bool
    share: dict[int, np.ndarray] = field(default_factory=dict)  # of each type's time that a job should have
    had_s: dict[int, np.ndarray] = field(default_factory=dict)
    owed_s: dict[int, np.ndarray] = field(default_factory=dict)
    reset_s: float = -np.inf
    speed: np.ndarray = field(init=False)  # by job and type
    left: np.ndarray = field(init=False)  # steps
    usd: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.speed = np.array([j.steps_per_s for j in self.jobs])
        self.left = np.array([j.steps for j in self.jobs])
        self.usd = np.array(self.types.usd_per_gpu_hour)

    def allocate(self, active: Sequence[int], now_s: float) -> None:
        """Solve the programme afresh; without deadlines where they cannot all be met."""
        who, kinds = np.array(active), len(self.usd)
        count = len(who)
        worth = -self.value(self.speed[who], self.usd).ravel()
        rows = np.zeros((count + kinds, count * kinds))
        for i in range(count):
            rows[i, kinds * i : kinds * (i + 1)] = 1.0
        for k in range(kinds):
            rows[count + k, k::kinds] = [self.jobs[a].gpus for a in active]
        most = np.array([1.0] * count + [float(g) for g in self.types.gpus])
        found = None
        if self.deadlines:
            in_time = [(i, a) for i, a in enumerate(active) if self.jobs[a].due_s > now_s]
            due = np.zeros((len(in_time), count * kinds))
            for row, (i, a) in enumerate(in_time):
                due[row, kinds * i : kinds * (i + 1)] = -self.speed[a]
            pace = np.array([-self.left[a] / (self.jobs[a].due_s - now_s) for _, a in in_time])
            found = linprog(worth, np.vstack([rows, due]), np.concatenate([most, pace]), method="highs")
        if found is None or found.status != 0:
            found = linprog(worth, rows, most, method="highs")
        reduced = np.maximum(found.lower.marginals.reshape(count, kinds), 0.0)
        share = np.clip(found.x.reshape(count, kinds), 0.0, 1.0) + _TRACE / (reduced + _SOFTENED)
        before, self.share = self.share, {a: share[i] for i, a in enumerate(active)}
        self._keep_accounts(active, before, now_s)

    def _keep_accounts(self, active: Sequence[int], before: dict[int, np.ndarray], now_s: float) -> None:
        start = np.full(len(self.usd), ROUND_S / 2)
        if now_s - self.reset_s >= RESET_S:
            for a, had in self.had_s.items():
                should = before.get(a, np.zeros(len(self.usd))) * (now_s - self.reset_s)
                self.owed_s[a] = self.owed_s.get(a, np.zeros(len(self.usd))) + should - (had - start)
            self.had_s, self.reset_s = {}, now_s
        for a in active:
            self.had_s.setdefault(a, start.copy())
            self.owed_s.setdefault(a, np.zeros(len(self.usd)))

    def round(self, active: Sequence[int]) -> dict[int, int]:
        """Who runs on what type."""
        given: dict[int, int] = {}
        total = sum(self.had_s.values(), np.zeros(len(self.usd)))
        for k in range(len(self.usd)):
            free = self.types.gpus[k]
            queue = []
            for a in active:
                if self.speed[a, k] > 0:
                    part = self.had_s[a][k] / total[k]
                    behind = self.share[a][k] / part if part > 0 else self.share[a][k] * _FIRST
                    queue.append((behind, self.owed_s[a][k], self.share[a][k], -a))
            for *_, negative in sorted(queue, reverse=True):
                if -negative not in given and self.jobs[-negative].gpus <= free:
                    given[-negative] = k
                    free -= self.jobs[-negative].gpus
        return given


def run(
    jobs: Sequence[Work],
    types: Types,
    value: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    deadlines: bool = False,
) -> Ended:
    """Until all jobs, sorted by arrival, have ended."""
    state = _Run(jobs, types, value, deadlines)
    ends: dict[int, float] = {}
    active: list[int] = []
    now_s, usd, next_, changed = 0.0, 0.0, 0, True
    while next_ < len(jobs) or active:
        if not active:
            now_s = max(now_s, jobs[next_].arrives_s)
        while next_ < len(jobs) and jobs[next_].arrives_s <= now_s:
            active.append(next_)
            next_, changed = next_ + 1, True
        if changed:
            state.allocate(active, now_s)
            changed = False
        lasts_s = 0.0
        for a, k in state.round(active).items():
            needs_s = state.left[a] / state.speed[a, k]
            runs_s = min(needs_s, ROUND_S)
            usd += state.usd[k] * jobs[a].gpus * runs_s / 3600.0
            state.had_s[a][k] += runs_s
            state.left[a] -= runs_s * state.speed[a, k]
            lasts_s = max(lasts_s, runs_s)
            if needs_s <= ROUND_S:
                ends[a], changed = now_s + needs_s, True
        now_s += lasts_s
        active = [a for a in active if a not in ends]
    return Ended(usd=float(usd), end_s=tuple(ends[a] for a in range(len(jobs))))
