"""The bill once more, from the API server's own pod times, by code that shares nothing with Stint's ledger.

Pods are watched with the Kubernetes client library and kept as they were last told of. A worker costs its share of its
node from when it was bound until its containers ended; if it ended well, until the last of its gang did.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

LABEL, POOL = "stint.dev/trainingjob", "stint.dev/pool"
GPU = "nvidia.com/gpu"


class Watcher(threading.Thread):
    """Keeps every object of a kind as it was last told of, until `stop`."""

    def __init__(self, listing: Callable[..., Any], **params: str) -> None:
        super().__init__(daemon=True, name="recount")
        self._listing, self._params = listing, params
        self._watch = watch.Watch()  # type: ignore[no-untyped-call]
        self._ended = threading.Event()
        self.seen: dict[str, dict[str, Any]] = {}  # by uid

    def run(self) -> None:
        """A watch that ends is begun anew."""
        while not self._ended.is_set():
            with suppress(HTTPError):  # also how it ends when the API server does
                for event in self._watch.stream(  # type: ignore[no-untyped-call]
                    self._listing, timeout_seconds=60, **self._params
                ):
                    found = event["raw_object"]
                    self.seen[found["metadata"]["uid"]] = found
                    if self._ended.is_set():
                        return

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self._watch.stop()  # type: ignore[no-untyped-call]


class Recount:
    """Pods of gangs, and nodes."""

    def __init__(self, kubeconfig: Path) -> None:
        api = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))  # type: ignore[no-untyped-call]
        self._pods = Watcher(api.list_pod_for_all_namespaces, label_selector=LABEL)
        self._nodes = Watcher(api.list_node)

    def __enter__(self) -> Recount:
        """Begin to watch."""
        self._pods.start()
        self._nodes.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._pods.stop()
        self._nodes.stop()

    def usd(self, price: Mapping[str, tuple[float, int]], pace: float) -> float:
        """See the function of that name."""
        pool_of = {n["metadata"]["name"]: n["metadata"]["labels"][POOL] for n in dict(self._nodes.seen).values()}
        return usd(dict(self._pods.seen), pool_of, price, pace)


def usd(
    pods: Mapping[str, dict[str, Any]], pool_of: Mapping[str, str], price: Mapping[str, tuple[float, int]], pace: float
) -> float:
    """What their nodes cost them.

    Args:
        pods: by uid.
        pool_of: node to pool.
        price: pool to USD for a node and an hour, and its GPUs.
        pace: seconds that passed for the jobs in one of the API server's.
    """
    gangs: dict[str, list[tuple[datetime, datetime, bool, float]]] = defaultdict(list)
    for pod in pods.values():
        start, end = _bound(pod), _ended(pod)
        if start is None or end is None:
            continue
        per_hour, gpus = price[pool_of[pod["spec"]["nodeName"]]]
        asked = sum(int(c["resources"].get("requests", {}).get(GPU, 0)) for c in pod["spec"]["containers"])
        well = pod["status"].get("phase") == "Succeeded"
        gangs[pod["metadata"]["ownerReferences"][0]["uid"]].append((start, end, well, per_hour * asked / gpus))
    total = 0.0
    for workers in gangs.values():
        last = max(end for _, end, _, _ in workers)
        for start, end, well, per_hour in workers:
            total += ((last if well else end) - start).total_seconds() * pace / 3600 * per_hour
    return total


def _bound(pod: Mapping[str, Any]) -> datetime | None:
    told = {c["type"]: c for c in pod["status"].get("conditions", [])}
    scheduled = told.get("PodScheduled", {})
    return _time(scheduled["lastTransitionTime"]) if scheduled.get("status") == "True" else None


def _ended(pod: Mapping[str, Any]) -> datetime | None:
    states = [s["state"].get("terminated") for s in pod["status"].get("containerStatuses", [])]
    return max(_time(s["finishedAt"]) for s in states if s) if states and all(states) else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
