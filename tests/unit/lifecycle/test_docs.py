from __future__ import annotations

from hack import gen_lifecycle
from stint.lifecycle.phases import TRANSITIONS


def test_the_page_is_drawn_from_the_tables_as_they_are():
    assert gen_lifecycle.TARGET.read_text() == gen_lifecycle.text(), "make crds writes it anew"


def test_every_step_is_in_the_diagram():
    page = gen_lifecycle.text()
    assert all(f"{old} --> {new}" in page for old, steps in TRANSITIONS.items() for new in steps)
