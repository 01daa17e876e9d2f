"""`python -m hack.faults.chaos --kills 1000`: the operator is killed at its writes, again and again.

Runs of twenty jobs of every kind are put before an operator whose requests pass a gateway. The gateway counts the
writes of each life and, at the one that was drawn, kills the operator with SIGKILL: before the write is forwarded, or
after the API server has answered and before the operator hears of it. The next life starts at once, with the same
name in the Lease, as a container that is started again by its kubelet. After each kill, and at the end of each run,
what the API server holds and what its audit log says is checked against the rules in `Audit`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hack.cluster import NAMESPACE, Cluster, running_cluster
from hack.cluster.audit import own_writes
from hack.faults.gateway import Answer, Asked, CutError, Forward, Gateway
from hack.faults.nursery import Nursery, alive
from hack.fleet import a100
from stint.kube.client.api import MERGE, Api, connect
from stint.kube.plan_note import PLAN_ANNOTATION, PlanNote, read_note
from stint.kube.records import JOB_LABEL
from stint.kube.steered import MANAGED, SPEC_ANNOTATION, steered_name

NODES, GPUS = 8, 8
POOL_MOST = 4
STATUS_TRUE_WITHIN_S = 10.0
LOOK_EVERY = 25  # kills between two looks at whether status is true
PLACEMENT_TIMEOUT_S = 5
PATIENCE_S = 240.0  # for a whole run to come to its end
# A life ends at the first write of a kind that is drawn from these, so that rare ones are not passed over.
KINDS = (
    "POST services",
    "POST trainingjobs",
    "PATCH trainingjobs",
    "POST jobs",
    "PATCH jobs",
    "DELETE jobs",
    "PATCH pods",
    "POST nodes",
    "POST events",
    "PATCH trainingjobs/status",
    "PATCH gpupools/status",
    "any",
)
INTERFERED_WITH = frozenset({"stopped", "bereft", "job-theirs-stopped"})
MOST_WRITES = 40  # in a life that makes none of the kind that was drawn
_API = "/apis/stint.dev/v1alpha1"


# What is asked for ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One job, and where it must end up."""

    name: str
    workers: int
    gpus: int
    ends: str  # the phase
    spec: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    pool: bool = False  # on bought nodes, otherwise on those that are there
    reason: str = ""
    jobs: int = 1  # how many batch Jobs may be created for it at the most
    theirs: bool = False  # somebody else's Job, which Stint steers

    @property
    def job(self) -> str:
        """The name of the TrainingJob, which Stint makes itself for what is somebody else's."""
        return steered_name("Job", self.name) if self.theirs else self.name


def wishes() -> list[Wish]:
    """Jobs of every kind: they run and end, fail, wait, are suspended, do not start, are wrong, are somebody else's."""
    short = {"sim.stint.dev/run-for": "2s"}
    failing = {"sim.stint.dev/run-for": "500ms", "sim.stint.dev/exit-code": "3"}
    never = {"sim.stint.dev/start-after": "30m"}
    made = [Wish(name=f"runs-{i}", workers=4, gpus=2, ends="Succeeded", annotations=short) for i in range(6)]
    made += [Wish(name=f"stays-{i}", workers=2, gpus=4, ends="Running") for i in range(3)]
    made += [
        Wish(name=f"fails-{i}", workers=2, gpus=2, ends="Failed", annotations=failing, spec={"retries": 1}, jobs=2)
        for i in range(2)
    ]
    made += [Wish(name=f"bought-{i}", workers=2, gpus=4, ends="Running", pool=True) for i in range(2)]
    made += [
        Wish(name=f"parked-{i}", workers=2, gpus=1, ends="Suspended", spec={"suspend": True}, jobs=0) for i in range(2)
    ]
    made += [
        Wish(name="never", workers=2, gpus=2, ends="Queued", reason="DidNotStart", annotations=never, jobs=99),
        Wish(name="too-wide", workers=NODES * GPUS, gpus=8, ends="Queued", reason="NotEnoughGpus", jobs=0),
        Wish(name="wrong", workers=1, gpus=1, ends="Invalid", spec={"deadline": "2020-01-01T00:00:00Z"}, jobs=0),
    ]
    made += [
        Wish(name=f"theirs-{i}", workers=2, gpus=2, ends="Succeeded", annotations=short, jobs=0, theirs=True)
        for i in range(2)
    ]
    # These are interfered with on the way: see `Run._interfere`.
    made += [Wish(name="theirs-stopped", workers=2, gpus=2, ends="Suspended", jobs=0, theirs=True)]
    made += [
        Wish(name="stopped", workers=2, gpus=2, ends="Suspended", jobs=2),
        Wish(name="bereft", workers=2, gpus=2, ends="Running", jobs=99),
    ]
    return made


def _manifest(wish: Wish, namespace: str) -> dict[str, Any]:
    spec = dict(wish.spec)
    where = {"stint.dev/pool": f"{namespace}-pool"} if wish.pool else {"chaos": namespace}
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": wish.name, "namespace": namespace},
        "spec": {
            "workers": wish.workers,
            "gpu": {"perWorker": wish.gpus},
            "work": {"units": 360_000, "unitsPerSecond": {"A100-80GB": 1.0, "L40S": 0.5}},
            "checkpoint": {"everyMinutes": 10, "takesSeconds": 5, "restartSeconds": 30},
            "placementTimeoutSeconds": PLACEMENT_TIMEOUT_S if wish.name == "never" else 60,
            "template": {
                "metadata": {"annotations": dict(wish.annotations)},
                "spec": {
                    "nodeSelector": where,
                    "containers": [{"name": "train", "image": "registry.example.com/train:1"}],
                },
            },
            **spec,
        },
    }


def _their_job(wish: Wish, namespace: str) -> dict[str, Any]:
    """As somebody makes it who knows no more of Stint than a label and an annotation."""
    said = {k: v for k, v in _manifest(wish, namespace)["spec"].items() if k in ("work", "checkpoint")}
    container = {
        "name": "train",
        "image": "registry.example.com/train:1",
        "resources": {"limits": {"nvidia.com/gpu": str(wish.gpus)}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": wish.name,
            "labels": {MANAGED: "true"},
            "annotations": {SPEC_ANNOTATION: json.dumps(said)},
        },
        "spec": {
            "completionMode": "Indexed",
            "parallelism": wish.workers,
            "completions": wish.workers,
            "backoffLimit": 0,
            "template": {
                "metadata": {"annotations": dict(wish.annotations)},
                "spec": {
                    "restartPolicy": "Never",
                    "nodeSelector": {"chaos": namespace},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                    "containers": [container],
                },
            },
        },
    }


def _pool(namespace: str) -> dict[str, Any]:
    offering = {"provider": "aws", "zone": "us-east-1b", "instanceType": "g6e.12xlarge", "capacityType": "spot"}
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": f"{namespace}-pool"},
        "spec": {
            "nodeSelector": {"stint.dev/pool": f"{namespace}-pool"},
            "offerings": [offering],
            "limits": {"maxNodes": POOL_MOST},
            "scaler": {"adapter": "Kwok", "mode": "Act"},
            "coldStartSeconds": 1,
            "giveBackAfterSeconds": 3600,
        },
    }


# What is seen -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """Objects of one run as the API server has them, by kind."""

    jobs: Mapping[str, dict[str, Any]]
    pods: Mapping[str, list[dict[str, Any]]]  # alive, by TrainingJob
    trainingjobs: Mapping[str, dict[str, Any]]

    def job(self, name: str) -> dict[str, Any] | None:
        """The batch Job that makes a TrainingJob's pods."""
        steers = self.trainingjobs.get(name, {}).get("spec", {}).get("steers")
        return self.jobs.get(steers["name"] if steers else name)

    def plan(self, name: str) -> PlanNote | None:
        """Where it is noted to be; None: nowhere, or its place was taken back."""
        job, resource = self.job(name), self.trainingjobs.get(name, {})
        if job is None or job["metadata"].get("deletionTimestamp") or job["spec"].get("suspend"):
            return None
        if any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in _conditions(job)):
            return None
        noted = resource if "steers" in resource.get("spec", {}) else job
        plan = read_note(noted["metadata"].get("annotations", {}).get(PLAN_ANNOTATION, ""))
        back = resource.get("status", {}).get("takenBack")
        if plan is not None and back is not None and plan.since.isoformat() <= back.replace("Z", "+00:00"):
            return None
        return plan


def _conditions(thing: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = thing.get("status", {}).get("conditions", [])
    return found


def _gated(pod: dict[str, Any]) -> bool:
    return bool(pod["spec"].get("schedulingGates"))


def broken_rules(snapshot: Snapshot, partly_since: dict[str, float], deadline_s: float) -> list[str]:
    """What must never be seen, whenever one looks.

    Args:
        partly_since: since when each batch Job has been partly released (monotonic seconds); kept between looks.
        deadline_s: how long that may last.
    """
    broken = []
    held: dict[str, int] = defaultdict(int)
    for name in snapshot.trainingjobs:
        plan = snapshot.plan(name)
        if plan is not None and plan.per_worker is not None:
            for node in plan.nodes:
                held[node] += plan.per_worker.gpus
    broken += [f"node {node} is given away {gpus} GPUs wide" for node, gpus in held.items() if gpus > GPUS]
    for name, pods in snapshot.pods.items():
        staying = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
        ranks = Counter(p["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for p in staying)
        broken += [f"{name}: worker {rank} is there {n} times" for rank, n in ranks.items() if n > 1]
        plan, job = snapshot.plan(name), snapshot.job(name)
        if plan is None or job is None:
            continue
        uid = job["metadata"]["uid"]
        gated = sum(1 for p in staying if _gated(p))
        if 0 < gated < len(staying):
            began = partly_since.setdefault(uid, time.monotonic())
            if time.monotonic() - began > deadline_s:
                broken.append(f"{name}: {gated} of {len(staying)} workers have stayed gated for {deadline_s:.0f} s")
        else:
            partly_since.pop(uid, None)
    return broken


def lie(name: str, snapshot: Snapshot) -> str:
    """What its status says that is not so; empty: it tells the truth."""
    status = snapshot.trainingjobs.get(name, {}).get("status", {})
    phase, plan, pods = status.get("phase", ""), snapshot.plan(name), snapshot.pods.get(name, [])
    running = [p for p in pods if p["status"].get("phase") == "Running"]
    where = sorted({p["spec"]["nodeName"] for p in running})
    if plan is None:
        job = snapshot.job(name)
        done = [
            c["type"] for c in _conditions(job or {}) if c["status"] == "True" and c["type"] in ("Complete", "Failed")
        ]
        if "Complete" in done:
            return "" if phase == "Succeeded" else f"{phase}, and all its workers have ended well"
        return f"{phase}, and it has no place" if phase in ("", "Running", "Starting", "Succeeded") and not done else ""
    if len(running) == len(plan.nodes) and (phase != "Running" or sorted(status.get("nodes", {})) != where):
        return f"{phase} on {sorted(status.get('nodes', {}))}, and it runs on {where}"
    if not running and phase != "Starting":
        return f"{phase}, and its workers have yet to start"
    return ""


# Killing ----------------------------------------------------------------------------------------------------------


@dataclass
class Trigger:
    """Kills the operator at the first write of a kind, or at the n-th of any kind, whichever comes first."""

    pid: int = 0
    kind: str = ""
    countdown: int = 0  # 0: not armed
    before: bool = False
    kills: Counter[str] = field(default_factory=Counter)  # by what was being written

    async def __call__(self, asked: Asked, forward: Forward) -> Answer:
        """For `Gateway.meddle`."""
        if not asked.writes or not self.countdown:
            return await forward()
        self.countdown = 0 if what(asked) == self.kind else self.countdown - 1
        if self.countdown:
            return await forward()
        pid, before = self.pid, self.before
        if not before:
            await forward()
        os.kill(pid, signal.SIGKILL)
        self.kills[f"{'before' if before else 'after'} {what(asked)}"] += 1
        raise CutError


def what(asked: Asked) -> str:
    """A write, without names: PATCH pods, POST jobs, PATCH trainingjobs/status."""
    path = re.sub(r"^/(api/v1|apis/[^/]+/[^/]+)(/namespaces/[^/]+(?=/))?/", "", asked.path)
    kind, _, rest = path.partition("/")
    return f"{asked.verb} {kind}{'/status' if rest.endswith('/status') else ''}"


@dataclass
class Report:
    """What came of it."""

    kills: int = 0
    runs: int = 0
    cases: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    true_after_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def row(self) -> dict[str, Any]:
        """As JSON has it."""
        late = sorted(self.true_after_s)
        return {
            "kills": self.kills,
            "runs": self.runs,
            "cases": dict(sorted(self.cases.items())),
            "losses": self.losses,
            "status_true_after_s": {"max": round(late[-1], 1), "p50": round(late[len(late) // 2], 1)} if late else {},
            "seconds": round(self.seconds),
        }


class Chaos:
    """The harness: one cluster, one gateway, one operator at a time."""

    def __init__(self, cluster: Cluster, gateway: Gateway, nursery: Nursery, *, seed: int) -> None:
        self.cluster = cluster
        self.gateway = gateway
        self.trigger = Trigger()
        gateway.meddle = self.trigger
        self.report = Report()
        self.dice = random.Random(seed)
        self._nursery = nursery
        account = cluster.service_account_kubeconfig()
        self._kubeconfig = gateway.kubeconfig(cluster.state / "gateway.kubeconfig", account)
        self.pid = 0

    def start(self, *, armed: bool) -> None:
        """The next life."""
        self.trigger.countdown = 0
        flags = [f"--kubeconfig={self._kubeconfig}", f"--namespace={NAMESPACE}", "--identity=chaos"]
        flags += ["--steering"]
        flags += ["--pod-groups"] * self.cluster.provider.pod_groups
        self.pid = self.trigger.pid = self._nursery.start(["run", *flags, "--metrics-port=0", "--health-port=0"])
        if armed:
            self.trigger.before = self.dice.random() < 0.5
            self.trigger.kind = self.dice.choice((*KINDS, *["POST podgroups"] * self.cluster.provider.pod_groups))
            self.trigger.countdown = self.dice.randrange(2, MOST_WRITES)

    def kill(self) -> None:
        """Now, whatever it does."""
        self.trigger.countdown = 0
        if self.pid and alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)
        self.pid = 0

    def drive(self, wanted: int) -> Report:
        """Until the operator has been killed so often."""
        return asyncio.run(self._drive(wanted))

    async def _drive(self, wanted: int) -> Report:
        began = time.monotonic()
        async with Api(connect(self.cluster.kubeconfig)) as api:
            while self.report.kills < wanted:
                run = Run(self, api, f"chaos-{self.report.runs}")
                await run.through(wanted)
                self.report.runs += 1
                told = f"{self.report.kills} kills in {self.report.runs} runs, {len(self.report.losses)} losses"
                print(f"  {told}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        self.report.cases = self.trigger.kills
        self.report.seconds = time.monotonic() - began
        return self.report


class Run:
    """Twenty jobs, from nothing to where each must end up."""

    def __init__(self, chaos: Chaos, api: Api, namespace: str) -> None:
        self.chaos = chaos
        self.api = api
        self.namespace = namespace
        self.wishes = {w.job: w for w in wishes()}
        self._partly_since: dict[str, float] = {}
        self._interfered: set[str] = set()

    async def through(self, wanted: int) -> None:
        """The whole run; what goes wrong is noted in the report."""
        report, chaos = self.chaos.report, self.chaos
        await self._set_up()
        began, killed_here = time.monotonic(), 0
        enough = False
        while True:
            look = enough or (killed_here % LOOK_EVERY == LOOK_EVERY - 1)
            chaos.start(armed=not look)
            if look:
                await self._status_becomes_true()
                if enough:
                    break
                chaos.kill()
                killed_here += 1
                continue
            while alive(chaos.pid) and not enough:
                await asyncio.sleep(0.05)
                await self._interfere()
                snapshot = await self._check()
                enough = self._all_ended(snapshot) or time.monotonic() - began > PATIENCE_S
            if alive(chaos.pid):
                chaos.kill()
            else:
                report.kills += 1
                killed_here += 1
            enough = enough or report.kills >= wanted
            await self._check()
        await self._await_end(began + PATIENCE_S)
        chaos.kill()
        report.losses += [f"{self.namespace}: {b}" for b in Audit(chaos.cluster, self.namespace, self.wishes).broken()]
        await self._clear()

    async def _set_up(self) -> None:
        ns = self.namespace
        ours = {"chaos": ns, "stint.dev/pool": f"{ns}-fixed", "stint.dev/provider": "aws"}
        await self.api.create("/api/v1/namespaces", {"metadata": {"name": ns, "labels": {MANAGED: "true"}}})
        while await self.api.find(f"/api/v1/namespaces/{ns}/serviceaccounts/default") is None:
            await asyncio.sleep(0.05)
        await asyncio.gather(*(self.api.create("/api/v1/nodes", a100(f"{ns}-{i}", labels=ours)) for i in range(NODES)))
        await self.api.create(f"{_API}/gpupools", _pool(ns))
        path = f"{_API}/namespaces/{ns}/trainingjobs"
        theirs = f"/apis/batch/v1/namespaces/{ns}/jobs"
        await asyncio.gather(
            *(
                self.api.create(theirs, _their_job(w, ns)) if w.theirs else self.api.create(path, _manifest(w, ns))
                for w in self.wishes.values()
            )
        )

    async def _snapshot(self) -> Snapshot:
        ns = self.namespace
        jobs, pods, trainingjobs = await asyncio.gather(
            self.api.get(f"/apis/batch/v1/namespaces/{ns}/jobs"),
            self.api.get(f"/api/v1/namespaces/{ns}/pods"),
            self.api.get(f"{_API}/namespaces/{ns}/trainingjobs"),
        )
        grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for pod in pods["items"]:
            if pod["status"].get("phase") not in ("Succeeded", "Failed"):
                labels = pod["metadata"]["labels"]
                theirs = steered_name("Job", labels["batch.kubernetes.io/job-name"])
                grouped[labels.get(JOB_LABEL) or theirs].append(pod)
        named = {j["metadata"]["name"]: j for j in jobs["items"]}
        return Snapshot(named, grouped, {t["metadata"]["name"]: t for t in trainingjobs["items"]})

    async def _check(self) -> Snapshot:
        snapshot = await self._snapshot()
        # What a job needs to be noticed, taken back and told comes on top of its own time-out.
        broken = broken_rules(snapshot, self._partly_since, 60 + STATUS_TRUE_WITHIN_S)
        self._note(broken)
        return snapshot

    def _note(self, broken: Iterable[str]) -> None:
        losses = self.chaos.report.losses
        losses += [text for b in broken if (text := f"{self.namespace}: {b}") not in losses]

    async def _interfere(self) -> None:
        """What people do meanwhile: suspend a job, delete a pod, once each."""
        path = f"{_API}/namespaces/{self.namespace}/trainingjobs"
        for name in INTERFERED_WITH - self._interfered:
            job = await self.api.find(f"{path}/{name}") or {}
            if job.get("status", {}).get("phase") != "Running":
                continue
            self._interfered.add(name)
            if name != "bereft":
                await self.api.patch(f"{path}/{name}", {"spec": {"suspend": True}}, content_type=MERGE)
            else:
                pods = (await self._snapshot()).pods[name]
                await self.api.delete(f"/api/v1/namespaces/{self.namespace}/pods/{pods[0]['metadata']['name']}")

    def _astray(self, snapshot: Snapshot) -> list[str]:
        """Jobs that are not where they must end up."""
        found = []
        for wish in self.wishes.values():
            resource = snapshot.trainingjobs.get(wish.job)
            status = resource.get("status", {}) if resource else {}
            phase, reason = status.get("phase", ""), status.get("reason", "")
            if phase != wish.ends or wish.reason not in ("", reason):
                found.append(f"{wish.job} is {phase or 'without status'} ({reason}) and should be {wish.ends}")
        return found

    def _all_ended(self, snapshot: Snapshot) -> bool:
        return self._interfered == INTERFERED_WITH and not self._astray(snapshot)

    async def _status_becomes_true(self) -> None:
        """Each job's status must have told the truth at least once within ten seconds of the operator's start."""
        began = time.monotonic()
        liars = dict.fromkeys(self.wishes, "")
        while liars:
            snapshot = await self._snapshot()
            liars = {name: text for name in liars if (text := lie(name, snapshot))}
            if time.monotonic() - began > STATUS_TRUE_WITHIN_S:
                self._note(
                    f"after {STATUS_TRUE_WITHIN_S:.0f} s {name} still says: {text}" for name, text in liars.items()
                )
                break
            await asyncio.sleep(0.1)
        self.chaos.report.true_after_s.append(time.monotonic() - began)

    async def _await_end(self, until: float) -> None:
        """Left alone, everything gets where it must."""
        until = max(until, time.monotonic() + 60)
        while not self._all_ended(snapshot := await self._check()):
            await self._interfere()
            if time.monotonic() > until:
                self._note(self._astray(snapshot))
                break
            await asyncio.sleep(0.2)

    async def _clear(self) -> None:
        ns = self.namespace
        jobs = f"{_API}/namespaces/{ns}/trainingjobs"
        for name, wish in self.wishes.items():
            theirs = f"/apis/batch/v1/namespaces/{ns}/jobs/{wish.name}"
            await self.api.delete(theirs if wish.theirs else f"{jobs}/{name}")
        await self.api.delete(f"{_API}/gpupools/{ns}-pool")
        while (await self._snapshot()).pods:
            await asyncio.sleep(0.1)
        nodes = await self.api.get("/api/v1/nodes")
        ours = [
            n["metadata"]["name"] for n in nodes["items"] if n["metadata"]["labels"]["stint.dev/pool"].startswith(ns)
        ]
        await asyncio.gather(*(self.api.delete(f"/api/v1/nodes/{name}") for name in ours))
        await self.api.delete(f"/api/v1/namespaces/{ns}")


class Audit:
    """What the API server's own log says of a run: the operator's successful writes, in order."""

    def __init__(self, cluster: Cluster, namespace: str, wanted: Mapping[str, Wish]) -> None:
        self._namespace = namespace
        self._wanted = wanted
        log = cluster.provider.audit_log
        assert log is not None
        self._writes = [
            (e["verb"], e["objectRef"].get("resource", ""), e["objectRef"].get("subresource", ""), e["objectRef"])
            for e in own_writes(log)
        ]

    def broken(self) -> list[str]:
        """No pod released twice, no PodGroup, TrainingJob or node made twice, no Job more than its retries explain."""
        ns = self._namespace
        released = Counter(
            ref["name"]
            for verb, resource, sub, ref in self._writes
            if (verb, resource, sub) == ("patch", "pods", "") and ref.get("namespace") == ns
        )
        broken = [f"pod {name} was released {n} times" for name, n in released.items() if n > 1]
        jobs = Counter(
            ref["name"]
            for verb, resource, _, ref in self._writes
            if (verb, resource) == ("create", "jobs") and ref.get("namespace") == ns
        )
        broken += [
            f"{w.name}: {jobs[w.name]} Jobs were created, {w.jobs} at the most are explained"
            for w in self._wanted.values()
            if jobs[w.name] > w.jobs
        ]
        stand_ins = Counter(
            ref.get("name", "")
            for verb, resource, sub, ref in self._writes
            if (verb, resource, sub) == ("create", "trainingjobs", "") and ref.get("namespace") == ns
        )
        broken += [f"TrainingJob {name} was created {n} times" for name, n in stand_ins.items() if n > 1]
        grouped = Counter(
            ref["name"]
            for verb, resource, _, ref in self._writes
            if (verb, resource) == ("create", "podgroups") and ref.get("namespace") == ns
        )
        broken += [f"pod group {name} was created {n} times" for name, n in grouped.items() if n > 1]
        bought = Counter(
            ref["name"] for verb, resource, _, ref in self._writes if (verb, resource) == ("create", "nodes")
        )
        mine = {name: n for name, n in bought.items() if f"{ns}-pool" in name}
        broken += [f"node {name} was ordered {n} times" for name, n in mine.items() if n > 1]
        needed = sum(w.workers * w.gpus for w in self._wanted.values() if w.pool) // 4
        if len(mine) > needed:
            broken.append(f"{len(mine)} nodes were ordered, {needed} were needed")
        return broken


def chaos(kills: int, folder: Path, *, seed: int = 0, k8s: str | None = None) -> Report:
    """A cluster of its own, with its logs in `folder`, and the operator killed so often in it."""
    with (
        running_cluster(folder, name="embedded", k8s=k8s, audit=True) as cluster,
        Gateway.before(cluster.kubeconfig) as gateway,
        Nursery(folder / "operator.log") as nursery,
    ):
        cluster.install_chart("steering.enabled=true")
        harness = Chaos(cluster, gateway, nursery, seed=seed)
        try:
            return harness.drive(kills)
        finally:
            harness.kill()


def main() -> int:
    """Returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m hack.faults.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k8s", help="another version of Kubernetes")
    parser.add_argument("--keep", type=Path, help="keep all logs in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stint-chaos-") as passing:
        report = chaos(options.kills, options.keep or Path(passing), seed=options.seed, k8s=options.k8s)
    print(json.dumps(report.row(), indent=1))
    return 1 if report.losses else 0


if __name__ == "__main__":
    sys.exit(main())
