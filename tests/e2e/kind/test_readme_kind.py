"""The README's commands for kind, on a cluster of their own."""

from __future__ import annotations

import re

from hack.cluster import ROOT
from tests.e2e.test_readme import run_block

BLOCKS = re.findall(r"^```sh kind\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)


def test_what_the_readme_says_of_real_pods_works(tmp_path):
    (block,) = BLOCKS
    printed = run_block(block, tmp_path / "cluster")
    assert "linear-regression   Succeeded" in printed
    assert '"event": "done"' in printed
    assert "stopped" in printed
