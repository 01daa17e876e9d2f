"""The dashboard as a page, for people without a Grafana at hand: the same panels, the same queries, real answers.

`python -m hack.demo --picture FILE.html` asks the demo's Prometheus at its end. It draws lines, numbers and tables,
and is no Grafana: what Grafana adds is interaction.
"""

from __future__ import annotations

import html
import json
import urllib.parse
import urllib.request
from typing import Any

from hack import gen_dashboard

COLUMN, ROW = 58, 30  # pixels of the grid's units
_COLOURS = (
    "#5794f2",
    "#ff9830",
    "#73bf69",
    "#f2495c",
    "#b877d9",
    "#fade2a",
    "#8ab8ff",
    "#ffb357",
    "#96d98d",
    "#ff7383",
)
_UNITS = {"currencyUSD": "${:,.2f}", "percentunit": "{:.0%}", "watt": "{:,.0f} W", "s": "{:,.0f} s"}
_STYLE = """body{background:#111217;color:#ccccdc;font:12px system-ui,sans-serif;margin:12px;position:relative}
.p{position:absolute;background:#181b1f;border:1px solid #2c3235;border-radius:3px;padding:6px;box-sizing:border-box;
overflow:hidden}.p b{font-weight:500}.r{position:absolute;font-size:15px}
.n{font-size:24px;color:#73bf69;text-align:center;margin-top:14px}td{padding:1px 10px 1px 0}.k{color:#8e8e9e}"""


def _ask(url: str, path: str, **parameters: str) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{query}", timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


def _legend(template: str, labels: dict[str, str]) -> str:
    for key, value in labels.items():
        template = template.replace("{{" + key + "}}", value)
    return html.escape(template)


def _number(value: float, unit: str) -> str:
    if unit == "s" and abs(value) < 10:
        return f"{value:.2g} s"
    return _UNITS.get(unit, "{:,.4g}").format(value)


def _lines(panel: dict[str, Any], unit: str, url: str, start: float, end: float) -> str:
    series: list[tuple[str, list[tuple[float, float]]]] = []
    for target in panel["targets"]:
        step = str(max(1, int((end - start) / 200)))
        for found in _ask(url, "query_range", query=target["expr"], start=str(start), end=str(end), step=step):
            points = [(float(t), float(v)) for t, v in found["values"] if v not in ("NaN", "+Inf", "-Inf")]
            series.append((_legend(target["legendFormat"], found["metric"]), points))
    series = [s for s in series if s[1]][: len(_COLOURS)]
    if not series:
        return '<p class="k">no data yet</p>'
    width, height = panel["gridPos"]["w"] * COLUMN - 30, panel["gridPos"]["h"] * ROW - 70
    values = [v for _, points in series for _, v in points]
    low, high = min(0.0, *values), max(*values, 1e-9)
    drawn = []
    for (_, points), colour in zip(series, _COLOURS, strict=False):
        path = " ".join(
            f"{(t - start) / (end - start) * width:.1f},{height - (v - low) / (high - low or 1) * height:.1f}"
            for t, v in points
        )
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    names = " ".join(f'<span style="color:{c}">&#9632;</span> {n}' for (n, _), c in zip(series, _COLOURS, strict=False))
    scale = f'<div class="k">{_number(low, unit)} to {_number(high, unit)}</div>'
    return f'{scale}<svg width="{width}" height="{height}">{"".join(drawn)}</svg><div class="k">{names}</div>'


def _table(panel: dict[str, Any], unit: str, url: str, end: float) -> str:
    rows = []
    for target in panel["targets"]:
        for found in _ask(url, "query", query=target["expr"], time=str(end)):
            name = _legend(target["legendFormat"], found["metric"])
            rows.append((name, _number(float(found["value"][1]), unit)))
    cells = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows[:12])
    return f"<table>{cells}</table>"


def _stat(panel: dict[str, Any], unit: str, url: str, end: float) -> str:
    found = _ask(url, "query", query=panel["targets"][0]["expr"], time=str(end))
    return f'<div class="n">{_number(float(found[0]["value"][1]), unit) if found else "-"}</div>'


def page(url: str, start: float, end: float, *, at: float) -> str:
    """The whole dashboard between two instants (seconds since 1970); numbers and tables are of `at`."""
    parts = []
    bottom = 0
    for panel in gen_dashboard.panels():
        grid = panel["gridPos"]
        bottom = max(bottom, (grid["y"] + grid["h"]) * ROW)
        place = f"left:{grid['x'] * COLUMN}px;top:{grid['y'] * ROW}px"
        if panel["type"] == "row":
            parts.append(f'<div class="r" style="{place}">{html.escape(panel["title"])}</div>')
            continue
        unit = panel["fieldConfig"]["defaults"].get("unit", "short")
        draw = {"timeseries": lambda p, u: _lines(p, u, url, start, end), "table": lambda p, u: _table(p, u, url, at)}
        body = draw.get(panel["type"], lambda p, u: _stat(p, u, url, at))(panel, unit)
        size = f"width:{grid['w'] * COLUMN - 6}px;height:{grid['h'] * ROW - 6}px"
        parts.append(f'<div class="p" style="{place};{size}"><b>{html.escape(panel["title"])}</b>{body}</div>')
    style = f"<style>{_STYLE}body{{width:{24 * COLUMN}px;height:{bottom}px}}</style>"
    return f'<!doctype html><meta charset="utf-8"><title>Stint</title>{style}{"".join(parts)}'
