"""Situations that nobody should meet: each has a plan, and who gets nothing is told why."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from stint.api.snapshot import encode_plan
from stint.controllers.planner_client import Planner
from stint.decide import decide
from stint.metrics.exporter import Metrics
from stint.model.figure import Figure
from stint.model.job import Checkpoint, Data, Job, OnExceed, job_id
from stint.model.market import EgressRate, Offering
from stint.model.offering import CapacityType
from stint.model.plan import Candidate, Hold, Plan, Reason
from stint.model.resources import Resources
from stint.model.situation import Rates, Settings, Situation
from stint.placement.solvers import SOLVERS
from stint.testing.builders import a_figure, a_job, a_node, a_pool, a_situation, an_offering, running_on

A100 = an_offering()
NONSENSE = (math.inf, math.nan, -1.0, -math.inf, 1e308)
GREEDY = Settings(solver="greedy")


def held(plan: Plan, name: str = "llama") -> Hold:
    return next(h for h in plan.holds if h.job == job_id("team", name))


def reasons(plan: Plan) -> set[Reason]:
    return {h.reason for h in plan.holds}


def check_whole(situation: Situation, plan: Plan) -> None:
    """Everybody is in it once, no figure in it is strange, and who waits is told why."""
    told = [o.job for part in (plan.placements, plan.holds, plan.stays, plan.requeues) for o in part]
    assert sorted(told) == sorted(j.id for j in situation.jobs)
    assert all(h.message for h in plan.holds)
    looked_at: list[Candidate | None] = [p.chosen for p in plan.placements] + [h.chosen for h in plan.holds]
    looked_at += [o.explanation.runner_up for part in (plan.placements, plan.holds) for o in part]
    for found in looked_at:
        if found is not None:
            figures = (found.objective_usd, found.usd_per_hour, found.cost.usd, found.cost.energy_kwh)
            assert all(math.isfinite(f) and f >= 0 for f in figures), found
    assert all(math.isfinite(s.cost_to_finish_usd) and math.isfinite(s.usd_per_hour) for s in plan.stays)
    assert all(math.isfinite(r.usd_per_hour) for r in plan.resizes)


@pytest.fixture(params=sorted(SOLVERS))
def settings(request: pytest.FixtureRequest) -> Settings:
    """Every solver that there is."""
    return Settings(solver=request.param)


class TestNothing:
    def test_no_jobs(self, settings):
        situation = a_situation(offerings=[A100], nodes=[a_node("n", A100)], settings=settings)
        plan = decide(situation)
        assert (plan.placements, plan.holds, plan.resizes) == ((), (), ())

    def test_no_nodes_and_no_pool_that_could_bring_one(self, settings):
        situation = a_situation(offerings=[], jobs=[a_job()], settings=settings)
        plan = decide(situation)
        check_whole(situation, plan)
        assert held(plan).message == "there is no node with a GPU and no pool that could bring one"

    def test_nothing_at_all(self, settings):
        plan = decide(a_situation(offerings=[], settings=settings))
        assert encode_plan(plan) == encode_plan(decide(a_situation(offerings=[], settings=settings)))

    def test_nodes_that_have_nothing_left(self, settings):
        full = replace(a_node("n", A100), used=replace(A100.per_node, gpus=9))  # more is used than there is
        situation = a_situation(offerings=[A100], nodes=[full], jobs=[a_job(gpus=1)], settings=settings)
        plan = decide(situation)
        check_whole(situation, plan)
        assert "needs 1 A100-80GB, 0 free" in held(plan).message


class TestPrices:
    def offerings(self, *usd: float) -> list[Offering]:
        return [an_offering(f"p{i}", usd=price) for i, price in enumerate(usd)]

    def run(self, settings: Settings, *usd: float, **job: object) -> Plan:
        offerings = self.offerings(*usd)
        nodes = [a_node(f"n{i}", o) for i, o in enumerate(offerings)]
        situation = a_situation(offerings=offerings, nodes=nodes, jobs=[a_job(**job)], settings=settings)  # type: ignore[arg-type]
        plan = decide(situation)
        check_whole(situation, plan)
        return plan

    def test_equal_everywhere_the_first_by_name_wins_every_time(self, settings):
        plans = {encode_plan(self.run(settings, *[8.0] * 5)) for _ in range(3)}
        assert len(plans) == 1
        (placement,) = self.run(settings, *[8.0] * 5).placements
        assert placement.nodes == ("n0",)

    def test_zero_is_a_price(self, settings):
        (placement,) = self.run(settings, 8.0, 0.0).placements
        assert placement.nodes == ("n1",)
        assert placement.chosen.cost.hardware_usd == 0
        assert len(self.run(settings, 0.0, 0.0).placements) == 1

    @pytest.mark.parametrize("usd", NONSENSE)
    def test_nonsense_is_none_and_told(self, settings, usd):
        plan = self.run(settings, usd)
        assert held(plan).reason is Reason.NO_PRICE
        assert f"usd_per_node_hour is {usd:g}, which nothing can be reckoned with; correct it" in held(plan).message

    @pytest.mark.parametrize("usd", NONSENSE)
    def test_nonsense_in_one_offering_is_not_the_others_affair(self, settings, usd):
        (placement,) = self.run(settings, usd, 8.0).placements
        assert placement.nodes == ("n1",)
        assert [r.reason for r in placement.explanation.rejected] == [Reason.NO_PRICE]

    @pytest.mark.parametrize("value", NONSENSE)
    @pytest.mark.parametrize(
        "name",
        ["watts_per_node", "pue", "usd_per_kwh", "g_co2_per_kwh", "interruptions_per_hour", "usd_per_storage_gb_month"],
    )
    def test_nor_is_nonsense_in_any_other_figure(self, name, value):
        bad = replace(an_offering("bad"), **{name: a_figure(value)})
        nodes = [a_node("b", bad), a_node("g", A100)]
        situation = a_situation(offerings=[bad, A100], nodes=nodes, jobs=[a_job()], settings=GREEDY)
        plan = decide(situation)
        check_whole(situation, plan)
        (placement,) = plan.placements
        assert placement.nodes == ("g",)
        (no,) = placement.explanation.rejected
        assert no.reason is Reason.NO_PRICE
        assert f"{name} is {value:g}" in no.message

    @pytest.mark.parametrize("value", NONSENSE)
    @pytest.mark.parametrize(
        ("rates", "says"),
        [
            (lambda f: Rates(labour_usd_per_job_hour=f), "labour_usd_per_job_hour is"),
            (lambda f: Rates(carbon_usd_per_tonne=f), "carbon_usd_per_tonne is"),
            (lambda f: Rates(licence_usd_per_gpu_hour={"cad": f}), "licence cad has no price"),
            (
                lambda f: Rates(
                    egress=(
                        EgressRate(
                            from_provider="gcp",
                            from_region="x",
                            to_provider="aws",
                            to_region="us-east-1",
                            usd_per_gb=f,
                        ),
                    )
                ),
                "moving 1 GiB from gcp/x to aws/us-east-1 has no price",
            ),
        ],
        ids=["labour", "carbon", "licence", "egress"],
    )
    def test_nonsense_in_a_rate_holds_whom_it_concerns_and_stops_nobody_who_runs(self, rates, says, value):
        concerned = {"licences": ("cad",), "data": Data(gib=1.0, provider="gcp", region="x")}
        busy, free = a_node("a", A100, used_gpus=8), a_node("b", A100)
        runs = running_on(a_job("runs", **concerned), busy, offering=A100, hours_left=3)
        known: dict[str, Figure] = {"cad": a_figure(1.0)}
        given = rates(a_figure(value))
        if not given.licence_usd_per_gpu_hour:
            given = replace(given, licence_usd_per_gpu_hour=known)
        if not given.egress and "moving" not in says:
            good = EgressRate(
                from_provider="gcp", from_region="x", to_provider="aws", to_region="us-east-1", usd_per_gb=a_figure(0.1)
            )
            given = replace(given, egress=(good,))
        situation = a_situation(
            offerings=[A100], nodes=[busy, free], jobs=[runs, a_job(**concerned)], rates=given, settings=GREEDY
        )
        plan = decide(situation)
        check_whole(situation, plan)
        assert held(plan).reason is Reason.NO_PRICE
        assert says in held(plan).message
        assert [s.job for s in plan.stays] == [runs.id]

    @pytest.mark.parametrize("usd", NONSENSE)
    def test_who_runs_where_the_price_became_nonsense_goes_on(self, settings, usd):
        bad = an_offering(usd=usd)
        node = a_node("n", bad, used_gpus=8)
        runs = running_on(a_job("runs"), node, offering=bad, hours_left=3)
        situation = a_situation(offerings=[bad], nodes=[node], jobs=[runs], settings=settings)
        plan = decide(situation)
        check_whole(situation, plan)
        assert [s.job for s in plan.stays] == [runs.id]

    @pytest.mark.parametrize("usd", NONSENSE)
    def test_nodes_of_no_price_are_given_back_like_others(self, usd):
        bad = an_offering(usd=usd)
        idle = a_node("n", bad, removable=True, empty_since=a_job().created - timedelta(hours=1))
        situation = a_situation(offerings=[bad], pools=[a_pool(bad, scaler="kwok", most=2)], nodes=[idle])
        plan = decide(situation)
        check_whole(situation, plan)
        assert [r.give_back for r in plan.resizes] == [("n",)]


class TestSizes:
    def test_a_gang_larger_than_the_cluster(self, settings):
        nodes = [a_node(f"n{i}", A100) for i in range(3)]
        situation = a_situation(
            offerings=[A100], nodes=nodes, jobs=[a_job(workers=1000), a_job("small")], settings=settings
        )
        plan = decide(situation)
        check_whole(situation, plan)
        assert "needs 8000 A100-80GB, " in held(plan).message
        assert [p.job for p in plan.placements] == ["team/small"]

    def test_a_gang_larger_than_a_pool_can_grow(self, settings):
        situation = a_situation(
            offerings=[A100],
            pools=[a_pool(A100, scaler="kwok", most=999)],
            jobs=[a_job(workers=1000)],
            settings=settings,
        )
        plan = decide(situation)
        check_whole(situation, plan)
        assert held(plan).reason is Reason.POOL_LIMIT
        assert plan.resizes == ()

    @pytest.mark.parametrize("slack_bytes", [0, 2048])
    def test_memory_near_2_to_63_bytes(self, settings, slack_bytes):
        """Where floats are 2 KiB apart in bytes; a worker that asks for a byte more than there is waits."""
        there = (2.0**63 - 4096) / 2**30
        large = replace(A100, per_node=Resources(gpus=8, cpu=96.0, memory_gib=there, pods=110))
        asked = Resources(gpus=8, cpu=32.0, memory_gib=(2.0**63 - 4096 + slack_bytes) / 2**30, pods=1)
        situation = a_situation(
            offerings=[large], nodes=[a_node("n", large)], jobs=[a_job(per_worker=asked)], settings=settings
        )
        plan = decide(situation)
        check_whole(situation, plan)
        if slack_bytes:
            assert held(plan).reason is Reason.WORKER_EXCEEDS_NODE
        else:
            assert [p.nodes for p in plan.placements] == [("n",)]

    def test_two_halves_of_such_a_memory_and_not_a_third(self, settings):
        large = replace(A100, per_node=Resources(gpus=8, cpu=96.0, memory_gib=2.0**33, pods=110))  # 2 ** 63 bytes
        half = Resources(gpus=1, cpu=1.0, memory_gib=2.0**32, pods=1)
        jobs = [a_job(f"j{i}", per_worker=half) for i in range(3)]
        situation = a_situation(offerings=[large], nodes=[a_node("n", large)], jobs=jobs, settings=settings)
        plan = decide(situation)
        check_whole(situation, plan)
        assert len(plan.placements) == 2


class TestMoneyAndTime:
    @pytest.mark.parametrize("usd", [0.0, 5e-324, -5.0, math.nan])
    def test_a_budget_that_pays_for_nothing(self, settings, usd):
        situation = a_situation(
            offerings=[A100], nodes=[a_node("n", A100)], jobs=[a_job(budget_usd=usd)], settings=settings
        )
        plan = decide(situation)
        check_whole(situation, plan)
        assert held(plan).reason is Reason.OVER_BUDGET

    def test_a_budget_that_was_overspent_stops_who_asked_for_that_and_nobody_else(self, settings):
        nodes = [a_node("a", A100, used_gpus=8), a_node("b", A100, used_gpus=8)]
        spent = {"budget_usd": 1.0, "spent_usd": 1e12}
        stops = running_on(a_job("stops", **spent, on_exceed=OnExceed.CHECKPOINT_AND_STOP), nodes[0], offering=A100)
        warns = running_on(a_job("warns", **spent), nodes[1], offering=A100)
        situation = a_situation(offerings=[A100], nodes=nodes, jobs=[stops, warns], settings=settings)
        plan = decide(situation)
        check_whole(situation, plan)
        assert [(r.job, r.reason) for r in plan.requeues] == [(stops.id, Reason.OVER_BUDGET)]

    @pytest.mark.parametrize(("often", "every"), [(1000.0, None), (1e14, timedelta(minutes=1))])
    def test_interrupted_too_often_to_finish(self, settings, often, every):
        spot = an_offering("spot", usd=2.0, capacity=CapacityType.SPOT, interruptions_per_hour=often)
        job = a_job(checkpoint=Checkpoint(every=every, restart=timedelta(minutes=5)))
        situation = a_situation(offerings=[spot], nodes=[a_node("n", spot)], jobs=[job], settings=settings)
        plan = decide(situation)
        check_whole(situation, plan)
        assert held(plan).reason is Reason.NEVER_FINISHES
        assert "write checkpoints more often" in held(plan).message

    def test_too_slow_to_finish_with_a_budget_and_without(self, settings):
        jobs = [a_job(f"j{i}", hours=1e12, budget_usd=budget) for i, budget in enumerate((None, 100.0))]
        situation = a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=jobs, settings=settings)
        plan = decide(situation)
        check_whole(situation, plan)
        assert reasons(plan) == {Reason.NEVER_FINISHES}


def crowd(*, alike: bool) -> Situation:
    """10,000 jobs for 600 nodes of 12 offerings in pools that may grow."""
    rng = np.random.default_rng(0)
    models = (("A100-80GB", 27.45, 1.0), ("H100-SXM", 55.04, 2.1), ("L40S", 15.07, 0.8), ("A10G", 8.14, 0.45))
    offerings = [
        an_offering(f"{model}-{z}".lower(), usd=usd * (1 + 0.03 * z), model=model, zone=f"us-east-{z}a")
        for z in range(3)
        for model, usd, _ in models
    ]
    speeds = {model: speed for model, _, speed in models}

    def job(i: int) -> Job:
        if alike:
            return a_job(f"j{i:05}", gpus=1, speeds=speeds)
        return a_job(
            f"j{i:05}",
            workers=int(rng.choice([1, 1, 1, 2, 4, 8])),
            gpus=int(rng.choice([1, 2, 4, 8])),
            hours=float(rng.lognormal(1, 1)),
            speeds=speeds,
        )

    return a_situation(
        offerings=offerings,
        pools=[a_pool(o, scaler="kwok", most=30) for o in offerings],
        nodes=[a_node(f"n{i:03}", offerings[i % 12], used_gpus=int(rng.integers(0, 9))) for i in range(600)],
        jobs=[job(i) for i in range(10_000)],
        settings=GREEDY,
    )


@pytest.mark.parametrize("alike", [True, False], ids=["all alike", "all different"])
async def test_ten_thousand_jobs(alike):
    """In a process of its own, as the operator does it: here every call has its types checked, which takes ages."""
    situation = crowd(alike=alike)

    async def tell(text: str) -> None:
        raise AssertionError(text)

    planner = Planner(Metrics(), tell, timeout_s=600)
    plan = (await planner.plan(situation)).plan
    await planner.close()
    check_whole(situation, plan)
    gpus = {j.id: j.per_worker.gpus for j in situation.jobs}
    used = sum(p.chosen.workers * gpus[p.job] for p in plan.placements)
    free = sum(n.allocatable.gpus - n.used.gpus for n in situation.nodes)
    assert 0.8 * free < used <= free
    assert all(h.chosen is not None for h in plan.holds), "each will have its turn"
