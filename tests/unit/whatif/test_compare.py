"""Two plans side by side, promises that do not hold, and quotes with their odds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from stint.decide import decide
from stint.errors import InvalidInputError
from stint.model.job import Checkpoint, OnExceed, OnMiss
from stint.model.offering import CapacityType
from stint.testing.builders import NOW, a_job, a_node, a_pool, a_situation, an_offering, running_on
from stint.whatif.compare import fates, side_by_side, total
from stint.whatif.odds import LIKELY, odds
from stint.whatif.promises import broken_promises
from stint.whatif.quote import quote

A100 = an_offering()
SPOT = an_offering("spot", usd=2.0, capacity=CapacityType.SPOT, interruptions_per_hour=0.05)


def test_every_job_has_a_fate_and_the_sums_are_of_those_with_a_place():
    nodes = [a_node("n", A100, used_gpus=8), a_node("m", A100)]
    runs = running_on(a_job("runs"), nodes[0], offering=A100, hours_left=4)
    jobs = [runs, a_job("goes"), a_job("never", gpus=16), a_job("sleeps", suspended=True)]
    situation = a_situation(offerings=[A100], nodes=nodes, jobs=jobs)
    found = fates(situation, decide(situation))
    assert {j: f.decision for j, f in found.items()} == {
        "team/runs": "stay",
        "team/goes": "place",
        "team/never": "hold",
        "team/sleeps": "suspended",
    }
    sums = total(found.values())
    assert sums.without_place == 1
    assert sums.usd == pytest.approx(found["team/runs"].usd + found["team/goes"].usd)
    assert sums.last_finish == max(found["team/runs"].finish, found["team/goes"].finish)


def test_what_a_change_costs_and_delays_is_told_by_job():
    before = a_situation(offerings=[A100], nodes=[a_node("n", A100), a_node("m", A100)], jobs=[a_job("a"), a_job("b")])
    after = replace(before, nodes=before.nodes[:1])
    pairs = side_by_side(fates(before, decide(before)), fates(after, decide(after)))
    assert sorted(round(p.hours, 1) for p in pairs) == [0.0, 10.0]
    assert [p.usd for p in pairs] == [pytest.approx(0.0), pytest.approx(0.0)]
    (alone,) = side_by_side({}, {"team/a": pairs[0].after})
    assert (alone.before, alone.usd, alone.hours) == (None, None, None)


def test_promises_that_do_not_hold_are_named():
    nodes = [a_node(n, A100, used_gpus=8) for n in "abc"]
    slow = running_on(a_job("slow", deadline_hours=1), nodes[0], offering=A100, hours_left=4)
    dear = running_on(a_job("dear", budget_usd=10.0, spent_usd=9.0), nodes[1], offering=A100, hours_left=4)
    spent = replace(dear, id="team/spent", spent_usd=11.0, on_exceed=OnExceed.CHECKPOINT_AND_STOP)
    jobs = [
        slow,
        dear,
        replace(spent, assignment=replace(spent.assignment, nodes=("c",))),
        a_job("late", deadline_hours=2),
        a_job("holds", deadline_hours=2, on_deadline_miss=OnMiss.HOLD),
        a_job("poor", budget_usd=1.0),
        a_job("fine", deadline_hours=200),
    ]
    nodes += [a_node(n, A100) for n in "de"]
    situation = a_situation(offerings=[A100], nodes=nodes, jobs=jobs)
    broken = {(b.job.removeprefix("team/"), b.promise) for b in broken_promises(situation, decide(situation))}
    assert broken == {
        ("slow", "deadline"),
        ("dear", "budget"),
        ("spent", "budget"),
        ("late", "deadline"),
        ("holds", "deadline"),
        ("poor", "budget"),
    }


def test_a_quote_is_what_the_job_would_get_and_what_that_does_to_others():
    nodes = [a_node("n", A100)]
    first = a_job("first", hours=2.0, created=NOW + timedelta(seconds=1))
    situation = a_situation(offerings=[A100], nodes=nodes, jobs=[first])
    urgent = a_job("urgent", priority=10, deadline_hours=11)
    quoted = quote(situation, [urgent], decide)
    (mine,) = quoted.quotes
    assert mine.part.chosen.start == NOW
    assert mine.part.chosen.cost.usd == pytest.approx(80.0, rel=0.01)
    assert mine.broken == ()
    (other,) = quoted.others
    assert other.job == "team/first"
    assert other.hours == pytest.approx(10.0, abs=0.1)
    assert quoted.others_broken == ()
    tight = replace(situation, jobs=(replace(first, deadline=NOW + timedelta(hours=3)),))
    assert [b.job for b in quote(tight, [urgent], decide).others_broken] == ["team/first"]


def test_a_quote_without_a_place_in_sight_says_why_and_has_no_odds():
    (mine,) = quote(a_situation(offerings=[A100]), [a_job("huge", gpus=64)], decide).quotes
    assert (mine.odds, mine.offering) == (None, None)
    assert mine.part.reason.value == "WorkerExceedsNode"


def test_a_name_that_is_taken_is_no_quote():
    situation = a_situation(offerings=[A100], jobs=[a_job("a")])
    with pytest.raises(InvalidInputError, match="is a job that is there already") as caught:
        quote(situation, [a_job("a"), a_job("b"), a_job("b")], decide)
    assert len(caught.value.mistakes) == 2


@pytest.mark.parametrize("every_minutes", [None, 30])
@pytest.mark.parametrize("workers", [1, 3])
def test_nine_runs_in_ten_cost_no_more_than_the_quotes_upper_end(every_minutes, workers):
    """Against runs that are interrupted at random."""
    checkpoint = Checkpoint(
        every=timedelta(minutes=every_minutes) if every_minutes else None, restart=timedelta(minutes=6)
    )
    job = a_job("j", workers=workers, hours=6.0, checkpoint=checkpoint)
    nodes = [a_node(f"n{i}", SPOT) for i in range(workers)]
    situation = a_situation(offerings=[SPOT], nodes=nodes, pools=[a_pool(SPOT)])
    (mine,) = quote(situation, [job], decide).quotes
    rng = np.random.Generator(np.random.PCG64(1))
    spent = np.array([_hours(rng, 6.0, 0.05 * workers, every_minutes, 0.1) for _ in range(4000)]) * 2.0 * workers
    low, high = mine.odds.usd
    assert low <= mine.part.chosen.cost.usd <= high
    assert low == pytest.approx(spent.min(), rel=0.05)
    assert np.mean(spent <= high * 1.001) == pytest.approx(LIKELY, abs=0.08)
    assert mine.odds.undisturbed == pytest.approx(np.mean(spent <= spent.min() * 1.001), abs=0.08)


def _hours(rng: np.random.Generator, work: float, rate: float, every_minutes: float | None, restart: float) -> float:
    """Of one run: what was done since the last checkpoint is lost whenever it is interrupted."""
    every, done, hours = (every_minutes / 60 if every_minutes else work), 0.0, 0.0
    while True:
        until = rng.exponential(1 / rate)
        if until >= work - done:
            return hours + work - done
        done += until // every * every
        hours += until + restart


def test_on_nodes_that_nobody_takes_best_and_likely_are_what_is_expected():
    situation = a_situation(offerings=[A100], nodes=[a_node("n", A100)])
    (mine,) = quote(situation, [a_job("a")], decide).quotes
    chosen = mine.part.chosen
    assert mine.odds == odds(a_job("a"), chosen, A100)
    assert mine.odds.undisturbed == 1.0
    assert mine.odds.usd == (chosen.cost.usd, chosen.cost.usd)
    assert mine.odds.finish == (chosen.finish, chosen.finish)
