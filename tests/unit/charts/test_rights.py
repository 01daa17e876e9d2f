"""The chart grants what the table of rights says, neither more nor less, and the page shows that table."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from hack import build, gen_rights
from stint.capacity.registry import ADAPTERS, rights_of
from stint.kube.rbac import (
    ALWAYS,
    WITH_NODE_OVERLAYS,
    WITH_POD_GROUPS,
    WITH_STEERING,
    Right,
    needed,
    with_config_map,
)
from tests.unit.charts.test_chart import _template

# How the chart is told to grant what each capacity adapter needs; the next one adds its values.
OF_ADAPTERS = {
    "Kwok": ("pools.kwok.enabled=true",),
    "Scale": ("pools.scaleTargets[0].apiGroup=cluster.x-k8s.io", "pools.scaleTargets[0].resource=machinedeployments"),
}


def rights_of_adapter(name: str) -> tuple[Right, ...]:
    return rights_of(name, gen_rights.EXAMPLE if ADAPTERS[name].traits.needs_target else None)


@pytest.fixture(scope="module")
def helm() -> Path:
    return build.helm()


def granted(objects: list[dict[str, Any]]) -> set[tuple[str, str, str, str, bool]]:
    """To the operator itself: roles for people carry a suffix."""
    found = set()
    for thing in objects:
        if thing["kind"] not in ("ClusterRole", "Role") or thing["metadata"]["name"] != "stint":
            continue
        for rule in thing["rules"]:
            found |= {
                (*each, thing["kind"] == "Role")
                for each in itertools.product(
                    rule["verbs"], rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""])
                )
            }
    return found


def listed(rights: tuple[Right, ...]) -> set[tuple[str, str, str, str, bool]]:
    return {(r.verb, r.group, r.resource, r.name, r.own_namespace) for r in rights}


@pytest.mark.parametrize(
    ("values", "rights"),
    [
        ((), tuple(ALWAYS)),
        (("steering.enabled=true",), (*ALWAYS, *WITH_STEERING)),
        (("podGroups.enabled=true",), (*ALWAYS, *WITH_POD_GROUPS)),
        (("feeds.configMaps[0]=rates",), (*ALWAYS, *with_config_map("rates"))),
        (("feeds.nodeOverlays=true",), (*ALWAYS, *WITH_NODE_OVERLAYS)),
        *((OF_ADAPTERS.get(name, ()), (*ALWAYS, *rights_of_adapter(name))) for name in ADAPTERS),
    ],
)
def test_the_chart_grants_exactly_what_the_table_lists(helm, values, rights):
    assert granted(_template(helm, *values)) == listed(rights)


def test_rules_of_your_own_are_added(helm):
    rule = [
        f"rbac.rules[0].{key}[0]={value}" for key, value in (("apiGroups", "x"), ("resources", "y"), ("verbs", "z"))
    ]
    assert granted(_template(helm, *rule)) - listed(tuple(ALWAYS)) == {("z", "x", "y", "", False)}


def test_the_page_shows_the_table():
    assert gen_rights.TARGET.read_text() == gen_rights.text(), "run `make crds`"


def test_each_right_says_what_it_is_for():
    for right in (*ALWAYS, *WITH_POD_GROUPS, *(r for name in ADAPTERS for r in rights_of_adapter(name))):
        assert f"| `{right}` |" in gen_rights.text()
        assert len(right.why.split()) >= 4, right


def test_rights_on_pod_groups_are_asked_for_only_where_there_are_any():
    assert set(needed([], pod_groups=True)) - set(needed([])) == set(WITH_POD_GROUPS)
