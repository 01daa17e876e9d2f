from __future__ import annotations

from stint.kube.observe.opted_in import only_opted_in
from tests.unit.kube.objects import a_gang_pod
from tests.unit.kube.theirs import let_go, pod


def test_a_pod_that_waits_counts_only_where_its_namespace_is_labelled():
    waiting = pod("a")
    assert only_opted_in([waiting], {"team"}) == (waiting,)
    (outside,) = only_opted_in([waiting], {"other"})
    assert outside.gang is None
    assert outside.requests == waiting.requests
    assert outside.unplaced is not None
    assert outside.unplaced.gated
    assert "namespace team is not labelled stint.dev/managed=true" in outside.unplaced.why
    assert "remove the scheduling gate stint.dev/placement" in outside.unplaced.why


def test_who_wants_to_be_let_go_from_there_is():
    (outside,) = only_opted_in([pod("a", annotations={"stint.dev/release": "now"})], ())
    assert outside.unplaced is not None
    assert outside.unplaced.at_once


def test_what_is_let_go_already_and_workers_of_our_own_stay():
    running, worker = let_go("a", 0), a_gang_pod(0)
    assert only_opted_in([running, worker], ()) == (running, worker)
