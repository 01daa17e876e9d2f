"""A kind cluster: real kubelets, real pods, Stint in pods of its own image, and KWOK beside it for fleets of any size.

Where Docker runs and kind's public node image can be had, that is all it takes. Otherwise Docker, the node's image and
the images on it are made from packages (`hack.kind.offline`).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hack import build
from hack.cluster.audit import AUDIT_POLICY
from hack.cluster.kwok import start_kwok
from hack.kind import docker as dockers
from hack.kind import image as images
from hack.kind.docker import Docker
from hack.kind.offline import archive, binaries, checks, daemon, node
from hack.processes import Processes

HERE = Path(__file__).resolve().parent.parent / "kind"
# Where a node is allowed less than it would like, each of these is needed for it to start at all.
_CGROUP_V1 = "kind: KubeletConfiguration\nfailCgroupV1: false\n"
_NO_SYS_RESOURCE = '[plugins."io.containerd.grpc.v1.cri"]\n  restrict_oom_score_adj = true\n'
_AUDIT = """kind: ClusterConfiguration
apiServer:
  extraArgs:
    - {name: audit-policy-file, value: /volumes/audit/policy.yaml}
    - {name: audit-log-path, value: /volumes/audit/audit.log}
  extraVolumes:
    - {name: audit, hostPath: /volumes/audit, mountPath: /volumes/audit, pathType: Directory}
"""


class Kind:
    """One by state folder, so that tests never delete what `make up` made."""

    owns_nodes = True

    def __init__(self, state: Path, version: str, *, audit: bool = False, pod_groups: bool = False) -> None:
        self.state = state
        self.pod_groups = pod_groups
        self.version = version
        self._audit = audit
        self.kubeconfig = state / "kubeconfig"
        self.processes = Processes(state)
        self.name = "stint-" + hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]
        self._docker: Docker | None = None
        self._stint: tuple[str, str] | None = None

    @property
    def docker(self) -> Docker:
        """The one that has this cluster."""
        if self._docker is None:
            self._docker = dockers.own() or daemon.start()
        return self._docker

    @property
    def volumes(self) -> Path:
        """A folder that all nodes see as /volumes, as they would a file server."""
        return (daemon.run_folder() if self.docker.host else self.state) / "volumes" / self.name

    @property
    def audit_log(self) -> Path | None:
        """Written by the API server on its node."""
        return self.volumes / "audit" / "audit.log" if self._audit else None

    def start(self) -> None:
        """Create it anew. What an earlier start left behind is cleared away first."""
        if self.pod_groups:
            raise build.BuildError("POD_GROUPS=1: CLUSTER=kind does not turn them on, CLUSTER=embedded does")
        if dockers.own() is None:
            checks.insist(build.cache_folder(), building=False)
        self.processes.end_all()
        image = self._node_image()
        self._delete()
        self.volumes.mkdir(parents=True, exist_ok=True)
        self.volumes.chmod(0o777)
        if self.audit_log is not None:
            self.audit_log.parent.mkdir()
            (self.audit_log.parent / "policy.yaml").write_text(AUDIT_POLICY)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
            yaml.safe_dump(self._config(), config)
            config.flush()
            command = ["create", "cluster", "--image", image, "--config", config.name, "--wait", "120s"]
            self._kind(*command, "--kubeconfig", str(self.kubeconfig))
        self._load_deviceplugin()
        start_kwok(self.processes, self.state, self.kubeconfig)

    def load_stint(self) -> tuple[str, str]:
        """Stint's image on all nodes; its repository and tag."""
        if self._stint is None:  # as it was then: what is edited meanwhile is for the next cluster
            self._stint = images.image(self.docker)
            name = ":".join(self._stint)
            self.docker.run("tag", name, "stint:local")  # by which samples can speak of it
            self.load(name, "stint:local")
        return self._stint

    def load(self, *images: str) -> None:
        """Images of this Docker on all nodes that take pods of ours."""
        self._kind("load", "docker-image", *images, "--nodes", ",".join(self._workers()))

    def kill(self, node: str, pod: str) -> None:
        """SIGKILL to the main process of that pod, as a crash or the kernel's killer would."""
        inside = ("exec", node, "crictl")
        (container,) = self.docker.run(*inside, "ps", "--quiet", "--label", f"io.kubernetes.pod.name={pod}").split()
        told = self.docker.run(*inside, "inspect", "--output", "go-template", "--template", "{{.info.pid}}", container)
        self.docker.run("exec", node, "kill", "-KILL", told.strip())

    def stop(self) -> None:
        """Delete it, and with the last cluster the Docker daemon that is only there for them."""
        self.processes.end_all()
        docker = dockers.own()
        if docker is None:
            if daemon.running() is None:
                return
            docker = daemon.client()
        self._docker = docker
        self._delete()
        if docker.host and not self._kind("get", "clusters").split():
            daemon.stop()
            self._docker = None

    def _delete(self) -> None:
        if self.name in self._kind("get", "clusters").split():
            self._kind("delete", "cluster", "--kubeconfig", str(self.kubeconfig))
        shutil.rmtree(self.volumes, ignore_errors=True)

    def _node_image(self) -> str:
        public = f"kindest/node:v{self.version}"
        if not self.docker.host:
            if self.docker.cgroup_version() == 1:
                build.say(f"this machine has cgroup v1, on which {public} does not start: its nodes are made here")
            elif self.docker.can_have(public):
                return public
            else:
                build.say(f"{public} cannot be pulled: the node's image is made here")
        return node.image(self.docker, self.version)

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load((HERE / "kind.yaml").read_text())
        for each in config["nodes"]:
            each["extraMounts"] = [{"hostPath": str(self.volumes), "containerPath": "/volumes"}]
        patches = [_CGROUP_V1] * (self.docker.cgroup_version() == 1) + [_AUDIT] * self._audit
        if patches:
            config["kubeadmConfigPatches"] = patches
        if not checks.look(build.cache_folder()).capabilities >> checks.SYS_RESOURCE & 1:
            config["containerdConfigPatches"] = [_NO_SYS_RESOURCE]
        return config

    def _workers(self) -> list[str]:
        """The control plane's node takes none of our pods."""
        return [n for n in self._kind("get", "nodes", "--name", self.name).split() if "control-plane" not in n]

    def _load_deviceplugin(self) -> None:
        program = binaries.deviceplugin(self.version)
        packed = self.state / "deviceplugin.tar"
        archive.write(
            archive.Image(
                ["docker.io/stint/deviceplugin:local"], {"/deviceplugin": program}, entrypoint=["/deviceplugin"]
            ),
            packed,
        )
        self._kind("load", "image-archive", str(packed), "--nodes", ",".join(self._workers()))
        packed.unlink()
        kubectl = [str(build.kubectl(self.version)), f"--kubeconfig={self.kubeconfig}"]
        subprocess.run([*kubectl, "apply", "-f", str(HERE / "deviceplugin.yaml")], check=True, capture_output=True)

    def _kind(self, *arguments: str) -> str:
        named: Sequence[str] = () if arguments[0] == "get" else ("--name", self.name)
        done = subprocess.run(
            [str(build.kind()), *arguments, *named],
            env=self.docker.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise build.BuildError(f"kind {' '.join(arguments[:2])}: {dockers.remedy(done.stderr.strip()[-3000:])}")
        return done.stdout
