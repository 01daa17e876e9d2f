from __future__ import annotations

import re
from pathlib import Path

import yaml

from hack import gen_dashboard
from stint.metrics.exporter import Metrics

ROOT = Path(__file__).resolve().parents[3]


def _exported() -> set[str]:
    names = set()
    for family in Metrics().registry.collect():
        names |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    return names


def _used(expression: str) -> set[str]:
    return set(re.findall(r"\bstint_[a-z_]+", expression))


def test_the_dashboard_in_the_chart_is_the_one_that_is_generated():
    assert gen_dashboard.TARGET.read_text() == gen_dashboard.render()


def test_every_panel_asks_for_metrics_that_exist():
    for panel in gen_dashboard.panels():
        for target in panel.get("targets", ()):
            assert _used(target["expr"]), panel["title"]
            assert _used(target["expr"]) <= _exported(), panel["title"]


def test_every_alert_asks_for_metrics_that_exist():
    for alert in yaml.safe_load((ROOT / "charts/stint/alerts.yaml").read_text()):
        assert _used(alert["expr"]) <= _exported(), alert["alert"]
