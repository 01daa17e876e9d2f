"""A figure knows its age, and what is too old is stale."""

from datetime import date

import pytest

from stint.catalogue.freshness import stale
from stint.model.figure import Confidence, Figure

TODAY = date(2026, 5, 11)


def a_figure(as_of: date | None, confidence: Confidence = Confidence.LIST_PRICE) -> Figure:
    return Figure(value=1.0, source="somewhere", as_of=as_of, confidence=confidence)


def test_age_counts_days():
    assert a_figure(date(2026, 5, 1)).age_days(TODAY) == 10.0
    assert a_figure(None).age_days(TODAY) is None


@pytest.mark.parametrize(("limit_days", "expected"), [(9.0, True), (10.0, False), (11.0, False)])
def test_a_figure_is_stale_once_it_is_older_than_the_limit(limit_days, expected):
    assert stale(a_figure(date(2026, 5, 1)), TODAY, limit_days) is expected


def test_a_figure_of_unknown_age_counts_as_stale():
    assert stale(a_figure(None), TODAY, 1e6)


def test_what_holds_by_definition_never_goes_stale():
    assert not stale(a_figure(None, Confidence.DEFINITION), TODAY, 0.0)
