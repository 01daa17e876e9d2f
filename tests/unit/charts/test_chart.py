"""The chart as Helm renders it. Whether its rights suffice is shown end to end: the operator runs with them."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cryptography import x509

from hack import build, gen_crds, gen_dashboard
from stint.accelerators import registry
from stint.api.sharing import fair_share_of, limits_of, quotas_of
from stint.cli.main import parser
from stint.controllers.planner_client import MOST_TIMEOUT_S, TIMEOUT_S
from stint.feeds import bundled
from stint.feeds.promql import Access
from stint.model.limits import Limits
from stint.model.situation import FairShare, Quota, Settings
from stint.placement.solvers import SOLVERS

CHART = gen_crds.ROOT / "charts" / "stint"


@pytest.fixture(scope="session")
def helm() -> Path:
    return build.helm()


EVERYTHING = (
    "replicaCount=2",
    "recordDecisions=true",
    "prometheus.url=https://prometheus.example.com",
    "prometheus.tokenSecret.name=prometheus",
    "prometheus.tls.caConfigMap=trust",
    "prometheus.tenant=ml",
    "prometheus.podLabels=exported_namespace\\,exported_pod",
    "calibration=Advise",
    "pools.kwok.enabled=true",
    "podGroups.enabled=true",
    "disruptionProtection=false",
    "nodeGraceSeconds=300",
    "pools.scaleTargets[0].apiGroup=cluster.x-k8s.io",
    "pools.scaleTargets[0].resource=machinedeployments",
    "serviceMonitor.enabled=true",
    "serviceMonitor.labels.release=monitoring",
    "prometheusRule.enabled=true",
    "dashboards.enabled=true",
    "networkPolicy.enabled=true",
    "podLabels.team=platform",
    "imagePullSecrets[0].name=pull",
    "steering.enabled=true",
)


def _template(helm: Path, *sets: str, release: str = "stint", serves: str = "") -> list[dict[str, Any]]:
    arguments = [part for s in sets for part in ("--set", s)]
    arguments += ["--api-versions", f"admissionregistration.k8s.io/{serves}"] if serves else []
    done = subprocess.run(
        [helm, "template", release, CHART, "-n", "stint-system", *arguments], capture_output=True, text=True, check=True
    )
    return [d for d in yaml.safe_load_all(done.stdout) if d]


def test_the_solvers_and_the_time_they_have_are_those_of_the_program(helm):
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["solver"]["enum"]) == set(SOLVERS)
    assert (values["solver"], values["planTimeoutSeconds"]) == (Settings().solver, TIMEOUT_S)
    assert schema["planTimeoutSeconds"]["maximum"] == MOST_TIMEOUT_S
    comment = next(li for li in (CHART / "values.yaml").read_text().splitlines() if li.startswith("# Which solver"))
    assert all(name in comment for name in SOLVERS)
    for solver in SOLVERS:
        deployment = _one(_template(helm, f"solver={solver}", "planTimeoutSeconds=5"), "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        options = parser().parse_args(container["args"])
        assert (options.solver, options.plan_timeout) == (solver, 5)


@pytest.mark.parametrize("seconds", ["0", "91", "nan", "soon"])
def test_a_time_that_cannot_be_meant_is_refused(seconds):
    with pytest.raises(SystemExit):
        parser().parse_args(["run", f"--plan-timeout={seconds}"])


def _one(objects: list[dict[str, Any]], kind: str, name: str = "stint") -> dict[str, Any]:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def test_crds_are_those_of_the_typed_resources_and_stay_when_the_chart_goes(helm):
    for folder in gen_crds.FOLDERS:
        assert {p.name: p.read_text() for p in folder.glob("*.yaml")} == gen_crds.render()
    crds = [o for o in _template(helm) if o["kind"] == "CustomResourceDefinition"]
    assert len(crds) == 4
    assert all(c["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for c in crds)
    for crd in crds:
        shipped = yaml.safe_load(gen_crds.render()[f"stint.dev_{crd['spec']['names']['plural']}.yaml"])
        assert crd["spec"] == shipped["spec"]  # Helm's reading and writing of YAML has changed nothing


@pytest.mark.parametrize("sets", [(), ("replicaCount=0",), EVERYTHING], ids=["default", "no operator", "everything"])
def test_lints_without_a_warning(helm, sets):
    arguments = [part for s in sets for part in ("--set", s)]
    done = subprocess.run([helm, "lint", "--strict", CHART, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize(
    ("release", "sets", "name"),
    [
        ("stint", (), "stint"),
        ("stint-a", (), "stint-a"),
        ("gpu", (), "gpu-stint"),
        ("gpu", ("fullnameOverride=own",), "own"),
    ],
)
def test_everything_is_named_after_the_release_and_says_what_it_is(helm, release, sets, name):
    objects = [o for o in _template(helm, *EVERYTHING, *sets, release=release) if "Definition" not in o["kind"]]
    assert all(o["metadata"]["name"].startswith(name) for o in objects)
    assert _one(objects, "ServiceAccount", name)
    pod = _one(objects, "Deployment", name)["spec"]["template"]
    assert pod["spec"]["serviceAccountName"] == name
    assert pod["metadata"]["labels"]["team"] == "platform"


def test_the_process_understands_every_flag_that_it_is_given(helm):
    for sets in ((), EVERYTHING):
        (container,) = _one(_template(helm, *sets), "Deployment")["spec"]["template"]["spec"]["containers"]
        options = parser().parse_args(container["args"])
        assert options.verb == "run"
        ports = {p["name"]: p["containerPort"] for p in container["ports"]}
        webhook = {"webhook": options.webhook_port} if options.webhook_port is not None else {}
        assert ports == {"metrics": options.metrics_port, "health": options.health_port, **webhook}
        mounted = {Path(m["mountPath"]) for m in container["volumeMounts"]}
        assert options.pod_groups is bool(sets)
        assert options.no_disruption_protection is bool(sets)
        assert options.node_grace == (300 if sets else 60)
        for path in (options.record_dir, options.prometheus_token_file, options.prometheus_ca_file):
            assert path is None or {path, path.parent} & mounted
        assert options.calibration == ("Advise" if sets else "Use")
        assert options.prometheus_pod_labels == (("exported_namespace", "exported_pod") if sets else None)
        assert options.prometheus_tenant == ("ml" if sets else "")
        usual = Access(url="")
        assert (options.prometheus_timeout, options.prometheus_max_bytes) == (usual.timeout_s, usual.most_bytes)


def test_prometheus_may_want_a_name_and_a_password(helm):
    sets = ("prometheus.basicAuth.username=stint", "prometheus.basicAuth.secretName=login")
    pod = _one(_template(helm, *sets), "Deployment")["spec"]["template"]["spec"]
    options = parser().parse_args(pod["containers"][0]["args"])
    assert options.prometheus_username == "stint"
    mounts = {m["name"]: Path(m["mountPath"]) for m in pod["containers"][0]["volumeMounts"]}
    assert options.prometheus_password_file.parent == mounts["prometheus-password"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "prometheus-password"]
    assert volume["secret"]["secretName"] == "login"
    assert volume["secret"]["items"] == [{"key": "password", "path": options.prometheus_password_file.name}]
    insecure = _one(_template(helm, "prometheus.tls.insecureSkipVerify=true"), "Deployment")
    assert parser().parse_args(insecure["spec"]["template"]["spec"]["containers"][0]["args"]).prometheus_insecure
    with pytest.raises(subprocess.CalledProcessError):
        _template(helm, sets[0])


def test_without_an_operator_the_rest_is_there(helm):
    objects = _template(helm, "replicaCount=0")
    assert _one(objects, "Deployment")["spec"]["replicas"] == 0
    assert {"ServiceAccount", "ClusterRoleBinding", "RoleBinding"} <= {o["kind"] for o in objects}
    assert "Pod" not in {o["kind"] for o in objects}  # a test of an operator that is not there would fail


def test_every_value_has_a_comment_and_a_place_in_the_schema():
    lines = (CHART / "values.yaml").read_text().splitlines()
    naked = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if ":" in line and not line.lstrip().startswith("#") and not line.endswith(":") and "#" not in before
    ]
    assert naked == []
    values, schema = yaml.safe_load("\n".join(lines)), json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)

    def same_keys(part: dict[str, Any], described: dict[str, Any]) -> None:
        properties = described.get("properties")
        if properties is not None:
            assert described["additionalProperties"] is False
            assert set(properties) - {"global"} == set(part)
            for key, value in part.items():
                same_keys(value, properties[key])

    same_keys(values, schema)


def test_rights_have_no_wildcards_and_no_secret_but_their_own(helm):
    roles = [o for o in _template(helm, *EVERYTHING) if o["kind"] in ("Role", "ClusterRole")]
    for kind, rule in ((o["kind"], r) for o in roles for r in o["rules"]):
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        if "secrets" in rule["resources"]:
            assert kind == "Role"
            known = (["create"], None), (["get"], ["stint-plan-key"])
            assert (rule["verbs"], rule.get("resourceNames")) in known
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
    objects = _template(helm, *EVERYTHING)
    kinds = {o["kind"] for o in objects}
    assert {"ServiceMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"} <= kinds
    assert len(_one(objects, "PrometheusRule")["spec"]["groups"][0]["rules"]) >= 5
    assert json.loads(_one(objects, "ConfigMap", "stint-dashboard")["data"]["stint.json"]) == gen_dashboard.dashboard()
    assert _one(objects, "ConfigMap", "stint-dashboard")["metadata"]["labels"]["grafana_dashboard"] == "1"
    (endpoint,) = _one(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True  # or a TrainingJob's namespace and name would be the scrape target's
    assert not {"ServiceMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"} & {o["kind"] for o in _template(helm)}


def test_a_misspelt_value_is_refused(helm):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        _template(helm, "replicaCoun=2")
    assert "replicaCoun" in refused.value.stderr


def _kinds(objects: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {
        (o["kind"], o["apiVersion"].rpartition("/")[2])
        for o in objects
        if "Admission" in o["kind"] or "Webhook" in o["kind"]
    }


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_pods_are_gated_by_the_policy_that_the_cluster_serves(helm, version):
    objects = _template(helm, "steering.enabled=true", serves=f"{version}/MutatingAdmissionPolicy")
    kept = {("ValidatingAdmissionPolicy", "v1"), ("ValidatingAdmissionPolicyBinding", "v1")}
    made = {("MutatingAdmissionPolicy", version), ("MutatingAdmissionPolicyBinding", version)}
    assert _kinds(objects) == kept | made
    bound = {o["spec"]["policyName"] for o in objects if o["kind"].endswith("PolicyBinding")}
    assert bound == {o["metadata"]["name"] for o in objects if o["kind"].endswith("AdmissionPolicy")}
    arguments = _one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--steering" in arguments
    assert not [a for a in arguments if "webhook" in a]


@pytest.mark.parametrize(
    "values", [("steering.gate=webhook", "v1/MutatingAdmissionPolicy"), ("steering.gate=auto", "")]
)
def test_otherwise_by_a_webhook_whose_certificate_fits_its_service(helm, values):
    objects = _template(helm, "steering.enabled=true", values[0], serves=values[1])
    assert ("MutatingWebhookConfiguration", "v1") in _kinds(objects)
    (webhook,) = _one(objects, "MutatingWebhookConfiguration", "stint-gates-pods")["webhooks"]
    data = {k: base64.b64decode(v) for k, v in _one(objects, "Secret", "stint-webhook")["data"].items()}
    assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == data["ca.crt"]
    certificate, ca = (x509.load_pem_x509_certificate(data[name]) for name in ("tls.crt", "ca.crt"))
    certificate.verify_directly_issued_by(ca)
    service = webhook["clientConfig"]["service"]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"{service['name']}.{service['namespace']}.svc"]
    port = _one(objects, "Service", service["name"])["spec"]["ports"][0]
    container = _one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": port["targetPort"], "containerPort": 9443} in container["ports"]
    assert "--webhook-port=9443" in container["args"]


def test_a_policy_that_the_cluster_does_not_serve_is_told_before_anything_is_installed(helm):
    with pytest.raises(subprocess.CalledProcessError) as error:
        _template(helm, "steering.enabled=true", "steering.gate=policy")
    assert "the cluster serves no MutatingAdmissionPolicy" in error.value.stderr


def test_without_steering_nothing_stands_between_people_and_their_pods(helm):
    assert _kinds(_template(helm, serves="v1/MutatingAdmissionPolicy")) == set()


def test_quotas_shares_and_moves_reach_the_program_as_it_reads_them(helm):
    sets = (
        "quotas[0].namespace=imaging",
        "quotas[0].usdPerHour=120",
        "quotas[0].gpus.H100=16",
        "fairShare.enabled=true",
        "fairShare.weights.driving=2",
        "moves.perHour=6",
        "moves.acrossNamespacesPerHour=2",
        "limits.namespaces.prod.priority=1000",
    )
    (deployment,) = [d for d in _template(helm, *sets) if d["kind"] == "Deployment"]
    options = parser().parse_args(deployment["spec"]["template"]["spec"]["containers"][0]["args"])
    (quota,) = quotas_of(options.quotas, bundled.load())
    assert quota == Quota(namespace="imaging", usd_per_hour=120.0, gpus={"H100-SXM": 16})
    assert fair_share_of(options.fair_share) == FairShare(weights={"driving": 2.0}, patience_hours=24.0)
    assert (options.moves_per_hour, options.payback, options.deadline_reserve) == (6, 1.5, 300)
    assert options.evictions_across_namespaces_per_hour == 2
    limits = limits_of(options.limits)
    assert limits.default == Limits()
    assert limits.namespaces == {"prod": Limits(priority=1000)}


def test_the_gate_knows_every_vendors_resource(helm):
    (policy,) = [
        o
        for o in _template(helm, "steering.enabled=true", serves="v1/MutatingAdmissionPolicy")
        if o["kind"] == "MutatingAdmissionPolicy" and o["metadata"]["name"].endswith("gates-pods")
    ]
    (asks,) = [c["expression"] for c in policy["spec"]["matchConditions"] if c["name"] == "asks-for-gpus"]
    assert json.dumps(list(registry.RESOURCES), separators=(",", ":")) in asks


def test_the_network_policy_lets_in_and_out_by_label_and_destination(helm):
    rules = _one(_template(helm, "networkPolicy.enabled=true"), "NetworkPolicy")["spec"]
    metrics = [r for r in rules["ingress"] if {"port": "metrics"} in r["ports"]]
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert metrics == [{"ports": [{"port": "metrics"}], "from": [monitoring]}]
    dns, rest = rules["egress"]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}} in dns["to"]
    assert [p["port"] for p in rest["ports"]] == [443, 6443, 9090]
    assert "to" not in rest
    narrow = ("networkPolicy.egressTo[0].ipBlock.cidr=10.0.0.1/32", "networkPolicy.metricsFrom=null")
    rules = _one(_template(helm, "networkPolicy.enabled=true", *narrow), "NetworkPolicy")["spec"]
    assert rules["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    assert not any({"port": "metrics"} in r["ports"] for r in rules["ingress"])
