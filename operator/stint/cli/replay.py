"""`stint replay DIR`: decide again what `stint run --record-dir DIR` has stored, and compare to the byte."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from stint.api import snapshot
from stint.controllers.planner_worker import without_culprits
from stint.decide import decide
from stint.errors import InvalidInputError, Mistake, StintError
from stint.model.plan import Plan, Reason

DIFFERS = 3  # exit code
_MOST_TOLD = 20


class Verdict(StrEnum):
    """What came of one stored decision."""

    AGREES = "agrees"
    DIFFERS = "differs"
    LEFT = "left"  # no solver had a plan then, and everything was left as it was: there is nothing to decide again


@dataclass(frozen=True, slots=True)
class Replayed:
    """One stored decision."""

    file: str
    verdict: Verdict
    difference: str = ""  # the first


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line."""
    verb = verbs.add_parser("replay", help="decide again what an operator has decided, and compare")
    verb.add_argument("folder", type=Path, metavar="DIR", help="what `stint run --record-dir` wrote, or one file of it")
    verb.add_argument("-o", "--output", choices=("table", "json"), default="table")


def replay(options: argparse.Namespace) -> int:
    """Returns the exit code: 0 where all agree, 3 where one differs.

    Raises:
        InvalidInputError: files cannot be read; the others are told of first.
    """
    try:
        files = sorted(options.folder.glob("*.json")) if options.folder.is_dir() else [options.folder]
    except OSError as error:
        raise StintError(f"{options.folder}: {error.strerror}") from error
    mistakes: list[Mistake] = []
    found = list(_all(files, mistakes))
    if not found and not mistakes:
        raise StintError(f"{options.folder} has no decision; `stint run --record-dir` stores them")
    if options.output == "json":
        sys.stdout.write(snapshot.canonical([asdict(r) for r in found]).decode())
    else:
        _show(found)
    if mistakes:
        raise InvalidInputError(str(options.folder), mistakes)
    return DIFFERS if any(r.verdict is Verdict.DIFFERS for r in found) else 0


def again(record: snapshot.Record, name: str) -> Replayed:
    """Decide once more, with the solver that the settings name, and compare with the stored plan."""
    stored, situation = record.plan, record.situation
    if stored is None or (stored.certificate is None and not stored.is_about_newcomers):
        return Replayed(name, Verdict.LEFT)
    sparing = any(h.reason is Reason.INTERNAL_ERROR for h in stored.holds)  # those jobs could not be decided about
    try:
        made = without_culprits(situation) if sparing else decide(situation)
    except Exception as error:  # whatever it is, there was a plan once
        return Replayed(name, Verdict.DIFFERS, f"stored: a plan; now: {error!r:.300}")
    if snapshot.encode_plan(made) == snapshot.encode_plan(stored):
        return Replayed(name, Verdict.AGREES)
    return Replayed(name, Verdict.DIFFERS, _first_difference(stored, made))


def _all(files: list[Path], mistakes: list[Mistake]) -> Iterator[Replayed]:
    for file in files:
        try:
            yield again(snapshot.decode(file.read_bytes(), name=file.name), file.name)
        except FileNotFoundError as error:
            if len(files) == 1:
                raise StintError(f"{file}: {error.strerror}") from error  # among others: one that ran has removed it
        except OSError as error:
            mistakes.append(Mistake(file.name, str(error.strerror), "must be readable"))
        except InvalidInputError as error:
            mistakes += [Mistake(f"{file.name} {m.path}", m.found, m.remedy) for m in error.mistakes]


def _first_difference(stored: Plan, made: Plan) -> str:
    for path, a, b in _differences(msgspec.to_builtins(stored), msgspec.to_builtins(made), ""):
        return f"{path.removeprefix('.')}: stored {a!r:.120}, now {b!r:.120}"
    return "only in how it is written"


def _differences(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Depth first, in the order of the fields."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            yield from _differences(a.get(key), b.get(key), f"{path}.{key}")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        for i in range(max(len(a), len(b))):
            mine, other = (x[i] if i < len(x) else None for x in (a, b))
            yield from _differences(mine, other, f"{path}[{i}]")
    elif a != b:
        yield path, a, b


def _show(found: list[Replayed]) -> None:
    count = {v: sum(r.verdict is v for r in found) for v in Verdict}
    print(
        f"{len(found)} decisions: {count[Verdict.AGREES]} are made again to the byte, "
        f"{count[Verdict.DIFFERS]} differ, {count[Verdict.LEFT]} had no plan that could be made again"
    )
    differ = [r for r in found if r.verdict is Verdict.DIFFERS]
    for r in differ[:_MOST_TOLD]:
        print(f"{r.file}: {r.difference}")
    if len(differ) > _MOST_TOLD:
        print(f"... and {len(differ) - _MOST_TOLD} more; -o json has them all")
