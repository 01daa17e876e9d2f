"""Spent money is booked once."""

from datetime import UTC, datetime, timedelta

import pytest

from stint.cost.spending import accrue

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_books_the_time_between_the_watermark_and_now():
    assert accrue(5.0, NOON, 12.0, NOON + timedelta(minutes=30)) == (11.0, NOON + timedelta(minutes=30))


def test_the_same_interval_again_adds_nothing():
    spent, through = accrue(0.0, NOON, 12.0, NOON + timedelta(hours=2))
    assert accrue(spent, through, 12.0, NOON + timedelta(hours=2)) == (spent, through)


def test_a_clock_that_steps_back_takes_nothing_back_and_books_nothing_twice():
    spent, through = accrue(3.0, NOON, 12.0, NOON - timedelta(hours=1))
    assert (spent, through) == (3.0, NOON)


@pytest.mark.parametrize("wrong", [-0.01, float("nan"), float("inf")])
def test_an_impossible_amount_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=r"^rate_usd_per_hour "):
        accrue(0.0, NOON, wrong, NOON)
    with pytest.raises(ValueError, match=r"^spent_usd "):
        accrue(wrong, NOON, 1.0, NOON)
