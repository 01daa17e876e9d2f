"""What Prometheus would read, cycle after cycle."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stint.api.ledger import USES, Components, Line, Uses
from stint.metrics.exporter import MOST_JOBS, Failure, Fallback, Metrics
from stint.model.cluster import Utilisation
from stint.model.figure import Confidence
from stint.model.job import NodeName, job_id
from stint.model.market import Slices
from stint.model.offering import OfferingId
from stint.model.plan import (
    Candidate,
    Certificate,
    Cost,
    Explanation,
    Hold,
    Placement,
    Plan,
    Reason,
    Requeue,
    Resize,
    Stay,
)
from stint.testing.builders import NOW, a_figure, a_job, a_node, a_pool, a_situation, an_offering, running_on

A100 = an_offering("a100", usd=16.0)
SPOT = an_offering("spot", usd=8.0)
LLAMA = job_id("team", "llama")


def a_candidate(*, usd: float, finish_hours: float = 10.0) -> Candidate:
    terms = dict.fromkeys((f for f in Cost.__dataclass_fields__ if f != "usd"), 0.0)
    return Candidate(
        offering=A100.id,
        workers=1,
        new_nodes=0,
        cost=Cost(usd=usd, **terms),
        usd_per_hour=16.0,
        objective_usd=usd,
        start=NOW,
        finish=NOW + timedelta(hours=finish_hours),
    )


def a_placement(*, usd: float = 100.0, next_best: float | None = None) -> Placement:
    best = None if next_best is None else a_candidate(usd=next_best)
    return Placement(job=LLAMA, chosen=a_candidate(usd=usd), nodes=(), explanation=Explanation(runner_up=best))


def a_hold(name: str = "llama", reason: Reason = Reason.NOT_ENOUGH_GPUS) -> Hold:
    return Hold(job=job_id("team", name), reason=reason, message="")


EMPTY = a_situation(offerings=[A100])


def a_plan(**parts: object) -> Plan:
    return Plan(decided_at=NOW, **parts)  # type: ignore[arg-type]


def after(metrics: Metrics, situation=EMPTY, **parts: object) -> Metrics:
    metrics.after_cycle(situation, a_plan(**parts), decide_s=0.02, cycle_s=0.3)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def series(metrics: Metrics, name: str) -> int:
    return sum(s.name == name for f in metrics.registry.collect() for s in f.samples)


def test_suspect_nodes_are_shown_while_they_are():
    nodes = [a_node("sick", A100, suspect=True), a_node("well", A100)]
    metrics = after(Metrics(), a_situation(nodes=nodes, offerings=[A100]))
    assert value(metrics, "stint_node_suspect", node="sick") == 1
    assert value(metrics, "stint_node_suspect", node="well") is None
    after(metrics)
    assert series(metrics, "stint_node_suspect") == 0


def test_what_is_bought_and_unused_is_shown_and_whether_it_stops_orders():
    metrics = after(Metrics(), a_situation(nodes=[a_node("n", A100, bought=True)], offerings=[A100]))
    assert value(metrics, "stint_unused_usd_per_hour") == 16.0
    assert value(metrics, "stint_scale_up_stopped") == 0
    after(metrics, scale_up_stopped="too much")
    assert value(metrics, "stint_unused_usd_per_hour") == 0.0
    assert value(metrics, "stint_scale_up_stopped") == 1


def test_what_jobs_pay_for_unused_nodes_is_shown_for_every_pool():
    nodes = [a_node("n", A100, bought=True), a_node("m", A100)]
    situation, metrics = a_situation(nodes=nodes, offerings=[A100]), Metrics()
    for shares, usd in (({NodeName("n"): 0.75}, 12.0), ({}, 0.0)):
        metrics.after_cycle(situation, a_plan(), decide_s=0.02, cycle_s=0.3, paid_shares=shares)
        assert value(metrics, "stint_unused_paid_dollars_per_hour", pool=A100.pool) == usd


class TestJobs:
    def test_counts_every_phase_also_those_that_nobody_is_in(self):
        node = a_node("n", A100)
        runs = running_on(a_job("runs"), node, offering=A100)
        assert runs.assignment is not None
        starts = replace(runs, id=job_id("team", "starts"), assignment=replace(runs.assignment, running=False))
        jobs = [runs, starts, a_job("waits"), a_job("ordered"), a_job("paused", suspended=True)]
        situation = a_situation(jobs=jobs, nodes=[node], offerings=[A100])
        metrics = after(Metrics(), situation, holds=(a_hold("waits"), a_hold("ordered", Reason.NODES_ON_THE_WAY)))
        for phase in ("Running", "Starting", "Queued", "Provisioning", "Suspended"):
            assert value(metrics, "stint_jobs", phase=phase) == 1
        assert value(metrics, "stint_jobs_held", reason="NotEnoughGpus") == 1
        after(metrics)
        assert value(metrics, "stint_jobs", phase="Running") == 0
        assert value(metrics, "stint_jobs_held", reason="NotEnoughGpus") is None

    def test_says_what_a_job_has_cost_will_cost_and_how_much_time_it_has(self):
        node = a_node("n", A100)
        job = running_on(a_job(spent_usd=30.0, deadline_hours=12.0), node, offering=A100)
        stay = Stay(job=job.id, cost_to_finish_usd=70.0, usd_per_hour=16.0, finish=NOW + timedelta(hours=10))
        metrics = after(Metrics(), a_situation(jobs=[job], nodes=[node], offerings=[A100]), stays=(stay,))
        who = {"namespace": "team", "job": "llama"}
        assert value(metrics, "stint_job_spent_dollars", **who) == 30
        assert value(metrics, "stint_job_estimated_cost_dollars", **who) == 100
        assert value(metrics, "stint_job_deadline_slack_seconds", **who) == pytest.approx(7200)

    def test_a_job_that_is_no_more_leaves_no_series_behind(self):
        node = a_node("n", A100)
        job = running_on(a_job(), node, offering=A100)
        metrics = after(Metrics(), a_situation(jobs=[job], nodes=[node], offerings=[A100]))
        metrics.usage([Utilisation(job=job.id, gpu_ratio=0.9, watts=3000.0, idle_gpus=0)])
        assert series(metrics, "stint_job_gpu_utilisation_ratio") == 1
        after(metrics)
        assert not [line for line in metrics.render().decode().splitlines() if "llama" in line]

    def test_only_the_dearest_jobs_have_series_of_their_own(self):
        jobs = [a_job(f"j{i:03}", spent_usd=float(i)) for i in range(MOST_JOBS + 20)]
        metrics = after(Metrics(), a_situation(jobs=jobs, offerings=[A100]))
        assert series(metrics, "stint_job_spent_dollars") == MOST_JOBS
        assert value(metrics, "stint_job_spent_dollars", namespace="team", job="j519") == 519
        assert value(metrics, "stint_job_spent_dollars", namespace="team", job="j019") is None

    def test_utilisation_has_series_only_for_jobs_that_are_shown(self):
        node = a_node("n", A100)
        jobs = [running_on(a_job(f"j{i:03}", spent_usd=float(i)), node, offering=A100) for i in range(MOST_JOBS + 20)]
        metrics = after(Metrics(), a_situation(jobs=jobs, nodes=[node], offerings=[A100]))
        metrics.usage(Utilisation(job=j.id, gpu_ratio=0.5, watts=None, idle_gpus=None) for j in jobs)
        assert series(metrics, "stint_job_gpu_utilisation_ratio") == MOST_JOBS
        assert series(metrics, "stint_job_power_watts") == 0  # unknown is not zero

    def test_prices_the_gpus_that_do_nothing(self):
        node = a_node("n", A100)
        job = running_on(a_job(gpus=8), node, offering=A100)
        assert job.assignment is not None
        job = replace(job, assignment=replace(job.assignment, usd_per_hour=16.0))
        metrics = after(Metrics(), a_situation(jobs=[job], nodes=[node], offerings=[A100]))
        metrics.usage([Utilisation(job=job.id, gpu_ratio=0.6, watts=3000.0, idle_gpus=3)])
        who = {"namespace": "team", "job": "llama"}
        assert value(metrics, "stint_job_idle_gpus", **who) == 3
        assert value(metrics, "stint_job_idle_dollars_per_hour", **who) == pytest.approx(6.0)
        where = {"pool": "a100", "gpu_model": "A100-80GB", "capacity_type": "on-demand"}
        assert value(metrics, "stint_running_dollars_per_hour", **where) == 16


class TestDecisions:
    def test_a_decision_that_stands_counts_once(self):
        metrics = Metrics()
        for _ in range(5):
            after(metrics, holds=(a_hold(),))
        assert value(metrics, "stint_decisions_total", action="hold", reason="NotEnoughGpus") == 1
        after(metrics, holds=(a_hold(reason=Reason.OVER_BUDGET),))
        after(metrics, holds=(a_hold(),))
        assert value(metrics, "stint_decisions_total", action="hold", reason="NotEnoughGpus") == 2

    @pytest.mark.parametrize(
        ("change", "action", "reason"),
        [
            ({"to_nodes": 3}, "grow", "ForJobs"),
            ({"to_nodes": 3, "advise_only": True}, "advise", "ForJobs"),
            ({"to_nodes": 0, "advise_only": True}, "advise", "Empty"),
            ({"to_nodes": 0}, "give_back", "Empty"),
        ],
    )
    def test_resizes(self, change, action, reason):
        resize = Resize(pool=A100.pool, offering=OfferingId("o"), from_nodes=1, **change)
        metrics = after(Metrics(), resizes=(resize,))
        assert value(metrics, "stint_decisions_total", action=action, reason=reason) == 1

    def test_requeues(self):
        metrics = after(Metrics(), requeues=(Requeue(job=LLAMA, reason=Reason.NODE_LOST, message=""),))
        assert value(metrics, "stint_decisions_total", action="recall", reason="NodeLost") == 1

    def test_a_placement_that_is_tried_again_saves_once(self):
        metrics = Metrics()
        for _ in range(3):
            after(metrics, placements=(a_placement(usd=100.0, next_best=130.0),))
        assert value(metrics, "stint_saved_dollars_total", baseline="next-best") == 30
        assert value(metrics, "stint_extra_dollars_total", baseline="next-best") == 0

    def test_what_speed_costs_is_not_hidden_among_the_savings(self):
        metrics = after(Metrics(), placements=(a_placement(usd=130.0, next_best=100.0),))
        assert value(metrics, "stint_saved_dollars_total", baseline="next-best") == 0
        assert value(metrics, "stint_extra_dollars_total", baseline="next-best") == 30

    def test_the_gap_is_that_of_the_last_plan_that_placed_something(self):
        certificate = Certificate(solver="exact", objective_usd=103.0, bound_usd=100.0, gap_ratio=0.03)
        metrics = after(Metrics(), certificate=certificate)
        after(metrics, certificate=replace(certificate, objective_usd=0.0, bound_usd=0.0, gap_ratio=None))
        assert value(metrics, "stint_plan_gap_ratio") == 0.03
        assert value(metrics, "stint_plan_cost_dollars") == 103
        assert value(metrics, "stint_plan_bound_dollars") == 100

    def test_durations_are_histograms(self):
        metrics = after(Metrics())
        assert value(metrics, "stint_decide_duration_seconds_count") == 1
        assert value(metrics, "stint_decide_duration_seconds_sum") == 0.02
        assert value(metrics, "stint_cycle_duration_seconds_sum") == 0.3


class TestPools:
    def test_counts_nodes_and_gpus_also_where_there_are_none(self):
        nodes = [
            a_node("busy", A100, used_gpus=6),
            a_node("coming", A100, ready=False, ready_at=NOW + timedelta(minutes=3)),
            a_node("cordoned", A100, schedulable=False),
        ]
        metrics = after(Metrics(), a_situation(nodes=nodes, offerings=[A100, SPOT]))
        for state in ("ready", "pending", "unusable"):
            assert value(metrics, "stint_pool_nodes", pool="a100", state=state) == 1
            assert value(metrics, "stint_pool_nodes", pool="spot", state=state) == 0
        for pool, state, gpus in (("a100", "used", 6), ("a100", "free", 2), ("spot", "free", 0)):
            assert value(metrics, "stint_pool_gpus", pool=pool, gpu_model="A100-80GB", state=state) == gpus

    def test_shared_gpus_are_counted_and_priced_as_gpus(self):
        quarters = Slices(name="4-shared", resource="nvidia.com/gpu", per_gpu=4, fraction=0.25, memory_gib=20)
        shared = replace(A100, slices=quarters, per_node=replace(A100.per_node, gpus=32))
        metrics = after(Metrics(), a_situation(offerings=[shared], nodes=[a_node("n", shared, used_gpus=6)]))
        where = {"pool": "a100", "gpu_model": "A100-80GB"}
        assert value(metrics, "stint_pool_gpus", **where, state="used") == 1.5
        assert value(metrics, "stint_pool_gpus", **where, state="free") == 6.5
        price = {**where, "capacity_type": "on-demand", "source": "test"}
        assert value(metrics, "stint_pool_price_dollars_per_gpu_hour", **price) == 2.0

    def test_prices_carry_their_source_and_their_age(self):
        unknown = an_offering("owned", usd=None)
        assert SPOT.usd_per_node_hour is not None
        dateless = replace(SPOT, usd_per_node_hour=replace(SPOT.usd_per_node_hour, as_of=None))
        pools = [a_pool(A100), a_pool(dateless), a_pool(unknown)]
        metrics = after(Metrics(), a_situation(offerings=[A100, dateless, unknown], pools=pools))
        where = {"pool": "a100", "gpu_model": "A100-80GB", "capacity_type": "on-demand", "source": "test"}
        assert value(metrics, "stint_pool_price_dollars_per_gpu_hour", **where) == 2.0
        assert series(metrics, "stint_pool_price_dollars_per_gpu_hour") == 2
        assert value(metrics, "stint_price_age_seconds", pool="a100") == 22 * 86_400
        assert value(metrics, "stint_price_age_seconds", pool="spot") == float("inf")
        assert value(metrics, "stint_price_age_seconds", pool="owned") is None


def test_what_others_report():
    metrics = Metrics(version="1.2.3")
    metrics.rolled_back("DidNotStart")
    metrics.fell_back(Fallback.GREEDY, Failure.UNSOUND)
    metrics.fell_back(Fallback.AS_IS, Failure.OVERRAN)
    metrics.fell_back(Fallback.AS_IS, Failure.OVERRAN)
    metrics.requests.labels("GET", "200").set(7)
    metrics.requests.labels("GET", "200").set(9)
    assert value(metrics, "stint_gang_rollbacks_total", reason="DidNotStart") == 1
    assert value(metrics, "stint_unsound_plans_total") == 1
    assert value(metrics, "stint_plan_fallbacks_total", step="greedy", reason="unsound") == 1
    assert value(metrics, "stint_plan_fallbacks_total", step="leave-as-is", reason="overran") == 2
    assert value(metrics, "stint_plan_fallbacks_total", step="leave-as-is", reason="died") == 0
    assert value(metrics, "stint_plan_fallbacks_total", step="greedy", reason="not-started") is None
    assert value(metrics, "stint_api_requests_total", verb="GET", code="200") == 9
    assert value(metrics, "stint_build_info", version="1.2.3") == 1


def test_what_is_booked_is_counted_by_use_and_by_component():
    metrics = Metrics()
    place = {"day": "2026-11-26", "pool": "a100", "gpu_model": "A100-80GB", "capacity_type": "spot"}
    paid = {"usd": Uses(useful=1.5, idle=0.5), "components": Components(hardware=1.75, licence=0.25, transfer=4.0)}
    line = Line(
        **place, gpu_seconds=Uses(useful=30.0, idle=10.0), **paid, energy_kwh=0.5, carbon_g=200.0, baseline_usd=9.0
    )
    metrics.booked("team", line)
    metrics.booked("team", line)
    where = {"namespace": "team", "pool": "a100", "gpu_model": "A100-80GB", "capacity_type": "spot"}
    spent = {u: value(metrics, "stint_spent_dollars_total", **where, use=u) for u in ("useful", "idle", "transfer")}
    assert spent == {"useful": 3.0, "idle": 1.0, "transfer": 8.0}
    parts = {c: value(metrics, "stint_spent_component_dollars_total", component=c) for c in ("hardware", "transfer")}
    assert parts == {"hardware": 3.5, "transfer": 8.0}
    assert value(metrics, "stint_gpu_seconds_total", **where, use="idle") == 20.0
    assert value(metrics, "stint_energy_joules_total", **where) == 3.6e6
    assert value(metrics, "stint_emissions_grams_total", **where) == 400.0
    assert value(metrics, "stint_baseline_dollars_total", namespace="team") == 18.0


def test_what_a_placed_gang_will_add_to_rises_from_zero():
    at = {"pool": "a100", "gpu_model": A100.gpu_model, "capacity_type": A100.capacity_type.value}
    fresh = after(Metrics())
    assert (series(fresh, "stint_spent_dollars_total"), series(fresh, "stint_gpu_seconds_total")) == (0, 0)
    node = a_node("n", A100)
    running = a_situation(jobs=[running_on(a_job(), node, offering=A100)], nodes=[node], offerings=[A100])
    for metrics in (after(Metrics(), placements=(a_placement(),)), after(Metrics(), running)):
        where = {"namespace": "team", **at}
        for use in USES:
            assert value(metrics, "stint_gpu_seconds_total", **where, use=use) == 0.0
        for use in (*USES, "transfer"):
            assert value(metrics, "stint_spent_dollars_total", **where, use=use) == 0.0
        for name in ("stint_energy_joules_total", "stint_emissions_grams_total"):
            assert value(metrics, name, **where) == 0.0
        assert value(metrics, "stint_baseline_dollars_total", namespace="team") == 0.0
        assert value(metrics, "stint_spent_component_dollars_total", component="licence") == 0.0


def test_names_follow_the_rules():
    families = list(text_string_to_metric_families(after(Metrics()).render().decode()))
    assert len(families) > 20
    for family in families:
        assert family.name.startswith("stint_")
        assert family.documentation
        assert re.fullmatch(r"[a-z_]+", family.name)
        assert (family.type == "counter") == any(
            s.name.endswith("_total") for s in family.samples
        ) or not family.samples
        assert not {"pod", "node", "uid"} & {label for s in family.samples for label in s.labels}


def test_what_is_paid_for_anyway_does_not_age():
    free = replace(a_figure(0.0), as_of=None, confidence=Confidence.DEFINITION)
    metrics = Metrics()
    metrics.after_cycle(
        a_situation(offerings=[an_offering("ri", usd_per_node_hour=free)]),
        Plan(decided_at=NOW),
        decide_s=0.0,
        cycle_s=0.0,
    )
    assert 'stint_price_age_seconds{pool="ri"} 0.0' in metrics.render().decode()
