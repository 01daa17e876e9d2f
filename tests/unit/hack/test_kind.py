"""What a machine lacks for kind is said before anything is begun; images are archives that container tools can read."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from hack import build
from hack.build import BuildError
from hack.cluster import ROOT
from hack.kind import docker, image
from hack.kind.offline import archive, checks, debian

EVERYTHING = (1 << 41) - 1
FINE = checks.Machine(
    root=True,
    machine="x86_64",
    capabilities=EVERYTHING,
    cgroup=2,
    controllers=frozenset({"cpu", "memory", "pids", "io"}),
    free_gb=50,
    missing_tools=(),
)


def test_a_machine_that_has_everything_has_no_problem():
    assert checks.problems(FINE, building=True) == []
    v1 = {"cgroup": 1, "controllers": frozenset({"cpu", "memory", "pids", "devices", "freezer"})}
    assert checks.problems(dataclasses.replace(FINE, **v1), building=True) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": False}, ["not root", "sudo", "CLUSTER=embedded"]),
        ({"machine": "riscv64"}, ["riscv64", "x86_64 or aarch64"]),
        ({"capabilities": EVERYTHING & ~(1 << 21)}, ["CAP_SYS_ADMIN", "--privileged"]),
        ({"capabilities": EVERYTHING & ~(1 << 12) & ~(1 << 27)}, ["CAP_NET_ADMIN, CAP_MKNOD"]),
        ({"cgroup": 0, "controllers": frozenset()}, ["no cgroups", "cgroup2"]),
        ({"controllers": frozenset({"cpu", "pids"})}, ["cgroup v2 without memory", "cgroup_enable"]),
        ({"cgroup": 1, "controllers": frozenset({"cpu", "memory", "pids"})}, ["v1 without devices, freezer"]),
        ({"free_gb": 1.5}, ["1.5 GB free", "16 are needed", "XDG_CACHE_HOME"]),
        ({"missing_tools": ("wget", "gcc")}, ["wget, gcc", "apt-get install wget gcc libc6-dev"]),
    ],
)
def test_each_lack_is_said_with_what_to_do(changes, words):
    (told,) = checks.problems(dataclasses.replace(FINE, **changes), building=True)
    for word in words:
        assert word in told


def test_all_lacks_are_said_at_once_and_those_of_building_only_then():
    bare = dataclasses.replace(FINE, capabilities=0, free_gb=0.1, missing_tools=("gcc",), cgroup=0)
    assert len(checks.problems(bare, building=True)) == 4
    assert len(checks.problems(bare, building=False)) == 2


def test_without_cap_sys_resource_nodes_can_still_be_made():
    assert checks.problems(dataclasses.replace(FINE, capabilities=EVERYTHING & ~(1 << 24)), building=True) == []


def test_this_machine_can_be_looked_at(tmp_path: Path):
    seen = checks.look(tmp_path)
    assert seen.root == (os.geteuid() == 0)
    assert seen.free_gb > 0
    assert seen.machine


def test_somebody_who_is_not_root_is_told_so(tmp_path: Path):
    """For real: in a process that has given root away, where this one has it."""
    code = "import os, pathlib\nfrom hack.kind.offline import checks\nos.geteuid() or os.setuid(65534)\n"
    code += "try: checks.insist(pathlib.Path('/tmp'), building=True)\nexcept Exception as error: print(error)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}:{os.pathsep.join(sys.path)}"}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "not root" in told.stdout, told.stderr


def test_an_image_is_what_container_tools_read(tmp_path: Path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    made = archive.write(
        archive.Image(["a.example/x:1", "b.example/y:2"], {"/bin/program": program}, {"/bin/alias": "program"}, ["/p"]),
        tmp_path / "image.tar",
    )
    with tarfile.open(made) as outer:
        (manifest,) = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert manifest["RepoTags"] == ["a.example/x:1", "b.example/y:2"]
        described = outer.extractfile(manifest["Config"]).read()  # type: ignore[union-attr]
        assert manifest["Config"] == hashlib.sha256(described).hexdigest() + ".json"
        config = json.loads(described)
        (name,) = manifest["Layers"]
        layer = outer.extractfile(name)
        assert layer is not None
        content = layer.read()
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(content).hexdigest()]
    assert config["config"]["Entrypoint"] == ["/p"]
    (tmp_path / "layer.tar").write_bytes(content)
    with tarfile.open(tmp_path / "layer.tar") as inner:
        assert inner.getmember("bin/program").mode == 0o755
        assert inner.getmember("bin/alias").linkname == "program"
        assert inner.getmember("tmp").mode == 0o1777
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.tar", "layer.tar", "program"]  # nothing half-made


def test_an_image_of_the_same_files_is_the_same_image(tmp_path: Path):
    program = tmp_path / "program"
    program.write_text("x")
    images = [archive.write(archive.Image(["x:1"], {"/program": program}), tmp_path / n) for n in ("a.tar", "b.tar")]
    with tarfile.open(images[0]) as one, tarfile.open(images[1]) as two:
        assert one.getnames() == two.getnames()  # names are digests


def test_where_debian_comes_from_can_be_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEBIAN_MIRROR", "http://mirror.example.com/debian")
    assert debian.mirror() == "http://mirror.example.com/debian"


@pytest.mark.parametrize(
    "line",
    [
        "URIs: http://mirror.example.com/debian",
        "URIs:  https://mirror.example.com/debian/",
        "deb http://mirror.example.com/debian bookworm main",
        "deb [signed-by=/k.gpg] http://mirror.example.com/debian bookworm main",
    ],
)
def test_debians_archive_is_found_in_what_apt_has(line):
    found = debian._DEBIAN.search(f"# a comment\n{line}\n")
    assert found is not None
    assert found.group(1).endswith("mirror.example.com/debian")


@pytest.mark.parametrize(
    "line", ["URIs: http://mirror.example.com/debian-security", "deb https://k.example/apt x main"]
)
def test_other_archives_are_not_taken_for_it(line):
    assert debian._DEBIAN.search(line) is None


def test_what_a_tool_says_comes_with_what_helps():
    assert "XDG_CACHE_HOME" in docker.remedy("write /x: no space left on device")
    assert "stop it" in docker.remedy("bind: address already in use")
    assert docker.remedy("something else") == "something else"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/x"),
        subprocess.CalledProcessError(1, ["cp"], stderr="cp: error writing '/x': No space left on device"),
        BuildError("go build failed:\nwrite /x: no space left on device"),
    ],
)
def test_whatever_finds_the_disk_full_says_what_helps(error):
    with pytest.raises(BuildError, match=r"space left on device[\s\S]*XDG_CACHE_HOME"), build.room():
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(OSError, match="Permission denied"), build.room():
        raise OSError(errno.EACCES, "Permission denied")


def test_a_docker_that_does_not_answer_is_no_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert docker.own() is None
    path = tmp_path / "docker"
    path.write_text("#!/bin/sh\necho 'no daemon' >&2\nexit 1\n")
    path.chmod(0o755)
    assert docker.own() is None
    path.write_text("#!/bin/sh\nexit 0\n")
    assert docker.own() == docker.Docker(path)


def test_what_docker_says_reaches_the_user(tmp_path: Path):
    path = tmp_path / "docker"
    path.write_text("#!/bin/sh\necho 'write: no space left on device' >&2\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(BuildError, match=r"docker load.*no space left[\s\S]*XDG_CACHE_HOME"):
        docker.Docker(path).run("load")


def test_an_image_of_another_source_has_another_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = image.version()
    assert before == image.version()
    (tmp_path / "LICENSE").write_text("other")
    for name in image._CONTEXT:
        if name != "LICENSE":
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr(image, "ROOT", tmp_path)
    assert image.version() != before
