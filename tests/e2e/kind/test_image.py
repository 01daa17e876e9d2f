"""The image itself, asked of the Docker that built it."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import time

import pytest

from hack.cluster import ROOT, Cluster
from hack.cluster.kind import Kind

SITUATION = (ROOT / "hack" / "samples" / "situation.json").read_text()


@pytest.fixture(scope="module")
def kind(cluster: Cluster) -> Kind:
    assert isinstance(cluster.provider, Kind)
    cluster.provider.load_stint()
    return cluster.provider


@pytest.fixture(scope="module")
def image(kind: Kind) -> str:
    return ":".join(kind.load_stint())


def _run(kind: Kind, image: str, *command: str, stdin: str = "") -> str:
    options = ["--rm", "--interactive", "--read-only", "--network=none", "--cap-drop=ALL"]
    done = subprocess.run(
        kind.docker.command("run", *options, image, *command),
        input=stdin,
        env=kind.docker.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_plans_without_a_cluster_on_a_read_only_root(kind: Kind, image: str):
    started = time.monotonic()
    told = _run(kind, image, "stint", "plan", "-f", "/dev/stdin", stdin=SITUATION)
    print(f"stint plan in a container: {time.monotonic() - started:.2f} s")
    assert "driving/lidar-32" in told


def test_it_is_nobody(kind: Kind, image: str):
    assert _run(kind, image, "id", "-u").strip() == "65532"


def test_it_has_no_torch_and_nothing_for_development(kind: Kind, image: str):
    listed = _run(kind, image, "sh", "-c", "ls /opt/stint/lib/python3*/site-packages")
    assert "kopf" in listed.split()
    assert not {"torch", "pytest", "mypy", "pip"} & set(listed.split())


def test_it_says_what_is_in_it_and_under_which_licences(kind: Kind, image: str):
    bill = json.loads(_run(kind, image, "cat", "/usr/share/doc/stint/sbom.cdx.json"))
    parts = {c["name"] for c in bill["components"]}
    assert {"kopf", "numpy", "scipy", "highspy"} <= parts
    licences = _run(kind, image, "cat", "/usr/share/doc/stint/licences.txt")
    for part in ("kopf", "numpy", "scipy", "highspy"):
        (line,) = (line for line in licences.splitlines() if line.split()[:1] == [part])
        assert "UNKNOWN" not in line


def test_it_is_less_than_200_mb_to_pull(kind: Kind, image: str):
    """What a registry stores: its layers, compressed."""
    packed = io.BytesIO()
    with (
        subprocess.Popen(
            kind.docker.command("save", image), env=kind.docker.environment(), stdout=subprocess.PIPE
        ) as saving,
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6) as out,
    ):
        assert saving.stdout is not None
        while block := saving.stdout.read(1 << 20):
            out.write(block)
    assert packed.tell() < 200e6
