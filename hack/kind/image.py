"""Stint's own image, by its Dockerfile: on the public base, or on one made of Debian's packages."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tomllib
from pathlib import Path

from hack import build
from hack.kind.docker import Docker
from hack.kind.offline import debian

ROOT = Path(__file__).resolve().parents[2]
_CONTEXT = ("operator/stint", "crds", "pyproject.toml", "uv.lock", "README.md", "LICENSE", "NOTICE", "Dockerfile")
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_INDEXES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX")


def version() -> str:
    """Of this checkout: the chart's, and a mark of everything that goes into the image."""
    digest = hashlib.sha256()
    for name in _CONTEXT:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return f"{project['version']}-{digest.hexdigest()[:10]}"


def image(docker: Docker) -> tuple[str, str]:
    """Repository and tag of the image of this checkout in that Docker; built unless it is there."""
    repository, tag = "stint", version()
    with build.locked("stint-image"):
        if not docker.has(f"{repository}:{tag}"):
            base = public_base(docker) or local_base(docker)
            with build.step(f"building Stint's image on {base}", minutes="1 minute"):
                arguments = [part for name in _PASSED_ON if name in os.environ for part in ("--build-arg", name)]
                arguments += ["--build-arg", f"BASE={base}", "--network", "host", "--tag", f"{repository}:{tag}"]
                docker.run("build", "--quiet", *arguments, str(ROOT))
            docker.keep_only(f"{repository}:{tag}")
    return repository, tag


def public_base(docker: Docker) -> str | None:
    """The Dockerfile's own base, if it is there or can be had."""
    found = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert found is not None
    base = found.group(1)
    return base if docker.can_have(base) else None


def local_base(docker: Docker) -> str:
    """The name of the smallest Debian with Python, imported unless it is there."""

    def finish(root: Path) -> None:
        for name in ("lib/python3/dist-packages", "lib/python3.11/lib2to3", "lib/python3.11/pydoc_data"):
            shutil.rmtree(root / "usr" / name, ignore_errors=True)

    tree = debian.tree("python", build.versions()["debian_node"], ("ca-certificates", "python3-venv"), finish)
    name = f"stint-base:{tree.name}"
    if not docker.has(name):
        ours = Path("/") / _CERTIFICATES  # a network with an authority of its own is trusted where this machine does
        if ours.exists():
            shutil.copyfile(ours, tree / _CERTIFICATES)
        settings = [f"ENV SSL_CERT_FILE=/{_CERTIFICATES} PIP_CERT=/{_CERTIFICATES}"]
        settings += [f"ENV {index}={os.environ[index]}" for index in _INDEXES if index in os.environ]
        docker.import_tree(tree, name, *settings)
    return name
