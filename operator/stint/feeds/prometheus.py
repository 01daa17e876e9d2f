"""Utilisation, power and progress from Prometheus, as dcgm-exporter and people's own jobs write them.

Three aggregated queries for the whole cluster and one for progress, never one a pod. The exporter names a GPU's pod
`pod`; Prometheus renames that to `exported_pod` unless told to honour labels, and then `pod` is the exporter's own. So
the spelling is detected and never mixed: with `A or B` the idle GPUs would be billed to the exporter.

A GPU is (UUID, GPU_I_ID): the same one scraped twice counts once. What DCGM measures of the device, such as power, is
divided by who shares it: MIG instances and pods by time-slicing alike. Figures that cannot be are unknown, and unknown
is None, never zero.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from stint.feeds.breaker import Breaker
from stint.feeds.promql import Access, Ask, PrometheusUnavailableError, Server
from stint.model.cluster import Utilisation
from stint.model.job import JobId, split_job_id
from stint.model.measured import Aggregate, Selector, Wanted

IDLE_BELOW = 0.05
NO_PROCESS_BELOW_MIB = 64  # a CUDA context alone takes hundreds
KEPT_S = 120.0  # how long a value stands that is not measured any more
MOST_SELECTORS = 24  # of metrics that tell progress, in one query
SPELLINGS = (("exported_namespace", "exported_pod"), ("pod_namespace", "pod_name"), ("namespace", "pod"))
_MOST_RATIO, _MOST_WATTS = 1.01, 1e4  # of a GPU; DCGM's blank values are far beyond
_OWNERS = ("exported_namespace", "exported_pod", "namespace", "pod")

Pod = tuple[str, str]  # namespace, name
Spelling = tuple[str, str]
_Stats = dict[str, dict[Pod, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look."""

    usage: tuple[Utilisation, ...]
    told: Mapping[JobId, float] = field(default_factory=dict)  # by the metrics that were wanted; may be NaN
    told_wrong: str = ""  # why those could not be asked


@dataclass(slots=True)
class Prometheus:
    """One server, and what was last known by it."""

    server: Server
    window: str = "5m"
    spelling: Spelling | None = None  # of the labels that name a GPU's pod; None: detect it
    breaker: Breaker = field(default_factory=Breaker)
    clock: Callable[[], float] = time.monotonic
    _detected: Spelling | None = None
    _last: dict[JobId, tuple[Utilisation, float]] = field(default_factory=dict)  # and when it was measured
    _why: str = ""

    @classmethod
    def at(cls, url: str, **access: object) -> Prometheus:
        """With settings that are all the usual ones but for these of `Access`."""
        return cls(Server(Access(url=url, **access)))  # type: ignore[arg-type]

    async def read(self, pods: Mapping[Pod, JobId], wanted: Mapping[JobId, Wanted] | None = None) -> Reading:
        """What the GPUs of these pods did lately, and how far these jobs say they are.

        A job of which nothing is measured at the moment keeps what was last known for `KEPT_S` seconds.

        Raises:
            PrometheusUnavailableError: saying why. `remembered` still has what was last known.
        """
        now = self.clock()
        if not self.breaker.allows(now):
            wait = self.breaker.until - now
            raise PrometheusUnavailableError(
                f"{self._why} (asked again in {wait:.0f} s, after {self.breaker.failures} failures in a row)"
            )
        try:
            async with self.server.round() as ask:
                usage = await self._usage(ask, pods)
                told, told_wrong = await _progress(ask, pods, wanted or {})
        except PrometheusUnavailableError as error:
            self._why = str(error)
            self.breaker.failed(now)
            raise
        self.breaker.succeeded()
        return Reading(usage=self._remember(usage, now), told=told, told_wrong=told_wrong)

    def remembered(self, jobs: Collection[JobId]) -> tuple[Utilisation, ...]:
        """What was last known of these jobs, where it is not too old."""
        now = self.clock()
        self._last = {j: (u, at) for j, (u, at) in self._last.items() if j in jobs and now - at <= KEPT_S}
        return tuple(u for _, (u, _) in sorted(self._last.items()))

    def _remember(self, usage: Iterable[Utilisation], now: float) -> tuple[Utilisation, ...]:
        usage = tuple(usage)
        fresh = {u.job for u in usage if u.measured}
        self._last |= {u.job: (u, now) for u in usage if u.measured}
        last = {u.job: u for u in self.remembered({u.job for u in usage})}
        return tuple(u if u.job in fresh else last.get(u.job, u) for u in usage)

    async def _usage(self, ask: Ask, pods: Mapping[Pod, JobId]) -> tuple[Utilisation, ...]:
        if not pods:
            await ask("vector(1)")  # so that a server that is down is known to be
            return ()
        spelling = self.spelling or self._detected or await self._detect(ask, pods)
        if spelling is None:
            return _by_job(pods, {}, at=None)  # no series names any of our pods yet
        stats: _Stats = defaultdict(dict)
        for query in queries(spelling, self.window):
            for sample in await ask(query):
                owner = sample.metric.get(spelling[0], ""), sample.metric.get(spelling[1], "")
                if owner in pods:
                    stats[sample.metric.get("stat", "")][owner] = sample.number
        if not any(stats.values()):
            self._detected = None  # labels may have been renamed meanwhile
        return _by_job(pods, stats, at=datetime.now(UTC))

    async def _detect(self, ask: Ask, pods: Mapping[Pod, JobId]) -> Spelling | None:
        """Which labels name a GPU's pod: those under which most of our own pods are found. None: none are yet."""
        labels = ",".join(dict.fromkeys(label for spelling in SPELLINGS for label in spelling))
        series = '{__name__=~"DCGM_FI_DEV_GPU_UTIL|DCGM_FI_PROF_GR_ENGINE_ACTIVE"}'
        found: Counter[Spelling] = Counter()
        for sample in await ask(f"count by ({labels}) ({series})"):
            for spelling in SPELLINGS:
                found[spelling] += (sample.metric.get(spelling[0], ""), sample.metric.get(spelling[1], "")) in pods
        best = max(SPELLINGS, key=lambda s: found[s])
        self._detected = best if found[best] else None
        return self._detected


def queries(spelling: Spelling, window: str) -> tuple[str, str, str]:
    """What is asked each time. Each row of an answer is a pod's, and its label `stat` says what of it.

    Busy is what the graphics engine says where it is measured, which MIG needs, else the device's utilisation. Power is
    the energy counter's growth where that was there through the whole window, else the mean of the gauge: a series
    that began within the window has not grown through all of it.
    """
    by = ",".join(spelling)
    owned = f'{{{spelling[1]}!="",UUID!=""}}'
    gpu = f"max by ({by},UUID,GPU_I_ID)"

    def over(function: str, metric: str) -> str:
        """Through the window, of GPUs that the pod has now: one of the same name may have had others before."""
        return f"({gpu} ({function}({metric}{owned}[{window}])) and {gpu} ({metric}{owned}))"

    engine = f"{over('avg_over_time', 'DCGM_FI_PROF_GR_ENGINE_ACTIVE')} >= 0"
    util = f"{over('avg_over_time', 'DCGM_FI_DEV_GPU_UTIL')} / 100 >= 0"
    busy = f"({engine} or {util})"
    energy = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
    grown = f"{over('rate', energy)} / 1000 and {gpu} ({energy}{owned} offset {window})"
    gauge = f"{over('avg_over_time', 'DCGM_FI_DEV_POWER_USAGE')} >= 0"
    sharers = f'count by (UUID) (max by ({by},UUID,GPU_I_ID) (DCGM_FI_DEV_POWER_USAGE{{UUID!=""}}))'
    memory = over("max_over_time", "DCGM_FI_DEV_FB_USED")
    tensor = f"{over('avg_over_time', 'DCGM_FI_PROF_PIPE_TENSOR_ACTIVE')} >= 0"
    return (
        _union(
            busy=f"avg by ({by}) {busy}",
            gpus=f"count by ({by}) {busy}",
            idle=f"sum by ({by}) ({busy} < bool {IDLE_BELOW}) > 0",
        ),
        _union(watts=f"sum by ({by}) (({grown} or {gauge}) / on (UUID) group_left () {sharers})"),
        _union(
            tensor=f"avg by ({by}) ({tensor})",
            memory=f"max by ({by}) ({memory}) / 1024",
            processless=f"sum by ({by}) ({memory} < bool {NO_PROCESS_BELOW_MIB}) > 0",
        ),
    )


def _union(**parts: str) -> str:
    """One query for several figures, told apart by the label `stat`."""
    return " or ".join(f'label_replace({query}, "stat", "{stat}", "", "")' for stat, query in parts.items())


async def _progress(
    ask: Ask, pods: Mapping[Pod, JobId], wanted: Mapping[JobId, Wanted]
) -> tuple[dict[JobId, float], str]:
    """Units by job, in one query; a server that cannot say takes nothing from the rest."""
    selectors = list(dict.fromkeys(wanted[job].selector for job in sorted(wanted)))
    if not selectors:
        return {}, ""
    wrong = ""
    if len(selectors) > MOST_SELECTORS:
        wrong = f"more than {MOST_SELECTORS} different metrics tell progress; those of the last jobs are not asked"
    asked = {f"{i}": s for i, s in enumerate(selectors[:MOST_SELECTORS])}
    where: dict[Selector, set[str]] = defaultdict(set)
    for name, want in wanted.items():
        where[want.selector].add(split_job_id(name)[0])
    try:
        samples = await ask(_union(**{i: _of_namespaces(s, where[s]) for i, s in asked.items()}))
    except PrometheusUnavailableError as error:
        return {}, str(error)
    owned: dict[tuple[Selector, JobId], list[float]] = defaultdict(list)
    loose: dict[Selector, list[tuple[str, float]]] = defaultdict(list)  # of no pod of ours, with their namespaces
    for sample in samples:
        selector, labels = asked.get(sample.metric.get("stat", "")), sample.metric
        if selector is None:
            continue
        owners = [(labels.get(namespace, ""), labels.get(pod, "")) for namespace, pod in (_OWNERS[:2], _OWNERS[2:])]
        job = next((pods[o] for o in owners if o in pods), None)
        if job is not None:
            owned[selector, job].append(sample.number)
        elif selector.labels:
            loose[selector].append((owners[0][0] or owners[1][0], sample.number))
    told = {}
    for name, want in wanted.items():
        own = owned[want.selector, name] or [
            # Pushed by a gateway or made by a rule: chosen by its labels, but never in another namespace.
            value
            for namespace, value in loose[want.selector]
            if namespace in ("", split_job_id(name)[0])
        ]
        if own:
            told[name] = sum(own) if want.aggregate is Aggregate.SUM else max(own, key=_nan_last)
    return told, wrong


def _of_namespaces(selector: Selector, namespaces: Collection[str]) -> str:
    """By pod; of these namespaces, whichever label says so, or of none: a metric of all pods is not read as a whole."""
    names = "|".join(sorted(namespaces))
    plain, renamed = series(selector, f'namespace=~"|{names}"'), series(selector, f'exported_namespace=~"{names}"')
    return f"max by ({','.join(_OWNERS)}) ({plain} or {renamed})"


def series(selector: Selector, *more: str) -> str:
    """As PromQL, with more matchers."""
    quoted = (f'{k}="{_escaped(v)}"' for k, v in selector.labels)
    return f"{selector.name}{{{','.join((*quoted, *more))}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _nan_last(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _plausible(stat: str, values: Mapping[Pod, float], gpus: Mapping[Pod, float]) -> dict[Pod, float]:
    """Without NaN, infinity, negative figures, and the numbers that DCGM writes where it has none."""

    def most(pod: Pod) -> float:
        if stat in ("busy", "tensor"):
            return _MOST_RATIO
        return _MOST_WATTS * max(gpus.get(pod, 1.0), 1.0) if stat == "watts" else 1e6

    return {pod: min(v, 1.0) if stat in ("busy", "tensor") else v for pod, v in values.items() if 0 <= v <= most(pod)}


def _by_job(
    pods: Mapping[Pod, JobId], raw: Mapping[str, Mapping[Pod, float]], *, at: datetime | None
) -> tuple[Utilisation, ...]:
    count = raw.get("gpus", {})
    stats = {stat: _plausible(stat, values, count) for stat, values in raw.items()}
    jobs: dict[JobId, list[Pod]] = defaultdict(list)
    for pod, job in pods.items():
        jobs[job].append(pod)
    return tuple(_of_gang(job, own, stats, at) for job, own in sorted(jobs.items()))


def _of_gang(job: JobId, own: list[Pod], stats: Mapping[str, Mapping[Pod, float]], at: datetime | None) -> Utilisation:
    """Means over what is known; sums only where all of it is: part of a sum would pass for the whole."""

    def known(stat: str) -> dict[Pod, float]:
        return {p: v for p in own if (v := stats.get(stat, {}).get(p)) is not None}

    def mean(stat: str) -> float | None:
        values = known(stat)
        weights = {p: gpus.get(p, 1.0) for p in values}
        return sum(v * weights[p] for p, v in values.items()) / sum(weights.values()) if values else None

    def total(stat: str, base: Mapping[Pod, float]) -> float | None:
        """`base`: has a row for each pod of which it is known; where `stat` has none then, it is zero."""
        return sum(known(stat).values()) if len(base) == len(own) else None

    gpus, memory, watts = known("gpus"), known("memory"), known("watts")
    busy = known("busy")
    idle, processless = total("idle", busy), total("processless", memory)
    found = Utilisation(
        job=job,
        gpu_ratio=mean("busy"),
        watts=total("watts", watts),
        idle_gpus=None if idle is None else round(idle),
        work_ratio=mean("tensor"),
        gpus=round(sum(gpus.values())) if len(gpus) == len(own) else None,
        processless_gpus=None if processless is None else round(processless),
        memory_gib=max(memory.values()) if len(memory) == len(own) else None,
    )
    return replace(found, measured_at=at) if found.measured else found
