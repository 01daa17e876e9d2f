"""A gang's work, its checkpoints, and what is lost."""

import math

import pytest

from stint.model.job import JobId
from stint.model.offering import OfferingId
from stint.sim.books import Books
from stint.sim.gang import Gang, Tempo


def a_gang(tempo: Tempo, **changes: float) -> Gang:
    return Gang(
        JobId("a/b"), 1, OfferingId("o"), (), tempo, 2.0, placed_s=100.0, boot_s=50.0, restore_s=20.0, **changes
    )


def test_checkpoints_are_written_between_segments_and_not_at_the_end():
    assert Tempo(work_s=100, every_s=30, takes_s=5).wall_s == 115
    assert Tempo(work_s=90, every_s=30, takes_s=5).wall_s == 100
    assert Tempo(work_s=30, every_s=30, takes_s=5).wall_s == 30


def test_without_checkpoints_all_is_lost_until_the_end():
    tempo = Tempo(work_s=100, every_s=math.inf, takes_s=0)
    assert (tempo.wall_s, tempo.kept_s(99.9), tempo.kept_s(100)) == (100, 0, 100)


@pytest.mark.parametrize(
    ("ran_s", "worked_s", "kept_s"), [(-5, 0, 0), (29, 29, 0), (33, 30, 0), (35, 30, 30), (50, 45, 30), (115, 100, 100)]
)
def test_what_is_worked_and_what_survives(ran_s, worked_s, kept_s):
    tempo = Tempo(work_s=100, every_s=30, takes_s=5)
    assert tempo.worked_s(ran_s) == worked_s
    assert tempo.kept_s(ran_s) == kept_s


def test_no_work_takes_no_time():
    assert Tempo(work_s=0, every_s=30, takes_s=5).wall_s == 0


def test_its_dollars_go_where_its_time_went():
    gang, books = a_gang(Tempo(work_s=100, every_s=30, takes_s=5), usd=10.0), Books()
    spent = gang.book(books, 200.0)  # 30 s start-up, 20 s restoring, 50 s running of which 30 s are kept
    assert spent == pytest.approx(10.0)
    assert books.usd["startup"] == pytest.approx(3.0)
    assert books.usd["useful"] == pytest.approx(3.0)
    assert books.usd["rework"] == pytest.approx(4.0)


def test_a_gang_that_goes_on_has_lost_nothing():
    gang, books = a_gang(Tempo(work_s=100, every_s=30, takes_s=5), usd=10.0), Books()
    gang.book(books, 200.0, goes_on=True)
    assert books.usd["useful"] == pytest.approx(4.5)  # of 50 s one checkpoint of 5 s


def test_books_spread_what_is_spent_over_the_hours():
    books = Books()
    books.add("idle", 6.0, 1800.0, 3600.0 * 3 + 1800.0)
    assert books.hourly["idle"] == pytest.approx([1.0, 2.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="idle costs nan"):
        books.add("idle", math.nan, 0.0, 1.0)
