"""The chart on a real API server, with the operator in pods, in a namespace that allows only restricted ones."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request

import yaml

from hack.cluster import ROOT, Cluster, eventually

NAMESPACE = "chart"


def test_any_number_of_replicas_becomes_any_other_under_restricted_pod_security(cluster: Cluster):
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")

    def upgrade(replicas: int, *more: str) -> None:
        sets = (f"replicaCount={replicas}", "crds.enabled=false", "nodeSelector.nowhere=yes", *more)
        values = [part for s in sets for part in ("--set", s)]
        cluster.helm("upgrade", "--install", "second", str(ROOT / "charts" / "stint"), "-n", NAMESPACE, *values)

        def pods() -> bool:
            listed = json.loads(cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
            return len([p for p in listed if "deletionTimestamp" not in p["metadata"]]) >= replicas

        eventually(pods, what=f"{replicas} pods of the operator to be let in")

    try:
        upgrade(1)
        upgrade(2, "recordDecisions=true", "prometheus.tokenSecret.name=token", "networkPolicy.enabled=true")
        upgrade(1, "dashboards.enabled=true")
        upgrade(0)
    finally:
        cluster.helm("uninstall", "second", "-n", NAMESPACE)
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_prometheus_understands_every_alert(prometheus: str):
    alerts = yaml.safe_load((ROOT / "charts" / "stint" / "alerts.yaml").read_text())
    for alert in alerts:
        form = urllib.parse.urlencode({"query": alert["expr"]}).encode()
        with urllib.request.urlopen(f"{prometheus}/api/v1/query", data=form) as answer:
            assert json.load(answer)["status"] == "success"
