"""Plots as inline SVG. Colours are CSS classes, so that a page decides what they are, by day and by night."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

WIDTH, HEIGHT = 640, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 34
_MOST_POINTS = 300


def stacked(title: str, series: Mapping[str, Sequence[float]], *, unit: str) -> str:
    """Areas on top of each other; one value an hour. Of long ones, days or more are added up."""
    length = max((len(v) for v in series.values()), default=0)
    step = max(1, -(-length // _MOST_POINTS))
    sums = {name: _sums(values, length, step) for name, values in series.items() if sum(values) > 0}
    if not sums:
        return _empty(title)
    hours = np.arange(len(next(iter(sums.values())))) * float(step)
    total = np.sum(list(sums.values()), axis=0)
    scale = _Scale(float(hours[-1]) + step, float(total.max()))
    base, parts = np.zeros(len(hours)), []
    for name, values in sums.items():
        top = base + values
        there = [scale.at(h, v) for h, v in zip(hours, top, strict=True)]
        back = [scale.at(h, v) for h, v in zip(hours[::-1], base[::-1], strict=True)]
        parts.append(f'<polygon class="c-{name}" points="{" ".join(there + back)}"><title>{name}</title></polygon>')
        base = top
    per = f"{unit} in {step} h" if step > 1 else f"{unit} an hour"
    return _figure(title, scale, parts, list(sums), per)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, unit: str, steps: bool = False) -> str:
    """Points are hours and values. In `steps` a value holds until the next one."""
    some = {name: points for name, points in series.items() if points}
    if not some:
        return _empty(title)
    most = max(v for points in some.values() for _, v in points)
    scale = _Scale(max(points[-1][0] for points in some.values()), most)
    parts = []
    for i, (name, points) in enumerate(some.items()):
        kept = list(points)[:: max(1, -(-len(points) // _MOST_POINTS))]
        kept = [*kept, points[-1]]
        if steps:
            kept = [p for (h, v), (later, _) in itertools.pairwise(kept) for p in ((h, v), (later, v))] + kept[-1:]
        path = " ".join(scale.at(h, v) for h, v in kept)
        parts.append(f'<polyline class="l-{i % 8}" points="{path}"><title>{html.escape(name)}</title></polyline>')
    return _figure(title, scale, parts, list(some), unit, lines=True)


class _Scale:
    def __init__(self, hours: float, most: float) -> None:
        self.hours, self.most = max(hours, 1e-9), _round_up(most)

    def at(self, hour: float, value: float) -> str:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * hour / self.hours
        y = HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / self.most
        return f"{x:.1f},{y:.1f}"


def _round_up(most: float) -> float:
    """The next of 1, 2, 5, 10, 20, ..."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next((k * power for k in (1, 2, 5) if k * power >= most), 10 * power)


def _sums(values: Sequence[float], length: int, step: int) -> np.ndarray:
    padded = np.zeros(-(-length // step) * step)
    padded[: len(values)] = values
    sums: np.ndarray = padded.reshape(-1, step).sum(axis=1)
    return sums


def _empty(title: str) -> str:
    return f"<figure><figcaption>{html.escape(title)}: nothing</figcaption></figure>"


def _figure(
    title: str, scale: _Scale, parts: Sequence[str], names: Sequence[str], unit: str, *, lines: bool = False
) -> str:
    axes = []
    for k in range(5):
        value = scale.most * k / 4
        _, y = scale.at(0, value).split(",")
        axes.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        axes.append(f'<text x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{value:,.6g}</text>')
        x, _ = scale.at(scale.hours * k / 4, 0).split(",")
        anchor = "end" if k == 4 else "middle"
        day = f"day {scale.hours * k / 96:.1f}"
        axes.append(f'<text x="{x}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}">{day}</text>')
    keys = "".join(
        f'<span><i class="{f"b-{i % 8}" if lines else f"k-{name}"}"></i>{html.escape(name)}</span>'
        for i, name in enumerate(names)
    )
    return (
        f"<figure><figcaption>{html.escape(title)} <small>{html.escape(unit)}</small></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">'
        f'{"".join(axes)}{"".join(parts)}</svg><div class="keys">{keys}</div></figure>'
    )
