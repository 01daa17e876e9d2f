"""The process: everything wired together, ended when any part of it ends."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

import stint
from stint.api.gpupool import GPUPool
from stint.api.pricebook import PriceBook
from stint.api.trainingjob import TrainingJob
from stint.catalogue.catalogue import Catalogue
from stint.controllers.bookkeeper import EPOCH, Bookkeeper, clock_wrong, known_until
from stint.controllers.calibrator import Calibrator
from stint.controllers.capacity_watch import watch_capacity
from stint.controllers.clock import Clock
from stint.controllers.cycle import Cycle, Trigger
from stint.controllers.daily_spend import EVERY_S, KEEP_DAYS, DailySpends
from stint.controllers.feeds import Feeds
from stint.controllers.gc_tuning import collect_rarely
from stint.controllers.kopf_watch import KopfWatch
from stint.controllers.planner_client import TIMEOUT_S, Planner
from stint.controllers.pool_status import PoolWriter
from stint.controllers.recorder import DecisionRecorder
from stint.controllers.steering import Steering
from stint.controllers.store import Store
from stint.controllers.webhook import serve_gate
from stint.feeds import bundled
from stint.feeds.prometheus import Prometheus, Spelling
from stint.feeds.promql import Access, PrometheusUnavailableError, Server
from stint.kube import rbac
from stint.kube.act.apply import Actuator
from stint.kube.act.manifests import SERVICE_LABELS
from stint.kube.act.podgroups import PodGroups
from stint.kube.client.api import Api, ApiError, FencedError, connect
from stint.kube.client.events import Recorder
from stint.kube.client.informer import Informer
from stint.kube.client.lease import Leadership
from stint.kube.observe.snapshot import Caches
from stint.kube.records import JOB_LABEL, JobRecord, NodeRecord, PodRecord, ServiceRecord
from stint.kube.reduce import reduce_job, reduce_node, reduce_pod, reduce_service
from stint.kube.steered import MANAGED
from stint.kube.wire import WireJob, WireNode, WirePod, WireService
from stint.kube.workloads import WireWorkload, WorkloadRecord, reducer
from stint.metrics.exporter import Metrics
from stint.metrics.server import Checks, serve
from stint.model.cluster import Utilisation
from stint.model.job import JobId, job_id
from stint.model.measured import Measured, Selector, Wanted
from stint.model.situation import Settings
from stint.workloads.registry import KINDS

log = logging.getLogger(__name__)

GROUP, VERSION = "stint.dev", "v1alpha1"
RELIST_EVERY_S = 60.0
AFTER_A_GAP_S = 0.3
USAGE_EVERY_S = 15.0
PROGRESS_AFTER_S = 5.0  # news that are only progress wait for so long, for more of them
SILENT_AFTER_S = 400.0  # a watch is renewed by the server every 300 s
STUCK_AFTER_S = 300.0
ASK_AGAIN_S = 60.0
RIGHTS_EVERY_S = 5.0  # a look at our own counters; questions are asked only where there is reason to
DAYS_EVERY_S = 5.0  # a look at what is due
UNWATCHED_S = 2.0  # between lists of our own resources while kopf does not watch them
# The API server accepts objects that are nested 10,000 deep; Python by itself gives up at 1,000, and one such object in
# a list would hide all others.
MOST_NESTED = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    kubeconfig: Path | None = None
    namespace: str = "stint-system"
    identity: str = field(default_factory=lambda: f"{socket.gethostname()}_{os.getpid()}")
    metrics_port: int = 8080
    health_port: int = 8081
    prometheus: Access | None = None  # None: utilisation is unknown
    prometheus_window: str = "5m"
    prometheus_pod_labels: Spelling | None = None  # None: detect them
    use_calibration: bool = True  # False: what is measured of speeds is only shown
    record_dir: Path | None = None
    feed_tokens: Path = Path("/feeds")  # SECRET/KEY, of the sources of PriceBooks
    pod_groups: bool = False  # where they are served
    pace: float = 1.0
    steering: bool = False
    webhook_port: int | None = None  # None: an admission policy gates pods
    webhook_certificates: Path | None = None
    plan_timeout_s: float = TIMEOUT_S
    keep_days: int = KEEP_DAYS  # DailySpends older than that are deleted
    settings: Settings = field(default_factory=Settings)


class Operator:
    """One process."""

    def __init__(self, api: Api, options: Options) -> None:
        self.options = options
        self.api = api
        self.trigger = Trigger()
        self.metrics = Metrics(version=stint.__version__)
        self.trainingjobs: Store[TrainingJob] = Store(TrainingJob)
        self.gpu_pools: Store[GPUPool] = Store(GPUPool)
        self.price_books: Store[PriceBook] = Store(PriceBook)
        self.stores: Mapping[str, Store[Any]] = {
            "trainingjobs": self.trainingjobs,
            "gpupools": self.gpu_pools,
            "pricebooks": self.price_books,
        }
        self._relist_now = asyncio.Event()
        self.kopf = KopfWatch(
            api.connection,
            group=GROUP,
            version=VERSION,
            plurals=tuple(self.stores),
            identity=options.identity,
            on_event=self._on_event,
            on_gap=self._relist_now.set,
        )
        self.nodes: Informer[WireNode, NodeRecord] = Informer(
            api, "/api/v1/nodes", WireNode, reduce_node, on_change=self._node_changed, on_gap=self._relist_now.set
        )
        self.pods: Informer[WirePod, PodRecord] = Informer(
            api, "/api/v1/pods", WirePod, reduce_pod, on_change=self._changed, on_gap=self._relist_now.set
        )
        self.jobs: Informer[WireJob, JobRecord] = Informer(
            api,
            "/apis/batch/v1/jobs",
            WireJob,
            reduce_job,
            params={"labelSelector": JOB_LABEL},
            on_change=self._changed,
        )
        self.services: Informer[WireService, ServiceRecord] = Informer(
            api,
            "/api/v1/services",
            WireService,
            reduce_service,
            params={"labelSelector": ",".join(f"{k}={v}" for k, v in SERVICE_LABELS.items())},
            on_change=self._changed,
        )
        self.workloads: Mapping[str, Informer[WireWorkload, WorkloadRecord]] = {
            kind.plural if kind.group != "batch" else "steered jobs": Informer(
                api,
                kind.path(),
                WireWorkload,
                reducer(kind),
                params={"labelSelector": f"{MANAGED}=true"},
                on_change=self._changed,
                may_be_absent=True,
            )
            for kind in KINDS.values()
            if options.steering
        }
        self.informers: Mapping[str, Informer[Any, Any]] = {
            "nodes": self.nodes,
            "pods": self.pods,
            "jobs": self.jobs,
            "services": self.services,
            **self.workloads,
        }
        self.pod_groups = PodGroups(api, wanted=options.pod_groups, on_known=self.trigger.fire)
        self.leadership = Leadership(
            api,
            namespace=options.namespace,
            name="stint",
            identity=options.identity,
            on_gain=self._leads,
        )
        api.may_write = self.leadership.certain
        events = Recorder(api, options.identity)
        self.clock = Clock(start=datetime.now(UTC), pace=options.pace)
        self.prometheus = (
            Prometheus(Server(options.prometheus), options.prometheus_window, options.prometheus_pod_labels)
            if options.prometheus
            else None
        )
        self.catalogue = bundled.load()
        self.calibrator = Calibrator(
            api=api,
            namespace=options.namespace,
            leads=self.leadership.certain,
            canonical=functools.cache(self.catalogue.canonical_gpu),
        )
        self._usage_warnings: tuple[str, ...] = ()
        self._soon: asyncio.TimerHandle | None = None
        self._usage: Mapping[JobId, Utilisation] = {}
        self._units: Mapping[JobId, float] = {}  # as the metrics say that jobs have chosen
        self._units_wrong = ""
        self._usage_wrong = "" if self.prometheus else "no Prometheus is configured: utilisation is unknown"
        self._listed = False
        self._missing: list[rbac.Right] = []
        actuator = Actuator(api, self.jobs, self.pods, self.services, self.pod_groups, self.trainingjobs.put)
        steering = Steering(
            api=api,
            actuator=actuator,
            events=events,
            pods=lambda: tuple(self.pods),
            workloads=self._workloads,
            trainingjobs=lambda: tuple(self.trainingjobs.items.values()),
            absorb=self.trainingjobs.put,
        )

        async def fell_back(text: str) -> None:
            await events.tell(self.leadership.about(), "FellBack", text, action="Decide", warning=True)

        self.feeds = Feeds(
            api=api,
            shipped=self.catalogue,
            books=lambda: tuple(self.price_books.items.values()),
            namespace=options.namespace,
            tokens=options.feed_tokens,
            metrics=self.metrics,
            now=self.clock.now,
            on_change=self._reprice,
        )
        self.books = Bookkeeper(of=self.clock.of, catalogue=self.catalogue, count=self.metrics.booked)
        self.days = DailySpends(
            api=api,
            namespace=options.namespace,
            books=self.books,
            keep_days=options.keep_days,
            every_s=max(1.0, EVERY_S / options.pace),
        )
        self.planner = Planner(self.metrics, fell_back, timeout_s=options.plan_timeout_s)
        self.cycle = Cycle(
            api=api,
            actuator=actuator,
            planner=self.planner,
            steer=steering.tend if options.steering else None,
            pools=PoolWriter(
                api,
                events,
                lambda: tuple(self.gpu_pools.items.values()),
                lambda: tuple(self.price_books.items.values()),
                {"gpupools": self.gpu_pools.put, "pricebooks": self.price_books.put},
                self.feeds,
                pace=options.pace,
            ),
            events=events,
            metrics=self.metrics,
            clock=self.clock,
            catalogue=self.catalogue,
            settings=options.settings,
            caches=self._caches,
            books=self.books,
            days=self.days,
            booking=self._booking,
            known_until=self._known_until,
            may_act=lambda: self.leadership.certain() and self._synced() is None,
            absorb=self.trainingjobs.put,
            notes=self._notes,
            measured=self._measured,
            learn=lambda observation: self.calibrator.learn(observation, self._usage),
            hindrance=self._hindrance,
            recorder=DecisionRecorder(options.record_dir) if options.record_dir else None,
            trigger=self.trigger,
        )

    def _leads(self) -> None:
        """What was booked in an earlier reign of ours may not be what others have booked since."""
        before = self.leadership.led_before_until
        self.books.begin(self.clock.of(before) if before else EPOCH)
        self.days.stop()
        self.trigger.fire()

    def _known_until(self) -> datetime:
        silent_s = time.monotonic() - self.pods.last_heard
        return known_until(datetime.now(UTC), self.api.server_time(), silent_s)

    def _booking(self) -> tuple[str, str] | None:
        """What is wrong with the books, as a condition tells it."""
        if wrong := clock_wrong(datetime.now(UTC), self.api.server_time()):
            return "ClockDiffers", wrong
        return ("DaysNotWritten", self.days.absent) if self.days.absent else None

    def _changed(self, old: object, new: object) -> None:
        """A pod that is not ours triggers a cycle only when it comes or goes."""
        if new is None and isinstance(old, PodRecord):
            self.books.gone(old, datetime.now(UTC))
        if isinstance(new, PodRecord) and isinstance(old, PodRecord) and new.gang is None and old.node == new.node:
            return
        if isinstance(new, PodRecord) and isinstance(old, PodRecord) and _only_further(old, new):
            self._trigger_soon()
            return
        self.trigger.fire()

    def _trigger_soon(self) -> None:
        """Jobs that tell their progress every second are heard every few."""
        if self._soon is None or self._soon.when() <= asyncio.get_running_loop().time():
            self._soon = asyncio.get_running_loop().call_later(PROGRESS_AFTER_S, self.trigger.fire)

    def _node_changed(self, old: NodeRecord | None, new: NodeRecord | None) -> None:
        """Heartbeats trigger no cycle."""
        if new is None and old is not None:
            self.books.gone(old, datetime.now(UTC))
        if old is None or new is None or old != new:
            self.trigger.fire()

    def _reprice(self, catalogue: Catalogue) -> None:
        self.cycle.catalogue = catalogue
        self.trigger.fire()

    def _caches(self) -> Caches:
        return Caches(
            trainingjobs=tuple(self.trainingjobs.items.values()),
            gpu_pools=tuple(self.gpu_pools.items.values()),
            price_books=tuple(self.price_books.items.values()),
            nodes=tuple(self.nodes),
            pods=tuple(self.pods),
            jobs=tuple(self.jobs),
            workloads=self._workloads(),
        )

    def _workloads(self) -> tuple[WorkloadRecord, ...]:
        return tuple(record for informer in self.workloads.values() for record in informer)

    def _synced(self) -> str | None:
        behind = [name for name, informer in self.informers.items() if not informer.synced.is_set()]
        behind += ["pod groups"] * self.pod_groups.behind
        if not self._listed:
            behind.append("our own resources; are the CRDs installed, and may we list them?")
        if self._listed and not self.feeds.settled():
            behind.append("price sources")
        return f"not yet listed: {', '.join(behind)}" if behind else None

    def _ages(self) -> dict[str, float]:
        now = time.monotonic()
        ages = {n: now - i.last_heard for n, i in self.informers.items() if i.synced.is_set()}
        return ages | ({"pod groups": now - self.pod_groups.informer.last_heard} if self.pod_groups.usable else {})

    def _silent(self) -> str | None:
        silent = [n for n, age in self._ages().items() if age > SILENT_AFTER_S]
        return f"nothing heard of {', '.join(silent)} for over {SILENT_AFTER_S:.0f} s" if silent else None

    def _stuck(self) -> str | None:
        age = time.monotonic() - self.cycle.last_finished
        leading = self.leadership.held.is_set() and self._synced() is None
        return f"no cycle has finished for {age:.0f} s" if leading and age > STUCK_AFTER_S else None

    def _hindrance(self) -> str:
        return rbac.told(self._missing) if self._missing else ""

    async def check_rights(self) -> None:
        """Ask at start what we may do, and again while something is missing, or when a request was forbidden."""
        asked: tuple[rbac.Right, ...] = ()
        forbidden, at = 0, float("-inf")
        while True:
            needed = rbac.needed(
                self.gpu_pools.items.values(),
                steering=self.options.steering,
                pod_groups=bool(self.pod_groups.served),
            )
            refusals = sum(n for (_, status), n in self.api.requests.items() if status == 403)
            again = refusals != forbidden and time.monotonic() - at > ASK_AGAIN_S  # quotas refuse with 403, too
            if self._missing or needed != asked or again:
                at = time.monotonic()
                try:
                    found = await rbac.missing(self.api, needed, namespace=self.options.namespace)
                    asked, forbidden = needed, refusals
                    self._note_rights(found)
                except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                    log.warning("our rights could not be checked: %s", error or type(error).__name__)
            await asyncio.sleep(RIGHTS_EVERY_S)

    def _note_rights(self, found: list[rbac.Right]) -> None:
        if found == self._missing:
            return
        self._missing = found
        if found:
            log.error("%s", rbac.told(found))
        else:
            log.info("all rights are granted now")
        self.trigger.fire()

    def checks(self) -> Checks:
        """A standby that is synced is ready: it could take over."""
        return Checks(
            live={"watches": self._silent, "cycle": self._stuck},
            ready={"rights": lambda: self._hindrance() or None, "caches": self._synced, "watches": self._silent},
        )

    def render(self) -> bytes:
        """The metrics, with those that are only looked up when asked for."""
        self.metrics.leader.set(self.leadership.held.is_set())
        for name, age in self._ages().items():
            self.metrics.informer_age.labels(name).set(age)
        for (verb, code), count in self.api.requests.items():
            self.metrics.requests.labels(verb, str(code)).set(count)
        return self.metrics.render()

    async def relist(self) -> None:
        """List our own resources after gaps, and now and then: kopf does not tell what vanished unwatched."""
        while True:
            self._relist_now.clear()
            pause = RELIST_EVERY_S if self.kopf.working else UNWATCHED_S
            try:
                for plural, store in self.stores.items():
                    await self._list(plural, store)
                if not self._listed:
                    self._listed = True
                    self.trigger.fire()
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("listing our own resources: %s", error or type(error).__name__)
                pause = UNWATCHED_S
            except Exception:
                log.exception("listing our own resources")
                pause = UNWATCHED_S
            with suppress(TimeoutError):
                await asyncio.wait_for(self._relist_now.wait(), pause)
                await asyncio.sleep(AFTER_A_GAP_S)  # several watches notice the same gap

    async def _list(self, plural: str, store: Store[Any]) -> None:
        there: set[str] = set()
        async for page in self.api.pages(f"/apis/{GROUP}/{VERSION}/{plural}"):
            uids, changed = store.put_page(page.items)
            there |= uids
            if page.last:
                changed |= store.keep_only(there, page.metadata.resource_version)
            if changed:
                self.trigger.fire()

    async def keep_days(self) -> None:
        """Write what jobs and nodes cost day by day, beside the cycle: nobody waits for it."""
        while True:
            await asyncio.sleep(max(1.0, DAYS_EVERY_S / self.options.pace))
            if self.leadership.certain() and self.cycle.observation is not None:
                try:
                    await self.days.write(self.clock.now())
                except (ApiError, FencedError, aiohttp.ClientError, TimeoutError) as error:
                    log.warning("DailySpends: %s", error or type(error).__name__)
                except Exception:
                    log.exception("DailySpends")

    def _notes(self) -> tuple[str, ...]:
        wrong = tuple(filter(None, (self._usage_wrong, self.days.absent)))
        return wrong + tuple(f"Prometheus warns: {warning}" for warning in self._usage_warnings[:3])

    def _measured(self) -> Measured:
        return Measured(
            usage=self._usage,
            told=self._units,
            metrics_wrong=self._units_wrong,
            speeds=self.calibrator.speeds(self.trainingjobs.items.values()),
            use_speeds=self.options.use_calibration,
            asked=self.prometheus is not None,
            wrong=self._usage_wrong,
        )

    async def watch_usage(self) -> None:
        """Read utilisation now and then; without it decisions go on, and say so."""
        while self.prometheus is not None:
            pods = {
                (p.gang.namespace, p.gang.name): job_id(p.gang.namespace, p.gang.job)
                for p in self.pods
                if p.gang is not None and p.phase == "Running"
            }
            before = {job: (u.idle_gpus, u.measured) for job, u in self._usage.items()}, self._units
            try:
                reading = await self.prometheus.read(pods, self._wanted(set(pods.values())))
                found, self._units, self._units_wrong = reading.usage, reading.told, reading.told_wrong
                self._usage_wrong = ""
                if self.prometheus.server.warnings != self._usage_warnings:
                    self._usage_warnings = self.prometheus.server.warnings
                    log.warning("Prometheus warns: %s", "; ".join(self._usage_warnings) or "no more")
            except PrometheusUnavailableError as error:
                if not self._usage_wrong:
                    log.warning("utilisation is unknown: %s", error)
                self._usage_wrong = f"utilisation is unknown: {error}"
                found, self._units = self.prometheus.remembered(set(pods.values())), {}
            self._usage = {u.job: replace(u, measured_at=u.measured_at and self.clock.of(u.measured_at)) for u in found}
            if before != ({job: (u.idle_gpus, u.measured) for job, u in self._usage.items()}, self._units):
                self.trigger.fire()  # where all is quiet the next tick is a minute away
            self.metrics.usage(found)
            server = self.prometheus.server
            circuit = self.prometheus.breaker.state.value
            up = not self._usage_wrong
            self.metrics.prometheus(up=up, circuit=circuit, queries=server.queries, read_bytes=server.bytes)
            await asyncio.sleep(USAGE_EVERY_S)
        await asyncio.Event().wait()

    def _wanted(self, jobs: Collection[JobId]) -> dict[JobId, Wanted]:
        """The metrics by which running jobs say how far they are."""
        found = {}
        for resource in self.trainingjobs.items.values():
            job, source = job_id(resource.metadata.namespace, resource.metadata.name), resource.spec.progress
            if source is not None and source.metric is not None and job in jobs:
                labels = tuple(sorted(source.metric.labels.items()))
                found[job] = Wanted(Selector(source.metric.name, labels), source.metric.aggregate)
        return found

    def _on_event(self, kind: str | None, body: dict[str, Any], plural: str) -> None:
        if kind is None and self._listed:  # kopf lists anew, and so it had a gap
            self._relist_now.set()
        store, meta = self.stores[plural], body["metadata"]
        if store.drop(meta["uid"], meta["resourceVersion"]) if kind == "DELETED" else store.put(body):
            self.trigger.fire()


def _only_further(old: PodRecord, new: PodRecord) -> bool:
    """Whether a pod has told no more than that it has done more."""
    if old.gang is None or new.gang is None or old.gang.units_done == new.gang.units_done:
        return False
    gang = msgspec.structs.replace(old.gang, units_done=new.gang.units_done)
    return msgspec.structs.replace(old, gang=gang) == new


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT end the process in order."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def run(options: Options) -> None:
    """Until SIGTERM, SIGINT, or until a part of it breaks.

    Raises:
        StintError: there is no cluster to speak to.
    """
    sys.setrecursionlimit(MOST_NESTED)
    collect_rarely()
    connection = connect(options.kubeconfig)
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with Api(connection, agent=options.identity) as api:
        operator = Operator(api, options)
        operator.planner.warm_up()
        serving = await serve(
            operator.render, operator.checks(), metrics_port=options.metrics_port, health_port=options.health_port
        )
        log.info("metrics on port %s, probes on port %s", serving.metrics_port, serving.health_port)
        parts: dict[str, Awaitable[object]] = {
            **{f"informer of {name}": informer.run() for name, informer in operator.informers.items()},
            "pod groups": operator.pod_groups.run(),
            "leadership": operator.leadership.run(),
            "rights": operator.check_rights(),
            "capacity": watch_capacity(api, operator.gpu_pools.items.values, operator.trigger.fire),
            "cycle": operator.cycle.run(),
            "relist": operator.relist(),
            "utilisation": operator.watch_usage(),
            "feeds": operator.feeds.run(),
            "days": operator.keep_days(),
            "calibration": operator.calibrator.run(),
            "stop": stop.wait(),
            "kopf": operator.kopf.run(),
        }
        if options.webhook_port is not None and options.webhook_certificates is not None:
            parts["webhook"] = serve_gate(options.webhook_port, options.webhook_certificates)
        tasks = {asyncio.ensure_future(part): name for name, part in parts.items()}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            log.error("%s ended; the process ends with it", " and ".join(sorted(tasks[task] for task in done)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await operator.planner.close()
        with suppress(ApiError, aiohttp.ClientError, TimeoutError):
            await operator.leadership.release()
        await serving.stop()
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
