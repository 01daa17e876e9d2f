"""Each kind of workload is told of wherever kinds are listed, and the next one is a file and a line."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import build, gen_gate
from stint.kube.act.gating import answer
from stint.kube.rbac import WITH_STEERING
from stint.workloads.kind import Kind
from stint.workloads.label import HandsDown, LabelTemplates
from stint.workloads.registry import KINDS, belongings, by_api, refused
from tests.unit.charts.test_chart import _template

ROOT = Path(__file__).parents[3]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
GATED = {k.kind: k for k in KINDS.values() if k.hands_down is not None}


@pytest.fixture(scope="module")
def helm() -> Path:
    return build.helm()


def rules_of(kinds: dict[str, Kind]) -> dict[str, tuple[Any, ...]]:
    return {k.slug: ([k.group], [k.version], list(k.hands_down.operations)) for k in kinds.values() if k.hands_down}


def test_what_the_chart_knows_is_what_the_registry_says():
    assert gen_gate.TARGET.read_text() == gen_gate.text(), "run `make crds`"


def test_the_webhook_hears_of_each_kind(helm):
    (webhook,) = [
        w
        for o in _template(helm, "steering.enabled=true", "steering.gate=webhook")
        if o["kind"] == "MutatingWebhookConfiguration"
        for w in o["webhooks"]
    ]
    heard = {
        (r["apiGroups"][0], r["resources"][0]): (r["apiGroups"], r["apiVersions"], r["operations"])
        for r in webhook["rules"]
    }
    assert heard.pop(("", "pods")) == ([""], ["v1"], ["CREATE"])
    assert heard == {(k.group, k.plural): rules_of(GATED)[k.slug] for k in GATED.values()}


def test_each_kind_has_its_admission_policy(helm):
    objects = _template(helm, "steering.enabled=true", serves="v1/MutatingAdmissionPolicy")
    policies = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "MutatingAdmissionPolicy"}
    assert policies.keys() - {"stint-gates-pods"} == {f"stint-labels-{k.slug}" for k in GATED.values()}
    bound = {o["spec"]["policyName"] for o in objects if o["kind"] == "MutatingAdmissionPolicyBinding"}
    assert bound == policies.keys()
    for kind in GATED.values():
        rule, spec = kind.hands_down, policies[f"stint-labels-{kind.slug}"]
        assert rule is not None
        (resources,) = spec["matchConstraints"]["resourceRules"]
        assert rules_of({kind.kind: kind}) == {
            kind.slug: (resources["apiGroups"], resources["apiVersions"], resources["operations"])
        }
        assert resources["resources"] == [kind.plural]
        assert spec["mutations"][0]["jsonPatch"]["expression"] == rule.expression
        assert [c["expression"] for c in spec.get("matchConditions", ())] == (
            [rule.condition] if rule.condition else []
        )


@EVERY_KIND
class TestEveryKind:
    def test_it_is_watched(self, kind: Kind):
        rights = {(r.verb, r.group, r.resource) for r in WITH_STEERING}
        wanted = {"list", "watch", *(["patch"] if kind.suspend else [])}
        assert kind.group == "batch" or wanted == {
            v for v, group, what in rights if (group, what) == (kind.group, kind.plural)
        }

    def test_people_are_told_of_it(self, kind: Kind):
        for page in ("README.md", "charts/stint/STEERING.md", "charts/stint/values.yaml"):
            assert kind.kind in (ROOT / page).read_text(), page

    def test_its_pods_are_told_by_a_label_or_are_another_kinds(self, kind: Kind):
        assert kind.belonging is not None or list(kind.pods({})) == []

    def test_the_gate_hears_of_what_it_labels(self, kind: Kind):
        assert kind.hands_down is None or isinstance(kind.hands_down, HandsDown)

    def test_an_empty_object_has_no_pods_that_ask_for_gpus_and_no_end(self, kind: Kind):
        assert not any(pod for _, pod in kind.pods({}))
        assert (kind.ended({}).complete, kind.ended({}).failure) == (False, "")


def test_no_two_kinds_are_told_by_the_same_and_a_jobs_label_is_the_last_resort():
    told = [(k.belonging.label, k.belonging.makers) for k in belongings() if k.belonging]
    assert len(set(told)) == len(told)
    by_label = [k.kind for k in belongings() if k.belonging and k.belonging.label]
    assert by_label[-1] == "Job"
    assert [k.kind for k in belongings()][: len(by_label)] == by_label, "what made a pod is asked after its labels"


def test_no_two_kinds_share_a_name_of_a_policy_and_each_is_found_by_what_its_api_calls_it():
    assert len({k.slug for k in KINDS.values()}) == len(KINDS)
    for kind in KINDS.values():
        assert by_api(kind.group, kind.api_kind) is kind
    assert by_api("example.com", "Job") is None


def test_what_is_refused_is_neither_labelled_nor_held_back(helm):
    assert {k.kind for k in KINDS.values() if k.refused} == {"Deployment", "DaemonSet"}
    assert not {k for k in GATED if KINDS[k].refused}
    objects = _template(helm, "steering.enabled=true", serves="v1/MutatingAdmissionPolicy")
    (gate,) = [o for o in objects if o["metadata"]["name"] == "stint-gates-pods" and "matchConditions" in o["spec"]]
    (condition,) = [c for c in gate["spec"]["matchConditions"] if c["name"] == "is-of-no-kind-that-is-refused"]
    assert f"o.kind in {json.dumps(list(refused()), separators=(',', ':'))}" in condition["expression"]


TEMPLATE: dict[str, Any] = {"metadata": {"labels": {"app": "x"}}}


@pytest.mark.parametrize(
    ("paths", "spec", "labelled"),
    [
        (("spec.template",), {"template": TEMPLATE}, ["/spec/template"]),
        (("spec.a.b.template",), {"a": {"b": {"template": {}}}}, ["/spec/a/b/template"]),
        (
            ("spec.many[].template",),
            {"many": [{"template": TEMPLATE}] * 2},
            ["/spec/many/0/template", "/spec/many/1/template"],
        ),
        (("spec.by{}.template",), {"by": {"Worker": {"template": {}}}}, ["/spec/by/Worker/template"]),
        (("spec.many?[].template",), {}, []),
        (("spec.a.one?", "spec.a.b?"), {"a": {"one": TEMPLATE}}, ["/spec/a/one"]),
        (("spec.one", "spec.many?[].t"), {"one": {}, "many": [{"t": {}}]}, ["/spec/one", "/spec/many/0/t"]),
    ],
    ids=str,
)
def test_a_path_names_templates_in_both_forms_of_the_gate(paths, spec, labelled):
    rule = LabelTemplates(templates=paths)
    assert [op["path"].partition("/metadata")[0] for op in rule.ops("CREATE", {"spec": spec})] == labelled
    for path in paths:
        where = path.replace("?", "").partition("[]")[0].partition("{}")[0]
        assert f"object.{where}" in rule.expression
        assert ("has(object." in rule.expression.replace("!has(", "")) is any("?" in p for p in paths)
    assert rule.expression.count("(") == rule.expression.count(")")


def test_the_gate_leaves_kinds_alone_that_it_does_not_know():
    review = {"request": {"uid": "u", "kind": {"kind": "Deployment"}, "operation": "CREATE", "object": {"spec": {}}}}
    assert "patch" not in answer({"apiVersion": "admission.k8s.io/v1", **review})["response"]


def test_a_kind_is_a_file_and_a_line():
    """In a process of its own. `NEXT` would be the file, what follows it the line; `make crds` tells the chart."""
    program = """
        from stint.workloads import registry
        from stint.workloads.kind import Belonging, Kind, at, count
        from stint.workloads.label import LabelTemplates

        NEXT = Kind(
            kind="SparkThing",
            group="spark.example.com",
            version="v1",
            plural="sparkthings",
            pods=lambda spec: iter([(count(spec.get("replicas")), at(spec, "template", "spec"))]),
            belonging=Belonging(label="spark.example.com/name", order=("index",)),
            hands_down=LabelTemplates(templates=("spec.template",)),
        )
        registry.KINDS["SparkThing"] = NEXT

        import base64, json
        import msgspec
        from stint.kube.act.gating import answer
        from stint.kube.rbac import WITH_STEERING
        from stint.kube.steered import find, selector
        from stint.kube.workloads import WireWorkload, reducer
        from hack import gen_gate

        assert {r.verb for r in WITH_STEERING if r.resource == "sparkthings"} == {"list", "watch"}
        thing = {"metadata": {"name": "x", "uid": "u"}, "spec": {"replicas": 3, "template": {"spec": {
            "containers": [{"resources": {"limits": {"nvidia.com/gpu": 1}}}]}}}}
        assert reducer(NEXT)(msgspec.convert(thing, WireWorkload))[2].pods == 3
        request = {"uid": "u", "kind": {"kind": "SparkThing"}, "operation": "CREATE", "object": thing}
        patch = answer({"apiVersion": "v1", "request": request})["response"]["patch"]
        assert json.loads(base64.b64decode(patch))[0]["path"] == "/spec/template/metadata"
        null = msgspec.Raw(b"null")
        labels = {"stint.dev/managed": "true", "spark.example.com/name": "x"}
        gates = ["stint.dev/placement"]
        pod = find(labels, {}, name="x-0", maker=None, gates=gates, node_selector=null, tolerations=null)
        assert (pod.kind, pod.group) == ("SparkThing", "x")
        assert selector("SparkThing", "x") == "spark.example.com/name=x"
        assert "plural: sparkthings" in gen_gate.text()
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, cwd=ROOT, env={"PYTHONPATH": ".:operator"}
    )


def test_the_generated_file_is_what_helm_reads():
    assert [k["kind"] for k in yaml.safe_load(gen_gate.text())["kinds"]] == list(GATED)
