"""A real cluster that anyone can start, for `make up`, the demo, the tests and the benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hack import build
from hack.cluster import claims
from hack.cluster import kubeconfig as kubeconfigs
from hack.cluster.embedded import Embedded
from hack.cluster.kind import Kind
from hack.cluster.operators import Operator, PodOperator, ProcessOperator, get
from hack.cluster.provider import Provider, chosen_name, provider
from hack.cluster.reader import Reader
from hack.processes import Process, eventually, free_port, listens

__all__ = ["Cluster", "Operator", "Provider", "eventually", "get", "kubeconfigs", "provider", "running_cluster"]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "stint"
NAMESPACE, ACCOUNT = "stint-system", "stint"


def find_kubectl(source: Provider) -> Path:
    """The control plane's own where we built one."""
    if isinstance(source, Embedded):
        return build.control_plane(source.version) / "kubectl"
    return build.kubectl(source.version or build.versions()["default_kubernetes"])


class Cluster:
    """One that runs."""

    def __init__(self, source: Provider, state: Path) -> None:
        self.provider = source
        self.state = state
        self.kubeconfig = source.kubeconfig
        self._kubectl = str(find_kubectl(source))
        self._reader = Reader(source.kubeconfig)
        self._metrics_port = free_port()  # known beforehand, so that Prometheus can be started first

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Its standard output.

        Raises:
            RuntimeError: with what it said.
        """
        if stdin is None and (answer := self._reader.answer(arguments)) is not None:
            return answer
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
        self._install("replicaCount=0", *sets)
        self.kubectl("wait", "--for=condition=Established", "crd", "trainingjobs.stint.dev", "--timeout=30s")

    def install_workload_crds(self) -> None:
        """JobSet, PyTorchJob, TrainJob, RayCluster and RayJob, without their controllers."""
        self.apply_crds(build.workload_crds())

    def apply_crds(self, folder: Path) -> None:
        """All that lie there; returns when they are served."""
        self.kubectl("apply", "--server-side", "-f", str(folder))
        # kubectl stumbles over those that have no conditions yet.
        wait = ("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        eventually(lambda: self.kubectl(*wait), what="the CRDs to be served")

    def _install(self, *sets: str) -> None:
        ours = ["pools.kwok.enabled=true"] * self.provider.owns_nodes
        ours += ["podGroups.enabled=true"] * self.provider.pod_groups
        values = [part for s in (*ours, *sets) for part in ("--set", s)]
        self.helm("upgrade", "--install", "stint", str(CHART), "-n", NAMESPACE, "--create-namespace", *values)

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

    def start_stint(self, *sets: str, prometheus_url: str, record_dir: Path, prometheus_window: str = "5m") -> Operator:
        """The chart and the operator, as users run it: in two pods where pods are real, otherwise as a process.

        Args:
            sets: more of the chart's values, as `name=value`.
            record_dir: where a process stores its decisions; pods keep theirs.
        """
        if not isinstance(self.provider, Kind):
            self.install_chart(*sets)
            flags = [f"--prometheus-url={prometheus_url}", f"--prometheus-window={prometheus_window}"]
            flags += ["--steering"] * ("steering.enabled=true" in sets)
            return self.start_operator(*flags, record_dir=record_dir)
        repository, tag = self.provider.load_stint()
        self.kubectl("apply", "-f", "-", stdin=_RESTRICTED)
        self._install(
            f"image.repository={repository}",
            f"image.tag={tag}",
            "image.pullPolicy=Never",
            "replicaCount=2",
            "recordDecisions=true",
            "prometheus.url=http://prometheus.monitoring:9090",
            f"prometheus.window={prometheus_window}",
            *sets,
        )
        self.kubectl("rollout", "status", "deployment/stint", "-n", NAMESPACE, "--timeout=120s")
        return PodOperator(self.kubectl, self.provider.kill, namespace=NAMESPACE, record=True)

    def start_operator(
        self, *extra: str, kubeconfig: Path | None = None, record_dir: Path | None = None, name: str = "operator"
    ) -> ProcessOperator:
        """`stint run` with the chart's ServiceAccount unless told otherwise; returns when it is ready.

        The first is the one that Prometheus scrapes.
        """
        account = kubeconfig or self.service_account_kubeconfig()
        flags = [f"--kubeconfig={account}", f"--namespace={NAMESPACE}", *extra]
        flags += [f"--record-dir={record_dir}"] if record_dir else []
        flags += ["--pod-groups"] * self.provider.pod_groups

        def launch(name: str) -> tuple[Process, int, int]:
            metrics_port = free_port() if listens(self._metrics_port) else self._metrics_port
            health_port = free_port()
            ports = [f"--metrics-port={metrics_port}", f"--health-port={health_port}"]
            command = [sys.executable, "-m", "stint.cli.main", "run", *flags, *ports]
            path = {"PYTHONPATH": str(ROOT / "operator")}
            return self.provider.processes.start(name, command, env=path), metrics_port, health_port

        return ProcessOperator(self.provider.processes, launch, record_dir=record_dir, name=name)

    def close(self) -> None:
        """The connection by which it is looked at; the cluster runs on."""
        self._reader.close()

    def stop(self) -> None:
        """All of it."""
        self.close()
        self.provider.stop()

    def start_monitoring(self, *, interval_s: int = 1, honor_labels: bool = False) -> str:
        """The fake DCGM exporter and a real Prometheus; returns its URL, as seen from this machine."""
        if isinstance(self.provider, Kind):
            return self._monitoring_in_pods(self.provider, interval_s)
        exporter = self.start_exporter()
        return self.start_prometheus(exporter, interval_s=interval_s, honor_labels=honor_labels)

    def start_exporter(self, *flags: str, name: str = "exporter") -> str:
        """The fake DCGM exporter, as a process; returns its address. Flags: see `python -m hack.exporter --help`."""
        port = free_port()
        command = [sys.executable, "-m", "hack.exporter", f"--kubeconfig={self.kubeconfig}", f"--port={port}", *flags]
        self.provider.processes.start(name, command, env={"PYTHONPATH": str(ROOT)}, cwd=ROOT)
        return f"127.0.0.1:{port}"

    def start_prometheus(
        self, *exporters: str, interval_s: int = 1, honor_labels: bool = False, name: str = "prometheus"
    ) -> str:
        """A real Prometheus, as a process, that scrapes exporters and Stint; returns its URL once it is ready."""
        config = self.state / f"{name}.yaml"
        stint = {"static_configs": [{"targets": [f"127.0.0.1:{self._metrics_port}"]}]}
        config.write_text(_scrapes(interval_s, exporters=exporters, honor=honor_labels, stint=stint))
        port = free_port()
        process = self.provider.processes.start(
            name,
            [
                str(build.prometheus()),
                f"--config.file={config}",
                f"--storage.tsdb.path={self.state / name}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
        )
        return _answering(process, port)

    def _monitoring_in_pods(self, kind: Kind, interval_s: int) -> str:
        """Both in pods, and a forwarded port."""
        repository, tag = kind.load_stint()
        folder = kind.volumes / "monitoring"
        shutil.copytree(ROOT / "hack" / "exporter", folder / "python" / "hack" / "exporter", dirs_exist_ok=True)
        shutil.copy(build.prometheus(), folder)
        settings = _scrapes(interval_s, exporters=["exporter:9400"], honor=False, stint=_each_pod())
        (folder / "prometheus.yaml").write_text(settings)
        manifest = (ROOT / "hack" / "kind" / "monitoring.yaml").read_text()
        self.apply(_RESTRICTED)
        self.apply(manifest.replace("image: STINT", f"image: {repository}:{tag}"))
        self.kubectl("rollout", "status", "deployment", "-n", "monitoring", "--timeout=120s")
        port = free_port()
        forward = [self._kubectl, f"--kubeconfig={self.kubeconfig}", "port-forward", "-n", "monitoring"]
        process = self.provider.processes.start("port-forward", [*forward, "service/prometheus", f"{port}:9090"])
        return _answering(process, port)


_RESTRICTED = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
)


def _scrapes(interval_s: int, *, exporters: Sequence[str], honor: bool, stint: dict[str, Any]) -> str:
    """Prometheus' settings.

    Args:
        exporters: where fake DCGM exporters are.
        honor: whether its own labels win.
        stint: where Stint is, as a scrape config says it.
    """
    described = {"pod": "dcgm-exporter-0", "namespace": "monitoring"}
    static = [{"targets": list(exporters), "labels": described}]
    jobs = [
        {"job_name": "dcgm-exporter", "honor_labels": honor, "static_configs": static},
        {"job_name": "stint", "honor_labels": True, **stint},
    ]
    text: str = yaml.safe_dump({"global": {"scrape_interval": f"{interval_s}s"}, "scrape_configs": jobs})
    return text


def _each_pod() -> dict[str, Any]:
    """Both replicas, as a ServiceMonitor has them: through their Service it would be now this one, now that.

    By their names in the cluster's DNS, since Debian's Prometheus cannot ask Kubernetes for them.
    """
    name = f"stint-pods.{NAMESPACE}.svc.cluster.local"
    return {"dns_sd_configs": [{"names": [name], "type": "A", "port": 8080, "refresh_interval": "2s"}]}


def _answering(process: Process, port: int) -> str:
    """Prometheus' URL, once it is ready."""
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        if not process.alive:
            raise build.BuildError(f"{process.name} ended:\n{process.tail()}")
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
    claims.claim(state, chosen_name(name))
    try:
        source.start()
        cluster = Cluster(source, state)
        try:
            yield cluster
        finally:
            cluster.close()
    finally:
        source.stop()
        claims.release(state)
