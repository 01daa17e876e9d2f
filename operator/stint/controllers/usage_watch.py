"""Reads utilisation and told progress from Prometheus now and then; without it decisions go on, and say so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from stint.api.trainingjob import TrainingJob
from stint.controllers.clock import Clock
from stint.feeds.prometheus import Prometheus
from stint.feeds.promql import PrometheusUnavailableError
from stint.kube.records import PodRecord
from stint.metrics.exporter import Metrics
from stint.model.cluster import Utilisation
from stint.model.job import JobId, job_id
from stint.model.measured import Measured, Selector, Speed, Wanted

log = logging.getLogger(__name__)

EVERY_S = 15.0


@dataclass(kw_only=True)
class UsageWatch:
    """What was read last, and since when it cannot be read."""

    prometheus: Prometheus | None  # None: utilisation is unknown
    clock: Clock
    metrics: Metrics
    pods: Callable[[], Iterable[PodRecord]]
    trainingjobs: Callable[[], Iterable[TrainingJob]]
    on_change: Callable[[], None]
    usage: Mapping[JobId, Utilisation] = field(default_factory=dict)
    wrong: str = ""  # why utilisation is unknown; empty: it is known
    _units: Mapping[JobId, float] = field(default_factory=dict)  # as the metrics say that jobs have chosen
    _units_wrong: str = ""
    _warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Nothing is known yet."""
        self.wrong = "" if self.prometheus else "no Prometheus is configured: utilisation is unknown"

    def notes(self) -> tuple[str, ...]:
        """What people should know of it."""
        wrong = (self.wrong,) if self.wrong else ()
        return wrong + tuple(f"Prometheus warns: {warning}" for warning in self._warnings[:3])

    def measured(self, speeds: Mapping[JobId, Mapping[str, Speed]], *, use_speeds: bool) -> Measured:
        """What is known, for decisions."""
        return Measured(
            usage=self.usage,
            told=self._units,
            metrics_wrong=self._units_wrong,
            speeds=speeds,
            use_speeds=use_speeds,
            asked=self.prometheus is not None,
            wrong=self.wrong,
        )

    async def run(self) -> None:
        """Until cancelled."""
        while self.prometheus is not None:
            before = self._gist()
            try:
                await self._read(self.prometheus)
            except Exception as error:  # what a job names as its metric, or a pod says, ends no operator
                log.exception("utilisation")
                self.wrong = f"utilisation is unknown: {error!r:.200}"
            if before != self._gist():
                self.on_change()  # where all is quiet the next tick is a minute away
            server = self.prometheus.server
            circuit = self.prometheus.breaker.state.value
            up = not self.wrong
            self.metrics.prometheus(up=up, circuit=circuit, queries=server.queries, read_bytes=server.bytes)
            await asyncio.sleep(EVERY_S)
        await asyncio.Event().wait()

    def _gist(self) -> tuple[object, object]:
        return {job: (u.idle_gpus, u.measured) for job, u in self.usage.items()}, self._units

    async def _read(self, prometheus: Prometheus) -> None:
        pods = {
            (p.gang.namespace, p.gang.name): job_id(p.gang.namespace, p.gang.job)
            for p in self.pods()
            if p.gang is not None and p.phase == "Running"
        }
        jobs = set(pods.values())
        try:
            reading = await prometheus.read(pods, self._wanted(jobs))
            found, self._units, self._units_wrong = reading.usage, reading.told, reading.told_wrong
            self.wrong = ""
            if prometheus.server.warnings != self._warnings:
                self._warnings = prometheus.server.warnings
                log.warning("Prometheus warns: %s", "; ".join(self._warnings) or "no more")
        except PrometheusUnavailableError as error:
            if not self.wrong:
                log.warning("utilisation is unknown: %s", error)
            self.wrong = f"utilisation is unknown: {error}"
            found, self._units = prometheus.remembered(jobs), {}
        self.usage = {u.job: replace(u, measured_at=u.measured_at and self.clock.of(u.measured_at)) for u in found}
        self.metrics.usage(found)

    def _wanted(self, jobs: Collection[JobId]) -> dict[JobId, Wanted]:
        """The metrics by which running jobs say how far they are."""
        found = {}
        for resource in self.trainingjobs():
            job, source = job_id(resource.metadata.namespace, resource.metadata.name), resource.spec.progress
            if source is not None and source.metric is not None and job in jobs:
                labels = tuple(sorted(source.metric.labels.items()))
                found[job] = Wanted(Selector(source.metric.name, labels), source.metric.aggregate)
        return found
