from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.estimate.calibration import MOST_KEYS, MOST_OF_A_NAMESPACE, MOST_RUNS, Book, Key, Run, family_of, with_speeds
from stint.model.measured import Speed
from stint.testing.builders import a_job

A100 = Key("team", "unet", "step", "A100-80GB")


def a_book(*speeds: float, watts: float | None = None) -> Book:
    return Book.of([(A100, [Run(f"r{i}", s, watts) for i, s in enumerate(speeds)])])


def test_mean_and_spread_are_those_of_the_runs():
    speed = a_book(3.0, 3.2, 3.4, watts=300.0).speed(A100, workers=1, exponent=0.9)
    assert speed is not None
    assert speed.units_per_second == pytest.approx(3.2)
    assert speed.spread == pytest.approx(statistics.stdev([3.0, 3.2, 3.4]))
    assert (speed.runs, speed.watts_per_gpu, speed.trusted) == (3, 300.0, True)


def test_a_run_that_goes_on_changes_its_figure_and_adds_none():
    book = a_book(3.0, 3.2)
    assert book.note(A100, Run("r1", 3.9))
    assert not book.note(A100, Run("r1", 3.901)), "too little to be stored"
    speed = book.speed(A100, workers=1, exponent=1.0)
    assert speed is not None
    assert (speed.runs, speed.units_per_second) == (2, pytest.approx(3.45))


@pytest.mark.parametrize("speeds", [(3.0, 3.1), (1.0, 3.0, 9.0)], ids=["too few", "too far apart"])
def test_nothing_is_decided_by_what_is_no_family_or_too_few(speeds):
    speed = a_book(*speeds).speed(A100, workers=1, exponent=1.0)
    assert speed is not None
    assert not speed.trusted


def test_gangs_of_two_sizes_compare_by_the_law_of_scaling():
    book = Book()
    for i, workers in enumerate((1, 4, 16)):
        book.note(A100, Run(f"r{i}", 2.0 * workers**0.9 / workers**0.9))
    speed = book.speed(A100, workers=4, exponent=0.9)
    assert speed is not None
    assert speed.units_per_second == pytest.approx(2.0 * 4**0.9)
    assert speed.spread == pytest.approx(0.0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_speed_is_not_noted(value: float):
    book = Book()
    assert not book.note(A100, Run("r", value))
    assert book.speed(A100, workers=1, exponent=1.0) is None


@given(st.lists(st.tuples(st.integers(0, 2 * MOST_KEYS), st.integers(0, 3 * MOST_RUNS)), max_size=60))
def test_it_is_bounded_and_keeps_what_came_last(noted):
    book = Book()
    for i in range(MOST_KEYS):
        book.note(A100._replace(family=f"old{i}"), Run("r", 1.0))
    for family, run in noted:
        book.note(A100._replace(family=str(family)), Run(str(run), 1.0))
        assert (A100._replace(family=str(family))) in book.runs
    assert len(book.runs) <= MOST_KEYS
    assert all(len(runs) <= MOST_RUNS for runs in book.runs.values())
    assert Book.of(book.entries()).runs == book.runs


@pytest.mark.parametrize(
    ("label", "image", "queue", "owner", "family"),
    [
        ("llama", "registry/x:1", "q", "o", "llama"),
        ("", "registry.example.com:5000/team/train:abc123", "night", "o", "registry.example.com:5000/team/train night"),
        ("", "train@sha256:0123", "default", "o", "train default"),
        ("", "", "default", "PyTorchJob/mnist-28493", "PyTorchJob/mnist"),
        ("", "", "default", "RayCluster/tune-x7k2p", "RayCluster/tune"),
        ("", "", "default", "Job/resnet-imagenet", "Job/resnet-imagenet"),
        ("", "", "default", "Job/eval-2026-11-26", "Job/eval"),
    ],
)
def test_families_are_what_people_would_call_the_same_work(label, image, queue, owner, family):
    assert family_of(label, image=image, queue=queue, owner=owner) == family


def test_measured_speeds_replace_stated_ones_where_they_are_trusted_and_add_no_model():
    job = a_job(speeds={"A100-80GB": 4.1, "H100": 9.0})
    speeds = {
        "A100-80GB": Speed(units_per_second=3.2, spread=0.2, runs=5, trusted=True),
        "H100": Speed(units_per_second=5.0, spread=4.0, runs=2),
        "L40S": Speed(units_per_second=1.0, spread=0.0, runs=9, trusted=True),
    }
    assert with_speeds(job, speeds).work.units_per_second == {"A100-80GB": 3.2, "H100": 9.0}
    assert with_speeds(job, {}) is job


def test_a_namespace_pushes_out_no_figures_of_another():
    book, mine = Book(), Key("team", "llama", "step", "H100-SXM")
    book.note(mine, Run("r", 1.0))
    for i in range(3 * MOST_KEYS):
        book.note(Key("crowd", f"family-{i}", "step", "H100-SXM"), Run("r", 1.0))
    assert mine in book.runs
    assert sum(key.namespace == "crowd" for key in book.runs) == MOST_OF_A_NAMESPACE
    assert Key("crowd", f"family-{3 * MOST_KEYS - 1}", "step", "H100-SXM") in book.runs


def test_where_all_namespaces_together_have_too_many_the_largest_gives_way():
    book = Book()
    small = Key("small", "only", "step", "H100-SXM")
    book.note(small, Run("r", 1.0))
    for n in range(MOST_KEYS // MOST_OF_A_NAMESPACE + 1):
        for i in range(MOST_OF_A_NAMESPACE):
            book.note(Key(f"n{n}", f"family-{i}", "step", "H100-SXM"), Run("r", 1.0))
    assert len(book.runs) == MOST_KEYS
    assert small in book.runs
