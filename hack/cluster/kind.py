"""A kind cluster of the public node image, with KWOK beside it for fake GPU nodes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from hack.cluster import build
from hack.cluster.kwok import start_kwok
from hack.cluster.processes import Processes

CONFIG = Path(__file__).resolve().parent / "kind.yaml"


class Kind:
    """One by state folder, so that tests never delete what `make up` made."""

    owns_nodes = True

    def __init__(self, state: Path, version: str, *, audit: bool = False) -> None:
        del audit  # kind's own API server keeps none
        self.state = state
        self.version = version
        self.kubeconfig = state / "kubeconfig"
        self.processes = Processes(state)
        self.name = "stint-" + hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]

    def start(self) -> None:
        """Create it, or use the one that is there."""
        docker = shutil.which("docker")
        if docker is None:
            raise build.BuildError("CLUSTER=kind needs docker on PATH; install it, or use CLUSTER=embedded")
        answer = subprocess.run([docker, "info"], capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            why = (answer.stderr.strip().splitlines() or ["it does not say why"])[-1]
            raise build.BuildError(
                f"CLUSTER=kind needs a Docker that answers; start it, or use CLUSTER=embedded. It says: {why}"
            )
        kind = str(build.kind())
        if self.name not in self._there(kind):
            image = f"kindest/node:v{self.version}"
            command = [kind, "create", "cluster", "--name", self.name, "--image", image, "--config", str(CONFIG)]
            command += ["--kubeconfig", str(self.kubeconfig), "--wait", "120s"]
            if subprocess.run(command, check=False).returncode != 0:
                raise build.BuildError(f"kind could not create a cluster of {image}; its own words are above")
        self.processes.end_all()
        start_kwok(self.processes, self.state, self.kubeconfig)

    def _there(self, kind: str) -> list[str]:
        return subprocess.run([kind, "get", "clusters"], capture_output=True, text=True, check=False).stdout.split()

    def stop(self) -> None:
        """Delete it."""
        self.processes.end_all()
        kind = build.built("kind") or shutil.which("kind")
        if kind is not None and self.name in self._there(str(kind)):
            command = [str(kind), "delete", "cluster", "--name", self.name, "--kubeconfig", str(self.kubeconfig)]
            subprocess.run(command, check=False)
