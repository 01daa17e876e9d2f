"""A sample fleet with its operator, as `make up` starts them, that a scenario may spoil: what happens on it is watched,
and all of it is put right again afterwards."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hack import fleet
from hack.cluster import Cluster, Operator, eventually, running_cluster
from stint.kube.client.api import Api, connect
from stint.kube.client.informer import Informer
from stint.kube.records import NodeRecord, PodRecord
from stint.kube.reduce import reduce_node, reduce_pod
from stint.kube.wire import WireNode, WirePod

Body = dict[str, Any]

IMAGE = "registry.example.com/train:1"
OWN = {"topology.kubernetes.io/zone": "dc1"}  # the two machines of our own
_SAMPLE = fleet.sample()
_NODES = frozenset(o["metadata"]["name"] for o in _SAMPLE if o["kind"] == "Node")
_PLANS = re.compile(r"^stint_plans_total\{.*\} (\S+)$", re.MULTILINE)
_PATIENCE_S = 25.0


class Witness:
    """Sees every node that comes and every running gang that ends, by watches of its own."""

    def __init__(self, kubeconfig: Path) -> None:
        self.bought: set[str] = set()
        self.ended: set[str] = set()
        self._meant: set[str] = set()
        self._looks = False
        self._synced = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, args=(kubeconfig,), daemon=True)
        self._thread.start()
        if not self._synced.wait(30):
            raise TimeoutError("nodes and pods could not be listed within 30 s")

    def begin(self, *, nodes_of_ours: frozenset[str]) -> None:
        """Forget what was seen.

        Args:
            nodes_of_ours: nodes that the scenario itself adds.
        """
        self.bought, self.ended, self._meant, self._looks = set(), set(), set(_NODES | nodes_of_ours), True

    def look_away(self) -> None:
        """What is cleared away now is no news."""
        self._looks = False

    def close(self) -> None:
        """End the watches."""
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    def _run(self, kubeconfig: Path) -> None:
        async def watch() -> None:
            async with Api(connect(kubeconfig)) as api:
                nodes = Informer(api, "/api/v1/nodes", WireNode, reduce_node, on_change=self._node)
                pods = Informer(api, "/api/v1/pods", WirePod, reduce_pod, on_change=self._pod)
                watches = [asyncio.create_task(nodes.run()), asyncio.create_task(pods.run())]
                try:
                    await asyncio.gather(nodes.synced.wait(), pods.synced.wait())
                    self._synced.set()
                    await asyncio.gather(*watches)
                finally:
                    for task in watches:
                        task.cancel()
                    await asyncio.gather(*watches, return_exceptions=True)

        self._task = self._loop.create_task(watch())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    def _node(self, old: NodeRecord | None, new: NodeRecord | None) -> None:
        if self._looks and old is None and new is not None and new.name not in self._meant:
            self.bought.add(new.name)

    def _pod(self, old: PodRecord | None, new: PodRecord | None) -> None:
        if not self._looks or old is None or old.gang is None or old.phase != "Running" or old.gang.deleting:
            return
        if new is not None and new.gang is not None and new.gang.rejected:
            return  # a kubelet's doing
        if new is None or new.over or (new.gang is not None and new.gang.deleting):
            self.ended.add(old.gang.job)


class Scene:
    """One scenario on the fleet: a namespace, and whatever it changes.

    Attributes:
        started: when the last job came or the last thing went wrong, by the monotonic clock.
    """

    def __init__(self, cluster: Cluster, operator: Operator, name: str) -> None:
        self.cluster = cluster
        self.namespace = f"case-{name}"
        self.started = time.monotonic()
        self._operator = operator
        self._made: list[tuple[str, str]] = []
        self._nudges = 0
        self._unplayed: set[str] = set()

    # -- what there is

    def kubectl(self, *arguments: str) -> str:
        """In its namespace."""
        return self.cluster.kubectl("-n", self.namespace, *arguments)

    def status(self, name: str) -> Body:
        """Of a TrainingJob; empty: it has none."""
        told = self.kubectl("get", "tj", name, "-o", "json", "--ignore-not-found")
        found: Body = json.loads(told or "{}").get("status", {})
        return found

    def condition(self, kind: str, name: str) -> Body:
        """One of a TrainingJob."""
        return next((c for c in self.status(name).get("conditions", []) if c["type"] == kind), {})

    def pods(self, name: str) -> list[Body]:
        """Of a gang, those that have not ended."""
        listed = json.loads(self.kubectl("get", "pods", "-l", f"stint.dev/trainingjob={name}", "-o", "json"))["items"]
        return [p for p in listed if p["status"].get("phase") in ("Pending", "Running")]

    def hosts(self, name: str) -> list[str]:
        """Of each of a gang's pods, its node, sorted; empty: it has none."""
        return sorted(p["spec"].get("nodeName", "") for p in self.pods(name))

    # -- what happens

    def add(self, *objects: Body) -> None:
        """Whatever it needs; the namespace, if they name none and need one."""
        for thing in objects:
            where = thing["metadata"].get("namespace", "")
            self._made += [(thing["kind"].lower(), thing["metadata"]["name"])] if not where else []
        self.cluster.apply(list(objects))

    def job(
        self,
        name: str,
        *,
        speeds: dict[str, float],
        workers: int = 1,
        gpus: int = 8,
        pods: Body | None = None,
        **spec: Any,
    ) -> None:
        """A TrainingJob of eight hours at speed 1, whose workers' label `app` is its name; it comes now.

        Args:
            speeds: by model of GPU.
            pods: fields of a worker's pod spec.
        """
        containers = [{"name": "train", "image": IMAGE}]
        job = {
            "apiVersion": "stint.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "workers": workers,
                "gpu": {"perWorker": gpus},
                "work": {"units": 28_800, "unitsPerSecond": speeds},
                "checkpoint": {"everyMinutes": 15, "takesSeconds": 20, "restartSeconds": 90},
                "placementTimeoutSeconds": 12,
                "podTemplate": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": containers, **(pods or {})},
                },
                **spec,
            },
        }
        self.cluster.apply([job])
        self.started = time.monotonic()

    def runs(self, name: str) -> Body:
        """Its status, once it runs."""

        def running() -> Body:
            status = self.status(name)
            assert status.get("phase") == "Running", brief(status)
            return status

        return eventually(running, timeout=_PATIENCE_S, what=f"{name} to run")

    def patch_status(self, node: str, **status: Any) -> None:
        """Of a node, as its kubelet would; it happens now."""
        body = json.dumps({"status": status})
        self.cluster.kubectl("patch", "node", node, "--subresource=status", "--type=strategic", "-p", body)
        self.started = time.monotonic()

    def unplayed(self, node: str) -> None:
        """KWOK no longer plays this node's kubelet."""
        self.cluster.kubectl("annotate", "node", node, "kwok.x-k8s.io/node-")
        self._unplayed.add(node)

    def played(self, node: str) -> None:
        """KWOK plays it again."""
        self.cluster.kubectl("annotate", "--overwrite", "node", node, "kwok.x-k8s.io/node=fake")
        self._unplayed.discard(node)

    def pool_that_is_quick(self) -> None:
        """The spot pool of H100 gives way to one whose nodes come within seconds."""
        self.cluster.kubectl("delete", "gpupool", "h100-spot", "--ignore-not-found")
        quick = fleet.spot(
            pool="h100-quick", provider="aws", instance_type="p5.48xlarge", zone="us-east-1b", most=5, cold_start_s=6
        )
        self.add(fleet.pool(quick))

    def decided(self, times: int = 2) -> None:
        """Return once the operator has decided that often, about what there is now."""
        before = self._decisions()

        def more() -> bool:
            if self._decisions() >= before + times + 1:  # the first may have begun before
                return True
            self._nudges += 1
            names = self.kubectl("get", "tj", "-o", "name").split()
            for name in names[:1]:
                self.kubectl("annotate", "--overwrite", name, f"example.com/nudge={self._nudges}")
            return False

        eventually(more, timeout=_PATIENCE_S, what=f"{times} more decisions", every=0.3)

    def _decisions(self) -> float:
        return sum(map(float, _PLANS.findall(self._operator.metrics())))

    # -- afterwards

    def clear(self) -> None:
        """All that it made is gone, and the fleet is as it was."""
        for node in sorted(self._unplayed):
            self.played(node)
        self.kubectl("delete", "tj,daemonset,pod", "--all", "--wait=false")

        def gone() -> bool:
            left = self.kubectl("get", "tj,pods", "-o", "name").split()
            assert not left, left
            return True

        eventually(gone, timeout=_PATIENCE_S, what="the jobs to be gone", every=0.2)
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")
        for kind, name in self._made:
            self.cluster.kubectl("delete", kind, name, "--ignore-not-found", "--wait=false")
        self.cluster.kubectl("delete", "gpupools,nodes", "--all")
        fill(self.cluster)


def fill(cluster: Cluster) -> None:
    """The sample fleet; returns when its nodes are ready."""
    cluster.apply(_SAMPLE)

    def ready() -> bool:
        found = {
            n["metadata"]["name"]
            for n in cluster.get("nodes")["items"]
            if any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"].get("conditions", []))
        }
        assert found == _NODES, sorted(found ^ _NODES)
        return True

    eventually(ready, timeout=_PATIENCE_S, what="the fleet to be ready")


def brief(status: Body) -> str:
    """A status in one line."""
    text = " ".join(str(status.get(k, "")) for k in ("phase", "reason", "message"))
    return f"{text} {sorted(status.get('nodes') or {})}"


@contextmanager
def stage() -> Iterator[tuple[Cluster, Operator, Witness]]:
    """Cluster, chart, operator, monitoring and sample fleet, as `make up` starts them."""
    with (
        tempfile.TemporaryDirectory(prefix="stint-bench-") as folder,
        running_cluster(Path(folder), name="embedded") as cluster,
    ):
        operator = cluster.start_stint(
            "steering.enabled=true", prometheus_url=cluster.start_monitoring(), record_dir=Path(folder) / "decisions"
        )
        fill(cluster)
        witness = Witness(cluster.kubeconfig)
        try:
            yield cluster, operator, witness
        finally:
            witness.close()
