#!/usr/bin/env python3
"""`hack/bench.py NAME --json`: the benchmarks of `hack/bench/`, run by the project's own Python."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"

if not PYTHON.exists():
    sys.exit("hack/bench.py: there is no .venv; run `make setup` first")
os.chdir(ROOT)
os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'operator'}"
os.execv(PYTHON, [str(PYTHON), "-m", "hack.bench", *sys.argv[1:]])
