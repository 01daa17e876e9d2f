"""The image of a kind node, put together from packages: what kind's own Dockerfile and `kind build node-image` do.

Systemd and tools are Debian's; the scripts, units and settings are kind's own, out of its Go module; the programs are
built from Go modules. The images that kubeadm asks for are one image of the very same programs under all their names.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hack import build
from hack.build import cache_folder, versions
from hack.kind.docker import Docker
from hack.kind.offline import archive, binaries, checks, debian
from hack.processes import Processes, eventually

HERE = Path(__file__).resolve().parent
_PACKAGES = (
    *("systemd", "systemd-sysv", "util-linux", "mount", "bash", "ca-certificates", "curl", "jq", "procps", "pigz"),
    *("conntrack", "iptables", "nftables", "iproute2", "ethtool", "kmod", "socat", "libseccomp2"),
)
_UNWANTED_UNITS = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/basic.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "etc/systemd/system/*.wants/*",
)
_NO_STORAGE = """apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
"""


def image(docker: Docker, kubernetes: str) -> str:
    """The name of the node's image in that Docker; built and imported unless it is there."""
    name = f"stint-node:v{kubernetes}-{_key()}"
    with build.locked("node-image"):
        if docker.has(name):
            check_architecture(docker, name)
            return name
        checks.insist(cache_folder(), building=True)
        with build.step(f"building the image of a kind node, Kubernetes {kubernetes}", minutes="6 to 12 minutes"):
            with build.room():
                _import(docker, _tree(kubernetes), name)
            docker.keep_only(name)
    return name


def _key() -> str:
    """Of everything that makes the image what it is."""
    sources = [p for p in HERE.rglob("*") if p.suffix in (".go", ".yaml") or p.name == Path(__file__).name]
    told = [json.dumps(versions(), sort_keys=True).encode(), *(p.read_bytes() for p in sorted(sources))]
    return hashlib.sha256(b"\0".join(told)).hexdigest()[:10]


def check_architecture(docker: Docker, name: str) -> None:
    """Refuse an image that came from another kind of machine."""
    found = docker.run("image", "inspect", "--format", "{{.Architecture}}", name).strip()
    if found != checks.architecture():
        raise build.BuildError(
            f"{name} was made for {found}, this machine is {checks.architecture()}: "
            f"docker rmi {name}, and it is built anew"
        )


def _tree(kubernetes: str) -> Path:
    """The node's file system, as a folder."""
    with ThreadPoolExecutor(2) as side_by_side:  # one waits for the network mostly, the other computes
        base = side_by_side.submit(debian.tree, "node", versions()["debian_node"], _PACKAGES, lambda _: None)
        programs = build.control_plane(kubernetes)
        containerd, plugins = binaries.containerd(), binaries.cni_plugins()
        runc, crictl = binaries.runc(), binaries.crictl()
        coredns, pause = binaries.coredns(), binaries.pause(kubernetes)
        network = binaries.nodenet(kubernetes)
    target = cache_folder() / "work" / "node"
    shutil.rmtree(target, ignore_errors=True)
    copy = ["cp", "--archive", "--reflink=auto", str(base.result()), str(target)]
    subprocess.run(copy, check=True, stderr=subprocess.PIPE, text=True)
    _copy_kinds_files(target)
    for folder in ("opt/cni/bin", "etc/cni/net.d", "etc/kubernetes/manifests", "kind/manifests", "var/lib/containerd"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(programs / "kube", target / "usr/bin/kube")
    for name in ("kubelet", "kubeadm", "kubectl"):
        (target / "usr/bin" / name).symlink_to("kube")
    for program in (*containerd.iterdir(), crictl):
        shutil.copy(program, target / "usr/local/bin")
    (target / "usr/local/sbin").mkdir(parents=True, exist_ok=True)
    shutil.copy(runc, target / "usr/local/sbin")
    for program in plugins.iterdir():
        shutil.copy(program, target / "opt/cni/bin")
    _configure(target, kubernetes)
    _add_images(target, containerd, _images(target, kubernetes, programs, network, coredns, pause))
    return target


def _copy_kinds_files(root: Path) -> None:
    go = build.find_go()
    scratch = cache_folder() / "work" / "kind-files"
    scratch.mkdir(parents=True, exist_ok=True)
    files = Path(go.module("sigs.k8s.io/kind", versions()["kind"], scratch)["Dir"]) / "images/base/files"
    for path in files.rglob("*"):
        to = root / path.relative_to(files)
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
            continue
        shutil.copyfile(path, to)
        scripts = (root / "usr/local/bin", root / "kind/bin")
        to.chmod(0o755 if to.parent in scripts else 0o644)


def _configure(root: Path, kubernetes: str) -> None:
    """What kind's Dockerfile does, and the files that kind looks for on a node."""
    for pattern in _UNWANTED_UNITS:
        for path in root.glob(pattern):
            path.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as journal:
        journal.write("ReadKMsg=no\n")
    _inside(root, "systemctl", "--quiet", "enable", "kubelet", "containerd", "undo-mount-hacks")
    _inside(root, "systemctl", "--quiet", "mask", "systemd-binfmt")
    spec = json.loads(_inside(root, "ctr", "oci", "spec"))
    spec["process"].pop("rlimits", None)
    spec.setdefault("hooks", {}).setdefault("createContainer", []).append({"path": "/kind/bin/mount-product-files.sh"})
    (root / "etc/containerd/cri-base.json").write_text(json.dumps(spec, indent=2))
    settings = root / "etc/containerd/config.toml"
    lines = settings.read_text().splitlines()
    (pause,) = (name for name in _wanted(root, kubernetes) if "/pause:" in name)
    changed = [f'  sandbox_image = "{pause}"' if "sandbox_image" in line else line for line in lines]
    settings.write_text("\n".join(changed) + "\n")
    (root / "kind/version").write_text(f"v{kubernetes}")
    shutil.copyfile(HERE / "cni.yaml", root / "kind/manifests/default-cni.yaml")
    (root / "kind/manifests/default-storage.yaml").write_text(_NO_STORAGE)


def _wanted(root: Path, kubernetes: str) -> list[str]:
    """Full names of the images that this version's kubeadm asks for."""
    return _inside(root, "kubeadm", "config", "images", "list", "--kubernetes-version", f"v{kubernetes}").split()


def _images(
    root: Path, kubernetes: str, programs: Path, network: Path, coredns: Path, pause: Path
) -> list[archive.Image]:
    wanted = _wanted(root, kubernetes)
    apart = {name: program for name in wanted for program in (coredns, pause) if f"/{program.name}:" in name}
    components = (*build.CONTROL_PLANE, "kube-proxy", "kubectl")
    files, links = _firewall_tools(root)
    whole = archive.Image(
        names=[*(name for name in wanted if name not in apart), "docker.io/stint/nodenet:local"],
        files={"/usr/local/bin/kube": programs / "kube", "/usr/local/bin/nodenet": network, **files},
        links={**{f"/usr/local/bin/{name}": "kube" for name in components}, **links},
    )
    small = [
        archive.Image([name], {f"/{program.name}": program}, entrypoint=[f"/{program.name}"])
        for name, program in apart.items()
    ]
    return [whole, *small]


def _firewall_tools(root: Path) -> tuple[Mapping[str, Path], Mapping[str, str]]:
    """iptables (in its nft variant), nft and conntrack with the libraries they need, out of the node's own tree."""
    programs = [root / "usr/sbin" / name for name in ("xtables-nft-multi", "nft", "conntrack")]
    programs += root.glob("usr/lib/*/xtables/*.so")
    files = {"/" + str(program.relative_to(root)): program for program in programs}
    for program in list(files):
        for word in _inside(root, "ldd", program, check=False).split():
            if word.startswith("/"):
                files[word] = root / _inside(root, "readlink", "-f", word).strip().lstrip("/")
    names = [f"{family}{verb}" for family in ("iptables", "ip6tables") for verb in ("", "-save", "-restore")]
    return files, {f"/usr/sbin/{name}": "xtables-nft-multi" for name in names}


def _add_images(root: Path, tools: Path, images: Sequence[archive.Image]) -> None:
    """Into the node's containerd, by a containerd that runs for just that long."""
    work = cache_folder() / "work" / "containerd"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    settings = work / "config.toml"
    settings.write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]\n')
    address = work / "socket"
    processes = Processes(work)
    command = [str(tools / "containerd"), "-c", str(settings), "-a", str(address), "--state", str(work / "state")]
    daemon = processes.start("containerd", [*command, "--root", str(root / "var/lib/containerd")])
    ctr = [str(tools / "ctr"), "-a", str(address)]
    try:
        eventually(lambda: _quiet([*ctr, "version"]), timeout=30, what="containerd to answer")
        for number, each in enumerate(images):
            file = archive.write(each, work / f"{number}.tar")
            arguments = ["-n", "k8s.io", "images", "import", "--no-unpack", "--local", str(file)]
            done = subprocess.run([*ctr, *arguments], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise build.BuildError(f"containerd could not import {each.names[0]}: {done.stderr[-1000:]}")
            file.unlink()
    finally:
        processes.end(daemon)


def _import(docker: Docker, root: Path, name: str) -> None:
    changes = ('ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]', "ENV container=docker", "STOPSIGNAL SIGRTMIN+3")
    docker.import_tree(root, name, *changes)
    shutil.rmtree(root)


def _quiet(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _inside(root: Path, *command: str, check: bool = True) -> str:
    done = subprocess.run(["chroot", str(root), *command], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise build.BuildError(f"{' '.join(command[:3])} in the node's tree: {done.stderr[-1000:]}")
    return done.stdout
