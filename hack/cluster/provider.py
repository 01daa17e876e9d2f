"""Where a cluster comes from: CLUSTER=embedded, kind or current."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from hack import build
from hack.cluster.current import Current
from hack.cluster.embedded import Embedded
from hack.cluster.kind import Kind
from hack.processes import Processes


class Provider(Protocol):
    """Makes a cluster and takes it away again."""

    owns_nodes: bool  # whether fake nodes may be added
    pod_groups: bool  # whether Stint is told to make PodGroups
    version: str  # of Kubernetes; empty: whatever it is
    kubeconfig: Path
    processes: Processes

    @property
    def audit_log(self) -> Path | None:
        """Of writes, where one was asked for and is kept."""

    def start(self) -> None:
        """Return when it can be used."""

    def stop(self) -> None:
        """Leave nothing running."""


PROVIDERS: dict[str, type[Embedded] | type[Kind] | type[Current]] = {
    "embedded": Embedded,
    "kind": Kind,
    "current": Current,
}


def chosen_name(name: str | None = None) -> str:
    """By CLUSTER= unless given."""
    return name or os.environ.get("CLUSTER") or "embedded"


def provider(state: Path, *, name: str | None = None, k8s: str | None = None, audit: bool = False) -> Provider:
    """By CLUSTER= and K8S= unless given; POD_GROUPS=1 turns PodGroups on."""
    chosen = chosen_name(name)
    version = k8s or os.environ.get("K8S") or build.versions()["default_kubernetes"]
    if chosen not in PROVIDERS:
        raise build.BuildError(f"CLUSTER={chosen}: choose one of {', '.join(PROVIDERS)}")
    state.mkdir(parents=True, exist_ok=True)
    pod_groups = os.environ.get("POD_GROUPS", "") not in ("", "0")
    return PROVIDERS[chosen](state.resolve(), version, audit=audit, pod_groups=pod_groups)
