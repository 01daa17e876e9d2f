"""Nodes that several jobs blame."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stint.lifecycle.blame import MOST_SUSPECTS, Blame, suspects
from stint.testing.builders import NOW

MINUTE = timedelta(minutes=1)


def blame(job: str, node: str = "n1", *, said: str = "Unschedulable", minutes: float = 1) -> Blame:
    return Blame(job=job, node=node, said=said, since=NOW - minutes * MINUTE)


def test_jobs_of_two_namespaces_make_a_node_suspect_for_an_hour_after_the_second():
    (found,) = suspects([blame("a/x", minutes=40), blame("b/y", minutes=10)], NOW).values()
    assert (found.node, found.until) == ("n1", NOW + 20 * MINUTE)
    assert "jobs a/x, b/y could not start on node n1 within an hour (Unschedulable)" in found.message
    assert "drain it" in found.message


@pytest.mark.parametrize(
    "blames",
    [
        [blame("a/x"), blame("a/y")],
        [blame("a/x"), blame("a/x", minutes=5)],
        [blame("a/x"), blame("b/y", "n2")],
        [blame("a/x"), blame("b/y", minutes=61)],
        [blame("a/x"), blame("b/y", minutes=-5)],
        [blame("a/x", said="UnexpectedAdmissionError"), blame("a/y")],
        [blame("a/x", said="UnexpectedAdmissionError"), blame("a/x", said="UnexpectedAdmissionError", minutes=3)],
    ],
    ids=["one namespace", "one job", "two nodes", "long ago", "in the future", "one of them is no fault", "one job"],
)
def test_less_is_not_enough(blames):
    assert suspects(blames, NOW) == {}


def test_what_only_the_node_can_have_done_needs_no_second_namespace():
    assert suspects([blame(j, said="UnexpectedAdmissionError") for j in ("a/x", "a/y")], NOW).keys() == {"n1"}


def test_the_hour_is_on_the_walls_clock():
    blames = [blame("a/x", minutes=600), blame("b/y", minutes=600)]
    assert suspects(blames, NOW) == {}
    assert suspects(blames, NOW, pace=60.0).keys() == {"n1"}


def test_there_is_an_end_to_suspicion():
    """The last ones count."""
    blames = [blame(job, f"n{i:03}", minutes=i / 10) for i in range(200) for job in ("a/x", "b/y")]
    found = suspects(blames, NOW)
    assert len(found) == MOST_SUSPECTS
    assert list(found) == [f"n{i:03}" for i in range(MOST_SUSPECTS)]
