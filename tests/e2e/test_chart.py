"""The chart on a real API server, with the operator in pods, in a namespace that allows only restricted ones."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import build
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


def _cents(use: str, *, a_minute: float, namespace: str = "vision") -> dict[str, Any]:
    """What is booked in three hours, scraped every minute."""
    where = f'namespace="{namespace}",pool="a",gpu_model="H100-SXM",capacity_type="spot",use="{use}"'
    return {"series": f"stint_spent_dollars_total{{{where}}}", "values": f"0+{a_minute / 100}x180"}


@pytest.mark.parametrize(
    ("booked", "wasted_usd"),
    [  # an hour's dollars in comments: not useful of all
        ([_cents("useful", a_minute=50), _cents("startup", a_minute=15), _cents("idle", a_minute=20)], 21),  # of 51
        ([_cents("useful", a_minute=50), _cents("idle", a_minute=30)], None),  # 18 of 48: too little
        ([_cents("useful", a_minute=100), _cents("rework", a_minute=40)], None),  # 24 of 84: 29%
        ([_cents("useful", a_minute=100), _cents("held", a_minute=45)], 27),  # of 87: 31%
        ([_cents("idle", a_minute=40)], 24),  # of 24: the series of what is useful need not be there
        ([_cents("useful", a_minute=50), _cents("transfer", a_minute=90)], None),  # no GPU was paid for with it
        ([_cents("useful", a_minute=50), _cents("idle", a_minute=40), _cents("transfer", a_minute=60)], 24),  # of 54
        ([_cents("idle", a_minute=35), _cents("useful", a_minute=500, namespace="speech")], 21),  # each by itself
    ],
)
def test_an_alert_tells_of_dollars_for_gpus_that_do_nothing_useful(
    tmp_path: Path, booked: list[dict[str, Any]], wasted_usd: float | None
):
    promtool = build.prometheus().with_name("promtool")
    if not promtool.exists():
        pytest.skip("promtool comes with Debian's package only")
    alerts = yaml.safe_load((ROOT / "charts" / "stint" / "alerts.yaml").read_text())
    alert = next(a for a in alerts if a["alert"] == "StintGpuDollarsWasted")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "stint", "rules": [alert]}]}))
    summary = alert["annotations"]["summary"].replace("{{ $labels.namespace }}", "vision")
    summary = summary.replace("{{ $value | humanize }}", str(wasted_usd))
    told = {"exp_labels": {"severity": "warning", "namespace": "vision"}, "exp_annotations": {"summary": summary}}
    asked = {"eval_time": "150m", "alertname": alert["alert"], "exp_alerts": [told] if wasted_usd else []}
    test = {"interval": "1m", "input_series": booked, "alert_rule_test": [asked]}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
