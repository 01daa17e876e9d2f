"""Days of a namespace: rows that outlive their jobs. Each says until when it is booked: twice written counts once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce

import msgspec

from stint.api.ledger import COMPONENTS, FIGURES, USES, Components, DaySpec, Ledger, Line, NodeRow, Row, Uses
from stint.estimate.runtime import SECONDS_PER_HOUR
from stint.ledger.book import cuts_at_midnight, day_of, midnight
from stint.ledger.rates import Timeline
from stint.model.offering import OfferingId

MOST_ROWS = 1000  # of one object
_DAY = timedelta(days=1)


def add(a: Line, b: Line) -> Line:
    """The sum of two lines, at the later one's place."""
    return _sum(a, b, 1.0) if a.place >= b.place else _sum(b, a, 1.0)


def _sum(a: Line, b: Line, sign: float) -> Line:
    return msgspec.structs.replace(
        a,
        gpu_seconds=Uses(**{u: getattr(a.gpu_seconds, u) + sign * getattr(b.gpu_seconds, u) for u in USES}),
        usd=Uses(**{u: getattr(a.usd, u) + sign * getattr(b.usd, u) for u in USES}),
        components=Components(
            **{c: getattr(a.components, c) + sign * getattr(b.components, c) for c in (*COMPONENTS, "transfer")}
        ),
        **{figure: getattr(a, figure) + sign * getattr(b, figure) for figure in FIGURES},
    )


def less(after: Ledger, before: Ledger) -> list[Line]:
    """What has been added to the lines of a ledger."""
    old = {line.place: line for line in before.lines}
    grown = []
    for line in after.lines:
        known = old.get(line.place)
        if known is None:
            grown.append(line)
        elif known is not line:
            grown.append(_sum(line, known, -1.0))
    return grown


def total(lines: Iterable[Line]) -> Line | None:
    """The sum; None of no lines."""
    rest = list(lines)
    return reduce(add, rest) if rest else None


def whole(ledger: Ledger) -> Line | None:
    """All that a job took; None: nothing yet."""
    return total([*ledger.lines, *([ledger.earlier] if ledger.earlier else [])])


def fold(ledger: Ledger, safe: Iterable[str]) -> Ledger:
    """Sum up the lines of days that are safe elsewhere."""
    days = frozenset(safe)
    old = [line for line in ledger.lines if line.day in days]
    if not old:
        return ledger
    kept = [line for line in ledger.lines if line.day not in days]
    earlier = total([*([ledger.earlier] if ledger.earlier else []), *old])
    return msgspec.structs.replace(ledger, lines=kept, earlier=earlier)


def rows_of(ledger: Ledger, *, job: str, uid: str, team: str, through: datetime) -> dict[str, list[Row]]:
    """A job's rows by day."""
    rows: dict[str, list[Row]] = {}
    for line in ledger.lines:
        row = Row(job=job, uid=uid, team=team, through=through, moved_for=ledger.moved_for, line=line)
        rows.setdefault(line.day, []).append(row)
    return rows


def resume(ledger: Ledger, through: datetime | None, rows: Sequence[Row]) -> tuple[Ledger, datetime | None]:
    """A job's ledger as its status has it, or as its rows do where those know more.

    Args:
        rows: of this job, of the last days.

    Returns:
        The ledger, and its watermark.
    """
    if not rows:
        return ledger, through
    last = midnight(max(row.line.day for row in rows)) + _DAY
    newest = min(max(row.through for row in rows), last)  # of the day after nothing may be written yet
    if through is not None and newest <= through:
        return ledger, through
    if any(row.through < newest and day_of(row.through) <= row.line.day for row in rows):
        return ledger, through  # of a day that is past not everything is written
    lines = {line.place: line for line in ledger.lines} | {row.line.place: row.line for row in rows}
    moved = max((at for at in (ledger.moved_for, *(row.moved_for for row in rows)) if at is not None), default=None)
    found = msgspec.structs.replace(ledger, lines=[lines[p] for p in sorted(lines)], moved_for=moved)
    all_of_it = whole(found)
    if all_of_it is not None and ledger.baseline_usd:
        done = min(1.0, all_of_it.baseline_usd / ledger.baseline_usd)
        found = msgspec.structs.replace(found, baseline_done=done)
    return found, newest


def merge(parts: Sequence[DaySpec], rows: Iterable[Row], day: str) -> tuple[DaySpec, ...]:
    """The objects of a namespace's day with these rows in them: of two for the same thing the later one holds.

    A row stays in the object it is in; new ones fill up the last object, then begin another.
    """
    at = {_key(row): (i, k) for i, part in enumerate(parts) for k, row in enumerate(part.rows)}
    filled = [list(part.rows) for part in parts] or [[]]
    for row in rows:
        known = at.get(_key(row))
        if known is None:
            if len(filled[-1]) >= MOST_ROWS:
                filled.append([])
            at[_key(row)] = len(filled) - 1, len(filled[-1])
            filled[-1].append(row)
        elif row.through >= filled[known[0]][known[1]].through:
            filled[known[0]][known[1]] = row
    base = [*parts, *(DaySpec(day=day) for _ in range(len(filled) - len(parts)))]
    return tuple(_summed(part, own) for part, own in zip(base, filled, strict=True))


def _key(row: Row) -> tuple[str, tuple[str, str, str, str]]:
    return row.uid, row.line.place


def _summed(part: DaySpec, rows: list[Row]) -> DaySpec:
    """With the figures that its columns show."""
    line = total(row.line for row in rows)
    if line is None:
        return msgspec.structs.replace(part, rows=rows)
    gpu_seconds = line.gpu_seconds.total
    return msgspec.structs.replace(
        part,
        rows=rows,
        usd=f"{line.total_usd:.2f}",
        gpu_hours=f"{gpu_seconds / SECONDS_PER_HOUR:.2f}",
        useful_percent=f"{100 * line.gpu_seconds.useful / gpu_seconds:.0f}" if gpu_seconds else "",
        energy_kwh=f"{line.energy_kwh:.1f}",
        carbon_kg=f"{line.carbon_g / 1000:.2f}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpan:
    """A node's life. None: it is there still."""

    offering: OfferingId
    gpus: float
    start: datetime
    end: datetime | None = None


NodePlace = tuple[str, str, str, str]  # day, pool, GPU model, capacity type


def book_nodes(
    rows: Mapping[NodePlace, NodeRow],
    spans: Iterable[NodeSpan],
    timeline: Timeline,
    *,
    start: datetime,
    until: datetime,
) -> dict[NodePlace, NodeRow]:
    """What nodes cost from `start`, the watermark, to `until`, whoever had them; added to what is booked.

    Raises:
        KeyError: nothing is known of an offering that a span names.
    """
    result = dict(rows)
    for span in spans:
        first, last = max(span.start, start), until if span.end is None else min(span.end, until)
        for a, b in cuts_at_midnight(first, last):
            for begin, end, rates in timeline.between(span.offering, a, b):
                place = (day_of(begin), rates.pool, rates.gpu_model, rates.capacity_type)
                seconds = (end - begin).total_seconds()
                old = result.get(place) or NodeRow(pool=place[1], gpu_model=place[2], capacity_type=place[3])
                result[place] = msgspec.structs.replace(
                    old,
                    node_seconds=old.node_seconds + seconds,
                    gpu_seconds=old.gpu_seconds + seconds * span.gpus,
                    usd=old.usd + (rates.usd_per_hour or 0.0) * seconds / SECONDS_PER_HOUR,
                    unpriced_gpu_seconds=old.unpriced_gpu_seconds
                    + (seconds * span.gpus if rates.usd_per_hour is None else 0.0),
                )
    return result
