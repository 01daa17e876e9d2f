from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from stint.api.sharing import fair_share_of, quotas_of
from stint.decide import decide
from stint.errors import InvalidInputError
from stint.feeds import bundled
from stint.model.job import Work, job_id
from stint.model.market import Slices
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.model.situation import FairShare, Quota, Settings
from stint.placement import queue
from stint.placement.greedy import Greedy
from stint.placement.portfolio import Portfolio
from stint.testing.builders import NOW, a_job, a_node, a_pool, a_situation, an_offering, running_on

OFFERING = an_offering(usd=8.0)  # a dollar a GPU-hour


def of(namespace, name, **changes):
    job = a_job(name, gpus=4, **changes)
    return replace(job, id=job_id(namespace, name))


def cluster(jobs, *, nodes=4, **settings):
    made = [a_node(f"n{i}", OFFERING) for i in range(nodes)]
    return a_situation(offerings=[OFFERING], nodes=made, jobs=jobs, settings=Settings(**settings))


class TestQuota:
    def test_who_goes_beyond_waits_and_the_others_do_not(self):
        jobs = [of("a", "a0"), of("a", "a1"), of("a", "a2"), of("b", "b0")]
        plan = decide(cluster(jobs, quotas=(Quota(namespace="a", usd_per_hour=8.0),)))
        assert sorted(p.job for p in plan.placements) == ["a/a0", "a/a1", "b/b0"]
        (hold,) = plan.holds
        assert hold.reason is Reason.OVER_QUOTA
        assert hold.message == "namespace a may spend 8.00 USD/h; 8.00 USD/h are in use, and this would add 4.00"

    def test_what_it_may_not_have_others_get(self):
        jobs = [of("a", "a0"), of("a", "a1", priority=1), of("b", "b0")]
        plan = decide(cluster(jobs, nodes=1, quotas=(Quota(namespace="a", usd_per_hour=4.0),)))
        assert sorted(p.job for p in plan.placements) == ["a/a1", "b/b0"]

    def test_gpus_of_a_model_count_what_runs(self):
        node = a_node("n0", OFFERING, used_gpus=4)
        runs = running_on(of("a", "runs"), node, offering=OFFERING, hours_left=5.0)
        situation = cluster([runs, of("a", "a0"), of("a", "a1")], quotas=(Quota(namespace="a", gpus={"A100-80GB": 8}),))
        plan = decide(replace(situation, nodes=(node, *situation.nodes[1:])))
        assert [p.job for p in plan.placements] == ["a/a0"]
        assert "may hold 8 A100-80GB; 8 are in use, and this would add 4" in plan.holds[0].message

    def test_a_part_of_a_gpu_counts_as_that_part(self):
        parts = Slices(name="1g.10gb", resource="nvidia.com/mig-1g.10gb", per_gpu=7, fraction=1 / 7, memory_gib=10.0)
        seven = replace(an_offering("mig", gpus=14), slices=parts)  # two GPUs
        jobs = [replace(of("a", f"a{i}"), gpu_fraction=0.1, per_worker=Resources(gpus=1, pods=1)) for i in range(9)]
        runs = running_on(jobs[8], a_node("m0", seven), offering=seven, hours_left=5.0)
        situation = a_situation(
            offerings=[seven],
            nodes=[a_node("m0", seven, used_gpus=1)],
            jobs=[*jobs[:8], runs],
            settings=Settings(quotas=(Quota(namespace="a", gpus={"A100-80GB": 1}),)),
        )
        plan = decide(situation)
        assert len(plan.placements) == 6  # and one runs
        assert "may hold 1 A100-80GB; 1 are in use, and this would add 0.1429" in plan.holds[0].message

    def test_a_long_queue_beyond_its_quota_is_not_solved_again_for_each_job(self):
        class Counts(Greedy):
            asked = 0

            def solve(self, problem, **given):
                Counts.asked += 1
                return super().solve(problem, **given)

        jobs = [of("a", f"a{i:02}", hours=1.0) for i in range(40)] + [of("b", f"b{i:02}") for i in range(3)]
        given = cluster(jobs, quotas=(Quota(namespace="a", usd_per_hour=8.0),))
        plan = decide(given, solver=Counts())
        assert sorted(p.job for p in plan.placements) == ["a/a00", "a/a01", "b/b00", "b/b01", "b/b02"]
        assert {h.reason for h in plan.holds} == {Reason.OVER_QUOTA}
        assert Counts.asked == 2

    @pytest.mark.parametrize("solver", [Greedy(), Portfolio()], ids=lambda s: s.name)
    @pytest.mark.parametrize("seed", range(12))
    def test_no_namespace_has_more_than_its_quota_and_none_waits_for_anothers(self, seed, solver):
        rng = np.random.default_rng(seed)
        big = an_offering("big", usd=16.0, model="H100-SXM")
        jobs = [
            replace(
                of(str(rng.choice(["a", "b", "c"])), f"j{i:02}", hours=float(rng.uniform(1, 9))),
                per_worker=Resources(gpus=int(rng.choice([1, 2, 4, 8])), pods=1),
                work=Work(units=3600.0, units_per_second={"A100-80GB": 1.0, "H100-SXM": float(rng.uniform(1.5, 3))}),
            )
            for i in range(30)
        ]
        quotas = (Quota(namespace="a", usd_per_hour=12.0), Quota(namespace="b", gpus={"A100-80GB": 8, "H100-SXM": 4}))
        nodes = [a_node(f"n{i}", o) for i, o in enumerate([OFFERING, OFFERING, big, big])]
        pools = [a_pool(OFFERING, scaler="Kwok", most=4), a_pool(big)]
        given = a_situation(
            offerings=[OFFERING, big], nodes=nodes, jobs=jobs, pools=pools, settings=Settings(quotas=quotas)
        )
        plan = decide(given, solver=solver)
        decided = [p.job for p in (*plan.placements, *plan.holds)]
        assert sorted(decided) == sorted(j.id for j in jobs)
        bought_for = {j for r in plan.resizes for j in r.for_jobs}
        chosen = {p.job: p.chosen for p in plan.placements}
        chosen |= {h.job: h.chosen for h in plan.holds if h.chosen is not None and h.job in bought_for}
        by_id = {j.id: j for j in jobs}
        assert sum(c.usd_per_hour for j, c in chosen.items() if j.startswith("a/")) <= 12.0 + 1e-9
        for offering, most in ((OFFERING, 8), (big, 4)):
            mine = [by_id[j].per_worker.gpus for j, c in chosen.items() if j[0] == "b" and c.offering == offering.id]
            assert sum(mine) <= most
        free = {n.name: n.allocatable.gpus for n in nodes}
        for p in plan.placements:
            for name in p.nodes:
                free[name] -= by_id[p.job].per_worker.gpus
        for hold in plan.holds:
            if hold.reason is Reason.NOT_ENOUGH_GPUS and hold.chosen is None:
                assert max(free.values()) < by_id[hold.job].per_worker.gpus, hold

    def test_a_quota_of_nothing(self):
        plan = decide(cluster([of("a", "a0")], quotas=(Quota(namespace="a", usd_per_hour=0.0),)))
        assert plan.placements == ()


class TestFairShare:
    def test_a_part_of_a_gpu_costs_that_part(self):
        parts = Slices(name="2-shared", resource="nvidia.com/gpu.shared", per_gpu=2, fraction=0.5, memory_gib=40.0)
        shared = replace(an_offering("shared", gpus=16), slices=parts)  # eight GPUs at a dollar
        small = [
            replace(of("a", f"a{i}"), gpu_fraction=0.5, per_worker=Resources(gpus=1, pods=1), min_workers=2)
            for i in range(2)
        ]
        whole = [replace(of("b", f"b{i}"), per_worker=Resources(gpus=1, pods=1)) for i in range(2)]
        jobs = [*small, *whole]
        given = a_situation(offerings=[shared, OFFERING], jobs=jobs, settings=Settings(fair_share=FairShare()))
        # Two halves cost what a whole one costs: the namespaces take turns.
        assert [j.id for j in queue.in_order(given)] == ["a/a0", "b/b0", "a/a1", "b/b1"]

    def order(self, jobs, **share):
        return [j.id for j in queue.in_order(cluster(jobs, fair_share=FairShare(**share)))]

    def test_namespaces_take_turns(self):
        jobs = [of("a", f"a{i}", created=NOW - timedelta(hours=2)) for i in range(3)] + [of("b", "b0"), of("b", "b1")]
        assert self.order(jobs) == ["a/a0", "b/b0", "a/a1", "b/b1", "a/a2"]
        assert [j.id for j in queue.in_order(cluster(jobs))][:3] == ["a/a0", "a/a1", "a/a2"]

    def test_by_weight(self):
        jobs = [of(n, f"{n}{i}") for n in "ab" for i in range(4)]
        assert self.order(jobs, weights={"a": 3.0})[:5] == ["a/a0", "b/b0", "a/a1", "a/a2", "a/a3"]

    def test_what_runs_counts_by_its_dollars(self):
        node = a_node("n0", OFFERING)
        runs = running_on(of("a", "runs"), node, offering=OFFERING)
        runs = replace(runs, assignment=replace(runs.assignment, usd_per_hour=8.0))
        assert self.order([runs, of("a", "a0"), of("b", "b0"), of("b", "b1")]) == ["b/b0", "b/b1", "a/a0"]

    def test_priority_still_comes_first(self):
        assert self.order([of("a", "a0"), of("a", "a1"), of("b", "b0", priority=-1)]) == ["a/a0", "a/a1", "b/b0"]

    def test_nobody_waits_longer_than_the_patience_for_the_sake_of_others(self):
        node = a_node("n0", OFFERING)
        runs = running_on(of("a", "runs"), node, offering=OFFERING)
        runs = replace(runs, assignment=replace(runs.assignment, usd_per_hour=1_000.0))
        old = of("a", "old", created=NOW - timedelta(hours=25))
        new = [of("b", f"b{i}") for i in range(20)]
        assert self.order([runs, old, *new])[0] == "a/old"
        assert self.order([runs, old, *new], patience_hours=48.0)[-1] == "a/old"


class TestAsJson:
    def test_what_the_chart_hands_over(self):
        (quota,) = quotas_of('[{"namespace": "ml", "usdPerHour": 100, "gpus": {"H100": 8}}]', bundled.load())
        assert quota == Quota(namespace="ml", usd_per_hour=100.0, gpus={"H100-SXM": 8})
        assert fair_share_of('{"weights": {"ml": 2}, "patienceHours": 5}') == FairShare(
            weights={"ml": 2.0}, patience_hours=5.0
        )

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[", "Expecting value"),
            ('[{"usdPerHour": 1}]', "missing required field `namespace`"),
            ('[{"namespace": "a", "usdPerHour": -1}]', "Expected `float` >= 0"),
            ('[{"namespace": "a", "gpus": {"X9": 1}}]', "X9: is no GPU model"),
            ('[{"namespace": "a"}, {"namespace": "a"}]', "has a quota already"),
            ('[{"namespace": "a", "usd": 1}]', "unknown field `usd`"),
        ],
    )
    def test_mistakes_are_named(self, text, said):
        with pytest.raises(InvalidInputError) as told:
            quotas_of(text, bundled.load())
        assert said in str(told.value)

    def test_a_weight_of_nothing_is_refused(self):
        with pytest.raises(InvalidInputError, match="> 0"):
            fair_share_of('{"weights": {"ml": 0}}')


@pytest.mark.parametrize("solver", ["greedy", "portfolio"])
def test_a_job_that_fits_its_quota_on_what_a_held_one_leaves_free_is_placed(solver):
    """The large job may go nowhere; the small one was put on the dear node only because of it."""
    cheap, dear = an_offering("a", usd=8.0), an_offering("b", usd=24.0, zone="us-east-1b")
    large = replace(a_job("large", gpus=8, hours=5.0), created=NOW - timedelta(minutes=9))
    small = a_job("small", gpus=2, hours=1.0)  # 2 USD/h on the cheap node, 6 on the dear one
    situation = a_situation(
        jobs=[large, small],
        nodes=[a_node("a0", cheap), a_node("b0", dear)],
        offerings=[cheap, dear],
        settings=Settings(solver=solver, quotas=(Quota(namespace="team", usd_per_hour=4.0),)),
    )
    plan = decide(situation)
    assert [(p.job, p.nodes) for p in plan.placements] == [("team/small", ("a0",))]
    assert [(h.job, h.reason) for h in plan.holds] == [("team/large", Reason.OVER_QUOTA)]
