"""Gangs of real workers on real kubelets: two nodes with four fake GPUs each, and a volume that both see."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import ROOT, Cluster, Operator
from hack.cluster.kind import Kind
from tests.e2e.conftest import World

TRAIN = ROOT / "hack" / "kind" / "workload" / "train.py"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
    "runAsNonRoot": True,
    "runAsUser": 65532,
}


@dataclass
class Trainer:
    """A corner of the cluster whose jobs really train."""

    world: World
    kind: Kind
    image: str

    @property
    def folder(self) -> Path:
        """Where the checkpoints are, as this machine sees it."""
        return self.kind.volumes / self.world.name

    def prepare(self) -> None:
        """The program, and a volume for checkpoints."""
        self.folder.mkdir()
        self.folder.chmod(0o777)
        name = self.world.name
        amount = {"storage": "1Gi"}
        claim = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": name}
        volume = {
            "capacity": amount,
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "hostPath": {"path": f"/volumes/{name}"},
        }
        self.world.cluster.kubectl("label", "ns", name, "pod-security.kubernetes.io/enforce=restricted")
        self.world.cluster.apply(
            [
                {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "checkpoints", "namespace": name},
                    "spec": {**claim, "resources": {"requests": amount}},
                },
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "program", "namespace": name},
                    "data": {"train.py": TRAIN.read_text()},
                },
            ]
        )

    def job(
        self,
        name: str = "job",
        *,
        workers: int = 2,
        gpus: int = 2,
        steps: int = 40,
        step_seconds: float = 0.1,
        checkpoint_every: int = 20,
        **spec: Any,
    ) -> dict[str, Any]:
        """A TrainingJob for the real nodes."""
        settings = {
            "STEPS": steps,
            "STEP_SECONDS": step_seconds,
            "CHECKPOINT_EVERY": checkpoint_every,
            "CHECKPOINT_DIR": f"/checkpoints/{name}",
        }
        container = {
            "name": "train",
            "image": self.image,
            "imagePullPolicy": "Never",
            "command": ["python", "/program/train.py"],
            "env": [{"name": k, "value": str(v)} for k, v in settings.items()],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
            "securityContext": RESTRICTED,
            "volumeMounts": [
                {"name": "program", "mountPath": "/program"},
                {"name": "checkpoints", "mountPath": "/checkpoints"},
            ],
        }
        pod = {
            "nodeSelector": {"stint.dev/fake-gpus": "true"},
            "terminationGracePeriodSeconds": 20,
            "containers": [container],
            "volumes": [
                {"name": "program", "configMap": {"name": "program"}},
                {"name": "checkpoints", "persistentVolumeClaim": {"claimName": "checkpoints"}},
            ],
        }
        return {
            "apiVersion": "stint.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name, "namespace": self.world.name},
            "spec": {
                "workers": workers,
                "gpu": {"perWorker": gpus},
                "work": {"units": steps, "unitsPerSecond": {"L4": 1 / step_seconds}},
                "checkpoint": {"everyMinutes": checkpoint_every * step_seconds / 60, "restartSeconds": 2},
                "template": {"spec": pod},
                **spec,
            },
        }

    def lines(self, name: str = "job") -> list[dict[str, Any]]:
        """What the workers that are there have logged so far, in the order of their clocks."""
        listed = json.loads(self.world.kubectl("get", "pods", "-l", f"stint.dev/trainingjob={name}", "-o", "json"))
        found = []
        for pod in listed["items"]:
            try:
                text = self.world.kubectl("logs", pod["metadata"]["name"])
            except RuntimeError:  # not started yet, or gone meanwhile
                continue
            found += [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return sorted(found, key=lambda line: line["time"])

    def reached(self, step: int, name: str = "job") -> list[dict[str, Any]]:
        """The lines, once the present gang is that far."""
        lines = self.lines(name)
        return lines if any(line["step"] >= step for line in lines) else []

    def checkpoint(self, name: str = "job") -> dict[str, Any]:
        """The one on the volume."""
        told: dict[str, Any] = json.loads((self.folder / name / "checkpoint.json").read_text())
        return told


@pytest.fixture
def trainer(world: World, shared_operator: Operator, cluster: Cluster) -> Trainer:
    assert isinstance(cluster.provider, Kind)
    repository, tag = cluster.provider.load_stint()
    found = Trainer(world, cluster.provider, f"{repository}:{tag}")
    found.prepare()
    return found
