"""Write the Grafana dashboard: `python -m hack.gen_dashboard`. A table of panels reads better than a thousand lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stint.api.ledger import USES
from stint.cli.report import COLOURS

TARGET = Path(__file__).resolve().parent.parent / "charts" / "stint" / "dashboards" / "stint.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCRAPED = ("Time", "__name__", "instance", "container", "endpoint", "service", "pod", "prometheus")

# Prices a pool's free GPUs at the mean of what its offerings of that model cost; less what jobs pay for unused nodes.
FREE_DOLLARS = (
    'clamp_min(sum by (pool) (stint_pool_gpus{state="free"} '
    "* on (pool, gpu_model) group_left avg by (pool, gpu_model) (stint_pool_price_dollars_per_gpu_hour)) "
    "- on (pool) stint_unused_paid_dollars_per_hour, 0)"
)
JOB = "{{namespace}}/{{job}}"
RANGE = "$__range"  # Grafana puts there the time that the whole dashboard shows


def _took(what: str, quantile: float) -> str:
    return f"histogram_quantile({quantile}, sum by (le) (rate(stint_{what}_duration_seconds_bucket[5m])))"


def _within(counter: str, by: str = "") -> str:
    """What it grew by in the time shown."""
    total = f"sum by ({by}) " if by else "sum"
    return f"{total}(increase({counter}[{RANGE}]))"


def over(query: str, range_s: float) -> str:
    """The same query as Grafana sends it while it shows that much time."""
    return query.replace(RANGE, f"{max(1, round(range_s))}s")


# Each panel: its title, kind, unit and width of 24, and its queries with their legends.
ROWS: dict[str, list[tuple[str, str, str, int, list[tuple[str, str]]]]] = {
    "Spend": [
        ("Running now, per hour", "stat", "currencyUSD", 4, [("sum(stint_running_dollars_per_hour)", "$/h")]),
        ("Spent, 24 h", "stat", "currencyUSD", 4, [("sum(increase(stint_spent_dollars_total[24h]))", "$")]),
        ("Saved against the next best, less what speed cost, 24 h", "stat", "currencyUSD", 4,
         [("sum(increase(stint_saved_dollars_total[24h])) - sum(increase(stint_extra_dollars_total[24h]))", "$")]),
        ("Placed GPUs that do nothing, per hour", "stat", "currencyUSD", 4,
         [("sum(stint_job_idle_dollars_per_hour)", "$/h")]),
        ("GPUs that no job has, per hour", "stat", "currencyUSD", 4, [(f"sum({FREE_DOLLARS})", "$/h")]),
        ("Still to come for running and waiting jobs", "stat", "currencyUSD", 4,
         [("sum(stint_job_estimated_cost_dollars) - sum(stint_job_spent_dollars and stint_job_estimated_cost_dollars)",
           "$")]),
        ("Dollars per hour by capacity type", "timeseries", "currencyUSD", 8,
         [("sum by (capacity_type) (stint_running_dollars_per_hour)", "{{capacity_type}}")]),
        ("Dollars per hour by GPU model", "timeseries", "currencyUSD", 8,
         [("sum by (gpu_model) (stint_running_dollars_per_hour)", "{{gpu_model}}")]),
        ("Spent in the hour before, by namespace", "timeseries", "currencyUSD", 8,
         [("sum by (namespace) (increase(stint_spent_dollars_total[1h]))", "{{namespace}}")]),
        ("Dearest jobs so far", "table", "currencyUSD", 12, [("topk(10, stint_job_spent_dollars)", JOB)]),
        ("Where GPUs do nothing, per hour", "table", "currencyUSD", 12,
         [("topk(10, stint_job_idle_dollars_per_hour > 0)", JOB)]),
    ],
    "Spend and waste": [
        ("GPU time in the hour before that was not useful", "stat", "percentunit", 6,
         [('sum(increase(stint_gpu_seconds_total{use!="useful"}[1h])) '
           "/ (sum(increase(stint_gpu_seconds_total[1h])) > 0)", "not useful")]),
        ("Saved against the default scheduler on demand, in the time shown", "stat", "currencyUSD", 6,
         [(f"{_within('stint_baseline_dollars_total')} - {_within('stint_spent_dollars_total')}", "$")]),
        ("Energy, in the time shown", "stat", "kwatth", 6,
         [(f"{_within('stint_energy_joules_total')} / 3.6e6", "kWh")]),
        ("CO2-equivalent, in the time shown", "stat", "masskg", 6,
         [(f"{_within('stint_emissions_grams_total')} / 1000", "kg")]),
        ("Spent in the hour before, by what the GPUs did", "stacked", "currencyUSD", 12,
         [("sum by (use) (increase(stint_spent_dollars_total[1h]))", "{{use}}")]),
        ("Spent by namespace, in the time shown", "table", "currencyUSD", 6,
         [(f"sort_desc({_within('stint_spent_dollars_total', 'namespace')} > 0)", "{{namespace}}")]),
        ("Spent by what it was for, in the time shown", "table", "currencyUSD", 6,
         [(f"sort_desc({_within('stint_spent_component_dollars_total', 'component')} > 0)", "{{component}}")]),
    ],
    "Jobs and decisions": [
        ("Jobs by phase", "timeseries", "short", 8, [("stint_jobs", "{{phase}}")]),
        ("Why jobs wait", "timeseries", "short", 8, [("stint_jobs_held", "{{reason}}")]),
        ("Least slack to the deadline", "timeseries", "s", 8,
         [("bottomk(10, stint_job_deadline_slack_seconds)", JOB)]),
        ("Lowest GPU utilisation", "timeseries", "percentunit", 6,
         [("bottomk(10, stint_job_gpu_utilisation_ratio)", JOB)]),
        ("Most power", "timeseries", "watt", 6, [("topk(10, stint_job_power_watts)", JOB)]),
        ("Tensor cores in use, lowest", "timeseries", "percentunit", 6,
         [("bottomk(10, stint_job_tensor_active_ratio)", JOB)]),
        ("GPUs that no process has opened", "timeseries", "short", 6, [("stint_job_processless_gpus > 0", JOB)]),
        ("Bytes read from Prometheus per second, and whether it is left alone", "timeseries", "short", 8,
         [("rate(stint_prometheus_response_bytes_total[5m])", "bytes/s"),
          ('stint_prometheus_circuit{state="open"}', "left alone")]),
        ("Decisions per minute", "timeseries", "short", 8,
         [("sum by (action) (rate(stint_decisions_total[5m])) * 60", "{{action}}")]),
        ("Gangs taken back", "timeseries", "short", 8,
         [("sum by (reason) (increase(stint_gang_rollbacks_total[1h]))", "{{reason}}")]),
    ],
    "Plan quality": [
        ("Cost of the last plan that placed a job, and its bound", "timeseries", "currencyUSD", 6,
         [("stint_plan_cost_dollars", "cost, with time valued"), ("stint_plan_bound_dollars", "bound")]),
        ("Distance to the best possible plan", "timeseries", "percentunit", 6, [("stint_plan_gap_ratio", "at most")]),
        ("How long deciding takes", "timeseries", "s", 6,
         [(_took("decide", 0.5), "median"), (_took("decide", 0.99), "99th percentile"),
          (_took("cycle", 0.99), "whole cycle, 99th")]),
        ("Plans that something simpler had to make, in the hour before", "timeseries", "short", 6,
         [("sum by (step, reason) (increase(stint_plan_fallbacks_total[1h])) > 0", "{{step}}: {{reason}}")]),
        ("Plans per minute, about everybody or about new jobs alone", "timeseries", "short", 12,
         [("sum by (about) (rate(stint_plans_total[5m])) * 60", "{{about}}")]),
        ("What new jobs cost beyond what the last plan's prices promised", "timeseries", "currencyUSD", 12,
         [("stint_plan_regret_dollars", "regret")]),
    ],
    "Pools and prices": [
        ("Nodes", "timeseries", "short", 8, [("stint_pool_nodes > 0", "{{pool}} {{state}}")]),
        ("Free GPUs", "timeseries", "short", 8, [('stint_pool_gpus{state="free"}', "{{pool}} {{gpu_model}}")]),
        ("GPUs in use", "gauge", "percentunit", 8,
         [('sum(stint_pool_gpus{state="used"}) / sum(stint_pool_gpus)', "in use")]),
        ("GPUs that no job has, dollars per hour", "timeseries", "currencyUSD", 8, [(FREE_DOLLARS, "{{pool}}")]),
        ("Bought nodes that no job uses, dollars per hour", "timeseries", "currencyUSD", 24,
         [("stint_unused_usd_per_hour", "empty or on order"), ("stint_scale_up_stopped", "1: orders are stopped")]),
        ("Dollars per GPU-hour", "table", "currencyUSD", 8,
         [("stint_pool_price_dollars_per_gpu_hour", "{{pool}} {{gpu_model}} {{capacity_type}} ({{source}})")]),
        ("Age of the oldest price", "timeseries", "s", 8, [("stint_price_age_seconds", "{{pool}}")]),
    ],
}  # fmt: skip


def panels() -> list[dict[str, Any]]:
    """Laid out from left to right, row by row."""
    made: list[dict[str, Any]] = []
    y = 0
    for row, entries in ROWS.items():
        made.append({"type": "row", "title": row, "id": len(made) + 1, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y, x, height = y + 1, 0, 0
        for title, kind, unit, width, queries in entries:
            tall = 4 if kind == "stat" else 8
            series = kind in ("timeseries", "stacked")
            if x + width > 24:
                x, y = 0, y + height
            height = tall
            targets = [
                {
                    "refId": "ABC"[i],
                    "datasource": SOURCE,
                    "expr": query,
                    "legendFormat": legend,
                    "instant": not series,
                    "range": series,
                    "format": "table" if kind == "table" else "time_series",  # a table: one row a series
                }
                for i, (query, legend) in enumerate(queries)
            ]
            made.append(
                {
                    "type": "timeseries" if series else kind,
                    "title": title,
                    "id": len(made) + 1,
                    "datasource": SOURCE,
                    "gridPos": {"x": x, "y": y, "w": width, "h": tall},
                    "fieldConfig": _piled(unit) if kind == "stacked" else {"defaults": {"unit": unit}, "overrides": []},
                    "options": {},
                    "transformations": [_tidy(queries)] if kind == "table" else [],
                    "targets": targets,
                }
            )
            x += width
        y += height
    return made


def _piled(unit: str) -> dict[str, Any]:
    """Uses on top of each other, each in the colour that `stint report -o html` gives it."""
    overrides = [
        {
            "matcher": {"id": "byName", "options": use},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": COLOURS[use]}}],
        }
        for use in (*USES, "transfer")
    ]
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 50}
    return {"defaults": {"unit": unit, "custom": custom}, "overrides": overrides}


def _tidy(queries: list[tuple[str, str]]) -> dict[str, Any]:
    """Leave out the columns that say who was scraped; so do `namespace` and `job` where no legend has them."""
    legends = " ".join(legend for _, legend in queries)
    hidden = (*SCRAPED, *(label for label in ("namespace", "job") if f"{{{{{label}}}}}" not in legends))
    return {"id": "organize", "options": {"excludeByName": dict.fromkeys(hidden, True)}}


def dashboard() -> dict[str, Any]:
    """The whole thing."""
    return {
        "title": "Stint",
        "uid": "stint",
        "tags": ["stint", "gpu", "cost"],
        "timezone": "browser",
        "schemaVersion": 41,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                # Adds what is chosen, such as namespace = vision, to every query.
                {"name": "filters", "type": "adhoc", "label": "Only", "datasource": SOURCE},
            ]
        },
        "panels": panels(),
    }


def render() -> str:
    """As the chart carries it."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render())
