"""A cluster that is paid for, with the truth kept beside it by code that shares nothing with the ledger.

Gangs start, run, are interrupted and end; prices move; Stint looks now and then, writes its statuses now and then, and
is killed. Pods are told of as an API server does, in whole seconds and a moment late. What everything cost is kept here
as a sum over seconds-long facts: who held which part of a node from when to when, at which price.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from stint.api.ledger import DailySpend, DaySpec
from stint.api.meta import Meta
from stint.api.pricebook import Price, PriceBook
from stint.api.pricebook import Spec as BookSpec
from stint.api.trainingjob import TrainingJob
from stint.controllers.bookkeeper import EPOCH, Bookkeeper
from stint.controllers.daily_spend import DailySpends
from stint.feeds import bundled
from stint.kube.client.api import Api, ApiError, ListMeta, Page
from stint.kube.observe.snapshot import Caches, Observation, Seen, observe, with_spending
from stint.kube.plan_note import PlanNote, note
from stint.kube.records import GangPod, JobRecord, NodeRecord, PodRecord, Times
from stint.model.cluster import Utilisation
from stint.model.market import Taint
from stint.model.resources import Resources
from stint.model.situation import Settings

START = datetime(2026, 11, 20, 9, tzinfo=UTC)
INSTANCE, ZONE = "p5.48xlarge", "us-east-1a"
OFFERING = f"gpus/{INSTANCE}/{ZONE}/on-demand"
GPUS_PER_NODE = 8
LATE_S = 0.3  # news take so long
SETTLE_S = 2.0
LABELS = {
    "node.kubernetes.io/instance-type": INSTANCE,
    "topology.kubernetes.io/zone": ZONE,
    "topology.kubernetes.io/region": "us-east-1",
    "karpenter.sh/capacity-type": "on-demand",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "stint.dev/pool": "gpus",
}


@dataclass(slots=True, kw_only=True)
class Worker:
    """One pod's life, in seconds from the start. What has not happened yet lies in the future."""

    uid: str
    index: int
    node: str
    bound: float
    works: float
    end: float
    finished: bool  # or taken away
    deleted: float = float("inf")  # from then on the API server does not know it


@dataclass(slots=True, kw_only=True)
class Run:
    """A gang in one place."""

    since: float
    workers: list[Worker]


@dataclass(slots=True, kw_only=True)
class Work:
    """A job's life, thought up beforehand."""

    name: str
    gpus: int  # of each worker
    runs: list[Run] = field(default_factory=list)

    def run_at(self, at: float) -> Run | None:
        """The run whose pods there are."""
        return next((r for r in self.runs if r.since <= at < max(w.deleted for w in r.workers)), None)


@dataclass(kw_only=True)
class Cluster:
    """All of it."""

    rng: random.Random
    jobs: int
    workers: int
    hours: float
    price_steps: int
    interrupted: float = 0.3  # part of the jobs that are taken from their nodes once
    works: list[Work] = field(init=False)
    prices: list[tuple[float, float]] = field(init=False)  # since when, USD per node-hour

    def __post_init__(self) -> None:
        """Think it up."""
        rng, length = self.rng, self.hours * 3600
        self.prices = [(0.0, 98.32)]
        for at in sorted(rng.uniform(0, length) for _ in range(self.price_steps)):
            self.prices.append((at, self.prices[-1][1] * rng.uniform(0.8, 1.25)))
        self.works = [self._work(f"job-{i:04}", length) for i in range(self.jobs)]

    def _work(self, name: str, length: float) -> Work:
        rng = self.rng
        work = Work(name=name, gpus=rng.choice((1, 2, 4, 8)))
        start, end = rng.uniform(0, length * 0.3), rng.uniform(length * 0.6, length * 0.95)
        if rng.random() < self.interrupted and end - start > 900:
            middle = rng.uniform(start + 300, end - 400)
            work.runs.append(self._run(name, 0, start, middle, finished=False))
            start = middle + rng.uniform(40, 90)
        work.runs.append(self._run(name, len(work.runs), start, end, finished=True))
        return work

    def _run(self, name: str, number: int, start: float, end: float, *, finished: bool) -> Run:
        rng = self.rng
        workers = []
        for index in range(self.workers):
            bound = start + rng.uniform(0, 3)
            last = end + (rng.uniform(0, 60) if finished else rng.uniform(0, 5))
            workers.append(
                Worker(
                    uid=f"{name}-{number}-{index}",
                    index=index,
                    node=f"node-{name}-{index}",
                    bound=float(int(bound)),
                    works=float(int(bound + rng.uniform(5, 40))),
                    end=float(int(last)),
                    finished=finished,
                    deleted=float("inf") if finished else float(int(last)) + 1.0,
                )
            )
        return Run(since=start, workers=workers)

    def price_at(self, at: float) -> float:
        """USD per node-hour."""
        return next(p for since, p in reversed(self.prices) if since <= at)

    def dollars(self) -> float:
        """What all jobs cost: the integral of price over the time for which somebody held a part of a node."""
        total = 0.0
        for work in self.works:
            for run in work.runs:
                over = max(w.end for w in run.workers)
                for w in run.workers:
                    total += work.gpus / GPUS_PER_NODE * self._integral(w.bound, over if w.finished else w.end)
        return total

    def _integral(self, start: float, end: float) -> float:
        steps = [*self.prices[1:], (float("inf"), 0.0)]
        usd, at, price = 0.0, 0.0, self.prices[0][1]
        for since, following in steps:
            low, high = max(at, start), min(since, end)
            if high > low:
                usd += (high - low) / 3600 * price
            at, price = since, following
        return usd


@dataclass(kw_only=True)
class Operator:
    """Stint's bookkeeping, looking at that cluster, with statuses that survive it."""

    cluster: Cluster
    rng: random.Random
    lost_scrapes: float = 0.1
    written: float = 0.2  # part of the statuses that a cycle writes
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    cpu_s: list[tuple[int, float]] = field(default_factory=list)  # pods, and seconds that booking took
    books: Bookkeeper = field(init=False)
    days: DailySpends = field(init=False)
    api: MemoryApi = field(default_factory=lambda: MemoryApi())
    _at: float = 0.0
    _told_gone: set[str] = field(default_factory=set)
    _records: dict[str, tuple[Any, PodRecord]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin."""
        self.catalogue = bundled.load()
        self.begin()

    def begin(self) -> None:
        """A process that has just started: all it knows is what statuses and the API server say."""
        self.books = Bookkeeper(of=lambda at: at, catalogue=self.catalogue)
        self.books.begin(EPOCH)
        self.days = DailySpends(api=self.api, namespace="stint-system", books=self.books, clock=lambda: self._at)
        self._records.clear()

    async def look(self, at: float) -> Observation:
        """One cycle: book, and write some of the statuses, and days that are due."""
        self._at, now, heard = at, _time(at), at - LATE_S
        for work in self.cluster.works:
            for run in work.runs:
                for w in run.workers:
                    if w.deleted <= heard and w.uid not in self._told_gone:
                        self._told_gone.add(w.uid)
                        self.books.gone(self._pod(work, run, w, w.deleted), _time(w.deleted))
        caches = self._caches(heard)
        observation = self._observe(caches, now)
        await self.days.begin(observation)
        usage = {} if self.rng.random() < self.lost_scrapes else self._usage(observation)
        began, known_until = time.process_time(), now - timedelta(seconds=SETTLE_S)
        spending = self.books.book(observation, caches, usage, known_until=known_until)
        self.days.book_nodes(known_until)
        self.cpu_s.append((len(caches.pods), time.process_time() - began))
        observation = with_spending(observation, spending)
        for key, seen in observation.seen.items():
            if key in spending and (seen.spending.pressing or self.rng.random() < self.written):
                self.statuses[seen.resource.metadata.name] = {
                    "spentExactly": seen.spending.settled_usd,
                    "spentThrough": seen.spending.through.isoformat() if seen.spending.through else None,
                    "ledger": msgspec.to_builtins(seen.spending.ledger),
                }
        await self.days.write(now)
        return observation

    def _observe(self, caches: Caches, now: datetime) -> Observation:
        created = {t.metadata.uid: START for t in caches.trainingjobs}
        return observe(caches, self.catalogue, Settings(), now=now, created=created, empty_since={})

    def _usage(self, observation: Observation) -> dict[Any, Utilisation]:
        return {
            key: Utilisation(job=key, gpu_ratio=0.9, watts=None, idle_gpus=self.rng.randrange(2), gpus=_gpus(seen))
            for key, seen in observation.seen.items()
        }

    def _caches(self, heard: float) -> Caches:
        cluster = self.cluster
        pods: list[PodRecord] = []
        jobs: list[JobRecord] = []
        nodes: dict[str, NodeRecord] = {}
        for work in cluster.works:
            run = work.run_at(heard)
            if run is None:
                continue
            workers = [w for w in run.workers if w.bound <= heard < w.deleted]
            pods += [self._pod(work, run, w, heard) for w in workers]
            over = all(w.end <= heard for w in run.workers)
            jobs.append(self._job(work, run, done=over and run.workers[0].finished))
            nodes |= {w.node: _node(w.node) for w in run.workers}
        book = BookSpec(
            prices=[Price(provider="aws", instance_type=INSTANCE, usd_per_node_hour=cluster.price_at(max(heard, 0.0)))]
        )
        return Caches(
            trainingjobs=[self._resource(w) for w in cluster.works],
            gpu_pools=[],
            price_books=[PriceBook(metadata=Meta(name="prices", uid="prices"), spec=book)],
            nodes=list(nodes.values()),
            pods=pods,
            jobs=jobs,
        )

    def _resource(self, work: Work) -> TrainingJob:
        spec = {
            "workers": self.cluster.workers,
            "gpu": {"perWorker": work.gpus},
            "work": {"units": 1e9, "unitsPerSecond": {"H100": 1.0}},
            "template": {"spec": {"containers": [{"name": "train", "image": "x"}]}},
        }
        meta = {"name": work.name, "namespace": "team", "uid": work.name, "creationTimestamp": START.isoformat()}
        status = {k: v for k, v in self.statuses.get(work.name, {}).items() if v is not None}
        return msgspec.convert({"metadata": meta, "spec": spec, "status": status}, TrainingJob)

    def _job(self, work: Work, run: Run, *, done: bool) -> JobRecord:
        plan = PlanNote(
            offering=OFFERING,
            gpu_model="H100",
            nodes=tuple(w.node for w in run.workers),
            since=_time(run.since),
            usd_per_hour=1.0,
        )
        return JobRecord(
            namespace="team",
            name=work.name,
            uid=f"job-of-{work.name}",
            job=work.name,
            plan=note(plan),
            suspended=False,
            completions=len(run.workers),
            active=0 if done else len(run.workers),
            succeeded=len(run.workers) if done else 0,
            failed_message=None,
            complete=done,
            deleting=False,
            ended=_time(max(w.end for w in run.workers)) if done else None,
            owner=work.name,
        )

    def _pod(self, work: Work, run: Run, w: Worker, heard: float) -> PodRecord:
        """The same object as long as nothing about it has changed, as an informer keeps it."""
        state = (w.works <= heard, w.end <= heard, w.deleted <= heard)
        known = self._records.get(w.uid)
        if known is not None and known[0] == state:
            return known[1]
        phase = ("Succeeded" if w.finished else "Failed") if state[1] else "Running" if state[0] else "Pending"
        gang = GangPod(
            namespace="team",
            name=w.uid,
            job=work.name,
            index=w.index,
            gated=False,
            scheduled=True,
            ready=phase == "Running",
            unschedulable=False,
            deleting=False,
            disrupted="",
            created=_time(float(int(run.since))),
            affinity=b"null",
            run=f"job-of-{work.name}",
            times=Times(
                bound=_time(w.bound),
                works=_time(w.works) if state[0] else None,
                end=_time(w.end) if state[1] else None,
            ),
        )
        requests = Resources(gpus=work.gpus, cpu=1.0, memory_gib=1.0, pods=1)
        record = PodRecord(uid=w.uid, node=w.node, nominated="", phase=phase, requests=requests, gang=gang)
        self._records[w.uid] = (state, record)
        return record


def _node(name: str) -> NodeRecord:
    return NodeRecord(
        name=name,
        uid=name,
        provider_id="",
        labels=LABELS,
        annotations={},
        taints=(Taint(key="nvidia.com/gpu", value="present"),),
        allocatable=Resources(gpus=GPUS_PER_NODE, cpu=192.0, memory_gib=2000.0, pods=110),
        unschedulable=False,
        ready=True,
        ready_since=START,
        created=START,
        deleting=False,
    )


def _gpus(seen: Seen) -> int:
    plan, job = seen.gang.plan, seen.job
    return len(plan.nodes) * job.per_worker.gpus if plan is not None and job is not None else 0


def _time(at: float) -> datetime:
    return START + timedelta(seconds=at)


async def live(
    cluster: Cluster, operator: Operator, *, kills: int, every_s: float, down_s: float
) -> AsyncIterator[Observation]:
    """Look now and then, and when a price moves, until all is over; be killed so often, and stay away for a while."""
    length = cluster.hours * 3600
    ends = sorted(operator.rng.uniform(0, length) for _ in range(kills))
    moves = [since + LATE_S for since, _ in cluster.prices[1:]]
    at = 0.0
    while at < length + 2 * every_s:
        if ends and at >= ends[0]:
            ends.pop(0)
            at += operator.rng.uniform(0, down_s)
            operator.begin()
        yield await operator.look(at)
        following = at + operator.rng.uniform(0.5, 1.5) * every_s
        at = min([m for m in moves if at < m] + [following])


class MemoryApi(Api):
    """Keeps DailySpends as an API server does, versions and all."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self._version = 0

    async def find(self, path: str, **_: Any) -> Any | None:
        """As stored."""
        return self.objects.get(path)

    async def create(self, path: str, body: Any) -> Any:
        """A conflict where it exists."""
        return self._keep(f"{path}/{body['metadata']['name']}", body, "")

    async def replace(self, path: str, body: Any) -> Any:
        """A conflict where it is another version."""
        return self._keep(path, body, body["metadata"]["resourceVersion"])

    async def pages(self, _path: str, *, limit: int = 500) -> AsyncIterator[Page]:
        """All that there is."""
        items = [msgspec.Raw(msgspec.json.encode(o)) for o in self.objects.values()]
        for i in range(0, len(items), limit):
            rest = "more" if i + limit < len(items) else ""
            yield Page(metadata=ListMeta(continue_=rest), items=items[i : i + limit])

    async def delete(self, path: str, **_: Any) -> bool:
        """False where it is gone already."""
        return self.objects.pop(path, None) is not None

    def _keep(self, path: str, body: dict[str, Any], version: str) -> dict[str, Any]:
        if version and path not in self.objects:
            raise ApiError(404, "NotFound", path)
        there = self.objects.get(path, {"metadata": {"resourceVersion": ""}})
        if there["metadata"]["resourceVersion"] != version:
            raise ApiError(409, "Conflict", path)
        self._version += 1
        meta = {**body["metadata"], "resourceVersion": str(self._version), "uid": path}
        self.objects[path] = {**msgspec.json.decode(msgspec.json.encode(body)), "metadata": meta}
        return self.objects[path]

    def days(self) -> list[DaySpec]:
        """Everything that is written down."""
        return [msgspec.convert(o, DailySpend).spec for o in self.objects.values()]


def booked_usd(observation: Observation) -> float:
    """What all ledgers come to."""
    return sum(seen.spending.settled_usd for seen in observation.seen.values())
