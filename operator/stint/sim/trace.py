"""Rows of a job log: when each job came, how long it ran, on how many GPUs. Every mistake is told with its line."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from stint.errors import InvalidInputError, Mistake

LONGEST_S = 20 * 365 * 86_400.0
MOST_GPUS = 65_536
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "job_id", "name"),
    "at": ("arrival_s", "timestamp", "submitted", "submit_time"),
    "duration": ("duration_s", "duration"),
    "gpus": ("gpus", "num_gpus"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job of a log."""

    id: str
    at: timedelta  # since the log's time zero
    duration_s: float
    gpus: int


def read_rows(lines: Iterable[str], *, name: str, start: datetime | None = None) -> tuple[Row, ...]:
    """Read CSV with a header, in the order of time.

    Columns: `arrival_s` (seconds) or `timestamp` (ISO, UTC where it does not say), `duration_s` or `duration`
    (seconds), `gpus` or `num_gpus`, and perhaps `id`; others are not looked at. Time zero is `start`, or else the first
    timestamp.

    Raises:
        InvalidInputError: with the mistakes of all lines.
    """
    table = csv.reader(lines)
    header = next(table, [])
    column = {key: next((header.index(a) for a in names if a in header), None) for key, names in _ALIASES.items()}
    missing = [f"{key} ({' or '.join(_ALIASES[key])})" for key in ("at", "duration", "gpus") if column[key] is None]
    if missing:
        raise InvalidInputError(name, [Mistake("line 1", f"columns {header}", f"must name {', '.join(missing)}")])
    read = _Reader({key: at for key, at in column.items() if at is not None}, len(header))
    found = [line for cells in table if cells and (line := read.line(table.line_num, cells)) is not None]
    zero = start or min((x.at for x in found if isinstance(x.at, datetime)), default=None)
    rows: dict[str, Row] = {}
    for x in found:
        since = timedelta(seconds=x.at) if isinstance(x.at, float) else x.at - zero if zero else timedelta(0)
        if since < timedelta(0):
            read.wrong(x.number, "time", str(x.at), f"is before time zero ({zero or 0}); leave it out or start earlier")
        elif x.id in rows:
            read.wrong(x.number, "id", repr(x.id), "is there twice; every job needs an id of its own")
        else:
            rows[x.id] = Row(id=x.id, at=since, duration_s=x.duration_s, gpus=x.gpus)
    if read.mistakes:
        raise InvalidInputError(name, sorted(read.mistakes, key=lambda m: int(m.path.split()[1].rstrip(","))))
    return tuple(sorted(rows.values(), key=lambda r: (r.at, r.id)))


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    id: str
    at: datetime | float  # a date, or seconds
    duration_s: float
    gpus: int


class _Reader:
    def __init__(self, column: Mapping[str, int], width: int) -> None:
        self.column, self.width = column, width
        self.mistakes: list[Mistake] = []

    def wrong(self, line: int, what: str, found: str, remedy: str) -> None:
        self.mistakes.append(Mistake(f"line {line}, {what}", found, remedy))

    def line(self, line: int, cells: list[str]) -> _Line | None:
        if len(cells) != self.width:
            self.wrong(line, "columns", str(len(cells)), f"must be {self.width}, as in the header")
            return None
        before = len(self.mistakes)
        text = {key: cells[at].strip() for key, at in self.column.items()}
        at = self._moment(line, text["at"])
        duration_s = self._number(line, "duration", text["duration"], LONGEST_S)
        gpus = self._number(line, "gpus", text["gpus"], MOST_GPUS)
        if gpus is not None and (gpus < 1 or gpus != int(gpus)):
            self.wrong(line, "gpus", text["gpus"], "must be a whole number of 1 or more")
        if len(self.mistakes) > before or at is None or duration_s is None or gpus is None:
            return None
        return _Line(line, text.get("id") or f"line-{line}", at, duration_s, int(gpus))

    def _moment(self, line: int, text: str) -> datetime | float | None:
        try:
            seconds = float(text)
        except ValueError:
            pass
        else:
            if abs(seconds) <= LONGEST_S:
                return seconds
            self.wrong(line, "time", text, f"must be seconds up to {LONGEST_S:.0f}")
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.wrong(line, "time", repr(text), "must be seconds, or a date as 2017-10-01 00:00:45")
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _number(self, line: int, what: str, text: str, most: float) -> float | None:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 <= number <= most:
            self.wrong(line, what, repr(text), f"must be a number from 0 to {most:.0f}")
            return None
        return number
