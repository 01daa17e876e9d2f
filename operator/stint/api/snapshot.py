"""Situations and plans as files: written by the operator, read by `stint plan`, `stint explain` and the replay.

A file is JSON (or YAML by hand). Reading one tells every mistake at once, each with its path.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from stint.api import reading
from stint.errors import InvalidInputError, Mistake
from stint.model.plan import Plan
from stint.model.situation import Settings, Situation

FORMAT = "stint.dev/situation/v1"
# Left out where they say nothing: decisions that were stored before there were such fields are written the same.
_SAY_NOTHING = tuple(
    f'{" " * deep}"{name}": {nothing},\n'.encode()
    for deep, name, nothing in (
        (4, "billed_usd_per_node_hour", "null"),
        (4, "usd_per_new_node_hour", "null"),
        (4, "no_new", "[]"),
        (4, "bought", "false"),
        (3, "max_unused_usd_per_hour", "null"),
        (2, "before", "null"),
        (2, "standing", "null"),  # of a plan in a record
        (1, "standing", "null"),  # of a plan alone
        (2, "scale_up_stopped", '""'),
        (1, "scale_up_stopped", '""'),
    )
)


class Record(msgspec.Struct, kw_only=True):
    """One stored decision. `plan` is absent in a situation that was written by hand."""

    format: str
    situation: Situation
    plan: Plan | None = None


def encode(situation: Situation, plan: Plan | None) -> bytes:
    """As canonical JSON: the same decision gives the same bytes."""
    return _terse(canonical(Record(format=FORMAT, situation=situation, plan=plan)))


def encode_plan(plan: Plan) -> bytes:
    """A plan alone, canonical."""
    return _terse(canonical(plan))


def _terse(text: bytes) -> bytes:
    for line in _SAY_NOTHING:
        text = text.replace(line, b"")
    return text


def canonical(value: object) -> bytes:
    """JSON with sorted keys, for people and machines: the same value gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def decode(text: bytes | str, *, name: str) -> Record:
    """Read a file.

    Raises:
        InvalidInputError: with every mistake, each with its path in the file.
    """
    data = reading.decode(text, name=name)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise InvalidInputError(name, [Mistake("format", repr(found), f"must be {FORMAT!r}")])
    _without_auto(data)
    record = reading.convert(_upgraded(data), Record, name=name)
    if mistakes := list(_dangling(record.situation)):
        raise InvalidInputError(name, mistakes)
    return record


def _without_auto(data: dict[str, object]) -> None:
    """Situations that were stored while there was a solver `auto` are decided again by the one in its place."""
    situation = data.get("situation")
    settings = situation.get("settings") if isinstance(situation, dict) else None
    if isinstance(settings, dict) and settings.get("solver") == "auto":
        settings["solver"] = Settings().solver


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A record in which requeues were called recalls."""
    plan = data.get("plan")
    if not isinstance(plan, dict) or "recalls" not in plan:
        return data
    return {**data, "plan": {**{k: v for k, v in plan.items() if k != "recalls"}, "requeues": plan["recalls"]}}


def _dangling(situation: Situation) -> Iterable[Mistake]:
    """References that lead nowhere, and figures that cannot be."""
    offerings = {o.id for o in situation.offerings}
    pools = {p.name for p in situation.pools}
    for i, offering in enumerate(situation.offerings):
        path = f"situation.offerings[{i}]"
        if offering.pool not in pools:
            yield Mistake(f"{path}.pool", repr(offering.pool), f"is no pool of this file; there are {sorted(pools)}")
        price = offering.usd_per_node_hour
        if price is not None and not price.value >= 0:
            yield Mistake(f"{path}.usd_per_node_hour.value", str(price.value), "must be 0 or more")
    for i, node in enumerate(situation.nodes):
        if node.offering not in offerings:
            yield Mistake(f"situation.nodes[{i}].offering", repr(node.offering), "is no offering of this file")
    seen: set[str] = set()
    for i, job in enumerate(situation.jobs):
        path = f"situation.jobs[{i}]"
        if job.id in seen:
            yield Mistake(f"{path}.id", repr(job.id), "is there twice")
        seen.add(job.id)
        if not 1 <= job.min_workers <= job.max_workers:
            yield Mistake(f"{path}.min_workers", str(job.min_workers), "must be from 1 to max_workers")
        if job.work.units <= 0:
            yield Mistake(f"{path}.work.units", str(job.work.units), "must be more than 0")
    if situation.now.tzinfo is None:
        yield Mistake("situation.now", situation.now.isoformat(), "must have a time zone, as 2026-11-23T12:00:00Z")
