"""Container images of one layer, written without any container tool, as `docker load` and `ctr import` read them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hack.kind.offline.checks import architecture

_FOLDERS = ("tmp", "etc", "proc", "sys", "dev", "run")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EPOCH = "2026-01-01T00:00:00Z"  # the same bytes give the same image


@dataclass(frozen=True)
class Image:
    """What is in it, by absolute path.

    Attributes:
        names: full names with tags; all of them are the same image.
        files: copied from here, with their permission to execute.
        links: symbolic links to their targets.
        entrypoint: empty: whoever runs it says what to run.
    """

    names: Sequence[str]
    files: Mapping[str, Path]
    links: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()


def write(image: Image, target: Path) -> Path:
    """Write the archive, whole or not at all.

    Raises:
        FileNotFoundError: a file of it is missing.
    """
    layer, part = target.with_suffix(".layer"), target.with_suffix(".part")
    _write_layer(image, layer)
    with layer.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    config = {
        "architecture": architecture(),
        "os": "linux",
        "created": _EPOCH,
        "config": {"Env": [_PATH], "Entrypoint": list(image.entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": _EPOCH}],
    }
    described = json.dumps(config).encode()
    config_name = hashlib.sha256(described).hexdigest() + ".json"
    layer_name = f"{digest}/layer.tar"
    manifest = [{"Config": config_name, "RepoTags": list(image.names), "Layers": [layer_name]}]
    with tarfile.open(part, "w") as archive:
        for name, content in ((config_name, described), ("manifest.json", json.dumps(manifest).encode())):
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
        archive.add(layer, layer_name)
    layer.unlink()
    return part.rename(target)


def _write_layer(image: Image, target: Path) -> None:
    made: set[str] = set()
    with tarfile.open(target, "w") as layer:

        def folder(path: PurePosixPath) -> None:
            for parent in [*reversed(path.parents), path]:
                name = str(parent).lstrip("/")
                if name and name not in made:
                    made.add(name)
                    about = tarfile.TarInfo(name)
                    about.type, about.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                    layer.addfile(about)

        for name in _FOLDERS:
            folder(PurePosixPath("/") / name)
        for path, source in sorted(image.files.items()):
            folder(PurePosixPath(path).parent)
            about = tarfile.TarInfo(path.lstrip("/"))
            about.size = source.stat().st_size
            about.mode = 0o755 if os.access(source, os.X_OK) else 0o644
            with source.open("rb") as handle:
                layer.addfile(about, handle)
        for path, to in sorted(image.links.items()):
            folder(PurePosixPath(path).parent)
            about = tarfile.TarInfo(path.lstrip("/"))
            about.type, about.linkname, about.mode = tarfile.SYMTYPE, to, 0o777
            layer.addfile(about)
