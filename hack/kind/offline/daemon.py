"""A Docker daemon in a tree of its own, beside none that this machine may have.

It lives in its own mount and process namespaces, so that nothing can outlive it: when it goes, by whatever means, so do
its containers and its mounts. It writes no firewall rules and makes no default bridge. What it leaves on this machine
when it is killed is one bridge and some empty control groups, both by names of ours; the next start clears them away.
One daemon serves all clusters of this cache folder, and ends with the last of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from hack import build
from hack.build import cache_folder
from hack.kind.docker import Docker
from hack.kind.offline import debian
from hack.processes import HopelessError, NotYetError, Process, Processes, eventually

NETWORK = "kind"  # kind's own name for it
_PACKAGES = ("ca-certificates", "docker.io", "docker-cli", "iptables", "tini")
# pid 1 of the daemon's namespaces: makes the tree its root, as a container's would be, and reaps what is orphaned.
_ENTER = """set -e
tree=$1 run=$2 data=$3; shift 3
mount --bind "$tree" "$tree"; cd "$tree"
mount --rbind /sys sys; mount --rbind /dev dev; mount -t proc proc proc
mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs tmp
mkdir -p oldroot ".$run" var/lib/docker
mount --bind "$run" ".$run"; mount --bind "$data" var/lib/docker
cp -f /etc/hosts /etc/resolv.conf etc/
pivot_root . oldroot; cd /; umount -l /oldroot
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
exec tini -g -- dockerd "$@"
"""


def _home() -> Path:
    folder = cache_folder() / "docker"
    for part in ("run", "data"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return folder


def _mark() -> str:
    """Of this cache folder, in names of what the daemon makes outside of it; short, as interfaces' names must be."""
    return "stint-" + hashlib.sha256(str(_home().resolve()).encode()).hexdigest()[:6]


def run_folder() -> Path:
    """What lies here is seen by the daemon at the same path, so that nodes can mount it."""
    return _home() / "run"


def tree() -> Path:
    """Debian with Docker."""
    return debian.tree("docker", build.versions()["debian_docker"], _PACKAGES, lambda _: None)


def client() -> Docker:
    """Docker's client out of the same tree, run by the tree's loader: its libraries are newer than this machine's."""
    root = tree()
    program = _home() / "docker"
    (loader,) = root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*")
    script = f'#!/bin/sh\nexec {loader} --library-path {loader.parent} {root}/usr/bin/docker "$@"\n'
    if not program.exists() or program.read_text() != script:
        program.write_text(script)
        program.chmod(0o755)
    return Docker(program, f"unix://{run_folder() / 'docker.sock'}")


def _processes() -> Processes:
    return Processes(_home())


def running() -> Process | None:
    """The daemon, if it runs."""
    return _processes().find("dockerd")


def start() -> Docker:
    """Start it, unless it runs; return when it answers.

    Raises:
        BuildError: it did not start; the message ends with its own words.
    """
    docker = client()
    with build.locked("docker"):
        if running() is None:
            _sweep()
            process = _launch()
            try:
                eventually(lambda: _answers(docker, process), timeout=60, what="the Docker daemon to answer")
                # Whatever it still knows of belongs to clusters that died with an earlier daemon.
                left = docker.run("ps", "--all", "--quiet").split()
                if left:
                    docker.run("rm", "--force", "--volumes", *left)
                _make_network(docker)
            except NotYetError as error:
                _processes().end(process)
                raise build.BuildError(f"{error}. Its last words:\n{process.tail(10)}") from error
    return docker


def _answers(docker: Docker, process: Process) -> bool:
    if not process.alive:
        raise HopelessError(f"the Docker daemon ended. Its last words:\n{process.tail(10)}")
    return docker.answers()


def _launch() -> Process:
    run, data = run_folder(), _home() / "data"
    flags = [
        f"--host=unix://{run / 'docker.sock'}",
        "--pidfile=/run/docker.pid",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{_mark()}",
        "--log-level=warn",
    ]
    # The client's --kill-child ends everything inside with this process.
    outside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    log = _home() / "logs" / "dockerd.log"
    log.unlink(missing_ok=True)
    return _processes().start(
        "dockerd", [*outside, "bash", "-c", _ENTER, "bash", str(tree()), str(run), str(data), *flags]
    )


def _make_network(docker: Docker) -> None:
    """kind's network before kind makes it, so that its bridge has a name that can be found again."""
    if NETWORK in docker.run("network", "ls", "--format", "{{.Name}}").split():
        docker.run("network", "rm", NETWORK)
    docker.run("network", "create", f"--opt=com.docker.network.bridge.name={_mark()}", NETWORK)


def memory_mib() -> float:
    """What it keeps in memory itself: dockerd, containerd and the shims, without what runs in containers."""
    process = running()
    if process is None:
        return 0.0
    kib, wanted = 0, [process.pid]
    while wanted:
        pid = wanted.pop()
        folder = Path(f"/proc/{pid}")
        with suppress(OSError):
            if f"/{_mark()}/" in (folder / "cgroup").read_text():
                continue
            status = (folder / "status").read_text()
            kib += int(next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")), 0))
            for task in (folder / "task").iterdir():
                wanted += map(int, (task / "children").read_text().split())
    return kib / 1024


def stop() -> None:
    """End it and what it left."""
    with build.locked("docker"):
        process = running()
        if process is not None:
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)  # lets it close its files; unshare itself would not pass it on
            with suppress(NotYetError):
                eventually(lambda: not process.alive, timeout=15, what="the Docker daemon to end")
            _processes().end(process)
        _sweep()


def _sweep() -> None:
    """Clear away what an ended daemon left: files in its run folder, its bridge, its control groups."""
    shutil.rmtree(run_folder(), ignore_errors=True)
    name = _mark()
    if Path(f"/sys/class/net/{name}").exists():
        subprocess.run(["ip", "link", "delete", name], check=False)
    for group in [Path(f"/sys/fs/cgroup/{name}"), *Path("/sys/fs/cgroup").glob(f"*/{name}")]:
        folders = [*group.rglob("*"), group] if group.is_dir() else []
        for folder in sorted((p for p in folders if p.is_dir()), key=lambda p: -len(p.parts)):
            try:
                folder.rmdir()
            except OSError as error:
                build.say(f"left {folder}: {error.strerror}")
