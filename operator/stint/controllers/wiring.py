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
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

import stint
from stint.api.trainingjob import TrainingJob
from stint.catalogue.catalogue import Catalogue
from stint.controllers.bookkeeper import EPOCH, Bookkeeper, clock_wrong, known_until
from stint.controllers.calibrator import Calibrator
from stint.controllers.capacity_watch import watch_capacity
from stint.controllers.clock import Clock
from stint.controllers.cycle import Cycle
from stint.controllers.daily_spend import EVERY_S, KEEP_DAYS, DailySpends
from stint.controllers.feeds import Feeds
from stint.controllers.gc_tuning import collect_rarely
from stint.controllers.own_resources import OwnResources
from stint.controllers.plan_key import PlanKey
from stint.controllers.planner_client import TIMEOUT_S, Planner
from stint.controllers.pool_writer import PoolWriter
from stint.controllers.recorder import DecisionRecorder
from stint.controllers.rights_watch import RightsWatch
from stint.controllers.status_writer import StatusWriter
from stint.controllers.steering import Steering
from stint.controllers.trigger import Trigger
from stint.controllers.usage_watch import UsageWatch
from stint.controllers.webhook import serve_gate
from stint.feeds import bundled
from stint.feeds.prometheus import Prometheus, Spelling
from stint.feeds.promql import Access, Server
from stint.kube import rbac
from stint.kube.act.apply import Actuator
from stint.kube.act.manifests import SERVICE_LABELS
from stint.kube.act.podgroups import PodGroups
from stint.kube.client.api import Api, ApiError, FencedError, connect
from stint.kube.client.events import Recorder
from stint.kube.client.informer import Informer
from stint.kube.client.lease import Leadership
from stint.kube.observe.opted_in import only_opted_in
from stint.kube.observe.snapshot import Caches
from stint.kube.records import JOB_LABEL, JobRecord, NamespaceRecord, NodeRecord, PodRecord, ServiceRecord
from stint.kube.reduce import reduce_job, reduce_namespace, reduce_node, reduce_pod, reduce_service
from stint.kube.steered import MANAGED
from stint.kube.surroundings import SURROUNDINGS
from stint.kube.wire import WireJob, WireNamespace, WireNode, WirePod, WireService
from stint.kube.workloads import WireWorkload, WorkloadRecord, reducer
from stint.metrics.exporter import Metrics
from stint.metrics.server import Checks, serve
from stint.model.limits import NamespaceLimits
from stint.model.measured import Measured
from stint.model.situation import Settings
from stint.workloads.registry import KINDS

log = logging.getLogger(__name__)

PROGRESS_AFTER_S = 5.0  # news that are only progress wait for so long, for more of them
SILENT_AFTER_S = 400.0  # a watch is renewed by the server every 300 s
STUCK_AFTER_S = 300.0
DAYS_EVERY_S = 5.0  # a look at what is due
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
    disruption_protection: bool = True  # pods ask other controllers to leave them where they are
    pace: float = 1.0
    steering: bool = False
    webhook_port: int | None = None  # None: an admission policy gates pods
    webhook_certificates: Path | None = None
    plan_timeout_s: float = TIMEOUT_S
    keep_days: int = KEEP_DAYS  # DailySpends older than that are deleted
    settings: Settings = field(default_factory=Settings)
    limits: NamespaceLimits = field(default_factory=NamespaceLimits)


class Operator:
    """One process."""

    def __init__(self, api: Api, options: Options) -> None:
        self.options = options
        self.api = api
        self.trigger = Trigger()
        self.metrics = Metrics(version=stint.__version__)
        self.own = OwnResources(api, identity=options.identity, on_change=self.trigger.fire, limits=options.limits)
        self.nodes: Informer[WireNode, NodeRecord] = Informer(
            api, "/api/v1/nodes", WireNode, reduce_node, on_change=self._node_changed, on_gap=self.own.relist
        )
        self.pods: Informer[WirePod, PodRecord] = Informer(
            api, "/api/v1/pods", WirePod, reduce_pod, on_change=self._changed, on_gap=self.own.relist
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
        self.surroundings: Mapping[str, Informer[Any, Any]] = {
            name: Informer(api, kind.path, kind.wire, kind.reduce, on_change=self._fact_changed, may_be_refused=True)
            for name, kind in SURROUNDINGS.items()
        }
        self.workloads: Mapping[str, Informer[WireWorkload, WorkloadRecord]] = {
            kind.slug if kind.group != "batch" else "steered jobs": Informer(
                api,
                kind.path(),
                WireWorkload,
                reducer(kind),
                params={"labelSelector": MANAGED},  # with any value: who writes a wrong one is told
                on_change=self._changed,
                may_be_absent=True,
            )
            for kind in KINDS.values()
            if options.steering
        }
        self.namespaces: Informer[WireNamespace, NamespaceRecord] = Informer(
            api,
            "/api/v1/namespaces",
            WireNamespace,
            reduce_namespace,
            params={"labelSelector": f"{MANAGED}=true"},
            on_change=self._fact_changed,
        )
        self.informers: Mapping[str, Informer[Any, Any]] = {
            "nodes": self.nodes,
            "pods": self.pods,
            "jobs": self.jobs,
            "services": self.services,
            **{name.replace("_", " "): informer for name, informer in self.surroundings.items()},
            **self.workloads,
            **({"namespaces": self.namespaces} if options.steering else {}),
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
        self.plan_key = PlanKey(
            api, namespace=options.namespace, leads=self.leadership.certain, on_known=self.trigger.fire
        )
        events = Recorder(api, options.identity)
        self.clock = Clock(start=datetime.now(UTC), pace=options.pace)
        self.usage = UsageWatch(
            prometheus=Prometheus(Server(options.prometheus), options.prometheus_window, options.prometheus_pod_labels)
            if options.prometheus
            else None,
            clock=self.clock,
            metrics=self.metrics,
            pods=lambda: tuple(self.pods),
            trainingjobs=self._trainingjobs,
            on_change=self.trigger.fire,
        )
        self.rights = RightsWatch(
            api=api, namespace=options.namespace, needed=self._rights, on_change=self.trigger.fire
        )
        self.catalogue = bundled.load()
        self.calibrator = Calibrator(
            api=api,
            namespace=options.namespace,
            leads=self.leadership.certain,
            canonical=functools.cache(self.catalogue.canonical_gpu),
        )
        self._soon: asyncio.TimerHandle | None = None
        actuator = Actuator(
            api,
            self.jobs,
            self.pods,
            self.services,
            self.pod_groups,
            self.own.trainingjobs.put,
            key=lambda: self.plan_key.value,
            keep=options.disruption_protection,
        )
        steering = Steering(
            api=api,
            actuator=actuator,
            events=events,
            pods=self._pods,
            workloads=self._workloads,
            trainingjobs=self._trainingjobs,
            absorb=self.own.trainingjobs.put,
        )

        async def beforehand() -> None:
            await self.own.tell_unread(events)
            if options.steering:
                await steering.tend()

        async def fell_back(text: str) -> None:
            await events.tell(self.leadership.about(), "FellBack", text, action="Decide", warning=True)

        self.feeds = Feeds(
            api=api,
            shipped=self.catalogue,
            books=lambda: tuple(self.own.price_books.items.values()),
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
        statuses = StatusWriter(
            api=api,
            events=events,
            hindrance=self.rights.hindrance,
            booking=self._booking,
            absorb=self.own.trainingjobs.put,
            more_news=self.trigger.event.is_set,
        )
        self.cycle = Cycle(
            actuator=actuator,
            planner=self.planner,
            steer=beforehand,
            pools=PoolWriter(
                api,
                events,
                lambda: tuple(self.own.gpu_pools.items.values()),
                lambda: tuple(self.own.price_books.items.values()),
                {"gpupools": self.own.gpu_pools.put, "pricebooks": self.own.price_books.put},
                self.feeds,
                pace=options.pace,
            ),
            statuses=statuses,
            metrics=self.metrics,
            clock=self.clock,
            catalogue=self.catalogue,
            settings=replace(options.settings, pace=options.pace),
            caches=self._caches,
            books=self.books,
            days=self.days,
            known_until=self._known_until,
            may_act=lambda: self.leadership.certain() and self.plan_key.known and self._synced() is None,
            notes=self._notes,
            measured=self._measured,
            limits=options.limits,
            learn=lambda observation: self.calibrator.learn(observation, self.usage.usage),
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
            if old.unplaced != new.unplaced:
                self.trigger.fire()
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

    def _fact_changed(self, old: object, new: object) -> None:
        """DaemonSets and volumes tell their state all the time; what is kept of them changes rarely."""
        if old != new:
            self.trigger.fire()

    def _reprice(self, catalogue: Catalogue) -> None:
        self.cycle.catalogue = catalogue
        self.trigger.fire()

    def _trainingjobs(self) -> tuple[TrainingJob, ...]:
        return tuple(self.own.trainingjobs.items.values())

    def _caches(self) -> Caches:
        return Caches(
            trainingjobs=self._trainingjobs(),
            gpu_pools=tuple(self.own.gpu_pools.items.values()),
            price_books=tuple(self.own.price_books.items.values()),
            nodes=tuple(self.nodes),
            pods=self._pods(),
            jobs=tuple(self.jobs),
            workloads=self._workloads(),
            plan_key=self.plan_key.value,
            **{name: tuple(of) for name, of in self.surroundings.items() if not of.refused},
        )

    def _pods(self) -> tuple[PodRecord, ...]:
        return only_opted_in(self.pods, {n.name for n in self.namespaces})

    def _workloads(self) -> tuple[WorkloadRecord, ...]:
        return tuple(record for informer in self.workloads.values() for record in informer)

    def _synced(self) -> str | None:
        behind = [name for name, informer in self.informers.items() if not informer.synced.is_set()]
        behind += ["pod groups"] * self.pod_groups.behind
        if not self.own.listed:
            behind.append("our own resources; are the CRDs installed, and may we list them?")
        if self.own.listed and not self.feeds.settled():
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

    def _rights(self) -> tuple[rbac.Right, ...]:
        return rbac.needed(
            self.own.gpu_pools.items.values(),
            steering=self.options.steering,
            pod_groups=bool(self.pod_groups.served),
        )

    def checks(self) -> Checks:
        """A standby that is synced is ready: it could take over."""
        return Checks(
            live={"watches": self._silent, "cycle": self._stuck},
            ready={"rights": lambda: self.rights.hindrance() or None, "caches": self._synced, "watches": self._silent},
        )

    def render(self) -> bytes:
        """The metrics, with those that are only looked up when asked for."""
        self.metrics.leader.set(self.leadership.held.is_set())
        for name, age in self._ages().items():
            self.metrics.informer_age.labels(name).set(age)
        for (verb, code), count in self.api.requests.items():
            self.metrics.requests.labels(verb, str(code)).set(count)
        return self.metrics.render()

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
        return self.usage.notes() + ((self.days.absent,) if self.days.absent else ())

    def _measured(self) -> Measured:
        speeds = self.calibrator.speeds(self.own.trainingjobs.items.values())
        return self.usage.measured(speeds, use_speeds=self.options.use_calibration)


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
            "rights": operator.rights.run(),
            "capacity": watch_capacity(api, operator.own.gpu_pools.items.values, operator.trigger.fire),
            "cycle": operator.cycle.run(),
            "relist": operator.own.keep_listed(),
            "utilisation": operator.usage.run(),
            "feeds": operator.feeds.run(),
            "days": operator.keep_days(),
            "calibration": operator.calibrator.run(),
            "plan key": operator.plan_key.run(),
            "stop": stop.wait(),
            "kopf": operator.own.kopf.run(),
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
