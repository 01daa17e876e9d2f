"""Does a worker fit on a node? Our answer against kube-scheduler's own, on random nodes, neighbours and workers.

Each pair is asked on a real control plane: the worker's pod, made as Stint makes it and pinned to the node as Stint
pins it, is either bound by kube-scheduler or called unschedulable. It is gone before the next pair is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hack.build import versions
from hack.cluster import Cluster, running_cluster
from stint.api.parse.template import worker_template
from stint.api.trainingjob import TrainingJob
from stint.feeds import bundled
from stint.kube.act.manifests import indexed_job, release_patch
from stint.kube.client.api import Api, ApiError, connect
from stint.kube.client.informer import Informer
from stint.kube.observe.snapshot import Caches, observe
from stint.kube.plan_note import PlanNote
from stint.kube.records import NodeRecord, PodRecord
from stint.kube.reduce import reduce_node, reduce_pod
from stint.kube.surroundings import SURROUNDINGS
from stint.kube.wire import WireNode, WirePod
from stint.model.situation import Settings
from stint.placement.problem import build_problem

SEEDS = (0, 1, 2, 3, 4)
NODES, NEIGHBOURS, PAIRS = 12, 16, 400  # of one seed
PATIENCE_S = 20.0
_IMAGE = "registry.example.com/x:1"
_ZONES, _RACKS, _APPS = ("us-east-1a", "us-east-1b"), ("r1", "r2", "r3"), ("web", "cache", "db")
_HOST, _ZONE, _RACK = "kubernetes.io/hostname", "topology.kubernetes.io/zone", "example.com/rack"

Body = dict[str, Any]
Feature = Callable[[random.Random, Body], None]


# -- random nodes, neighbours and workers


def a_node(rng: random.Random, name: str) -> Body:
    """A node of eight A100, of which some are broken, with whatever else a node may have."""
    amounts = {
        "cpu": str(rng.choice((8, 16, 32))),
        "memory": f"{rng.choice((32, 64, 128))}Gi",
        "pods": str(rng.choice((4, 20))),
        "nvidia.com/gpu": str(rng.choice((0, 2, 4, 8))),
        "ephemeral-storage": f"{rng.choice((10, 100))}Gi",
    }
    if rng.random() < 0.5:
        amounts["rdma/hca"] = str(rng.choice((1, 2)))
    if rng.random() < 0.4:
        amounts["hugepages-2Mi"] = "1Gi"
    labels = {
        _HOST: name,
        _ZONE: rng.choice(_ZONES),
        "kubernetes.io/arch": rng.choice(("amd64", "arm64")),
        "node.kubernetes.io/instance-type": "p4de.24xlarge",
        "topology.kubernetes.io/region": "us-east-1",
        "stint.dev/provider": "aws",
        "stint.dev/pool": "fit",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        "generation": rng.choice(("1", "2", "3", "10", "new")),
    }
    if rng.random() < 0.7:
        labels[_RACK] = rng.choice(_RACKS)
    taints = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    for key, effect in (("dedicated", "NoSchedule"), ("maintenance", "NoExecute"), ("noisy", "PreferNoSchedule")):
        if rng.random() < 0.2:
            taints.append({"key": key, "value": rng.choice(("a", "b")), "effect": effect})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": taints},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def _selector(rng: random.Random) -> Body:
    kind = rng.randrange(5)
    if kind == 0:
        return {"matchLabels": {"app": rng.choice(_APPS)}}
    if kind == 1:
        values = rng.sample(_APPS, 2)
        return {"matchExpressions": [{"key": "app", "operator": rng.choice(("In", "NotIn")), "values": values}]}
    if kind == 2:
        return {"matchExpressions": [{"key": "tier", "operator": rng.choice(("Exists", "DoesNotExist"))}]}
    if kind == 3:
        return {"matchLabels": {"app": rng.choice(_APPS), "tier": rng.choice("12")}}
    return {}


def _pod_term(rng: random.Random) -> Body:
    term: Body = {"labelSelector": _selector(rng), "topologyKey": rng.choice((_HOST, _ZONE, _RACK))}
    kind = rng.randrange(4)
    if kind == 0:
        term["namespaces"] = rng.sample(("default", "fit-b"), rng.choice((1, 2)))
    elif kind == 1:
        term["namespaceSelector"] = {}
    return term


def _container(rng: random.Random, name: str) -> Body:
    requests: Body = {}
    if rng.random() < 0.6:
        requests["cpu"] = rng.choice(("100m", "1", "3", "7500m"))
    if rng.random() < 0.6:
        requests["memory"] = rng.choice(("512Mi", "4Gi", "20Gi", "40G"))
    return {"name": name, "image": _IMAGE, "resources": {"requests": requests}}


def a_neighbour(rng: random.Random, name: str, node: str) -> Body:
    """A pod that was bound without asking anybody whether it fits."""
    pod: Body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": rng.choice(_APPS)}},
        "spec": {"nodeName": node, "tolerations": [{"operator": "Exists"}], "containers": [_container(rng, "x")]},
    }
    if rng.random() < 0.4:
        pod["metadata"]["labels"]["tier"] = rng.choice("12")
    if rng.random() < 0.3:
        terms = [_pod_term(rng)]
        pod["spec"]["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    if rng.random() < 0.3:
        _host_port(rng, pod["spec"])
    return pod


def _host_port(rng: random.Random, spec: Body) -> None:
    port: Body = {"containerPort": 80, "hostPort": rng.choice((8080, 9090)), "protocol": rng.choice(("TCP", "UDP"))}
    if rng.random() < 0.4:
        port["hostIP"] = rng.choice(("127.0.0.1", "10.0.0.1"))
    spec["containers"][0].setdefault("ports", []).append(port)


def _expression(rng: random.Random) -> Body:
    key, values = rng.choice(
        (
            (_ZONE, _ZONES),
            ("kubernetes.io/arch", ("amd64", "arm64")),
            ("generation", ("1", "2", "3")),
            (_RACK, _RACKS),
            ("nothing", ("x",)),
        )
    )
    operator = rng.choice(("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"))
    if operator in ("Gt", "Lt"):
        return {"key": "generation", "operator": operator, "values": [rng.choice(("1", "2", "9"))]}
    if operator in ("Exists", "DoesNotExist"):
        return {"key": key, "operator": operator}
    return {"key": key, "operator": operator, "values": rng.sample(values, rng.randint(1, len(values)))}


def _node_selector(rng: random.Random, spec: Body) -> None:
    spec["nodeSelector"] = {rng.choice((_ZONE, "generation")): rng.choice((*_ZONES, "1", "2"))}


def _node_affinity(rng: random.Random, spec: Body) -> None:
    terms = [
        {"matchExpressions": [_expression(rng) for _ in range(rng.randint(1, 2))]} for _ in range(rng.randint(1, 2))
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    spec.setdefault("affinity", {})["nodeAffinity"] = required


def _pod_affinity(rng: random.Random, spec: Body) -> None:
    terms = [_pod_term(rng) for _ in range(rng.randint(1, 2))]
    spec.setdefault("affinity", {})["podAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": terms}


def _pod_anti_affinity(rng: random.Random, spec: Body) -> None:
    terms = [_pod_term(rng) for _ in range(rng.randint(1, 2))]
    spec.setdefault("affinity", {})["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": terms}


def _tolerations(rng: random.Random, spec: Body) -> None:
    for key in rng.sample(("dedicated", "maintenance"), rng.randint(1, 2)):
        toleration: Body = {"key": key, "operator": rng.choice(("Exists", "Equal"))}
        if toleration["operator"] == "Equal":
            toleration["value"] = rng.choice("ab")
        if rng.random() < 0.5:
            toleration["effect"] = rng.choice(("NoSchedule", "NoExecute"))
        spec.setdefault("tolerations", []).append(toleration)


def _named_resource(rng: random.Random, spec: Body) -> None:
    name, amount = rng.choice(
        (("rdma/hca", "1"), ("rdma/hca", "2"), ("hugepages-2Mi", "512Mi"), ("example.com/x", "1"))
    )
    asked = spec["containers"][0]["resources"]
    asked.setdefault("limits", {})[name] = amount
    asked["requests"][name] = amount
    asked["requests"].setdefault("memory", "64Mi")  # huge pages want CPU or memory beside them


def _storage(rng: random.Random, spec: Body) -> None:
    spec["containers"][0]["resources"]["requests"]["ephemeral-storage"] = rng.choice(("5Gi", "50Gi"))


def _init_containers(rng: random.Random, spec: Body) -> None:
    made = [_container(rng, f"i{i}") for i in range(rng.randint(1, 3))]
    for container in made:
        if rng.random() < 0.5:
            container["restartPolicy"] = "Always"
    spec["initContainers"] = made


def _pod_level(rng: random.Random, spec: Body) -> None:
    # What the containers ask for must not come to more than the pod's.
    if "initContainers" in spec:
        spec["resources"] = {"requests": {"cpu": "31"}}
    else:
        spec["resources"] = {"requests": {"cpu": rng.choice(("12", "30")), "memory": rng.choice(("100Gi", "60Gi"))}}


def _overhead(rng: random.Random, spec: Body) -> None:
    spec["runtimeClassName"] = rng.choice(("fit-small", "fit-large"))


def _volume(rng: random.Random, spec: Body) -> None:
    claim = rng.choice(("fit-a", "fit-b", "fit-any"))
    spec["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]


FEATURES: dict[str, Feature] = {
    "node-selector": _node_selector,
    "node-affinity": _node_affinity,
    "pod-affinity": _pod_affinity,
    "pod-anti-affinity": _pod_anti_affinity,
    "tolerations": _tolerations,
    "named-resource": _named_resource,
    "ephemeral-storage": _storage,
    "init-containers": _init_containers,
    "pod-level": _pod_level,
    "overhead": _overhead,
    "host-port": _host_port,
    "volume": _volume,
}


def a_worker(rng: random.Random, name: str) -> tuple[TrainingJob, list[str]]:
    """A TrainingJob of one worker, and which features its pod has."""
    spec: Body = {"containers": [_container(rng, "train")]}
    chosen = [feature for feature in FEATURES if rng.random() < 0.22]
    if "pod-level" in chosen:
        chosen = [f for f in chosen if f not in ("named-resource",)]
    for feature in chosen:
        FEATURES[feature](rng, spec)
    labels = {"app": rng.choice(_APPS), **({"tier": rng.choice("12")} if rng.random() < 0.4 else {})}
    job = {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {
            "workers": 1,
            "gpu": {"perWorker": rng.choice((1, 2, 4))},
            "work": {"units": 3600, "unitsPerSecond": {"A100-80GB": 1.0}},
            "podTemplate": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    return msgspec.convert(job, TrainingJob), chosen or ["plain"]


def standing() -> Iterator[tuple[str, Body]]:
    """What all workers may name: runtime classes, volumes, claims.

    A claim that is bound only when its pod has a node wants a driver that makes volumes, which nobody has here.
    """
    for name, cpu in (("fit-small", "500m"), ("fit-large", "6")):
        overhead = {"podFixed": {"cpu": cpu, "memory": "1Gi"}}
        yield (
            "/apis/node.k8s.io/v1/runtimeclasses",
            {"metadata": {"name": name}, "handler": "x", "overhead": overhead},
        )
    size = {"storage": "1Gi"}
    for name, zone in (("fit-a", _ZONES[0]), ("fit-b", _ZONES[1]), ("fit-any", "")):
        volume: Body = {
            "capacity": size,
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "fit-none",
            "csi": {"driver": "example.com", "volumeHandle": name},
            "claimRef": {"namespace": "default", "name": name},
        }
        if zone:
            term = {"matchExpressions": [{"key": _ZONE, "operator": "In", "values": [zone]}]}
            volume["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
        yield "/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": volume}
    for name in ("fit-a", "fit-b", "fit-any"):
        claim: Body = {"accessModes": ["ReadWriteMany"], "resources": {"requests": size}}
        claim |= {"storageClassName": "fit-none", "volumeName": name}
        yield "/api/v1/namespaces/default/persistentvolumeclaims", {"metadata": {"name": name}, "spec": claim}


# -- asking both


def pinned_pod(job: TrainingJob, node: str) -> Body:
    """The worker's pod as it is when Stint has let it go."""
    gpu = job.spec.gpu
    plan = PlanNote(offering="fit", gpu_model="A100-80GB", nodes=(node,), since=datetime.now(UTC), usd_per_hour=0.0)
    made = indexed_job(
        job.metadata.name,
        job.metadata.uid,
        worker_template(job.spec),
        workers=1,
        gpus_per_worker=gpu.per_worker,
        gpu_resource=gpu.resource,
        plan=plan,
        key=b"",
    )
    template: Body = made["spec"]["template"]
    spec = template["spec"]
    patch = release_patch("", node, msgspec.json.encode(spec.get("affinity")))
    spec["affinity"] = {**(spec.get("affinity") or {}), **patch["spec"]["affinity"]}
    del spec["schedulingGates"]
    name = job.metadata.name
    labels = {**template["metadata"].get("labels", {}), "job-name": name, "batch.kubernetes.io/job-name": name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


@dataclass
class Arena:
    """The cluster of one seed, and everything of it that the operator would have in its caches."""

    api: Api
    nodes: Informer[WireNode, NodeRecord]
    pods: Informer[WirePod, PodRecord]
    others: dict[str, Informer[Any, Any]]
    verdicts: dict[str, str] = field(default_factory=dict)  # by uid of a pod: why not; empty: it was bound
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def heard(self, _: object, new: tuple[str, str | None] | None) -> None:
        """A pod was bound, or called unschedulable."""
        if new is not None and new[1] is not None:
            self.verdicts[new[0]] = new[1]
            self.news.set()

    async def kube_scheduler(self, pod: Body) -> str:
        """Why it does not bind the pod, which is gone when this returns; empty: it does.

        Raises:
            TimeoutError: it says nothing.
        """
        path = "/api/v1/namespaces/default/pods"
        made = await self.api.create(path, pod)
        uid, name = made["metadata"]["uid"], made["metadata"]["name"]
        try:
            async with asyncio.timeout(PATIENCE_S):
                while uid not in self.verdicts:
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError:
            raise TimeoutError(f"kube-scheduler says nothing of {await self.api.get(f'{path}/{name}')}") from None
        await _remove(self.api, f"{path}/{name}")
        return self.verdicts[uid]

    def stint(self, job: TrainingJob) -> dict[str, bool]:
        """By node, whether we would place the job's one worker there."""
        now = datetime.now(UTC)
        caches = Caches(
            trainingjobs=[job],
            gpu_pools=[],
            price_books=[],
            nodes=tuple(self.nodes),
            pods=[p for p in self.pods if not any(k == "job-name" for k, _ in p.labels)],
            jobs=[],
            plan_key=None,
        )
        others: dict[str, Any] = {name: tuple(informer) for name, informer in self.others.items()}
        caches = replace(caches, **others)
        uid = job.metadata.uid
        seen = observe(caches, bundled.load(), Settings(), now=now, created={uid: now}, empty_since={})
        names = [str(n.name) for n in self.nodes]
        mine = seen.situation.jobs
        if not mine:
            invalid = next(iter(seen.seen.values())).invalid
            raise ValueError(f"{job.metadata.name} is invalid: {invalid}")
        if mine[0].lacking:
            return dict.fromkeys(names, False)
        problem = build_problem(seen.situation, mine)
        found = dict.fromkeys(names, False)
        for n, node in enumerate(problem.nodes):
            room = np.all(problem.node_free[n] + 1e-9 >= problem.need[0])
            there = problem.node_from_hours[n] == 0
            found[str(node.name)] = bool(problem.admits[0][n] and room and there)
        return found


def _verdict(pod: WirePod) -> tuple[str, str, tuple[str, str | None]]:
    """What kube-scheduler says of a pod: bound, unschedulable, or nothing yet."""
    told = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
    said = "" if pod.spec.node_name else told.message if told and told.reason == "Unschedulable" else None
    return pod.metadata.uid, pod.metadata.resource_version, (pod.metadata.uid, said)


async def _until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not there():
            await asyncio.sleep(0.02)


async def _remove(api: Api, path: str) -> None:
    """At once, and whether it is there or not."""
    with suppress(ApiError):
        await api.raw("DELETE", path, body={"gracePeriodSeconds": 0})


@asynccontextmanager
async def arena(cluster: Cluster, seed: int) -> AsyncIterator[Arena]:
    """Nodes and neighbours of a seed, which are gone afterwards."""
    rng = random.Random(seed)
    async with Api(connect(cluster.kubeconfig), concurrency=16) as api:
        nodes = [a_node(rng, f"fit-{seed}-{i}") for i in range(NODES)]
        others: dict[str, Informer[Any, Any]] = {
            name: Informer(api, kind.path, kind.wire, kind.reduce) for name, kind in SURROUNDINGS.items()
        }
        here = Arena(
            api=api,
            nodes=Informer(api, "/api/v1/nodes", WireNode, reduce_node),
            pods=Informer(api, "/api/v1/pods", WirePod, reduce_pod),
            others=others,
        )
        verdicts: Informer[WirePod, tuple[str, str | None]] = Informer(
            api, "/api/v1/namespaces/default/pods", WirePod, _verdict, on_change=here.heard
        )
        informers: list[Informer[Any, Any]] = [here.nodes, here.pods, *others.values(), verdicts]
        watching = [asyncio.create_task(i.run()) for i in informers]
        try:
            for body in nodes:
                await api.create("/api/v1/nodes", body)
                status = {"status": body["status"]}
                await api.patch(f"/api/v1/nodes/{body['metadata']['name']}/status", status)
            await asyncio.gather(*(i.synced.wait() for i in informers))
            await _until(lambda: sum(n.ready for n in here.nodes) >= NODES)
            for i in range(NEIGHBOURS):
                namespace = rng.choice(("default", "fit-b"))
                pod = a_neighbour(rng, f"n-{seed}-{i}", rng.choice(nodes)["metadata"]["name"])
                await api.create(f"/api/v1/namespaces/{namespace}/pods", pod)
            await _until(lambda: sum(1 for p in here.pods if p.node and p.phase == "Running") >= NEIGHBOURS)
            yield here
        finally:
            for namespace, i in itertools.product(("default", "fit-b"), range(NEIGHBOURS)):
                await _remove(api, f"/api/v1/namespaces/{namespace}/pods/n-{seed}-{i}")
            for body in nodes:
                await api.delete(f"/api/v1/nodes/{body['metadata']['name']}")
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


async def prepare(cluster: Cluster) -> None:
    """What all seeds share."""
    async with Api(connect(cluster.kubeconfig)) as api:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "fit-b"}})
        for path, body in standing():
            await api.create(path, body)
        for namespace in ("default", "fit-b"):
            account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
            async with asyncio.timeout(PATIENCE_S):
                while await api.find(account) is None:
                    await asyncio.sleep(0.05)
        claims = "/api/v1/namespaces/default/persistentvolumeclaims"
        async with asyncio.timeout(PATIENCE_S):
            while sum(c["status"].get("phase") == "Bound" for c in (await api.get(claims))["items"]) < 3:
                await asyncio.sleep(0.05)


async def compare(cluster: Cluster, seed: int, pairs: int = PAIRS) -> dict[str, Any]:
    """One seed: for each of random workers, three nodes that we would take and three that we would not."""
    rng = random.Random(1_000 + seed)
    agree, wrong, bound = 0, {True: 0, False: 0}, 0
    kinds: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    examples: list[str] = []
    async with arena(cluster, seed) as here:
        done = count = 0
        while done < pairs:
            count += 1
            job, features = a_worker(rng, f"w-{seed}-{count}")
            ours = here.stint(job)
            yes, no = ([n for n in sorted(ours) if ours[n] is want] for want in (True, False))
            for node in [*rng.sample(yes, min(3, len(yes))), *rng.sample(no, min(3, len(no)))]:
                done += 1
                pod = pinned_pod(job, node)
                pod["metadata"]["name"] += f"-{done}"  # taint eviction deletes by name, and may come late
                refusal = await here.kube_scheduler(pod)
                bound += refusal == ""
                asked.update(features)
                if (refusal == "") is ours[node]:
                    agree += 1
                    continue
                wrong[ours[node]] += 1
                kinds["+".join(features)] += 1
                examples.append(
                    f"{job.metadata.name} on {node} ({'+'.join(features)}): Stint says {ours[node]}, it: {refusal}"
                )
    return {
        "seed": seed,
        "kubernetes": os.environ.get("K8S") or versions()["default_kubernetes"],
        "pairs": done,
        "bound": bound,
        "agree": agree,
        "false_yes": wrong[True],
        "false_no": wrong[False],
        "kinds": dict(kinds),
        "asked": dict(sorted(asked.items())),
        "examples": examples[:5],
    }


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a seed. The version of Kubernetes is that of the environment variable K8S."""

    async def all_seeds(cluster: Cluster) -> list[dict[str, Any]]:
        await prepare(cluster)
        return [await compare(cluster, seed) for seed in options.seeds or SEEDS]

    with (
        tempfile.TemporaryDirectory(prefix="stint-bench-") as folder,
        running_cluster(Path(folder), name="embedded") as cluster,
    ):
        return asyncio.run(all_seeds(cluster))
