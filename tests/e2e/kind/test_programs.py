"""The tests of our own Go programs, with the toolchain and modules that they are built with."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack import build
from hack.kind.offline import binaries


@pytest.mark.parametrize("source", [binaries.DEVICEPLUGIN, binaries.NODENET], ids=lambda source: source.name)
def test_the_programs_own_tests_pass(source: Path, tmp_path: Path):
    go = build.find_go()
    binaries.as_module(go, source, tmp_path, build.versions()["default_kubernetes"])
    go.run("vet", ".", cwd=tmp_path)
    told = go.run("test", "-v", ".", cwd=tmp_path)
    assert "--- PASS" in told
    assert "--- SKIP" not in told
