"""The other providers: kind, where Docker works, and the cluster that KUBECONFIG points to."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from hack.cluster import build
from hack.cluster.kwok import start_kwok
from hack.cluster.processes import Processes

NAME = "stint"
CONFIG = Path(__file__).resolve().parent / "kind.yaml"


class Kind:
    """A kind cluster of the public node image, with KWOK beside it for fake GPU nodes."""

    owns_nodes = True

    def __init__(self, state: Path, version: str, *, audit: bool = False) -> None:
        del audit  # kind's own API server keeps none
        self.state = state
        self.version = version
        self.kubeconfig = state / "kubeconfig"
        self.processes = Processes(state)

    def start(self) -> None:
        """Create it, or use the one that is there."""
        docker, kind = shutil.which("docker"), shutil.which("kind")
        if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode != 0:
            raise build.BuildError("CLUSTER=kind needs a running Docker; start it, or use CLUSTER=embedded")
        if kind is None:
            raise build.BuildError("CLUSTER=kind needs kind on PATH; install it, or use CLUSTER=embedded")
        there = subprocess.run([kind, "get", "clusters"], capture_output=True, text=True, check=True).stdout.split()
        if NAME not in there:
            image = f"kindest/node:v{self.version}"
            command = [kind, "create", "cluster", "--name", NAME, "--image", image, "--config", str(CONFIG)]
            done = subprocess.run([*command, "--wait", "120s"], check=False)
            if done.returncode != 0:
                raise build.BuildError(f"kind could not create a cluster of {image}; its own words are above")
        kubeconfig = subprocess.run(
            [kind, "get", "kubeconfig", "--name", NAME], capture_output=True, text=True, check=True
        ).stdout
        self.kubeconfig.write_text(kubeconfig)
        self.processes.end_all()
        start_kwok(self.processes, self.state, self.kubeconfig)

    def stop(self) -> None:
        """Delete it."""
        self.processes.end_all()
        if kind := shutil.which("kind"):
            subprocess.run([kind, "delete", "cluster", "--name", NAME], check=False)


class Current:
    """Whatever KUBECONFIG points to. Its nodes are never touched."""

    owns_nodes = False

    def __init__(self, state: Path, version: str, *, audit: bool = False) -> None:
        del version, audit
        self.state = state
        self.version = ""
        self.kubeconfig = Path(
            os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or Path.home() / ".kube" / "config"
        )
        self.processes = Processes(state)

    def start(self) -> None:
        """Only look whether it answers."""
        if not self.kubeconfig.exists():
            raise build.BuildError(f"CLUSTER=current: there is no {self.kubeconfig}; set KUBECONFIG")

    def stop(self) -> None:
        """End what we started beside it."""
        self.processes.end_all()
