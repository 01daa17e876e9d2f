"""Which pods of no gang matter to jobs, whatever the way in which they are looked up."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stint.kube.observe.neighbours import neighbours_of
from stint.kube.records import PodRecord
from stint.model.cluster import HOSTNAME
from stint.model.constraints import HostPort, PodConstraints, PodTerm, Requirement, Spread
from stint.model.resources import Resources
from stint.placement import fit
from stint.testing.builders import a_job
from tests.unit.kube.objects import a_record

requirements = st.builds(
    Requirement,
    key=st.sampled_from(["app", "tier"]),
    operator=st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    values=st.lists(st.sampled_from("abc"), min_size=1, max_size=2).map(tuple),
)
selectors = st.lists(requirements, max_size=2).map(tuple)
namespaces = st.sampled_from([("team",), ("other", "team"), None])
terms = st.builds(PodTerm, topology_key=st.sampled_from([HOSTNAME, "rack"]), selector=selectors, namespaces=namespaces)
labels = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from("abc")).map(
    lambda found: tuple(sorted(found.items()))
)


def few(strategy):
    return st.lists(strategy, max_size=2).map(tuple)


@st.composite
def pods(draw):
    return PodRecord(
        uid=str(draw(st.integers())),
        node=draw(st.sampled_from(["n1", "n2", "gone", ""])),
        nominated="",
        phase=draw(st.sampled_from(["Running", "Succeeded"])),
        requests=Resources(),
        gang=None,
        labels=draw(labels),
        anti_affinity=draw(few(terms)),
        host_ports=draw(few(st.just(HostPort(port=1)))),
        namespace=draw(st.sampled_from(["team", "other"])),
    )


demands = st.builds(
    PodConstraints,
    namespace=st.just("team"),
    labels=labels,
    affinity=few(terms),
    anti_affinity=few(terms),
    spread=few(st.builds(Spread, topology_key=st.just("rack"), max_skew=st.just(1), selector=selectors)),
    host_ports=few(st.just(HostPort(port=2))),
)


@given(some=st.lists(pods(), max_size=6), wanted=st.lists(demands, max_size=3))
def test_the_same_pods_are_found_as_by_looking_at_every_pair(some, wanted):
    jobs = {j.id: j for j in (replace(a_job(f"j{i}"), constraints=c) for i, c in enumerate(wanted))}
    nodes = [a_record(n, labels={"rack": "r"}) for n in ("n1", "n2")]

    def means(term, namespace, has):
        return (term.namespaces is None or namespace in term.namespaces) and fit.selects(term.selector, dict(has))

    expected = []
    for p in some:
        if p.where not in ("n1", "n2"):
            continue
        near = any(means(t, p.namespace, p.labels) for c in wanted for t in (*c.affinity, *c.anti_affinity))
        near |= any(
            p.namespace == c.namespace and fit.selects(s.selector, dict(p.labels)) for c in wanted for s in c.spread
        )
        guards = tuple(t for t in p.anti_affinity if any(means(t, c.namespace, c.labels) for c in wanted))
        ports = any(c.host_ports for c in wanted)
        if near or guards or (ports and p.host_ports):
            kept = p.host_ports if ports else ()
            expected.append((p.where, p.namespace, p.labels if near else (), guards, kept))
    found = [
        (n.node, n.namespace, n.labels, n.anti_affinity, n.host_ports) for n in neighbours_of(some, nodes, jobs, {})
    ]
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
