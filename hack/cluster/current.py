"""The cluster that KUBECONFIG points to. Its nodes are never touched."""

from __future__ import annotations

import os
from pathlib import Path

from hack import build
from hack.processes import Processes


class Current:
    """Whatever is there already; nothing is made or deleted but processes beside it."""

    owns_nodes = False

    def __init__(self, state: Path, version: str, *, audit: bool = False, pod_groups: bool = False) -> None:
        del version, audit
        self.pod_groups = pod_groups
        self.version = ""
        self.audit_log: Path | None = None
        self.kubeconfig = Path(
            os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or Path.home() / ".kube" / "config"
        )
        self.processes = Processes(state)

    def start(self) -> None:
        """Only look whether there is one."""
        if not self.kubeconfig.exists():
            raise build.BuildError(f"CLUSTER=current: there is no {self.kubeconfig}; set KUBECONFIG")
        self.processes.end_all()

    def stop(self) -> None:
        """End what we started beside it."""
        self.processes.end_all()
