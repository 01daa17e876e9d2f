"""Stored situations give the stored plans, to the byte. To accept new ones: `python -m tests.golden.situations`."""

from __future__ import annotations

import json

import pytest

from stint.api import snapshot
from stint.decide import decide
from tests.golden import books, situations


@pytest.mark.parametrize("name", situations.SITUATIONS)
def test_the_plan_is_still_the_same(name):
    stored = (situations.HERE / f"{name}.json").read_bytes()
    record = snapshot.decode(stored, name=name)
    assert snapshot.encode(record.situation, decide(record.situation)) == stored


def test_the_sample_of_the_readme_is_one_of_them():
    record = snapshot.decode(situations.SAMPLE.read_bytes(), name="sample")
    assert (
        record.situation
        == snapshot.decode((situations.HERE / "three-teams-by-portfolio.json").read_bytes(), name="it").situation
    )


def test_the_books_of_workers_and_bill_agree():
    books.check(json.loads((situations.HERE / "gang-on-kind.json").read_text()))
