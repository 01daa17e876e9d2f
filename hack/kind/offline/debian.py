"""Trees of Debian, unpacked by debootstrap, and single packages of it. Nothing is installed on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from hack import build
from hack.build import cache_folder

_DEBIAN = re.compile(r"^(?:URIs:|deb(?: \[[^\]]*\])?)\s+(\S+/debian)/?(?:\s|$)", flags=re.MULTILINE)


def mirror() -> str:
    """Where this machine gets Debian from.

    Raises:
        BuildError: it does not say.
    """
    given = os.environ.get("DEBIAN_MIRROR")
    if given:
        return given
    apt = Path("/etc/apt")
    for file in [*sorted(apt.glob("sources.list.d/*")), apt / "sources.list"]:
        found = _DEBIAN.search(file.read_text()) if file.is_file() else None
        if found:
            return found.group(1)
    raise build.BuildError("no Debian archive in /etc/apt: set DEBIAN_MIRROR to one, as for debootstrap")


def packages(*names: str) -> Path:
    """A folder with the files of these packages of this machine's own Debian."""
    key = hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]
    target = cache_folder() / "debian" / f"{names[0]}-{key}"

    def make(_: build.Go, folder: Path, out: Path) -> None:
        folder.chmod(0o755)
        for command in (["download", *names], ["update"], ["download", *names]):
            done = _run(["apt-get", "-qq", *command], cwd=folder, check=command[0] == "update")
            if done and command[0] == "download":
                break  # mostly at once: the lists need no update
        found = list(folder.glob("*.deb"))
        if len(found) != len(names):
            raise build.BuildError(f"apt-get download {' '.join(names)} gave {[p.name for p in found]}")
        for package in found:
            _run(["dpkg", "-x", str(package), str(out)])

    return build.once(target.name, target, f"fetching {', '.join(names)}", "", make)


def tree(name: str, suite: str, include: Sequence[str], finish: Callable[[Path], None]) -> Path:
    """The smallest Debian with these packages, as a folder to change root into.

    Args:
        finish: what else is done to it before it counts as whole.
    """
    key = hashlib.sha256(" ".join(include).encode()).hexdigest()[:8]
    target = cache_folder() / "debian" / f"{name}-{suite}-{key}"

    def make(_: build.Go, folder: Path, out: Path) -> None:
        script = packages("debootstrap")
        log = folder / "log"
        command = ["sh", str(script / "usr/sbin/debootstrap"), "--variant=minbase", f"--include={','.join(include)}"]
        with log.open("wb") as output:
            done = subprocess.run(
                [*command, suite, str(out), mirror()],
                env={**os.environ, "DEBOOTSTRAP_DIR": str(script / "usr/share/debootstrap"), "LC_ALL": "C"},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise build.BuildError(f"debootstrap of {suite} failed:\n{log.read_text()[-1500:]}")
        slim(out)
        finish(out)

    return build.once(target.name, target, f"unpacking Debian {suite} for {name}", "1 minute", make)


def slim(root: Path) -> None:
    """Without what no program reads: downloaded packages, lists, manuals, translations. Licences stay."""
    for pattern in (
        "var/cache/apt/*",
        "var/lib/apt/lists/*",
        "usr/share/man/*",
        "usr/share/locale/*",
        "usr/share/info/*",
    ):
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in (root / "usr/share/doc").glob("*/*"):
        if path.name != "copyright" and not path.is_dir():
            path.unlink()


def _run(command: Sequence[str], *, cwd: Path | None = None, check: bool = True) -> bool:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0 and check:
        raise build.BuildError(f"{' '.join(command[:3])} failed:\n{done.stderr[-1000:]}")
    return done.returncode == 0
