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
_UNITS = {
    "currencyUSD": "${:,.2f}",
    "percentunit": "{:.0%}",
    "watt": "{:,.0f} W",
    "s": "{:,.0f} s",
    "kwatth": "{:,.0f} kWh",
    "masskg": "{:,.1f} kg",
}
_STYLE = """body{background:#111217;color:#ccccdc;font:12px system-ui,sans-serif;margin:12px;position:relative}
.p{position:absolute;background:#181b1f;border:1px solid #2c3235;border-radius:3px;padding:6px;box-sizing:border-box;
overflow:hidden}.p b{font-weight:500}.r{position:absolute;font-size:15px}
.n{font-size:24px;color:#73bf69;text-align:center;margin-top:14px}td{padding:1px 10px 1px 0}
.k{color:#8e8e9e;font-size:11px}.k i{font-style:normal;white-space:nowrap}svg{display:block;margin:3px 0}"""


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
        return '<p class="k">none</p>'
    width, height = panel["gridPos"]["w"] * COLUMN - 30, panel["gridPos"]["h"] * ROW - 88
    stacked = "stacking" in panel["fieldConfig"]["defaults"].get("custom", {})
    if stacked:
        series = _piled(series)
    values = [v for _, points in series for _, v in points]
    low, high = min(0.0, *values), max(*values, 1e-9)

    def place(t: float, v: float) -> str:
        return f"{(t - start) / (end - start) * width:.1f},{1 + height - (v - low) / (high - low or 1) * height:.1f}"

    given = {o["matcher"]["options"]: o["properties"][0]["value"] for o in panel["fieldConfig"]["overrides"]}
    colours = [given[n]["fixedColor"] if n in given else c for (n, _), c in zip(series, _COLOURS, strict=False)]
    drawn = []
    for (_, points), colour in zip(series, colours, strict=True):
        path = [place(t, v) for t, v in points]
        if stacked:
            path = [place(points[0][0], low), *path, place(points[-1][0], low)]
        fill = colour if stacked else "none"
        drawn.append(f'<polyline points="{" ".join(path)}" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>')
    if stacked:
        drawn.reverse()  # the highest lies behind
    names = " ".join(
        f'<i><span style="color:{c}">&#9632;</span> {n}</i>' for (n, _), c in zip(series, colours, strict=True)
    )
    scale = f'<div class="k">{_number(low, unit)} to {_number(high, unit)}</div>'
    return f'{scale}<svg width="{width}" height="{height + 2}">{"".join(drawn)}</svg><div class="k">{names}</div>'


def _piled(series: list[tuple[str, list[tuple[float, float]]]]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Each on top of those before it; where one has no value it adds nothing."""
    below = dict.fromkeys(sorted({t for _, points in series for t, _ in points}), 0.0)
    piled = []
    for name, points in series:
        for t, v in points:
            below[t] += v
        piled.append((name, list(below.items())))
    return piled


def _table(panel: dict[str, Any], unit: str, url: str, end: float) -> str:
    rows = []
    for target in panel["targets"]:
        for found in _ask(url, "query", query=target["expr"], time=str(end)):
            name = _legend(target["legendFormat"], found["metric"])
            rows.append((name, _number(float(found["value"][1]), unit)))
    cells = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows[:12])
    return f"<table>{cells}</table>" if rows else '<p class="k">none</p>'


def _stat(panel: dict[str, Any], unit: str, url: str, end: float) -> str:
    found = _ask(url, "query", query=panel["targets"][0]["expr"], time=str(end))
    return f'<div class="n">{_number(float(found[0]["value"][1]), unit) if found else "-"}</div>'


def page(url: str, start: float, end: float, *, at: float) -> str:
    """The whole dashboard between two instants (seconds since 1970); numbers and tables are of `at`,
    or of the end where they sum up."""
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
        when = end if any("increase(" in target["expr"] for target in panel["targets"]) else at
        for target in panel["targets"]:
            target["expr"] = gen_dashboard.over(target["expr"], end - start)
        if panel["type"] == "timeseries":
            body = _lines(panel, unit, url, start, end)
        else:
            body = (_table if panel["type"] == "table" else _stat)(panel, unit, url, when)
        size = f"width:{grid['w'] * COLUMN - 6}px;height:{grid['h'] * ROW - 6}px"
        parts.append(f'<div class="p" style="{place};{size}"><b>{html.escape(panel["title"])}</b>{body}</div>')
    style = f"<style>{_STYLE}body{{width:{24 * COLUMN}px;height:{bottom}px}}</style>"
    return f'<!doctype html><meta charset="utf-8"><title>Stint</title>{style}{"".join(parts)}'
