"""No image can be built here, so the Dockerfile's own install command runs in an empty environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text()


def _uv() -> str:
    beside = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stint" / "uv" / "bin" / "uv"
    found = shutil.which("uv") or (str(beside) if beside.exists() else None)
    assert found, "make setup fetches uv"
    return found


def test_what_the_image_installs_runs(tmp_path: Path):
    source = tmp_path / "src"
    source.mkdir()
    for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT.split("\nFROM ")[1], flags=re.MULTILINE):
        for name in line.split()[:-1]:
            origin = ROOT / name
            shutil.copytree(origin, source / name) if origin.is_dir() else shutil.copy(origin, source)
    (install,) = re.findall(r"^RUN /tools/bin/uv (sync .+)$", TEXT, flags=re.MULTILINE)
    target = tmp_path / "opt"
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(target), "UV_LINK_MODE": "copy", "UV_PYTHON": sys.executable}
    env.pop("VIRTUAL_ENV", None)
    command = [_uv(), *install.split()]
    subprocess.run(command, cwd=source, env=env, check=True, capture_output=True)
    told = subprocess.run(
        [target / "bin" / "stint", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert re.fullmatch(r"stint \d+\.\d+\.\d+\n", told.stdout)
    listed = subprocess.run(
        [target / "bin" / "stint", "prices", "--catalogue", "--gpu", "H100"], capture_output=True, text=True, check=True
    )
    assert "p5.48xlarge" in listed.stdout  # the catalogue's files came along
    assert not (target / "bin" / "pytest").exists()  # and nothing for development


def test_the_image_runs_without_root_and_starts_stint():
    final = TEXT.split("\nFROM ")[-1]
    assert "USER 65532:65532" in final
    assert 'CMD ["stint", "run"]' in final
