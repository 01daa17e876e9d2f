"""Stint as it runs for a cluster: a process beside it, or pods in it. Tests treat both alike."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hack.build import BuildError
from hack.processes import Process, Processes, eventually

_TAKES_OVER_S = 40  # a lease lasts 15 s; the rest is for slow machines


def get(url: str, timeout: float = 2) -> str | None:
    """The body of a successful answer; None: there was none."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, OSError):
        return None


class Operator(Protocol):
    """Stint, running."""

    def metrics(self) -> str:
        """Of the one that leads, or should; empty: none answers."""

    def healthy(self) -> bool:
        """Whether its liveness probe succeeds."""

    def failed(self) -> str:
        """Empty while it runs as it should; otherwise its last words."""

    def crash(self) -> None:
        """End the leader without a chance to clear up; return when one leads again."""

    def hand_over(self) -> None:
        """End the leader in order, with a standby beside it; return when that leads."""

    def decisions(self, folder: Path) -> list[Path]:
        """Its latest stored decisions, as files in that folder or wherever they are written, oldest first."""


class ProcessOperator:
    """A process beside the cluster.

    Args:
        launch: starts one of that name, and returns its process and the ports of metrics and probes.
    """

    def __init__(
        self,
        processes: Processes,
        launch: Callable[[str], tuple[Process, int, int]],
        *,
        record_dir: Path | None,
        name: str = "operator",
    ) -> None:
        self._processes = processes
        self._launch = launch
        self._record_dir = record_dir
        self.process, self.metrics_port, self.health_port = launch(name)
        self._await(self.process, self.health_port)

    @property
    def metrics_url(self) -> str:
        """Where Prometheus scrapes."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def metrics(self) -> str:
        """Of this process."""
        return get(self.metrics_url) or ""

    def healthy(self) -> bool:
        """Whether its liveness probe succeeds."""
        return get(f"http://127.0.0.1:{self.health_port}/healthz") is not None

    def failed(self) -> str:
        """Its last words, if it ended."""
        return "" if self.process.alive else self.process.tail(40)

    def crash(self) -> None:
        """SIGKILL, and the same command again."""
        name = self.process.name
        self.process.signal(signal.SIGKILL)
        self._processes.end(self.process)
        self.process, self.metrics_port, self.health_port = self._launch(name)
        self._await(self.process, self.health_port)

    def hand_over(self) -> None:
        """To a second process, which then is the operator."""
        standby, metrics_port, health_port = self._launch("standby" if self.process.name == "operator" else "operator")
        self._await(standby, health_port)
        url = f"http://127.0.0.1:{metrics_port}/metrics"
        assert "stint_leader 0.0" in (get(url) or ""), "the standby leads beside the leader"
        self._processes.end(self.process)
        eventually(lambda: "stint_leader 1.0" in (get(url) or ""), timeout=_TAKES_OVER_S, what="the standby to lead")
        self.process, self.metrics_port, self.health_port = standby, metrics_port, health_port

    def decisions(self, folder: Path) -> list[Path]:
        """Where it writes them."""
        del folder
        return sorted(self._record_dir.glob("*.json")) if self._record_dir else []

    @staticmethod
    def _await(process: Process, health_port: int) -> None:
        def ready() -> bool:
            if not process.alive:
                raise BuildError(f"the operator ended:\n{process.tail(30)}")
            return get(f"http://127.0.0.1:{health_port}/readyz") is not None

        eventually(ready, timeout=60, what="the operator to be ready")


class PodOperator:
    """The chart's Deployment.

    Args:
        kubectl: runs it with arguments and returns what it prints.
        kill: ends the main process of a pod's container with SIGKILL, given node and pod.
    """

    def __init__(
        self, kubectl: Callable[..., str], kill: Callable[[str, str], None], *, namespace: str, record: bool
    ) -> None:
        self._kubectl = kubectl
        self._kill = kill
        self._namespace = namespace
        self._record = record
        self._restarts_meant = 0

    def leader(self) -> str:
        """The name of its pod."""
        held = self._kubectl("get", "lease", "stint", "-n", self._namespace, "-o", "jsonpath={.spec.holderIdentity}")
        return held.rpartition("_")[0]

    def metrics(self) -> str:
        """Of the leading pod."""
        return self._ask(self.leader(), 8080, "metrics")

    def healthy(self) -> bool:
        """Whether the leading pod's liveness probe would succeed."""
        return self._ask(self.leader(), 8081, "healthz") != ""

    def failed(self) -> str:
        """The last words of containers that restarted without being made to."""
        where = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{'\\n'}{end}"
        listed = self._kubectl("get", "pods", *self._selected(), "-o", where)
        restarts = {name: int(count or 0) for name, _, count in (line.partition(" ") for line in listed.splitlines())}
        if sum(restarts.values()) <= self._restarts_meant:
            return ""
        worst = max(restarts, key=lambda name: restarts[name])
        return self._kubectl("logs", "-n", self._namespace, worst, "--previous", "--tail=40")

    def crash(self) -> None:
        """SIGKILL to the leader's process; its kubelet starts it again, and one of the two leads."""
        pod = self.leader()
        node = self._kubectl("get", "pod", pod, "-n", self._namespace, "-o", "jsonpath={.spec.nodeName}")
        self._kill(node, pod)
        self._restarts_meant += 1
        eventually(self._leads, timeout=_TAKES_OVER_S, what="a leader after the crash", every=0.5)

    def hand_over(self) -> None:
        """The leader's pod is deleted; the other one takes over."""
        before = self.leader()
        self._kubectl("delete", "pod", before, "-n", self._namespace, "--wait=false")
        eventually(
            lambda: self.leader() not in ("", before) and self._leads(),
            timeout=_TAKES_OVER_S,
            what="the standby to lead",
            every=0.5,
        )

    def decisions(self, folder: Path) -> list[Path]:
        """Copied out of the leading pod."""
        if not self._record:
            return []
        pod = self.leader()
        inside = ["exec", "-n", self._namespace, pod, "--"]
        names = self._kubectl(*inside, "sh", "-c", "ls /decisions | sort | tail -20").split()
        for name in names:
            (folder / name).write_text(self._kubectl(*inside, "cat", f"/decisions/{name}"))
        return [folder / name for name in names]

    def _leads(self) -> bool:
        return "stint_leader 1.0" in self.metrics()

    def _ask(self, pod: str, port: int, path: str) -> str:
        try:
            where = f"/api/v1/namespaces/{self._namespace}/pods/{pod}:{port}/proxy/{path}"
            return self._kubectl("get", "--raw", where)
        except RuntimeError:
            return ""

    def _selected(self) -> tuple[str, ...]:
        return ("-n", self._namespace, "-l", "app.kubernetes.io/name=stint")
