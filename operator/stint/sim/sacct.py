"""What Slurm remembers of its jobs: `sacct --allusers --parsable2 --format=` with at least the columns in `NEEDED`.

Steps (`17.batch`, `17.0`) are parts of jobs and are passed over. A job that was cancelled, failed or ran out of time
has cost what it ran. Of one that was requeued (`sacct --duplicates`) the last run counts, from the first submission on.
Dates have no time zone there and are taken for UTC. Source: sacct(1), "Job Accounting Fields", "Job State Codes".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from stint.errors import InvalidInputError, Mistake
from stint.sim.trace import LONGEST_S, MOST_GPUS, Lines, Log, Models, Row, log_of

NEEDED = ("JobID", "Submit", "Start", "State")
FORMAT = "JobID,User,Account,Submit,Start,End,Elapsed,State,AllocTRES,ReqTRES"
_NEVER = frozenset({"", "Unknown", "None", "N/A", "NONE"})
_RAN_ON = frozenset(
    {"REQUEUED", "NODE_FAIL", "PREEMPTED", "REVOKED", "RESIZING"}
)  # states of a run that another follows
_OPEN = {"PENDING": "have not started", "RUNNING": "still run", "SUSPENDED": "still run"}
_ENDED = frozenset(
    {
        *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"),
        *("PREEMPTED", "REQUEUED", "REVOKED", "RESIZING"),
    }
)
_ELAPSED = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?", re.ASCII)
_JOB = re.compile(r"\d+(?:[_+](?:\d+|\[[^\]]*\]))*", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Run:
    line: int
    state: str
    submitted: datetime
    row: Row | None  # None: it has none, for the reason
    why: str = ""


def read_sacct(lines: Iterable[str], *, name: str, models: Models) -> Log:
    """Read it.

    Raises:
        InvalidInputError: with the mistakes of all lines.
    """
    numbered = ((n, line.rstrip("\r\n")) for n, line in enumerate(lines, 1))
    header = _cells(next((line for _, line in numbered), ""))
    width = len(header)
    if not header[-1]:  # --parsable ends its lines with one more
        header.pop()
    missing = [c for c in NEEDED if c not in header]
    missing += [" or ".join(p) for p in (("Elapsed", "End"), ("AllocTRES", "ReqTRES")) if not set(p) & set(header)]
    if missing:
        found = f"columns {header}"
        remedy = f"must name {', '.join(missing)}: sacct --allusers --parsable2 --format={FORMAT}"
        raise InvalidInputError(name, [Mistake("line 1", found, remedy)])
    read, unused = _Reader(models), Counter[str]()
    runs: dict[str, list[_Run]] = {}
    for number, line in numbered:
        cells = _cells(line) if line.strip() else []
        if cells and len(cells) != width:
            read.wrong(number, "columns", str(len(cells)), f"must be {width}, as in the header")
            continue
        of = dict(zip(header, cells, strict=False))
        if not of or "." in of["JobID"] or (run := read.run(number, of)) is None:
            continue
        runs.setdefault(of["JobID"], []).append(run)
    dated = []
    for job, found_runs in runs.items():
        found_runs.sort(key=lambda r: (r.submitted, r.line))
        for run in found_runs[:-1]:
            if run.state not in _RAN_ON:
                again = found_runs[-1].line
                text = f"is there again in line {again}, and was not requeued: two jobs need two ids"
                read.wrong(run.line, "JobID", repr(job), text)
        last = found_runs[-1]
        if last.row is None:
            unused[last.why] += 1
        else:
            dated.append((found_runs[0].submitted, last.row))
    read.end(name)
    return log_of(dated, unused=unused)


def _cells(line: str) -> list[str]:
    return [c.strip() for c in line.split("|")]


class _Reader(Lines):
    def __init__(self, models: Models) -> None:
        super().__init__()
        self.models = models

    def run(self, line: int, of: Mapping[str, str]) -> _Run | None:
        """One line; None: it has mistakes."""
        before = len(self.mistakes)
        if not _JOB.fullmatch(of["JobID"]):
            self.wrong(line, "JobID", repr(of["JobID"]), "must be as 17, 17_3 or 17+1")
        state = of["State"].split(" ")[0].rstrip("+")  # "CANCELLED by 1000"
        if state not in _ENDED and state not in _OPEN:
            self.wrong(line, "State", repr(of["State"]), f"must be one of {', '.join(sorted({*_ENDED, *_OPEN}))}")
        submitted = self._moment(line, "Submit", of["Submit"])
        if submitted is None and of["Submit"] in _NEVER:
            self.wrong(line, "Submit", repr(of["Submit"]), "must be a date: a job was submitted at some time")
        started = self._moment(line, "Start", of["Start"])
        seconds = self._seconds(line, of, started)
        gpus, model, pinned, mixed = self._gpus(line, of)
        nodes = self._count(line, _tres(of.get("AllocTRES") or of.get("ReqTRES", "")).get("node", "0"))
        if len(self.mistakes) > before or submitted is None:
            return None
        why = _OPEN.get(state, "")
        if not why and (started is None or seconds is None or (state == "CANCELLED" and seconds == 0)):
            why = "ended before they started"
        elif not why and not gpus:
            why = "asked for no GPU"
        elif not why and mixed:
            why = "had GPUs of several models"
        if why or seconds is None:
            return _Run(line, state, submitted, None, why)
        row = Row(id=of["JobID"], at=timedelta(0), duration_s=seconds, gpus=gpus)
        owner = of.get("Account") or of.get("User") or ""
        row = replace(row, gpu_model=model, pinned=pinned if model else None, owner=owner, workers=nodes)
        return _Run(line, state, submitted, row)

    def _moment(self, line: int, what: str, text: str) -> datetime | None:
        if text in _NEVER:
            return None
        try:
            if text.isdecimal():  # SLURM_TIME_FORMAT=%s
                return datetime.fromtimestamp(int(text), UTC)
            moment = datetime.fromisoformat(text)
        except (ValueError, OverflowError, OSError):
            self.wrong(line, what, repr(text), "must be a date as 2026-10-01T00:00:45, or Unknown")
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _seconds(self, line: int, of: Mapping[str, str], started: datetime | None) -> float | None:
        text = of.get("Elapsed", "")
        if text in _NEVER:
            ended = self._moment(line, "End", of.get("End", ""))
            if started is None or ended is None:
                return None
            seconds, what, text = (ended - started).total_seconds(), "End", of["End"]
        elif (found := _ELAPSED.fullmatch(text)) is None:
            self.wrong(line, "Elapsed", repr(text), "must be as 1-02:03:04, 02:03:04 or 03:04")
            return None
        else:
            days, hours, minutes, rest = (int(x or 0) for x in found.groups())
            seconds, what = float(((days * 24 + hours) * 60 + minutes) * 60 + rest), "Elapsed"
        if not 0 <= seconds <= LONGEST_S:
            self.wrong(line, what, repr(text), f"must be from 0 to {LONGEST_S:.0f} s after the start")
            return None
        return seconds

    def _gpus(self, line: int, of: Mapping[str, str]) -> tuple[int, str, bool, bool]:
        """How many, of which model, whether that one was asked for, and whether there were several."""
        given, asked = _tres(of.get("AllocTRES", "")), _tres(of.get("ReqTRES", ""))
        had = given if any(k.startswith("gres/gpu") for k in given) else asked
        typed = dict(_typed(had))
        count = sum(self._count(line, n) for n in typed.values())
        count = max(count, self._count(line, had.get("gres/gpu", "0")))
        meant = {self.model(line, text, self.models) for text in typed}
        return count, min(meant, default=""), bool(dict(_typed(asked))), len(meant) > 1

    def _count(self, line: int, text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) > MOST_GPUS:
            self.wrong(line, "TRES", repr(text), f"must be a whole number up to {MOST_GPUS}")
            return 0
        return int(text)


def _tres(text: str) -> dict[str, str]:
    """Of `billing=16,gres/gpu:a100=8,node=1`."""
    return dict((*part.split("=", 1), "")[:2] for part in text.split(",") if part)  # type: ignore[misc]


def _typed(tres: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The models that are named, and how many of each."""
    return ((k.removeprefix("gres/gpu:"), v) for k, v in tres.items() if k.startswith("gres/gpu:"))
