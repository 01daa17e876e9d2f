from __future__ import annotations

from dataclasses import replace

import pytest

from stint.model.constraints import PodConstraints, Requirement
from stint.model.job import Toleration
from stint.model.market import Taint
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.placement import fit
from stint.testing.builders import a_job, a_node, an_offering


def wants(operator, *values, key="gen", field=False):
    return Requirement(key=key, operator=operator, values=values, field=field)


@pytest.mark.parametrize(
    ("requirement", "value", "met"),
    [
        (wants("In", "a", "b"), "b", True),
        (wants("In", "a"), None, False),
        (wants("NotIn", "a"), "b", True),
        (wants("NotIn", "a"), None, True),
        (wants("Exists"), "", True),
        (wants("Exists"), None, False),
        (wants("DoesNotExist"), None, True),
        (wants("DoesNotExist"), "", False),
        (wants("Gt", "3"), "10", True),
        (wants("Gt", "3"), "3", False),
        (wants("Gt", "3"), "new", False),
        (wants("Gt", "3"), None, False),
        (wants("Lt", "3"), "-1", True),
        (wants("Lt", "3"), "1.5", False),
        (wants("Lt", "x"), "1", False),
        (wants("Lt", "9" * 30), "1", False),
        (wants("Near", "a"), "a", False),
    ],
)
def test_a_requirement_is_met_as_kubernetes_means_it(requirement, value, met):
    assert fit.meets(requirement, value) is met


def test_one_term_of_all_its_requirements_is_enough_and_an_empty_one_is_none():
    terms = ((wants("In", "a"), wants("Exists", key="disk")), (wants("In", "n1", key="metadata.name", field=True),))
    assert fit.any_term(terms, "n2", {"gen": "a", "disk": "ssd"})
    assert not fit.any_term(terms, "n2", {"gen": "a"})
    assert fit.any_term(terms, "n1", {})
    assert not fit.any_term(((),), "n1", {})
    assert not fit.any_term((), "n1", {})


def test_a_node_is_refused_for_the_first_thing_in_the_way_and_the_text_names_it():
    node = a_node("n", an_offering(), labels={"gen": "3"}, taints=(Taint(key="maintenance", value="planned"),))
    tied = a_job(constraints=PodConstraints(node_affinity=((wants("In", "5"),),)))
    assert fit.node_refuses(tied, node) == (
        Reason.NODE_SELECTOR_MISMATCH,
        "does not match the template's node affinity (gen In (5))",
    )
    stored = a_job(constraints=PodConstraints(volumes=(((wants("In", "z", key="zone"),),),)))
    assert fit.node_refuses(stored, node)[0] is Reason.VOLUME_ELSEWHERE
    plain = a_job()
    assert fit.node_refuses(plain, node) == (
        Reason.TAINT_NOT_TOLERATED,
        "has the taint maintenance=planned:NoSchedule, which the template does not tolerate",
    )
    assert fit.node_admits(replace(plain, tolerations=(Toleration(key="maintenance", operator="Exists"),)), node)


def test_workers_count_by_every_resource_that_they_name():
    worker = Resources(gpus=1, cpu=1, memory_gib=1, pods=1, extended=(("rdma/hca", 2.0),))
    node = Resources(gpus=8, cpu=8, memory_gib=8, pods=8, extended=(("rdma/hca", 5.0),))
    assert fit.workers_per_node(worker, node) == 2
    assert fit.workers_per_node(worker, replace(node, extended=())) == 0
    assert fit.exceeds(worker, replace(node, extended=()), "p5") == "a worker asks for 2 rdma/hca, a p5 has 0"


def test_a_new_node_is_what_its_offering_says_less_what_daemon_sets_take():
    offering = an_offering(labels={"pool": "a"}, room_on_new=Resources(gpus=8, cpu=30, memory_gib=900, pods=100))
    assert fit.new_refuses(a_job(gpus=4), offering) is None
    reason, text = fit.new_refuses(a_job(gpus=8), offering)
    assert (reason, text) == (Reason.WORKER_EXCEEDS_NODE, "a worker asks for 32 CPU cores, a p4de.24xlarge has 30")
    reason, text = fit.new_refuses(a_job(gpus=4, node_selector={"pool": "b"}), offering)
    assert (reason, text) == (
        Reason.NODE_SELECTOR_MISMATCH,
        "a new node lacks pool=b, which the template's nodeSelector asks for",
    )


@pytest.mark.parametrize(("have", "asked", "workers"), [(3.92 - 0.03 - 0.15, 3.74, 1), (0.3, 0.1, 3), (0.7, 0.1, 7)])
def test_sums_of_cores_that_differ_by_a_hair_are_what_kube_scheduler_counts(have, asked, workers):
    worker, node = Resources(cpu=asked), Resources(cpu=have)
    assert fit.workers_per_node(worker, node) == workers
