"""Rows of a job log: when each job came, how long it ran, on how many GPUs. Every mistake is told with its line."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from stint.catalogue.catalogue import Catalogue
from stint.errors import InvalidInputError, Mistake

LONGEST_S = 20 * 365 * 86_400.0
MOST_GPUS = 65_536
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "job_id", "name"),
    "at": ("arrival_s", "timestamp", "submitted", "submit_time"),
    "duration": ("duration_s", "duration"),
    "gpus": ("gpus", "num_gpus"),
    "gpu model": ("gpu_model", "gpu_type"),
    "owner": ("owner", "user", "namespace"),
}
_NEEDED = ("at", "duration", "gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job of a log."""

    id: str
    at: timedelta  # since the log's time zero
    duration_s: float
    gpus: int
    gpu_model: str = ""  # canonical, on which it took so long; empty: the log does not say
    pinned: bool | None = None  # to that model; None: the log does not say
    owner: str = ""
    workers: int = 0  # on so many nodes; 0: the log does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a job log gives."""

    rows: tuple[Row, ...] = ()  # in the order of time
    zero: datetime | None = None  # time zero as a date; None: the log counts seconds
    unused: Mapping[str, int] = field(default_factory=dict)  # why jobs were left out, and how many


@dataclass(frozen=True, slots=True)
class Models:
    """What the GPU models of a log are called here."""

    catalogue: Catalogue
    speeds: Collection[str]  # the models whose speed is known

    def meaning(self, text: str) -> tuple[str, str]:
        """The canonical model, or else an empty text and what to do about it."""
        model = self.catalogue.canonical_gpu(text)
        if model is None:
            return (
                "",
                "is no GPU model that is known; `stint prices --gpus` lists them. Leave it empty, or the line out",
            )
        if model not in self.speeds:
            return "", f"is {model}, whose speed nobody knows; give it in jobs.habits.speeds of a scenario"
        return model, ""


def log_of(dated: Iterable[tuple[datetime, Row]], *, unused: Mapping[str, int]) -> Log:
    """Of rows with the dates at which they were submitted; the first of them is time zero."""
    dated = tuple(dated)
    zero = min((at for at, _ in dated), default=None)
    rows = [replace(row, at=at - zero) for at, row in dated if zero is not None]
    return Log(rows=tuple(sorted(rows, key=lambda r: (r.at, r.id))), zero=zero, unused=dict(sorted(unused.items())))


def read_rows(lines: Iterable[str], *, name: str, start: datetime | None = None) -> tuple[Row, ...]:
    """The rows of `read_log`, where GPU models are not looked at."""
    return read_log(lines, name=name, start=start).rows


def read_log(lines: Iterable[str], *, name: str, start: datetime | None = None, models: Models | None = None) -> Log:
    """Read CSV with a header, in the order of time.

    Columns: `arrival_s` (seconds) or `timestamp` (ISO, UTC where it does not say), `duration_s` or `duration`
    (seconds), `gpus` or `num_gpus`, and perhaps `id`, `gpu_model`, `owner`; others are not looked at. Time zero is
    `start`, or else the first timestamp.

    Args:
        models: without them, GPU models are not looked at.
    Raises:
        InvalidInputError: with the mistakes of all lines.
    """
    table = csv.reader(lines)
    header = [name.strip() for name in next(table, [])]
    column = {key: next((header.index(a) for a in names if a in header), None) for key, names in _ALIASES.items()}
    missing = [f"{key} ({' or '.join(_ALIASES[key])})" for key in _NEEDED if column[key] is None]
    if missing:
        raise InvalidInputError(name, [Mistake("line 1", f"columns {header}", f"must name {', '.join(missing)}")])
    read = _Reader({key: at for key, at in column.items() if at is not None}, len(header), models)
    found = [line for cells in table if cells and (line := read.line(table.line_num, cells)) is not None]
    zero = start or min((x.at for x in found if isinstance(x.at, datetime)), default=None)
    rows: dict[str, Row] = {}
    for x in found:
        since = timedelta(seconds=x.at) if isinstance(x.at, float) else x.at - zero if zero else timedelta(0)
        if since < timedelta(0):
            read.wrong(x.number, "time", str(x.at), f"is before time zero ({zero or 0}); leave it out or start earlier")
        elif x.row.id in rows:
            read.wrong(x.number, "id", repr(x.row.id), "is there twice; every job needs an id of its own")
        else:
            rows[x.row.id] = replace(x.row, at=since)
    read.end(name)
    return Log(rows=tuple(sorted(rows.values(), key=lambda r: (r.at, r.id))), zero=zero)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    at: datetime | float  # a date, or seconds
    row: Row


class Lines:
    """The mistakes of a file's lines."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def wrong(self, line: int, what: str, found: str, remedy: str) -> None:
        """One more."""
        self.mistakes.append(Mistake(f"line {line}, {what}", found, remedy))

    def end(self, name: str) -> None:
        """Nothing more comes.

        Raises:
            InvalidInputError: with all mistakes, in the order of the lines.
        """
        if self.mistakes:
            raise InvalidInputError(name, sorted(self.mistakes, key=lambda m: int(m.path.split()[1].rstrip(","))))

    def model(self, line: int, text: str, models: Models | None) -> str:
        """The canonical model that `text` names; empty: none, or an unknown one."""
        if models is None or not text:
            return ""
        model, remedy = models.meaning(text)
        if remedy:
            self.wrong(line, "gpu model", repr(text), remedy)
        return model


class _Reader(Lines):
    def __init__(self, column: Mapping[str, int], width: int, models: Models | None) -> None:
        super().__init__()
        self.column, self.width, self.models = column, width, models

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
        model = self.model(line, text.get("gpu model", ""), self.models)
        if len(self.mistakes) > before or at is None or duration_s is None or gpus is None:
            return None
        name, owner = text.get("id") or f"line-{line}", text.get("owner", "")
        row = Row(id=name, at=timedelta(0), duration_s=duration_s, gpus=int(gpus), gpu_model=model, owner=owner)
        return _Line(line, at, row)

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
