"""What goes wrong with a machine goes wrong here for real, in a Docker daemon beside the one that has the cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.build import BuildError, cache_folder
from hack.cluster import ROOT, claims, eventually
from hack.kind.docker import Docker
from hack.kind.offline import binaries, checks, daemon, node


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of its own, and so a daemon of its own, that shares what takes time to make."""
    made = cache_folder()
    daemon.tree()
    binaries.pause("1.36.3")
    with tempfile.TemporaryDirectory(prefix="stint-") as short:  # a socket's path may not be long
        folder = Path(short) / "stint"
        folder.mkdir()
        for part in ("debian", "bin", "go"):
            (folder / part).symlink_to(made / part)
        monkeypatch.setenv("XDG_CACHE_HOME", short)
        yield folder
        daemon.stop()


def _tiny(docker: Docker, folder: Path, *changes: str, size: int = 0) -> str:
    """An image of a program that waits."""
    root = folder / "tiny"
    root.mkdir(exist_ok=True)
    (root / "pause").write_bytes(binaries.pause("1.36.3").read_bytes())
    (root / "pause").chmod(0o755)
    (root / "filler").write_bytes(os.urandom(size))
    docker.import_tree(root, "tiny:1", 'ENTRYPOINT ["/pause"]', *changes)
    return "tiny:1"


def _bridge() -> Path:
    return Path("/sys/class/net") / daemon._mark()


def test_a_daemon_that_is_killed_takes_everything_along_and_the_next_start_clears_up(apart: Path, tmp_path: Path):
    docker = daemon.start()
    _tiny(docker, tmp_path)
    docker.run("run", "--detach", "--network", daemon.NETWORK, "tiny:1")
    process = daemon.running()
    assert process is not None
    tree = {process.pid, *_below(process.pid)}
    assert len(tree) >= 5
    assert _bridge().exists()
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not [p for p in tree if _alive(p)], timeout=20, what="all of the daemon's processes to be gone")
    again = daemon.start()
    assert again.run("ps", "--all", "--quiet") == ""
    daemon.stop()
    assert not _bridge().exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{daemon._mark()}"))


def _below(pid: int) -> set[int]:
    children = {int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()}
    return children | {p for child in children for p in _below(child)}


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_full_disk_is_told_with_what_helps(apart: Path, tmp_path: Path):
    data = apart / "docker" / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(data)], check=True)
    try:
        with pytest.raises(BuildError, match=r"no space left on device[\s\S]*XDG_CACHE_HOME"):
            _tiny(daemon.start(), tmp_path, size=64 << 20)
    finally:
        daemon.stop()
        subprocess.run(["umount", str(data)], check=True)


def test_a_port_that_is_taken_is_told_with_what_helps(apart: Path, tmp_path: Path):
    docker = daemon.start()
    _tiny(docker, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BuildError, match="another program listens on that port"):
            docker.run("run", "--detach", "--network", daemon.NETWORK, "--publish", f"127.0.0.1:{port}:80", "tiny:1")


def test_an_image_of_another_architecture_is_not_used(apart: Path, tmp_path: Path):
    docker = daemon.start()
    other = "arm64" if checks.architecture() == "amd64" else "amd64"
    root = tmp_path / "empty"
    root.mkdir()
    docker.import_tree(root, "elsewhere:1", platform=f"linux/{other}")
    with pytest.raises(BuildError, match=rf"made for {other}.*docker rmi elsewhere:1"):
        node.check_architecture(docker, "elsewhere:1")


def test_without_a_capability_it_says_which(tmp_path: Path):
    command = ["setpriv", "--bounding-set=-sys_admin,-net_admin", "--inh-caps=-sys_admin,-net_admin"]
    done = subprocess.run(
        [*command, sys.executable, "-m", "hack.kind", "image"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "missing CAP_NET_ADMIN, CAP_SYS_ADMIN" in done.stderr
    assert "--privileged" in done.stderr


def test_a_cluster_whose_owner_was_killed_is_cleared_away(apart: Path, tmp_path: Path):
    """Here without nodes, which take a minute: its daemon ends, because no cluster is left."""
    code = (
        "import os, pathlib, signal\nfrom hack.cluster import claims\nfrom hack.kind.offline import daemon\n"
        f"claims.claim(pathlib.Path({str(tmp_path / 'gone')!r}), 'kind')\n"
        "daemon.start()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"},
        cwd=ROOT,
        check=False,
    )
    assert daemon.running() is not None
    claims.clear_orphans()
    assert daemon.running() is None
    assert not (tmp_path / "gone").exists()
