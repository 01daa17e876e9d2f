from __future__ import annotations

from stint.feeds.breaker import Breaker, Circuit


def test_opens_after_failures_in_a_row_probes_once_and_waits_twice_as_long_after_each_that_fails():
    breaker = Breaker(after=3, pause_s=30, most_s=100)
    for _ in range(2):
        assert breaker.allows(0)
        breaker.failed(0)
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows(10)
        breaker.failed(10)
    assert breaker.state is Circuit.OPEN
    assert not breaker.allows(39.9)
    waits = []
    for _ in range(3):
        at = breaker.until
        assert breaker.allows(at)
        assert breaker.state is Circuit.HALF_OPEN
        breaker.failed(at)
        waits.append(breaker.until - at)
    assert waits == [60, 100, 100]
    assert breaker.allows(breaker.until)
    breaker.succeeded()
    assert breaker.state is Circuit.CLOSED
    breaker.failed(0)
    assert breaker.allows(0), "what failed long ago is forgotten"
