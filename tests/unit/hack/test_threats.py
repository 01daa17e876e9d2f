from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hack.gen_threats import TARGET, THREATS, text
from hack.hostile import ATTACKS, ON_RUNNING

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_what_the_table_says():
    page = TARGET.read_text()
    assert page == text(page)
    assert page.count("| `tests/") == len(THREATS)


@pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.test.rpartition("::")[2])
def test_each_line_names_a_test_that_is_there(threat):
    path, _, rest = threat.test.partition("::")
    name, bracket, attack = rest.partition("[")
    tree = ast.parse((ROOT / path).read_text())
    assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    if bracket:
        assert attack.removesuffix("]") in {*ATTACKS, *ON_RUNNING}
