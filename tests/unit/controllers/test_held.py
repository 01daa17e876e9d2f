"""What a job pays for nodes that were bought for it and that no gang is on."""

from __future__ import annotations

import pytest

from stint.ledger.days import whole
from tests.bought import USD_PER_S, Pod, Scene


@pytest.fixture
def scene() -> Scene:
    """A node was ordered for a job, came after 20 s, and stands there."""
    scene = Scene()
    scene.look(1)
    scene.order(large=1.0)
    scene.comes(20.0, large=1.0)
    return scene


class TestANodeThatStandsUnused:
    def test_is_paid_for_by_its_job_since_it_exists(self, scene):
        seen = scene.look(122)
        assert scene.held_usd() == pytest.approx(100 * USD_PER_S)
        line = whole(scene.ledgers["large"])
        assert line.gpu_seconds.held == line.gpu_seconds.total == pytest.approx(800.0)
        assert line.components.hardware == line.components.total
        (job,) = seen.situation.jobs
        assert job.spent_usd == pytest.approx(102 * USD_PER_S), "at this moment, and decisions go by it"

    def test_is_paid_for_after_it_is_known_to_be_of_no_use(self, scene):
        scene.look(100)
        status = scene.pools["big"].status
        scene.pools["big"] = type(scene.pools["big"])(
            metadata=scene.pools["big"].metadata,
            spec=scene.pools["big"].spec,
            status=type(status)(bought=status.bought),  # its order has been judged
        )
        scene.away(500)
        scene.look(1022)
        assert scene.held_usd() == pytest.approx(1000 * USD_PER_S)

    def test_is_the_jobs_until_its_own_gang_is_on_it(self, scene):
        scene.look(50)
        scene.machines[0].pods = [Pod(job="large", gpus=4, bound=60.0)]
        scene.look(162)
        line = whole(scene.ledgers["large"])
        assert line.usd.held == pytest.approx(40 * USD_PER_S)
        assert line.total_usd == pytest.approx((40 + 100 / 2) * USD_PER_S), "the rest of the node is nobody's"

    def test_is_nobodys_once_a_gang_has_been_on_it(self, scene):
        scene.look(50)
        scene.machines[0].pods = [Pod(job="large", gpus=8, bound=60.0, end=70.0)]
        scene.look(65)
        scene.look(75)
        scene.away(300)
        scene.look(900)
        assert scene.booked_usd("big") == pytest.approx(50 * USD_PER_S)

    def test_is_paid_for_until_it_is_gone(self, scene):
        scene.look(50)
        scene.machines[0].gone = 120.0
        scene.look(130)
        scene.look(900)
        assert scene.held_usd() == pytest.approx(100 * USD_PER_S)
        assert scene.pools["big"].status.bought == [], "all of it is booked"

    @pytest.mark.parametrize("fails", [True, False], ids=["failed", "deleted"])
    def test_is_nobodys_once_its_job_is_over(self, scene, fails):
        scene.look(50)
        scene.jobs["large"] = 60.0
        scene.failed |= {"large"} if fails else set()
        scene.look(61)
        scene.away(300)
        scene.look(900)
        assert 25 * USD_PER_S < scene.held_usd() <= 40 * USD_PER_S
        assert scene.pools["big"].status.bought == []

    def test_that_another_operator_finds_gone_costs_no_more_than_was_known(self, scene):
        scene.look(52)
        scene.machines[0].gone = 60.0
        scene.away(500)
        scene.look(502)
        assert scene.held_usd() == pytest.approx(30 * USD_PER_S)

    def test_of_a_job_of_the_same_name_is_not_this_ones(self, scene):
        scene.look(50)
        order = scene.pools["big"].status.bought[0]
        assert [(p.job, p.uid, p.share) for p in order.payers] == [("team/large", "large", 1.0)]
        order.payers[0].uid = "an-earlier-one"
        before = scene.held_usd()
        scene.look(500)
        assert scene.held_usd() == before

    def test_that_comes_after_its_order_was_given_up_is_paid_for_all_the_same(self):
        scene = Scene()
        scene.look(1)
        scene.order(large=1.0)
        scene.look(1000)
        assert scene.pools["big"].status.orders == [], "it did not come in time"
        scene.comes(1100.0, large=1.0)
        scene.look(1202)
        assert scene.held_usd() == pytest.approx(100 * USD_PER_S)

    def test_that_nobody_ordered_is_nobodys(self):
        scene = Scene()
        scene.look(1)
        scene.comes(20.0)
        scene.look(500)
        assert scene.ledgers["large"].lines == []

    def test_is_shared_by_the_jobs_that_it_was_bought_for(self):
        scene = Scene(jobs=("large", "small"))
        scene.look(1)
        scene.order(large=0.75, small=0.25)
        scene.comes(20.0, large=0.75, small=0.25)
        scene.look(122)
        assert scene.held_usd("large") == pytest.approx(75 * USD_PER_S)
        assert scene.held_usd("small") == pytest.approx(25 * USD_PER_S)
        scene.jobs["small"] = 130.0
        scene.look(222)
        assert scene.held_usd("large") == pytest.approx(150 * USD_PER_S), "the others' shares stay as they are"


def test_days_are_utcs():
    scene = Scene()
    scene.look(1)
    scene.order(large=1.0)
    scene.comes(20.0, large=1.0)
    scene.look(20)
    scene.look(86_400.0 + 2)
    held = {line.day: line.usd.held for line in scene.ledgers["large"].lines}
    assert held == {"2026-11-23": pytest.approx(43_180 * USD_PER_S), "2026-11-24": pytest.approx(43_200 * USD_PER_S)}
