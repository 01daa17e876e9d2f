"""Pools whose nodes are bought for jobs, as the API server tells of them, and Stint's books on them; with the truth.

Times are in seconds from `NOW`, and whole ones where the API server tells them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from stint.api.gpupool import GPUPool, NodeOrder, Payer
from stint.api.ledger import Ledger, NodeRow
from stint.api.meta import Meta
from stint.api.pricebook import Price, PriceBook
from stint.api.pricebook import Spec as BookSpec
from stint.api.trainingjob import TrainingJob
from stint.controllers.bookkeeper import EPOCH, Bookkeeper
from stint.feeds import bundled
from stint.kube.observe.memory import Memory
from stint.kube.observe.snapshot import Caches, Observation, observe, with_spending
from stint.kube.records import GangPod, NodeRecord, PodRecord, Times
from stint.ledger.days import NodePlace, book_nodes
from stint.model.resources import Resources
from stint.model.situation import Settings
from stint.testing.builders import NOW

USD_PER_HOUR = 36.0  # of a node: a cent a second
USD_PER_S = USD_PER_HOUR / 3600
SETTLE_S = 2.0
CATALOGUE = bundled.load()
_LABELS = {
    "node.kubernetes.io/instance-type": "p4de.24xlarge",
    "topology.kubernetes.io/zone": "us-east-1a",
    "topology.kubernetes.io/region": "us-east-1",
    "karpenter.sh/capacity-type": "on-demand",
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    "nvidia.com/gpu.memory": "81920",
}


def at(seconds: float) -> datetime:
    """As a date."""
    return NOW + timedelta(seconds=seconds)


@dataclass(slots=True, kw_only=True)
class Pod:
    """A worker's life."""

    job: str
    gpus: int
    bound: float
    end: float = float("inf")
    seen: bool = False  # by an operator: of one that comes and goes while none runs nobody hears


@dataclass(slots=True, kw_only=True)
class Machine:
    """A node's life, and who was to pay for it."""

    name: str
    uid: str
    pool: str
    created: float
    shares: dict[str, float] = field(default_factory=dict)
    gone: float = float("inf")
    pods: list[Pod] = field(default_factory=list)

    def truth(self, ends: dict[str, float], until: float) -> dict[str, float]:
        """What each job held or used of it, in USD, reckoned without the ledger."""
        used = min([p.bound for p in self.pods if p.seen or p.end > until] + [self.gone, until])
        usd = {j: s * max(0.0, min(used, ends[j]) - self.created) for j, s in self.shares.items()}
        for pod in (p for p in self.pods if p.seen or p.end > until):
            seconds = max(0.0, min(pod.end, self.gone, until) - pod.bound)
            usd[pod.job] = usd.get(pod.job, 0.0) + pod.gpus / 8 * seconds
        return {job: seconds * USD_PER_S for job, seconds in usd.items()}


class Scene:
    """Everything there is. What a killed operator does not know any more is what is not in `statuses` and `pools`."""

    def __init__(self, pools: Sequence[str] = ("big",), jobs: Sequence[str] = ("large",)) -> None:
        self.pools = {name: _pool(name) for name in pools}
        self.jobs: dict[str, float] = dict.fromkeys(jobs, float("inf"))  # until when each is there
        self.failed: set[str] = set()  # those that end by failing; the others are deleted
        self.spec: dict[str, Any] = {}  # of all jobs, beside what they have anyway
        self.statuses: dict[str, dict[str, Any]] = {name: {} for name in jobs}
        self.machines: list[Machine] = []
        self.ledgers: dict[str, Ledger] = {}
        self.nodes: dict[NodePlace, NodeRow] = {}
        self._told_gone: set[str] = set()
        self._through = at(0)
        self.now = 0.0
        self.kill()

    def kill(self) -> None:
        """The operator, and one that has just started in its place."""
        self.books = Bookkeeper(of=lambda when: when, catalogue=CATALOGUE)
        self.books.begin(EPOCH)

    # What happens

    def order(self, pool: str = "big", nodes: int = 1, **shares: float) -> None:
        """As the pool writer notes it: by job its share."""
        jobs = [f"team/{j}" for j in shares]
        payers = [Payer(job=f"team/{j}", uid=j, share=s) for j, s in shares.items()]
        offering = f"{pool}/p4de.24xlarge/us-east-1a/on-demand"
        order = NodeOrder(offering=offering, nodes=nodes, at=at(self.now), jobs=jobs, payers=payers)
        known = self.pools[pool]
        status = msgspec.structs.replace(known.status, orders=[*known.status.orders, order])
        self.pools[pool] = msgspec.structs.replace(known, status=status)

    def comes(self, created: float, pool: str = "big", name: str = "n1", **shares: float) -> Machine:
        """A node of an order."""
        number = len(self.machines)
        machine = Machine(name=f"{pool}-{name}", uid=f"uid-{number}", pool=pool, created=created, shares=shares)
        self.machines.append(machine)
        return machine

    # What Stint sees of it, and does

    def look(self, now: float, *, write: bool = True, tell_pools: bool = True) -> Observation:
        """One cycle. `write`: statuses of jobs; `tell_pools`: those of pools, as long as they can be written."""
        self.now = now
        for m in self.machines:
            self._tell_gone(m)
        nodes = [_record(m) for m in self.machines if m.created <= now < m.gone]
        pods = [_pod(p, m, i, now) for m in self.machines for i, p in enumerate(m.pods) if _is_there(p, m, now)]
        for pod in (p for m in self.machines for p in m.pods if _is_there(p, m, now)):
            pod.seen = True
        caches = Caches(
            trainingjobs=[self._resource(j) for j, end in self.jobs.items() if now < end or j in self.failed],
            gpu_pools=list(self.pools.values()),
            price_books=[_prices()],
            nodes=nodes,
            pods=pods,
            jobs=[],
        )
        created = {t.metadata.uid: at(0) for t in caches.trainingjobs}
        memory = Memory(begun=True, created={n.name: n.created for n in nodes if n.created})
        seen = observe(caches, CATALOGUE, Settings(), now=at(now), created=created, empty_since={}, memory=memory)
        known_until = max(at(0), at(now - SETTLE_S))
        spending = self.books.book(seen, caches, {}, known_until=known_until)
        seen = with_spending(seen, spending, self.books.bought)
        spans = self.books.nodetimes.spans()
        self.nodes = book_nodes(self.nodes, spans, self.books.timeline, start=self._through, until=known_until)
        self._through = known_until
        self.books.nodetimes.settle(known_until)
        for uid, account in self.books.accounts.items():
            self.ledgers[uid] = account.ledger
        for key, spent in spending.items():
            if write:
                self.statuses[key.partition("/")[2]] |= {
                    "spentExactly": spent.settled_usd,
                    "spentThrough": spent.through.isoformat() if spent.through else None,
                    "ledger": msgspec.to_builtins(spent.ledger),
                }
        for name, pool in self.pools.items():
            found = seen.purchases.get(pool.metadata.name)  # type: ignore[call-overload]
            if found is not None and tell_pools:
                status = msgspec.structs.replace(pool.status, orders=list(found.orders), bought=list(found.bought))
                raw = msgspec.json.encode(msgspec.structs.replace(pool, status=status))
                self.pools[name] = msgspec.json.decode(raw, type=GPUPool)
        return seen

    def _tell_gone(self, m: Machine) -> None:
        for i, pod in enumerate(m.pods):
            key, over = f"{m.uid}-{i}", min(pod.end, m.gone)
            if over <= self.now and key not in self._told_gone:
                self._told_gone.add(key)
                self.books.gone(_pod(pod, m, i, over), at(over))
                pod.seen = True
        if m.gone <= self.now and m.uid not in self._told_gone:
            self._told_gone.add(m.uid)
            self.books.gone(_record(m), at(m.gone))

    def away(self, until: float) -> None:
        """What happens until then is told to nobody, as the operator is away; then another one starts."""
        self.now = until
        for m in self.machines:
            if m.gone <= until:
                self._told_gone.add(m.uid)
            self._told_gone |= {f"{m.uid}-{i}" for i, p in enumerate(m.pods) if min(p.end, m.gone) <= until}
        self.kill()

    def held_usd(self, job: str = "large") -> float:
        """What is booked of a job as held."""
        return sum(line.usd.held for line in self.ledgers[job].lines)

    def booked_usd(self, pool: str) -> float:
        """Of all jobs, for nodes of a pool."""
        return sum(
            line.components.hardware for ledger in self.ledgers.values() for line in ledger.lines if line.pool == pool
        )

    def _resource(self, name: str) -> TrainingJob:
        spec = {
            "workers": 1,
            "gpu": {"perWorker": 8},
            "work": {"units": 1e9, "unitsPerSecond": {"A100-80GB": 1.0}},
            "template": {"spec": {"containers": [{"name": "train", "image": "x"}]}},
            **self.spec,
        }
        meta = {"name": name, "namespace": "team", "uid": name, "generation": 1, "creationTimestamp": at(0).isoformat()}
        status = {k: v for k, v in self.statuses[name].items() if v is not None}
        if name in self.failed and self.jobs[name] <= self.now:
            status["phase"] = "Failed"
        return msgspec.convert({"metadata": meta, "spec": spec, "status": status}, TrainingJob)


def _is_there(pod: Pod, machine: Machine, now: float) -> bool:
    return pod.bound <= now < min(pod.end, machine.gone)


def _pool(name: str) -> GPUPool:
    kind = {"provider": "aws", "zone": "us-east-1a", "instanceType": "p4de.24xlarge", "capacityType": "on-demand"}
    spec = {
        "nodeSelector": {"pool": name},
        "offerings": [kind],
        "limits": {"maxNodes": 9},
        "scaler": {"adapter": "Kwok", "mode": "Act"},
        "coldStartSeconds": 60,
    }
    return msgspec.convert({"metadata": {"name": name, "uid": name}, "spec": spec}, GPUPool)


def _prices() -> PriceBook:
    price = Price(provider="aws", instance_type="p4de.24xlarge", usd_per_node_hour=USD_PER_HOUR)
    spec = BookSpec(prices=[price], as_of="2026-01-01")
    return PriceBook(metadata=Meta(name="b", uid="b"), spec=spec)


def _record(m: Machine) -> NodeRecord:
    return NodeRecord(
        name=m.name,
        uid=m.uid,
        provider_id="",
        labels={**_LABELS, "pool": m.pool},
        annotations={"stint.dev/bought-by": "stint"},
        taints=(),
        allocatable=Resources(gpus=8, cpu=96, memory_gib=1000, pods=110),
        unschedulable=False,
        ready=True,
        ready_since=at(m.created),
        created=at(m.created),
        deleting=False,
    )


def _pod(pod: Pod, m: Machine, index: int, now: float) -> PodRecord:
    over = now >= pod.end
    gang = GangPod(
        namespace="team",
        name=f"{m.uid}-{index}",
        job=pod.job,
        index=index,
        gated=False,
        scheduled=True,
        ready=not over,
        unschedulable=False,
        deleting=False,
        disrupted="",
        created=at(pod.bound - 1),
        affinity=b"null",
        run=f"run-of-{pod.job}",
        times=Times(bound=at(pod.bound), works=at(pod.bound), end=at(pod.end) if over else None),
    )
    requests = Resources(gpus=pod.gpus, cpu=8, memory_gib=8, pods=1)
    phase = "Failed" if over else "Running"
    return PodRecord(uid=f"{m.uid}-{index}", node=m.name, nominated="", phase=phase, requests=requests, gang=gang)
