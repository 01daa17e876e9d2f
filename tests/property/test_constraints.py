"""Gangs whose pods demand something of their nodes and of one another: no plan ever breaks it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from stint.decide import decide
from stint.model.cluster import HOSTNAME, ZONE
from stint.model.constraints import HostPort, Neighbour, PodConstraints, PodTerm, Requirement, Spread
from stint.model.resources import Resources
from stint.placement import queue
from stint.placement.annealing import Annealing
from stint.placement.exact import Exact
from stint.placement.greedy import Greedy
from stint.placement.portfolio import Portfolio
from stint.placement.problem import build_problem
from stint.sim.soundness import unsound
from stint.testing import suites
from stint.testing.builders import a_job, a_node, a_pool, a_situation, an_offering

RACK, HCA = "example.com/rack", "rdma/hca"
APPS = ("a", "b")


def app(name: str) -> tuple[Requirement, ...]:
    return (Requirement(key="app", operator="In", values=(name,)),)


terms = st.builds(
    PodTerm,
    topology_key=st.sampled_from([HOSTNAME, RACK, ZONE]),
    selector=st.sampled_from([app("a"), app("b"), ()]),
    namespaces=st.sampled_from([("team",), ("other",), None]),
)
spreads = st.builds(
    Spread,
    topology_key=st.sampled_from([HOSTNAME, RACK]),
    max_skew=st.integers(1, 2),
    selector=st.sampled_from([app("a"), app("b")]),
)
affinities = st.sampled_from(
    [
        None,
        ((Requirement(key=RACK, operator="In", values=("r1",)),),),
        ((Requirement(key=RACK, operator="Exists"),), (Requirement(key="x", operator="In", values=("y",)),)),
    ]
)


def few(strategy, most: int = 1):
    """Mostly none: a job with five constraints is placed nowhere, and shows nothing."""
    return st.one_of(st.just(()), st.just(()), st.lists(strategy, min_size=1, max_size=most).map(tuple))


@st.composite
def constrained(draw):
    offering = an_offering()
    nodes = []
    for i in range(draw(st.integers(1, 5))):
        labels = {HOSTNAME: f"n{i}", ZONE: draw(st.sampled_from(["z1", "z2"]))}
        if rack := draw(st.sampled_from(["r1", "r2", ""])):
            labels[RACK] = rack
        hca = draw(st.integers(0, 2))
        size = replace(offering.per_node, extended=((HCA, float(hca)),) if hca else ())
        nodes.append(
            a_node(f"n{i}", offering, used_gpus=draw(st.sampled_from([0, 0, 4])), labels=labels, allocatable=size)
        )
    neighbours = [
        Neighbour(
            node=node.name,
            domains=tuple(sorted(node.labels.items())),
            namespace=draw(st.sampled_from(["team", "other"])),
            labels=(("app", draw(st.sampled_from(APPS))),),
            anti_affinity=draw(few(terms)),
            host_ports=draw(few(st.just(HostPort(port=80)))),
        )
        for node in nodes
        if draw(st.integers(0, 3)) == 0
    ]
    jobs = []
    for i in range(draw(st.integers(1, 4))):
        gpus = draw(st.sampled_from([1, 2, 4, 8]))
        asks = Resources(gpus=gpus, cpu=1.0, memory_gib=1.0, pods=1)
        if draw(st.integers(0, 3)) == 0:
            asks = replace(asks, extended=((HCA, 1.0),))
        demands = PodConstraints(
            namespace="team",
            labels=(("app", draw(st.sampled_from(APPS))), ("job", f"j{i}")),
            node_affinity=draw(affinities),
            host_ports=draw(few(st.just(HostPort(port=80)))),
            affinity=draw(few(terms)),
            anti_affinity=draw(few(terms)),
            spread=draw(few(spreads)),
        )
        jobs.append(a_job(f"j{i}", workers=draw(st.integers(1, 4)), gpus=gpus, per_worker=asks, constraints=demands))
    pool = a_pool(offering, scaler=draw(st.sampled_from([None, "Kwok"])), most=8)
    situation = a_situation(jobs=jobs, nodes=nodes, offerings=[offering], pools=[pool])
    return replace(situation, neighbours=tuple(neighbours))


def picks(selector, labels) -> bool:
    return all(labels.get(r.key) in r.values for r in selector)


def broken(situation, plan) -> list[str]:
    """Every demand that a plan breaks, by code that shares nothing with what makes plans."""
    nodes, jobs = {n.name: n for n in situation.nodes}, {j.id: j for j in situation.jobs}
    pods = [(n.node, n.namespace, dict(n.labels), n.anti_affinity, n.host_ports, "") for n in situation.neighbours]
    for p in plan.placements:
        c = jobs[p.job].constraints
        pods += [(n, c.namespace, dict(c.labels), c.anti_affinity, c.host_ports, p.job) for n in p.nodes]
    texts = []
    for i, (node, _, _, away, ports, job) in enumerate(pods):
        for k, (other, ns, theirs, _, their_ports, owner) in enumerate(pods):
            if i == k or not (job or owner):
                continue
            for t in away:
                same = nodes[node].labels.get(t.topology_key, i) == nodes[other].labels.get(t.topology_key, k)
                if same and (t.namespaces is None or ns in t.namespaces) and picks(t.selector, theirs):
                    texts.append(f"{node} and {other} are too near by {t}")
            if ports and their_ports and node == other:
                texts.append(f"two pods have port 80 of {node}")
    for p in plan.placements:
        c, count = jobs[p.job].constraints, Counter(p.nodes)
        used = sum(
            (
                Counter({n: k * dict(jobs[q.job].per_worker.extended).get(HCA, 0) for n, k in Counter(q.nodes).items()})
                for q in plan.placements
            ),
            Counter(),
        )
        for n in count:
            labels = nodes[n].labels
            if c.node_affinity is not None and not any(
                all((r.key in labels) if r.operator == "Exists" else labels.get(r.key) in r.values for r in term)
                for term in c.node_affinity
            ):
                texts.append(f"{n} is not what {p.job} asks for")
            if used[n] > dict(nodes[n].allocatable.extended).get(HCA, 0):
                texts.append(f"{n} has not so many {HCA}")
            for t in c.affinity:
                beside = [
                    k
                    for k, (other, ns, theirs, _, _, _) in enumerate(pods)
                    if nodes[other].labels.get(t.topology_key, "?") == labels.get(t.topology_key)
                    and (t.namespaces is None or ns in t.namespaces)
                    and picks(t.selector, theirs)
                ]
                if not beside:
                    texts.append(f"nobody of {t} is near {n}")
        for s in c.spread:
            if not picks(s.selector, dict(c.labels)):
                continue
            level = Counter()
            for node, ns, labels, _, _, owner in pods:
                there = owner in ("", p.job)  # a gang that is placed after this one may well make it uneven
                if there and ns == c.namespace and picks(s.selector, labels) and s.topology_key in nodes[node].labels:
                    level[nodes[node].labels[s.topology_key]] += 1
            mine = {nodes[n].labels.get(s.topology_key) for n in count}
            if None in mine:
                texts.append(f"{p.job} is on a node without {s.topology_key}")
            elif len(mine) > 1 and max(level[d] for d in mine) - min(level[d] for d in mine) > s.max_skew + 1:
                texts.append(f"{p.job} is spread {[level[d] for d in mine]}")
    return texts


@settings(max_examples=150, deadline=None)
@given(situation=constrained())
def test_no_plan_breaks_what_pods_demand(situation):
    plan = decide(situation)
    assert unsound(situation, plan) == []
    assert broken(situation, plan) == []
    event(f"{len(plan.placements)} of {len(situation.jobs)} placed")


@pytest.mark.parametrize("solver", [Greedy(), Exact(), Portfolio()], ids=lambda s: s.name)
@settings(max_examples=25, deadline=None)
@given(situation=constrained())
def test_every_solver_is_sound(solver, situation):
    suites.check_sound(solver, build_problem(situation, queue.in_order(situation)))


@settings(max_examples=8, deadline=None)  # it takes two seconds for one
@given(situation=constrained())
def test_annealing_is_sound(situation):
    suites.check_sound(Annealing(), build_problem(situation, queue.in_order(situation)))
