"""A real cluster that anyone can start, for `make up`, the demo, the tests and the benchmarks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.cluster import build, claims
from hack.cluster import kubeconfig as kubeconfigs
from hack.cluster.embedded import Embedded
from hack.cluster.processes import Process, Processes, eventually, free_port, listens
from hack.cluster.provider import Provider, provider

__all__ = ["Cluster", "Operator", "Provider", "eventually", "provider", "running_cluster"]

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE, ACCOUNT = "stint-system", "stint"


def get(url: str, timeout: float = 2) -> str | None:
    """The body of a successful answer; None: there was none."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, OSError):
        return None


def find_kubectl(source: Provider) -> Path:
    """The control plane's own where we built one."""
    if isinstance(source, Embedded):
        return build.control_plane(source.version) / "kubectl"
    return build.kubectl(source.version or build.versions()["default_kubernetes"])


@dataclass
class Operator:
    """The operator as a process beside the cluster."""

    process: Process
    processes: Processes
    metrics_port: int
    health_port: int

    @property
    def metrics_url(self) -> str:
        """Where Prometheus scrapes."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    @property
    def health_url(self) -> str:
        """Where probes ask."""
        return f"http://127.0.0.1:{self.health_port}"

    @property
    def pid(self) -> int:
        """Of its process."""
        return self.process.pid

    @property
    def log(self) -> Path:
        """The file that it writes to."""
        return self.process.log

    def ready(self) -> bool:
        """Whether it may act."""
        if not self.process.alive:
            raise build.BuildError(f"the operator ended:\n{self.process.tail(30)}")
        return get(f"{self.health_url}/readyz") is not None

    def stop(self) -> None:
        """Ask it to end."""
        self.processes.end(self.process)

    def kill(self) -> None:
        """End it as a crash would, without a chance to clear up."""
        self.process.signal(signal.SIGKILL)
        self.processes.end(self.process)


class Cluster:
    """One that runs."""

    def __init__(self, source: Provider, state: Path) -> None:
        self.provider = source
        self.state = state
        self.kubeconfig = source.kubeconfig
        self._kubectl = str(find_kubectl(source))
        self._metrics_port = free_port()  # known beforehand, so that Prometheus can be started first

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Its standard output.

        Raises:
            RuntimeError: with what it said.
        """
        return _run([self._kubectl, *arguments], self.kubeconfig, stdin)

    def get(self, *arguments: str) -> Any:
        """An object or a list, decoded."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, objects: str | Sequence[dict[str, Any]]) -> str:
        """kubectl apply."""
        text = objects if isinstance(objects, str) else yaml.safe_dump_all(objects)
        return self.kubectl("apply", "-f", "-", stdin=text)

    def helm(self, *arguments: str) -> str:
        """Its standard output."""
        return _run([str(build.helm()), *arguments], self.kubeconfig, None)

    def install_chart(self, *sets: str) -> None:
        """The chart, with the operator itself left to run as a process; CRDs come with it."""
        chart = str(ROOT / "charts" / "stint")
        ours = ["replicaCount=0"] + ["pools.kwok.enabled=true"] * self.provider.owns_nodes
        values = [part for s in (*ours, *sets) for part in ("--set", s)]
        self.helm("upgrade", "--install", "stint", chart, "-n", NAMESPACE, "--create-namespace", *values)
        self.kubectl("wait", "--for=condition=Established", "crd", "trainingjobs.stint.dev", "--timeout=30s")

    def service_account_kubeconfig(self, namespace: str = NAMESPACE, name: str = ACCOUNT) -> Path:
        """A kubeconfig of a ServiceAccount, valid for a day. The operator's own: so that its RBAC is what is tested."""
        body = json.dumps(
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86_400}}
        )
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        token = json.loads(self.kubectl("create", "--raw", path, "-f", "-", stdin=body))["status"]["token"]
        target = self.state / f"{namespace}.{name}.kubeconfig"
        kubeconfigs.write(target, kubeconfigs.cluster_of(self.kubeconfig), {"token": token})
        return target

    def start_operator(
        self,
        *extra: str,
        name: str = "operator",
        kubeconfig: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> Operator:
        """`stint run` with the chart's ServiceAccount unless told otherwise; returns when it is ready.

        The first is the one that Prometheus scrapes. A second one beside it needs a `name` of its own.
        """
        metrics_port = free_port() if listens(self._metrics_port) else self._metrics_port
        health_port = free_port()
        kubeconfig = kubeconfig or self.service_account_kubeconfig()
        command = [sys.executable, "-m", "stint.cli.main", "run", f"--kubeconfig={kubeconfig}"]
        command += [
            f"--namespace={NAMESPACE}",
            f"--metrics-port={metrics_port}",
            f"--health-port={health_port}",
            *extra,
        ]
        path = {"PYTHONPATH": f"{ROOT / 'operator'}", **(env or {})}
        process = self.provider.processes.start(name, command, env=path)
        operator = Operator(process, self.provider.processes, metrics_port, health_port)
        eventually(operator.ready, timeout=60, what="the operator to be ready")
        return operator

    def stop(self) -> None:
        """All of it."""
        self.provider.stop()

    def start_monitoring(self, *, interval_s: int = 1, honor_labels: bool = False) -> str:
        """The fake DCGM exporter and a real Prometheus; returns its URL."""
        exporter_port, port = free_port(), free_port()
        start = self.provider.processes.start
        command = [sys.executable, "-m", "hack.exporter", f"--kubeconfig={self.kubeconfig}", f"--port={exporter_port}"]
        start("exporter", command, env={"PYTHONPATH": str(ROOT)}, cwd=ROOT)
        targets = {
            "dcgm-exporter": (f"127.0.0.1:{exporter_port}", honor_labels),
            "stint": (f"127.0.0.1:{self._metrics_port}", True),
        }
        jobs = [
            {
                "job_name": job,
                "honor_labels": honor,
                "static_configs": [{"targets": [t], "labels": {"pod": f"{job}-0", "namespace": "monitoring"}}],
            }
            for job, (t, honor) in targets.items()
        ]
        config = self.state / "prometheus.yaml"
        config.write_text(yaml.safe_dump({"global": {"scrape_interval": f"{interval_s}s"}, "scrape_configs": jobs}))
        data = self.state / "prometheus"
        process = start(
            "prometheus",
            [
                str(build.prometheus()),
                f"--config.file={config}",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
        )
        url = f"http://127.0.0.1:{port}"

        def up() -> bool:
            if not process.alive:
                raise build.BuildError(f"Prometheus ended:\n{process.tail()}")
            return get(f"{url}/-/ready") is not None

        eventually(up, timeout=30, what="Prometheus to be ready")
        return url


def _run(command: list[str], kubeconfig: Path, stdin: str | None) -> str:
    done = subprocess.run(
        command,
        input=stdin,
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"{Path(command[0]).name} {' '.join(command[1:5])}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


@contextmanager
def running_cluster(
    state: Path, *, name: str | None = None, k8s: str | None = None, audit: bool = False
) -> Iterator[Cluster]:
    """A cluster for as long as the block runs; whatever happens, nothing of it is left running.

    If this very process is killed, the next start of any cluster clears away what is left of this one.
    """
    claims.clear_orphans()
    source = provider(state, name=name, k8s=k8s, audit=audit)
    claims.claim(state)
    try:
        source.start()
        yield Cluster(source, state)
    finally:
        source.stop()
        claims.release(state)
