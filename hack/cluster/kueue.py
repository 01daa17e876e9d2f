"""Kueue beside Stint, as a process: its real manager, its CRDs, and its webhooks for Jobs and its own resources."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from hack import build
from hack.cluster import Cluster, eventually
from hack.processes import Process, free_port

_OURS = ("batch", "kueue.x-k8s.io")  # whose webhooks are installed; those of other groups would need their CRDs


def start(cluster: Cluster) -> Process:
    """Install and start it on the embedded control plane; returns when its webhooks answer.

    Raises:
        NotYetError: they do not.
    """
    manifests, program = build.kueue_manifests(), build.kueue()
    cluster.apply_crds(manifests / "crd")
    folder = cluster.state / "kueue"
    folder.mkdir()
    for theirs, ours in (("apiserver.crt", "tls.crt"), ("apiserver.key", "tls.key")):
        shutil.copyfile(cluster.state / "certificates" / theirs, folder / ours)
    port = free_port()
    (folder / "config.yaml").write_text(yaml.safe_dump(_settings(folder, port)))
    flags = [f"--config={folder / 'config.yaml'}", f"--kubeconfig={cluster.kubeconfig}"]
    process = cluster.provider.processes.start("kueue", _with_certificates(folder, [str(program), *flags]))
    ca = base64.b64encode((cluster.state / "certificates" / "ca.crt").read_bytes()).decode()
    cluster.apply(_webhooks(manifests / "webhooks.yaml", port, ca))
    probe = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "probe"}}

    def answers() -> bool:
        if not process.alive:
            raise build.BuildError(f"Kueue ended:\n{process.tail()}")
        return bool(cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(probe)))

    eventually(answers, timeout=60, what="Kueue's webhooks")
    return process


def _with_certificates(folder: Path, command: list[str]) -> list[str]:
    """In an /etc of its own, since it insists on certificates at one place there; nothing else in /etc is missed."""
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    made = 'mount -t tmpfs etc /etc && mkdir -p /etc/kueue/metrics && cp -r "$0" /etc/kueue/metrics/certs && exec "$@"'
    return [*own, "sh", "-c", made, str(folder), *command]


def _settings(folder: Path, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"127.0.0.1:{free_port()}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": port, "certDir": str(folder)},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "integrations": {"frameworks": ["batch/job"]},
        "featureGates": {
            "VisibilityOnDemand": False
        },  # an API of its own, for which the API server would have to call it
    }


def _webhooks(file: Path, port: int, ca: str) -> list[dict[str, Any]]:
    """Those for Jobs and for what is Kueue's own, at an address of this machine."""
    found = []
    for configuration in yaml.safe_load_all(file.read_text()):
        kept = [w for w in configuration["webhooks"] if {g for r in w["rules"] for g in r["apiGroups"]} <= set(_OURS)]
        for webhook in kept:
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}", "caBundle": ca}
        configuration["metadata"]["name"] = "kueue-" + configuration["metadata"]["name"]
        found.append({**configuration, "webhooks": kept})
    return found


def queue(namespace: str, *, gpus: int) -> list[dict[str, Any]]:
    """A queue `gpus` in a namespace, for so many GPUs in all."""
    api = "kueue.x-k8s.io/v1beta2"
    flavor = {"name": "any", "resources": [{"name": "nvidia.com/gpu", "nominalQuota": gpus}]}
    return [
        {"apiVersion": api, "kind": "ResourceFlavor", "metadata": {"name": "any"}},
        {
            "apiVersion": api,
            "kind": "ClusterQueue",
            "metadata": {"name": "gpus"},
            "spec": {
                "namespaceSelector": {},
                "resourceGroups": [{"coveredResources": ["nvidia.com/gpu"], "flavors": [flavor]}],
            },
        },
        {
            "apiVersion": api,
            "kind": "LocalQueue",
            "metadata": {"name": "gpus", "namespace": namespace},
            "spec": {"clusterQueue": "gpus"},
        },
    ]
