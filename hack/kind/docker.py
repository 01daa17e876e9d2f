"""Docker's command line: the user's own, or that of a daemon of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hack import build


@dataclass(frozen=True)
class Docker:
    """A client and whom it speaks to.

    Attributes:
        host: as DOCKER_HOST has it; empty: whatever the user's own settings say.
    """

    program: Path
    host: str = ""

    def environment(self) -> dict[str, str]:
        """For this client, and for kind, which looks for `docker` on PATH."""
        path = os.pathsep.join((str(self.program.parent), os.environ.get("PATH", "")))
        # Docker's own builder: BuildKit would ask a registry about images that are only here.
        ours = {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0", "KIND_EXPERIMENTAL_PROVIDER": "docker"}
        return {**os.environ, "PATH": path, **(ours if self.host else {})}

    def command(self, *arguments: str) -> list[str]:
        """To be run in its environment."""
        return [str(self.program), *arguments]

    def run(self, *arguments: str, stdin: IO[bytes] | None = None) -> str:
        """Its standard output.

        Raises:
            BuildError: with what it said, and with the remedy where it is known.
        """
        done = subprocess.run(
            self.command(*arguments),
            stdin=stdin or subprocess.DEVNULL,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise build.BuildError(f"docker {' '.join(arguments[:2])}: {remedy(done.stderr.strip()[-1500:])}")
        return done.stdout

    def import_tree(self, root: Path, name: str, *changes: str, platform: str = "") -> None:
        """A folder as an image; each change is a line of a Dockerfile that `docker import` knows.

        Raises:
            BuildError: as for `run`.
        """
        settings = [part for change in changes for part in ("--change", change)]
        settings += ["--platform", platform] if platform else []
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packed:
            self.run("import", *settings, "-", name, stdin=packed.stdout)

    def answers(self) -> bool:
        """Whether its daemon does."""
        done = subprocess.run(self.command("info"), env=self.environment(), capture_output=True, check=False)
        return done.returncode == 0

    def has(self, image: str) -> bool:
        """Whether the daemon has that image."""
        command = self.command("image", "inspect", image)
        return subprocess.run(command, env=self.environment(), capture_output=True, check=False).returncode == 0

    def keep_only(self, name: str) -> None:
        """Forget earlier builds of `NAME:VERSION-KEY`, in a daemon of our own only: a user's images are the user's."""
        if not self.host:
            return
        version = name.rpartition("-")[0]
        for other in self.run("images", "--format", "{{.Repository}}:{{.Tag}}", name.partition(":")[0]).split():
            if other != name and other.startswith(f"{version}-"):  # one that a cluster still uses stays
                subprocess.run(self.command("rmi", other), env=self.environment(), capture_output=True, check=False)
        self.run("image", "prune", "--force")

    def can_have(self, image: str) -> bool:
        """Whether it is there, or can be pulled now. Our own daemon pulls nothing."""
        if self.has(image):
            return True
        if self.host:
            return False
        command = self.command("pull", "--quiet", image)
        return subprocess.run(command, env=self.environment(), capture_output=True, check=False).returncode == 0

    def cgroup_version(self) -> int:
        """Of the daemon's machine."""
        return int(self.run("info", "--format", "{{.CgroupVersion}}").strip() or 2)


def own() -> Docker | None:
    """The user's, if it is on PATH and a daemon answers it."""
    program = shutil.which("docker")
    docker = Docker(Path(program)) if program else None
    return docker if docker is not None and docker.answers() else None


def remedy(said: str) -> str:
    """What a tool said, with what helps where that is known."""
    if "no space left on device" in said:
        return f"{said}\n{build.FULL}"
    if "address already in use" in said or "port is already allocated" in said:
        return f"{said}\nanother program listens on that port: stop it, or try again (ports are chosen anew)"
    return said
