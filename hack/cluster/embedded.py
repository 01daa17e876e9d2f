"""A real control plane as plain processes on this machine, with KWOK for nodes. No root, no containers, seconds."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hack import build
from hack.cluster import certificates, kubeconfig
from hack.cluster.audit import AUDIT_POLICY
from hack.cluster.kwok import start_kwok
from hack.processes import Processes, eventually, free_port

FIRST_WITH_POD_GROUPS = 37  # as v1beta1


def _memory() -> dict[str, str]:
    """Enough for hundreds of pods, unless Go's own variable says more."""
    return {"GOMEMLIMIT": os.environ.get("GOMEMLIMIT", "1GiB")}


def _minor(version: str) -> int:
    return int(version.split(".")[1])


class Embedded:
    """etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok, in one state folder."""

    owns_nodes = True

    def __init__(self, state: Path, version: str, *, audit: bool = False, pod_groups: bool = False) -> None:
        self.state = state
        self.version = version
        self.pod_groups = pod_groups
        self.audit_log = state / "audit.log" if audit else None
        self.kubeconfig = state / "kubeconfig"
        self.processes = Processes(state)

    def start(self) -> None:
        """Start it, and return when it can be used. What an earlier start left behind is cleared away first."""
        if self.pod_groups and _minor(self.version) < FIRST_WITH_POD_GROUPS:
            first = f"1.{FIRST_WITH_POD_GROUPS}"
            raise build.BuildError(f"POD_GROUPS=1: Kubernetes {self.version} has none, K8S={first} or later has")
        binaries = build.control_plane(self.version)
        build.kwok()
        self.processes.end_all()
        shutil.rmtree(self.state / "etcd", ignore_errors=True)
        certs = self.state / "certificates"
        certificates.make(certs)
        etcd_port, peer_port, api_port = (free_port() for _ in range(3))
        etcd_url = f"http://127.0.0.1:{etcd_port}"
        server = f"https://127.0.0.1:{api_port}"
        kubeconfig.write(
            self.kubeconfig,
            {"server": server, "certificate-authority": str(certs / "ca.crt")},
            {"client-certificate": str(certs / "admin.crt"), "client-key": str(certs / "admin.key")},
        )
        start = self.processes.start
        start(
            "etcd",
            [
                str(binaries / "etcd"),
                f"--data-dir={self.state / 'etcd'}",
                f"--listen-client-urls={etcd_url}",
                f"--advertise-client-urls={etcd_url}",
                f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
                f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
                "--unsafe-no-fsync",
                "--quota-backend-bytes=4294967296",
            ],
            env=_memory(),
        )
        self.etcd_url = etcd_url
        self._api_server = [str(binaries / "kube-apiserver"), *self._apiserver(certs, etcd_url, api_port)]

        def answers() -> bool:
            return self._answers(server, certs)

        self._api_server_answers = answers
        self._start_api_server()
        common = [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", *self._gates()]
        start(
            "kube-controller-manager",
            [
                str(binaries / "kube-controller-manager"),
                *common,
                f"--service-account-private-key-file={certs / 'sa.key'}",
                f"--root-ca-file={certs / 'ca.crt'}",
                "--use-service-account-credentials=true",
                "--node-monitor-grace-period=120s",
                "--concurrent-job-syncs=20",
                # As Kubernetes' own tests of scale set it: a Service's endpoints are worked out anew from all of its
                # pods, and not for each pod that comes.
                *(f"--{what}-updates-batch-period=500ms" for what in ("endpoint", "endpointslice")),
                "--kube-api-qps=300",
                "--kube-api-burst=600",
                f"--secure-port={free_port()}",
                "--bind-address=127.0.0.1",
            ],
            env=_memory(),
        )
        start(
            "kube-scheduler",
            [
                str(binaries / "kube-scheduler"),
                *common,
                "--kube-api-qps=300",
                "--kube-api-burst=600",
                f"--secure-port={free_port()}",
                "--bind-address=127.0.0.1",
            ],
            env=_memory(),
        )
        start_kwok(self.processes, self.state, self.kubeconfig)
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        eventually(lambda: self._answers(server, certs, path), timeout=60, what="the default ServiceAccount")

    def _start_api_server(self) -> None:
        self.processes.start("kube-apiserver", self._api_server, env=_memory())
        eventually(self._api_server_answers, timeout=60, what="the API server to be ready")

    def restart_api_server(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """End it, and start it again at the same address; returns when it is ready."""
        running = self.processes.find("kube-apiserver")
        assert running is not None
        self.processes.end(running)
        meanwhile()
        self._start_api_server()

    def compact(self) -> None:
        """Let etcd forget every earlier revision, as it does by itself every few minutes."""
        latest = self._etcd("kv/range", {"key": base64.b64encode(b"/").decode()})["header"]["revision"]
        self._etcd("kv/compaction", {"revision": latest, "physical": True})

    def _etcd(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"{self.etcd_url}/v3/{path}", data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def _gates(self, *gates: str) -> list[str]:
        """Of features that are off by default: these, and what all parts have to agree on."""
        gates += ("GenericWorkload",) * self.pod_groups
        return [f"--feature-gates={','.join(f'{g}=true' for g in gates)}"] if gates else []

    def _apiserver(self, certs: Path, etcd_url: str, port: int) -> list[str]:
        flags = [
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={certs / 'apiserver.crt'}",
            f"--tls-private-key-file={certs / 'apiserver.key'}",
            f"--client-ca-file={certs / 'ca.crt'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={certs / 'sa.pub'}",
            f"--service-account-signing-key-file={certs / 'sa.key'}",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--endpoint-reconciler-type=none",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
        ]
        early = _minor(self.version) < 36
        flags += self._gates(*["MutatingAdmissionPolicy"] * early)
        flags += ["--runtime-config=admissionregistration.k8s.io/v1beta1=true"] * early
        flags += ["--runtime-config=scheduling.k8s.io/v1beta1=true"] * self.pod_groups
        if self.audit_log is not None:
            policy = self.state / "audit-policy.yaml"
            policy.write_text(AUDIT_POLICY)
            flags += [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]
            flags += ["--audit-log-maxsize=10000"]  # MB; what is rotated away is not counted
        return flags

    def _answers(self, server: str, certs: Path, path: str = "/readyz") -> bool:
        for process in self.processes.noted():
            if not process.alive:
                raise build.BuildError(f"{process.name} ended:\n{process.tail()}")
        context = ssl.create_default_context(cafile=str(certs / "ca.crt"))
        context.load_cert_chain(str(certs / "admin.crt"), str(certs / "admin.key"))
        try:
            with urllib.request.urlopen(server + path, context=context, timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    def stop(self) -> None:
        """End everything that was started from this state folder."""
        self.processes.end_all()
