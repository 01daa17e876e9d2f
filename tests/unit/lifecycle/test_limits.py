from __future__ import annotations

from dataclasses import replace

import pytest

from stint.lifecycle.limits import exceeded, within
from stint.model.job import Objective
from stint.model.limits import Limits, NamespaceLimits
from stint.testing.builders import a_job

LIMITS = Limits(priority=100, usd_per_hour=10.0, lateness_usd_per_hour=500.0)


def a_greedy_job(**objective: float):
    return replace(a_job(), priority=1000, objective=Objective(**objective))


def test_what_is_within_counts_as_it_is_written():
    job = replace(a_job(), priority=-5, objective=Objective(usd_per_hour=10.0, lateness_usd_per_hour=500.0))
    assert within(job, LIMITS) is job
    assert exceeded(job, LIMITS) == ()


def test_what_is_beyond_counts_as_the_limit_and_is_told():
    job = a_greedy_job(usd_per_hour=1e6, lateness_usd_per_hour=1e6)
    bounded = within(job, LIMITS)
    assert (bounded.priority, bounded.objective.usd_per_hour) == (100, 10.0)
    assert bounded.objective.lateness_usd_per_hour == 500.0
    assert exceeded(job, LIMITS) == (
        "spec.priority 1000 counts as 100",
        "spec.objective.usdPerHour 1e+06 counts as 10",
        "spec.objective.latenessUsdPerHour 1e+06 counts as 500",
    )


@pytest.mark.parametrize("weight", [1.0, 10.0, 1000.0])
def test_weights_raise_the_worth_of_time_no_further(weight):
    o = within(a_greedy_job(performance=weight, usd_per_hour=1e6), LIMITS).objective
    assert o.performance * o.usd_per_hour == pytest.approx(10.0)


@pytest.mark.parametrize("weight", [2.0, 1000.0])
def test_a_job_cannot_make_its_dollars_count_more_than_those_of_others(weight):
    job = replace(a_job(), objective=Objective(performance=3.0 * weight, cost=weight, lateness_usd_per_hour=7.0))
    o = within(job, LIMITS).objective
    assert o.cost == 1.0
    assert o.performance == pytest.approx(3.0), "its own choice stays the same"
    assert o.lateness_usd_per_hour == 7.0


def test_each_namespace_has_its_own():
    limits = NamespaceLimits(default=LIMITS, namespaces={"prod": Limits(priority=1000)})
    assert limits.of("prod").priority == 1000
    assert limits.of("team").priority == 100
