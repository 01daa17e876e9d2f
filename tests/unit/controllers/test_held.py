"""What a job pays for nodes that were bought for it and that no gang is on."""

from __future__ import annotations

from datetime import date

import pytest

from stint.api.ledger import DaySpec
from stint.cli.top import moment
from stint.decide import decide
from stint.ledger.days import rows_of, whole
from stint.ledger.report import entries, report
from stint.model.job import job_id
from stint.model.plan import Reason
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
        for now in (522, 900, 1022):
            scene.look(now)
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

    def test_is_nobodys_then_also_where_its_pool_cannot_be_told(self, scene):
        scene.look(50)
        scene.machines[0].pods = [Pod(job="large", gpus=8, bound=60.0, end=70.0)]
        for now in (65, 75, 100, 200, 900):
            scene.look(now, tell_pools=False)
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

    def test_of_a_job_that_failed_while_nobody_looked_costs_no_more_than_was_known(self, scene):
        scene.look(52)
        scene.jobs["large"] = 60.0
        scene.failed |= {"large"}
        scene.away(500)
        for now in (502, 600):
            scene.look(now)
        assert scene.held_usd() == pytest.approx(30 * USD_PER_S)

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


class TestWhatItMeans:
    def test_a_budget_that_is_spent_on_unused_nodes_is_spent(self, scene):
        scene.spec["budget"] = {"usd": 5.0}
        job = job_id("team", "large")
        (held,) = decide(scene.look(122).situation).holds
        assert held.reason is Reason.OVER_BUDGET
        assert "the budget has 3.98 USD left" in held.message, "1.02 USD of it went into the node"
        seen = scene.look(1000)
        assert seen.seen[job].spent_usd > 5.0
        plan = decide(seen.situation)
        assert (plan.placements, plan.resizes) == ((), ()), "no node is bought, and none is used"

    def test_what_jobs_pay_for_is_not_free(self, scene):
        (pool,) = moment(scene.look(122))["pools"]
        assert (pool["usdPerHour"], pool["freeUsdPerHour"], pool["free"]) == (36.0, 0.0, 8)
        scene.machines[0].pods = [Pod(job="large", gpus=4, bound=130.0)]
        (pool,) = moment(scene.look(140))["pools"]
        assert pool["freeUsdPerHour"] == 18.0, "the rest of a node that a gang is on is nobody's"

    def test_a_report_has_it_once_as_held_and_not_as_nobodys(self, scene):
        scene.look(122)
        day = date.fromisoformat("2026-11-23")
        account = scene.books.accounts["large"]
        rows = rows_of(account.ledger, job="large", uid="large", team="", through=account.through)
        jobs = DaySpec(day=day.isoformat(), rows=rows[day.isoformat()])
        nodes = DaySpec(day=day.isoformat(), nodes=list(scene.nodes.values()))
        found = entries([("team", jobs), ("stint-system", nodes)], first=day, last=day)
        total = report(found, "pool", first=day, last=day).total
        assert total.line is not None
        assert total.line.usd.held == pytest.approx(100 * USD_PER_S)
        assert (total.unallocated_usd, total.unallocated_gpu_hours) == (pytest.approx(0.0), pytest.approx(0.0))


def test_days_are_utcs():
    scene = Scene()
    scene.look(1)
    scene.order(large=1.0)
    scene.comes(20.0, large=1.0)
    scene.look(20)
    scene.look(86_400.0 + 2)
    held = {line.day: line.usd.held for line in scene.ledgers["large"].lines}
    assert held == {"2026-11-23": pytest.approx(43_180 * USD_PER_S), "2026-11-24": pytest.approx(43_200 * USD_PER_S)}
