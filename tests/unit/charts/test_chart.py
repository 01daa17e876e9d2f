"""The chart as Helm renders it. Whether its rights suffice is shown end to end: the operator runs with them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import gen_crds
from hack.cluster import build

CHART = gen_crds.ROOT / "charts" / "stint"


@pytest.fixture(scope="session")
def helm() -> Path:
    return build.helm()


def _template(helm: Path, *sets: str) -> list[dict[str, Any]]:
    arguments = [part for s in sets for part in ("--set", s)]
    done = subprocess.run(
        [helm, "template", "stint", CHART, "-n", "stint-system", *arguments], capture_output=True, text=True, check=True
    )
    return [d for d in yaml.safe_load_all(done.stdout) if d]


def _one(objects: list[dict[str, Any]], kind: str, name: str = "stint") -> dict[str, Any]:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def test_crds_are_those_of_the_typed_resources_and_stay_when_the_chart_goes(helm):
    for folder in gen_crds.FOLDERS:
        assert {p.name: p.read_text() for p in folder.glob("*.yaml")} == gen_crds.render()
    crds = [o for o in _template(helm) if o["kind"] == "CustomResourceDefinition"]
    assert len(crds) == 3
    assert all(c["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for c in crds)


def test_rights_have_no_wildcards_and_no_secrets(helm):
    rules = [r for o in _template(helm) if o["kind"] in ("Role", "ClusterRole") for r in o["rules"]]
    for rule in rules:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"]
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_nodes_are_created_only_where_fake_ones_are_wanted(helm):
    def node_verbs(*sets: str) -> list[str]:
        rules = _one(_template(helm, *sets), "ClusterRole")["rules"]
        return next(r["verbs"] for r in rules if r["resources"] == ["nodes"])

    assert node_verbs() == ["list", "watch"]
    assert node_verbs("pools.kwok.enabled=true") == ["list", "watch", "create", "delete"]


def test_the_pod_is_restricted(helm):
    pod = _one(_template(helm), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_two_replicas_get_a_disruption_budget_and_one_does_not(helm):
    assert "PodDisruptionBudget" not in {o["kind"] for o in _template(helm)}
    assert "PodDisruptionBudget" in {o["kind"] for o in _template(helm, "replicaCount=2")}


def test_everything_for_prometheus_and_grafana_is_rendered_when_asked_for(helm):
    objects = _template(
        helm,
        "serviceMonitor.enabled=true",
        "prometheusRule.enabled=true",
        "dashboards.enabled=true",
        "networkPolicy.enabled=true",
    )
    kinds = {o["kind"] for o in objects}
    assert {"ServiceMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"} <= kinds
    assert len(_one(objects, "PrometheusRule")["spec"]["groups"][0]["rules"]) >= 5


def test_a_misspelt_value_is_refused(helm):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        _template(helm, "replicaCoun=2")
    assert "replicaCoun" in refused.value.stderr
