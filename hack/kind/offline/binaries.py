"""Programs of a node that are built from Go modules, beside those of Kubernetes itself."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from hack import build
from hack.build import Go, cache_folder, versions
from hack.kind.offline import debian

HERE = Path(__file__).resolve().parent
_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_CNI = "github.com/containernetworking/plugins/plugins"
DEVICEPLUGIN, NODENET = HERE.parent / "deviceplugin", HERE / "nodenet"
_LIBRARIES = {DEVICEPLUGIN: ("k8s.io/kubelet",), NODENET: ("k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go")}
_STRIPPED = ("-trimpath", "-ldflags", "-s -w")


def containerd() -> Path:
    """A folder with containerd, its shim and ctr; without the snapshotters that kind does not use."""
    programs = [f"{_CONTAINERD}/{p}" for p in ("containerd", "containerd-shim-runc-v2", "ctr")]
    tags = "no_btrfs no_devmapper no_zfs no_aufs"
    return build.installed("containerd", versions()["containerd"], "1 minute", *programs, tags=tags)


def cni_plugins() -> Path:
    """A folder with the plug-ins of the container network interface that kind's nodes have."""
    programs = [f"{_CNI}/{p}" for p in ("ipam/host-local", "main/loopback", "main/ptp", "meta/portmap")]
    return build.installed("cni-plugins", versions()["cni_plugins"], "1 minute", *programs)


def runc() -> Path:
    """Static, with seccomp: kubeadm's static pods ask for the runtime's default profile."""
    version = versions()["runc"]

    def make(go: Go, folder: Path, out: Path) -> None:
        development = debian.packages("libseccomp-dev") / "usr"
        (library,) = development.glob("lib/*/libseccomp.a")
        # Says where the unpacked library is, instead of the pkg-config that may not be installed.
        script = folder / "pkg-config"
        told = f"--cflags) echo -I{development}/include;; *) echo -L{library.parent} -lseccomp;;"
        script.write_text(f'#!/bin/sh\ncase "$1" in {told} esac\n')
        script.chmod(0o755)
        extra = {"GOBIN": str(out), "CGO_ENABLED": "1", "PKG_CONFIG": str(script)}
        flags = ["-trimpath", "-tags", "seccomp netgo osusergo", "-ldflags", "-s -w -extldflags -static"]
        go.run("install", *flags, f"github.com/opencontainers/runc@{version}", cwd=folder, extra=extra)

    target = cache_folder() / "bin" / f"runc-{version}"
    return build.once(target.name, target, f"building runc {version}", "1 minute", make) / "runc"


def crictl() -> Path:
    """From a copy of its module: `go install` wants a list of its versions, which not every proxy serves."""
    version = versions()["cri_tools"]

    def make(go: Go, folder: Path, out: Path) -> None:
        source = _copy_of(go, "sigs.k8s.io/cri-tools", version, folder)
        go.run("build", *_STRIPPED, "-o", str(out / "crictl"), "./cmd/crictl", cwd=source)

    target = cache_folder() / "bin" / f"cri-tools-{version}"
    return build.once(target.name, target, f"building crictl {version}", "1 minute", make) / "crictl"


def coredns() -> Path:
    """With few plug-ins; the versions of all its modules are its own."""
    version = versions()["coredns"]

    def make(go: Go, folder: Path, out: Path) -> None:
        go.run("mod", "init", "dns", cwd=folder)
        found = Path(go.module("github.com/coredns/coredns", version, folder)["Dir"])
        listed = re.sub(r"^module .*$", "module dns", (found / "go.mod").read_text(), flags=re.MULTILINE)
        (folder / "go.mod").write_text(f"{listed}\nrequire github.com/coredns/coredns {version}\n")
        shutil.copyfile(found / "go.sum", folder / "go.sum")
        shutil.copy(HERE / "coredns" / "main.go", folder)
        go.run("build", *_STRIPPED, "-o", str(out / "coredns"), ".", cwd=folder)

    target = cache_folder() / "bin" / f"coredns-{version}"
    return build.once(target.name, target, f"building CoreDNS {version}", "2 minutes", make) / "coredns"


def pause(kubernetes: str) -> Path:
    """Kubernetes' own, of C."""

    def make(go: Go, folder: Path, out: Path) -> None:
        go.run("mod", "init", "pause", cwd=folder)
        source = Path(go.module("k8s.io/kubernetes", f"v{kubernetes}", folder)["Dir"]) / "build/pause/linux/pause.c"
        out.mkdir()
        done = subprocess.run(
            ["gcc", "-Os", "-static", "-DVERSION=" + kubernetes, "-o", str(out / "pause"), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise build.BuildError(f"gcc could not build pause (apt-get install libc6-dev?):\n{done.stderr[-500:]}")

    target = cache_folder() / "bin" / f"pause-{kubernetes}"
    return build.once(target.name, target, "building pause", "", make) / "pause"


def deviceplugin(kubernetes: str) -> Path:
    """Fake GPUs for the kubelet."""
    return _ours(DEVICEPLUGIN, kubernetes)


def nodenet(kubernetes: str) -> Path:
    """What stands in for kindnetd."""
    return _ours(NODENET, kubernetes)


def _ours(source: Path, kubernetes: str) -> Path:
    """A program of this project, by its folder; built anew when it changes."""
    content = b"".join(p.read_bytes() for p in sorted(source.glob("*.go")))
    key = hashlib.sha256(content + kubernetes.encode()).hexdigest()[:10]

    def make(go: Go, folder: Path, out: Path) -> None:
        as_module(go, source, folder, kubernetes)
        go.run("build", *_STRIPPED, "-o", str(out / source.name), ".", cwd=folder)

    target = cache_folder() / "bin" / f"{source.name}-{key}"
    return build.once(target.name, target, f"building {source.name}", "", make) / source.name


def as_module(go: Go, source: Path, folder: Path, kubernetes: str) -> None:
    """A copy of a program of ours with a go.mod; Kubernetes' own libraries at the version that belongs to it."""
    library = "v0." + kubernetes.split(".", 1)[1]
    required = [f"require {module} {library}" for module in _LIBRARIES[source]]
    if source == NODENET:
        required.append(f"require github.com/vishvananda/netlink {versions()['netlink']}")
    (folder / "go.mod").write_text("\n".join((f"module {source.name}", f"go {versions()['go']}", *required)) + "\n")
    for file in source.glob("*.go"):
        shutil.copy(file, folder)
    go.run("mod", "tidy", cwd=folder)


def _copy_of(go: Go, module: str, version: str, folder: Path) -> Path:
    go.run("mod", "init", "copy", cwd=folder)
    copied = folder / "source"
    shutil.copytree(go.module(module, version, folder)["Dir"], copied)
    for path in [copied, *copied.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    return copied
