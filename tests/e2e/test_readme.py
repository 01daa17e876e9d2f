"""Every command block of the README is run, in order, in one shell a section. `make test` is what runs this."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)


def run_block(block: str, state: Path) -> str:
    environment = {**os.environ, "STINT_STATE": str(state)}
    for name in ("KUBECONFIG", "CLUSTER", "K8S", "POD_GROUPS"):
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        subprocess.run([sys.executable, "-m", "hack.cluster", "down"], cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_readme_leads_with_the_demo_and_the_tests():
    assert BLOCKS[:2] == ["make demo\n", "make test\n"]


@pytest.mark.parametrize("block", [b for b in BLOCKS if b != "make test\n"], ids=lambda b: b.split("\n")[0])
def test_what_the_readme_says_works(block, tmp_path):
    printed = run_block(block, tmp_path / "cluster")
    if "make demo" in block:
        assert "8 of 8 jobs finished" in printed
        assert "takes spot node" in printed
    if "make up" in block:
        assert "ct-scan-unet" in printed
        assert "trainingjob.stint.dev/job-protein-folding" in printed
        assert "stopped" in printed
