from __future__ import annotations

import pytest

from stint.api.parse.constraints import MOST, constraints_of, with_volumes
from stint.model.constraints import HostPort, PodTerm, Requirement, Spread, node_keys

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
APP = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}


def read(spec, **labels):
    return constraints_of(spec, labels={"app": "x", **labels}, namespace="team").constraints


def near(term, kind="podAffinity"):
    return {"affinity": {kind: {REQUIRED: [term]}}}


def test_a_pod_that_demands_nothing_has_its_labels_and_no_more():
    found = read({"containers": [{"name": "x"}]})
    assert found.labels == (("app", "x"),)
    assert node_keys(found) == frozenset()
    assert found.node_affinity is None, "no affinity is not an affinity to nothing"


def test_node_affinity_keeps_terms_and_tells_fields_from_labels():
    terms = [{"matchExpressions": [{"key": "gen", "operator": "Gt", "values": ["3"]}]}, {}]
    terms[1] = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    found = read({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}})
    label = Requirement(key="gen", operator="Gt", values=("3",))
    name = Requirement(key="metadata.name", operator="In", values=("n1",), field=True)
    assert found.node_affinity == ((label,), (name,))
    assert node_keys(found) == {"gen"}


@pytest.mark.parametrize(
    ("term", "namespaces"),
    [
        (APP, ("team",)),
        ({**APP, "namespaces": ["a", "b"]}, ("a", "b")),
        ({**APP, "namespaceSelector": {}}, None),
    ],
)
def test_pod_terms_look_in_the_namespaces_that_they_say(term, namespaces):
    selector = (Requirement(key="app", operator="In", values=("x",)),)
    assert read(near(term)).affinity == (PodTerm(topology_key="zone", selector=selector, namespaces=namespaces),)


def test_a_term_without_a_selector_means_no_pod_and_with_an_empty_one_every_pod():
    nobody = read(near({"topologyKey": "zone"})).affinity[0].selector
    everybody = read(near({"topologyKey": "zone", "labelSelector": {}})).affinity[0].selector
    assert everybody == ()
    assert nobody != ()


def test_keys_are_taken_with_the_values_that_the_pod_has():
    term = {**APP, "matchLabelKeys": ["rev"], "mismatchLabelKeys": ["tenant"]}
    (found,) = read(near(term, "podAntiAffinity"), rev="7", tenant="a").anti_affinity
    assert Requirement(key="rev", operator="In", values=("7",)) in found.selector
    assert Requirement(key="tenant", operator="NotIn", values=("a",)) in found.selector


def test_only_do_not_schedule_binds_and_the_rest_is_a_preference():
    hard = {"maxSkew": 2, "topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    soft = {**hard, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    found = read({"topologySpreadConstraints": [{**hard, "minDomains": 3}, soft]})
    assert found.spread == (Spread(topology_key="host", max_skew=2, selector=(), min_domains=3),)
    assert [p.pods.topology_key for p in found.preferred] == ["zone"]


def test_host_ports_of_containers_and_sidecars_and_of_the_hosts_network():
    port = {"containerPort": 80, "hostPort": 8080}
    spec = {
        "containers": [{"ports": [port, {"containerPort": 81}]}],
        "initContainers": [{"ports": [{"hostPort": 1}]}, {"ports": [{"hostPort": 2}], "restartPolicy": "Always"}],
    }
    assert read(spec).host_ports == (HostPort(port=8080), HostPort(port=2))
    assert HostPort(port=81) in read({**spec, "hostNetwork": True}).host_ports


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": []},
        {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": "all"}}}},
        {"topologySpreadConstraints": [{"maxSkew": "many"}]},
        {"containers": [{"ports": [{"hostPort": {}}]}]},
    ],
)
def test_what_has_the_wrong_shape_is_told_with_its_field(spec):
    with pytest.raises(ValueError, match=r"\$"):
        read(spec)


def test_no_pod_can_ask_for_endless_work_and_what_is_left_out_is_named():
    found = read({"affinity": {"podAntiAffinity": {REQUIRED: [APP] * (MOST + 1)}}})
    assert len(found.anti_affinity) == MOST
    assert found.unmodelled == (f"more than {MOST} pod affinity terms",)
    some = {**APP, "namespaceSelector": {"matchLabels": {"team": "x"}}}
    assert read(near(some)).unmodelled == ("the namespaceSelector of a pod affinity term",)


def test_claims_are_named_once_and_ephemeral_volumes_are_not_modelled():
    claim = {"persistentVolumeClaim": {"claimName": "data"}}
    written = constraints_of({"volumes": [claim, claim, {"name": "e", "ephemeral": {}}]}, labels={}, namespace="t")
    assert written.claims == ("data",)
    written = constraints_of({"volumes": [{"name": "e", "ephemeral": {"a": 1}}]}, labels={}, namespace="t")
    assert written.constraints.unmodelled == ("volumes that are made with the pod (e)",)


def test_volumes_are_added_beside_what_the_pod_says():
    where = ((Requirement(key="zone", operator="In", values=("a",)),),)
    assert node_keys(with_volumes(read({}), [where])) == {"zone"}


@pytest.mark.parametrize("huge", ["9" * 30, 9e300, -(10**30), "9" * 400])
def test_figures_that_no_api_server_would_take_are_bounded(huge):
    term = {"weight": huge, "podAffinityTerm": APP}
    spread = {"maxSkew": huge, "minDomains": huge, "topologyKey": "z", "labelSelector": {}}
    spec = {
        "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term] * 40}},
        "topologySpreadConstraints": [{**spread, "whenUnsatisfiable": "DoNotSchedule"}],
        "containers": [{"ports": [{"hostPort": huge}]}],
    }
    try:
        found = read(spec)
    except ValueError:
        return  # told as its own mistake
    assert all(1 <= abs(p.weight) <= 100 for p in found.preferred)
    assert len(found.preferred) <= 16
    assert all(1 <= s.max_skew < 2**31 and 1 <= s.min_domains < 2**31 for s in found.spread)
    assert all(0 < p.port < 65_536 for p in found.host_ports)
