"""What a machine needs for all of this, looked at before anything is begun: each lack is said with its remedy."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack import build

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CAPABILITIES = {  # by number, as linux/capability.h has them
    0: "CHOWN",
    1: "DAC_OVERRIDE",
    5: "KILL",
    6: "SETGID",
    7: "SETUID",
    8: "SETPCAP",
    12: "NET_ADMIN",
    13: "NET_RAW",
    18: "SYS_CHROOT",
    19: "SYS_PTRACE",
    21: "SYS_ADMIN",
    27: "MKNOD",
    31: "SETFCAP",
}
SYS_RESOURCE = 24
_TOOLS = {
    "unshare": "util-linux",
    "ip": "iproute2",
    "wget": "wget",
    "perl": "perl",
    "gcc": "gcc libc6-dev",
    "apt-get": "apt",
    "dpkg": "dpkg",
}
LEAST_FREE_GB = 16.0  # 8 of them are Go's modules and build cache


@dataclass(frozen=True)
class Machine:
    """What matters here of the one that this runs on.

    Attributes:
        capabilities: the effective set, as the kernel's bit mask.
        cgroup: 1 or 2; 0: neither is mounted where it is expected.
        controllers: of the root cgroup.
        missing_tools: names of programs that are not on PATH.
    """

    root: bool
    machine: str
    capabilities: int
    cgroup: int
    controllers: frozenset[str]
    free_gb: float
    missing_tools: tuple[str, ...]


def architecture() -> str:
    """As Go, Docker and Debian call it.

    Raises:
        BuildError: this is neither x86-64 nor ARM64.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        known = " or ".join(_ARCHITECTURES)
        raise build.BuildError(f"this machine is {machine}; nodes are made for {known}: use CLUSTER=embedded")
    return _ARCHITECTURES[machine]


def look(folder: Path) -> Machine:
    """At this machine, and at the file system of that folder."""
    status = Path("/proc/self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, flags=re.MULTILINE)
    version, controllers = _cgroup(Path("/sys/fs/cgroup"))
    return Machine(
        root=os.geteuid() == 0,
        machine=platform.machine(),
        capabilities=int(effective.group(1), 16) if effective else 0,
        cgroup=version,
        controllers=controllers,
        free_gb=shutil.disk_usage(folder).free / 1e9,
        missing_tools=tuple(tool for tool in _TOOLS if shutil.which(tool) is None),
    )


def _cgroup(root: Path) -> tuple[int, frozenset[str]]:
    unified = root / "cgroup.controllers"
    if unified.exists():
        return 2, frozenset(unified.read_text().split())
    mounted = frozenset(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else frozenset()
    return (1 if "memory" in mounted else 0), mounted


def problems(machine: Machine, *, building: bool) -> Sequence[str]:
    """Everything that stands in the way, each with what to do; all at once. `building`: images are yet to be made."""
    if not machine.root:
        return [
            "not root: a Docker daemon, mounts and network bridges need it. Run it as root (sudo make ...), "
            "start a Docker of your own, or use CLUSTER=embedded, which needs neither"
        ]
    found = []
    if machine.machine not in _ARCHITECTURES:
        found.append(f"this machine is {machine.machine}; nodes are made for {' or '.join(_ARCHITECTURES)}")
    lacking = [f"CAP_{name}" for bit, name in _CAPABILITIES.items() if not machine.capabilities >> bit & 1]
    if lacking:
        found.append(
            f"missing {', '.join(lacking)}: in a container, run that with --privileged (or --cap-add of each); "
            "without, use CLUSTER=embedded"
        )
    if machine.cgroup == 0:
        found.append("no cgroups under /sys/fs/cgroup: mount cgroup2 there, or in a container run it with --privileged")
    else:
        needed = {"cpu", "memory", "pids"} | ({"devices", "freezer"} if machine.cgroup == 1 else set())
        off = sorted(needed - machine.controllers)
        if off:
            found.append(f"cgroup v{machine.cgroup} without {', '.join(off)}: enable them (cgroup_enable=... at boot)")
    if building and machine.free_gb < LEAST_FREE_GB:
        found.append(
            f"{machine.free_gb:.1f} GB free in {build.cache_folder()}, {LEAST_FREE_GB:g} are needed: free some, or "
            "point XDG_CACHE_HOME to a larger disk"
        )
    if building and machine.missing_tools:
        packages = " ".join(_TOOLS[tool] for tool in machine.missing_tools)
        found.append(f"missing programs {', '.join(machine.missing_tools)}: apt-get install {packages}")
    return found


def insist(folder: Path, *, building: bool) -> Machine:
    """Look, and refuse with everything that is missing.

    Raises:
        BuildError: one line for each problem.
    """
    machine = look(folder)
    found = problems(machine, building=building)
    if found:
        raise build.BuildError("kind cannot be set up on this machine:\n" + "\n".join(f"  - {p}" for p in found))
    return machine
