"""Nodes of one offering differ; each counts as what it is, and messages speak of the nearest one."""

from __future__ import annotations

from dataclasses import replace

from stint.decide import decide
from stint.model.cluster import HOSTNAME
from stint.model.constraints import HostPort, PodConstraints, PodTerm, Preference, Requirement, Spread
from stint.model.market import Taint
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.testing.builders import a_job, a_node, a_pool, a_situation, an_offering

A100 = an_offering()
PLANNED = (Taint(key="maintenance", value="planned"),)


def plan(*jobs, nodes, pools=None, offerings=(A100,)):
    return decide(a_situation(jobs=jobs, nodes=nodes, offerings=offerings, pools=pools))


def app(name):
    return (Requirement(key="app", operator="In", values=(name,)),)


def demanding(name, app_of=None, **demands):
    labels = (("app", app_of or name),)
    return PodConstraints(namespace="team", labels=labels, **demands)


def apart(name, key=HOSTNAME, app_of=None):
    term = PodTerm(topology_key=key, selector=app(app_of or name), namespaces=("team",))
    return demanding(name, app_of, anti_affinity=(term,))


def test_a_tainted_or_small_node_says_nothing_of_its_siblings():
    nodes = [
        a_node("a", A100, taints=PLANNED),
        a_node("b", A100, allocatable=replace(A100.per_node, gpus=2)),
        a_node("c", A100),
    ]
    (placed,) = plan(a_job(), nodes=nodes).placements
    assert placed.nodes == ("c",)


def test_a_job_that_no_node_takes_is_told_of_the_one_that_comes_nearest():
    nodes = [a_node("a", A100, labels={"gen": "3"}), a_node("b", A100, taints=PLANNED, labels={"gen": "5"})]
    (hold,) = plan(a_job(node_selector={"gen": "5"}), nodes=nodes).holds
    assert hold.reason is Reason.TAINT_NOT_TOLERATED
    assert "b has the taint maintenance=planned:NoSchedule" in hold.message
    (hold,) = plan(a_job(node_selector={"gen": "7"}), nodes=nodes).holds
    assert "each of its 2 nodes lacks gen=7" in hold.message


def test_the_resource_that_is_short_is_named_and_what_is_in_the_way_on_other_nodes():
    nodes = [
        a_node("a", A100, used=Resources(cpu=90.0)),
        a_node("b", A100, taints=PLANNED),
    ]
    (hold,) = plan(a_job(gpus=4), nodes=nodes).holds
    assert "16 CPU cores each" in hold.message
    assert "6" in hold.message
    assert "besides, b has the taint maintenance=planned:NoSchedule" in hold.message


def test_a_node_is_bought_only_where_a_new_one_would_do():
    pool = a_pool(A100, scaler="Kwok", most=4)
    asks = Resources(gpus=1, pods=1, extended=(("rdma/hca", 1.0),))
    held = plan(a_job(per_worker=asks), nodes=[], pools=[pool])
    assert held.resizes == ()
    assert "rdma/hca" in held.holds[0].message
    seen = replace(A100, room_on_new=replace(A100.per_node, extended=(("rdma/hca", 4.0),)))
    bought = plan(a_job(per_worker=asks), nodes=[], pools=[pool], offerings=[seen])
    assert [r.to_nodes for r in bought.resizes] == [1]
    none = plan(a_job(per_worker=asks), nodes=[], pools=[pool], offerings=[replace(seen, orderable=False)])
    assert none.resizes == ()


def test_nodes_that_other_jobs_buy_are_shared_only_by_those_they_would_take():
    pool = a_pool(A100, scaler="Kwok", most=1)
    labelled = replace(A100, labels={"pool": "x"})
    buys, strange = a_job("buys", gpus=4), a_job("strange", gpus=4, node_selector={"pool": "y"})
    found = plan(buys, strange, nodes=[], pools=[pool], offerings=[labelled])
    (hold,) = [h for h in found.holds if h.job == strange.id]
    assert hold.chosen is None
    assert hold.reason is Reason.NODE_SELECTOR_MISMATCH


def test_workers_that_keep_apart_are_bought_a_node_each():
    pool = a_pool(A100, scaler="Kwok", most=5)
    job = a_job("far", workers=3, gpus=1, constraints=apart("far"))
    found = plan(job, nodes=[a_node("a", A100)], pools=[pool])
    assert [(r.from_nodes, r.to_nodes) for r in found.resizes] == [(1, 3)]
    one = plan(replace(job, constraints=demanding("far", host_ports=(HostPort(port=1),))), nodes=[], pools=[pool])
    assert [r.to_nodes for r in one.resizes] == [3]


def test_two_gangs_that_keep_apart_are_not_put_together_by_one_plan():
    nodes = [a_node("a", A100), a_node("b", A100, used_gpus=6)]
    first = a_job("first", gpus=2, constraints=demanding("first", "x"))
    second = a_job("second", gpus=2, constraints=apart("second", app_of="x"))
    found = plan(first, second, nodes=nodes)
    used = [n for p in found.placements for n in p.nodes]
    assert len(set(used)) == len(used)


def test_a_spread_that_cannot_be_kept_holds_the_gang_and_says_so():
    spread = Spread(topology_key=HOSTNAME, max_skew=1, selector=app("s"))
    job = a_job("s", workers=4, gpus=2, constraints=demanding("s", spread=(spread,)))
    even = plan(job, nodes=[a_node("a", A100), a_node("b", A100)])
    assert sorted(even.placements[0].nodes) == ["a", "a", "b", "b"]
    full = a_node("b", A100, used_gpus=8)
    (hold,) = plan(job, nodes=[a_node("a", A100), full]).holds
    assert hold.reason is Reason.BESIDE_OTHERS
    assert "topology spread" in hold.message


def test_preferences_choose_between_nodes_that_would_both_do():
    liked = Preference(weight=10, term=(Requirement(key="disk", operator="In", values=("nvme",)),))
    nodes = [a_node("a", A100, labels={"disk": "hdd"}), a_node("b", A100, labels={"disk": "nvme"})]
    (placed,) = plan(a_job(constraints=demanding("p", preferred=(liked,))), nodes=nodes).placements
    assert placed.nodes == ("b",)
