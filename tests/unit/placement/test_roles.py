"""Gangs of unlike pods: each has its own needs, the whole goes at once, and is charged for what it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stint.decide import decide
from stint.model.job import Role, Topology
from stint.model.market import Taint
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.placement.problem import build_problem
from stint.placement.solver import Assignment, Choice
from stint.placement.verify import violations
from stint.testing.builders import a_job, a_node, a_pool, a_situation, an_offering, running_on


def a_role(name: str = "rollout", gpus: int = 1, replicas: int = 1, **changes: object) -> Role:
    needs = Resources(gpus=gpus, cpu=4.0 * max(gpus, 1), memory_gib=32.0 * max(gpus, 1), pods=1)
    return replace(Role(name=name, replicas=replicas, per_pod=needs), **changes)  # type: ignore[arg-type]


def trainer(*roles: Role, workers: int = 1, **changes: object):
    return a_job("rl", workers=workers + sum(r.replicas for r in roles), roles=roles, **changes)


def test_exactly_the_gpus_that_it_needs_are_enough_and_are_what_it_costs():
    offering = an_offering()
    nodes = [a_node("a", offering), a_node("b", offering, used_gpus=7)]
    plan = decide(a_situation(jobs=[trainer(a_role())], nodes=nodes, offerings=[offering]))
    (placed,) = plan.placements
    assert placed.nodes == ("a", "b")
    whole = decide(a_situation(jobs=[a_job("eight")], nodes=nodes, offerings=[offering])).placements[0]
    assert placed.chosen.usd_per_hour == pytest.approx(whole.chosen.usd_per_hour * 9 / 8)
    assert placed.chosen.cost.hardware_usd == pytest.approx(whole.chosen.cost.hardware_usd * 9 / 8)


def test_one_gpu_too_few_holds_it_whole_and_says_what_each_role_needs():
    offering = an_offering()
    nodes = [a_node("a", offering), a_node("b", offering, used_gpus=8)]
    plan = decide(a_situation(jobs=[trainer(a_role())], nodes=nodes, offerings=[offering]))
    assert not plan.placements
    assert plan.holds[0].reason is Reason.NOT_ENOUGH_GPUS
    assert "needs 9 A100-80GB (workers 1 x 8, rollout 1 x 1), 8 free" in plan.holds[0].message


def test_small_pods_fill_what_is_left_beside_the_large_ones():
    offering = an_offering()
    nodes = [a_node("a", offering), a_node("b", offering)]
    job = trainer(a_role("actor", gpus=2, replicas=3), a_role("judge", gpus=1, replicas=2), gpus=8)
    (placed,) = decide(a_situation(jobs=[job], nodes=nodes, offerings=[offering])).placements
    assert placed.nodes == ("a", "b", "b", "b", "b", "b")


def test_nodes_are_bought_for_what_does_not_fit_and_no_more():
    offering = an_offering()
    pool = a_pool(offering, scaler="kwok", most=5)
    job = trainer(a_role("actor", gpus=4, replicas=2))
    plan = decide(a_situation(jobs=[job], nodes=[a_node("a", offering)], offerings=[offering], pools=[pool]))
    (resize,) = plan.resizes
    assert (resize.from_nodes, resize.to_nodes) == (1, 2)


def test_it_waits_until_all_of_it_fits():
    offering = an_offering()
    nodes = [a_node("a", offering, used_gpus=8), a_node("b", offering, used_gpus=7)]
    other = running_on(a_job("other"), nodes[0], offering=offering, hours_left=2.0)
    plan = decide(a_situation(jobs=[other, trainer(a_role())], nodes=nodes, offerings=[offering]))
    assert not plan.placements
    assert plan.holds[0].chosen is not None
    assert (plan.holds[0].chosen.start - plan.decided_at).total_seconds() == pytest.approx(7200.0)


def test_a_running_gang_gives_back_what_each_of_its_pods_had():
    offering = an_offering()
    nodes = [a_node("a", offering, used_gpus=8), a_node("b", offering, used_gpus=1)]
    rl = running_on(trainer(a_role()), *nodes, offering=offering, hours_left=1.0)
    plan = decide(a_situation(jobs=[rl, a_job("seven", gpus=7)], nodes=nodes, offerings=[offering]))
    assert plan.placements[0].nodes == ("b",)
    assert plan.stays[0].usd_per_hour == pytest.approx(plan.placements[0].chosen.usd_per_hour * 9 / 7)


def test_each_role_goes_where_its_own_terms_let_it():
    offering = an_offering()
    kept = Taint(key="rollouts", value="only")
    nodes = [
        a_node("a", offering, labels={"disk": "ssd"}),
        a_node("b", offering, labels={"disk": "hdd"}),
        a_node("c", offering, taints=(kept,)),
    ]
    picky = a_role(node_selector=(("disk", "hdd"),))
    job = trainer(picky, node_selector={"disk": "ssd"})
    assert decide(a_situation(jobs=[job], nodes=nodes, offerings=[offering])).placements[0].nodes == ("a", "b")
    nowhere = trainer(a_role(node_selector=(("disk", "nvme"),)), node_selector={"disk": "ssd"})
    hold = decide(a_situation(jobs=[nowhere], nodes=nodes, offerings=[offering])).holds[0]
    assert hold.reason is Reason.NODE_SELECTOR_MISMATCH
    assert "role rollout" in hold.message
    assert "disk=nvme" in hold.message


def test_only_the_number_of_workers_may_change_and_speed_goes_by_it():
    offering = an_offering()
    nodes = [a_node(n, offering) for n in "abc"]
    job = trainer(a_role(gpus=2, replicas=2), workers=2)
    job = replace(job, min_workers=3, max_workers=4)  # one worker or two
    (placed,) = decide(a_situation(jobs=[job], nodes=nodes, offerings=[offering])).placements
    assert len(placed.nodes) == 4
    one = decide(a_situation(jobs=[job], nodes=nodes[:2], offerings=[offering])).placements[0]
    assert one.nodes[0] != one.nodes[1]
    assert len(one.nodes) == 3
    hours = (one.chosen.finish - one.chosen.start) / (placed.chosen.finish - placed.chosen.start)
    assert 1.8 < hours < 2.1  # half the workers, whatever the others are


def test_no_answer_that_overbooks_a_node_with_a_small_pod_is_trusted():
    offering = an_offering()
    nodes = [a_node("a", offering), a_node("b", offering, used_gpus=7)]
    problem = build_problem(a_situation(nodes=nodes, offerings=[offering]), [trainer(a_role())])
    right = Choice(column=0, start_hours=0.0, nodes=(0, 1))
    assert violations(problem, Assignment(choices=(right,))) == []
    for wrong in ((1, 0), (0, 0), (0,)):
        assert violations(problem, Assignment(choices=(replace(right, nodes=wrong),)))


def test_of_a_required_topology_the_best_domain_is_told_not_the_sum():
    offering = an_offering()
    racks = [a_node(n, offering, used_gpus=2, labels={"rack": n}) for n in "ab"]
    job = trainer(a_role(gpus=4), topology=Topology(key="rack"), gpus=4)
    hold = decide(a_situation(jobs=[job], nodes=racks, offerings=[offering])).holds[0]
    assert "needs 8 A100-80GB within one rack (workers 1 x 4, rollout 1 x 4), 6 free" in hold.message


def test_a_role_that_is_short_of_cpu_is_told_so():
    offering = an_offering()
    head = a_role("head", per_pod=Resources(gpus=1, cpu=90.0, pods=1))
    nodes = [a_node("a", offering), a_node("b", offering, used=Resources(gpus=4, cpu=80.0))]
    job = trainer(head, per_worker=Resources(gpus=8, cpu=60.0, pods=1))
    hold = decide(a_situation(jobs=[job], nodes=nodes, offerings=[offering])).holds[0]
    assert "CPU cores for all of it (workers 1 x 8, head 1 x 1)" in hold.message
