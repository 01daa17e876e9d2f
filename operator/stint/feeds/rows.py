"""Figures as rows: CSV and YAML in a ConfigMap, JSON over HTTP, and what a PriceBook's status keeps.

CSV has these columns, of which a row may leave empty what does not concern it; YAML and JSON have `rows` with the same
names, and may say `currency`, `asOf` and (carbon) `signal` once for all:

    what           price (default), tariff, carbon, pue, interruptions
    provider       aws, azure, gcp, ... or your own
    region, zone   where; no region or * is everywhere
    instanceType   of a price; of interruptions also a GPU model
    capacityType   of a price: on-demand (default), spot, reserved, owned
    signal         of carbon: average-lifecycle (default), average-operational, marginal
    value          USD per node-hour, USD per kWh, g CO2e per kWh, a ratio, times per node-hour
    currency       of a price or a tariff, where it is not dollars
    from, until    RFC 3339: a history of prices has a row for each change, and each holds until the next `from`
    asOf           RFC 3339 or a date: when it was true
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from stint.api import yaml_text
from stint.api.pricebook import Row
from stint.catalogue.layer import ANY, Concern, Place, PriceKey, SpotKey
from stint.feeds.feed import USD, Fact, FeedError, Key, Reading

MOST_ROWS = 50_000
_COLUMNS = frozenset(field.encode_name for field in msgspec.structs.fields(Row))
_TIMES = ("from", "until", "asOf")


def read_csv(text: str, name: str, now: datetime) -> Reading:
    """Of columns as above, in any order.

    Raises:
        FeedError: it has no header with `value`, or columns that nobody knows.
    """
    lines = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = lines.fieldnames or ()
    if "value" not in columns:
        raise FeedError(f"no CSV with a column value; its first line is {','.join(columns)[:100]!r}")
    if unknown := sorted(c for c in columns if c not in _COLUMNS):
        raise FeedError(f"unknown columns {', '.join(unknown)}; there are {', '.join(sorted(_COLUMNS))}")
    try:
        rows = [{k: v for k, v in row.items() if v and k} for row in lines]
    except csv.Error as error:
        raise FeedError(f"no CSV: {error}") from error
    return _reading([(f"line {i}", row) for i, row in enumerate(rows, 2) if row], {}, name, now)


def read_yaml(text: str, name: str, now: datetime) -> Reading:
    """A mapping with `rows`, or a list of them.

    Raises:
        FeedError: it is neither.
    """
    try:
        return _document(yaml_text.read(text), name, now)
    except yaml_text.YamlTextError as error:
        raise FeedError(f"no YAML that can be used: {str(error)[:200]}") from error


def read_json(text: bytes, name: str, now: datetime) -> Reading:
    """The contract over HTTP: a mapping with `rows`.

    Raises:
        FeedError: it is none.
    """
    try:
        return _document(json.loads(text), name, now)  # which reads NaN, so that it can be told as such
    except (ValueError, RecursionError) as error:
        raise FeedError(f"no JSON: {error}") from error


def _document(data: Any, name: str, now: datetime) -> Reading:
    rows = data.get("rows") if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise FeedError("it has no list of rows")
    common = {k: v for k, v in data.items() if k in ("currency", "asOf", "signal")} if isinstance(data, dict) else {}
    return _reading([(f"rows[{i}]", row) for i, row in enumerate(rows)], common, name, now)


def _reading(rows: list[tuple[str, Any]], common: Mapping[str, Any], name: str, now: datetime) -> Reading:
    if len(rows) > MOST_ROWS:
        raise FeedError(f"it has {len(rows)} rows; at most {MOST_ROWS} are read")
    facts, mistakes = [], []
    for where, raw in rows:
        try:
            facts.append(to_fact(row_of(raw, common)))
        except (ValueError, TypeError) as error:  # msgspec's errors are ValueErrors
            mistakes.append(f"{where}: {error}")
    return Reading(source=name, read_at=now, facts=tuple(facts), mistakes=tuple(mistakes))


def row_of(raw: Any, common: Mapping[str, Any] | None = None) -> Row:
    """One row, its words as they come from CSV, YAML or JSON.

    Raises:
        ValueError: naming the field.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{str(raw)[:50]!r} is no row")
    row = {**(common or {}), **{k: v for k, v in raw.items() if v is not None}}
    if unknown := sorted(str(k) for k in row if k not in _COLUMNS):
        raise ValueError(f"unknown field {', '.join(unknown)}")
    row["value"] = _number(row.get("value"))
    for field in _TIMES:
        if field in row:
            row[field] = _instant(field, row[field])
    return msgspec.convert(row, Row)


def _number(told: Any) -> float:
    """Also what is no number: it is quarantined by name instead of being passed over."""
    if isinstance(told, bool) or not isinstance(told, (int, float, str)):
        raise ValueError(f"value: {told!r} is no number")
    try:
        return float(told)
    except ValueError:
        raise ValueError(f"value: {str(told)[:50]!r} is no number") from None


def _instant(field: str, told: Any) -> datetime:
    """UTC where it does not say."""
    try:
        moment = datetime.fromisoformat(str(told))
    except ValueError:
        raise ValueError(f"{field}: {str(told)[:50]!r} is no time; write it as 2026-11-01T12:00:00Z") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def to_fact(row: Row) -> Fact:
    """What a row says.

    Raises:
        ValueError: naming what it lacks.
    """
    return Fact(
        concern=row.what,
        key=_key(row),
        value=row.value,
        currency=row.currency,
        as_of=row.as_of,
        since=row.since,
        until=row.until,
    )


def _key(row: Row) -> Key:
    region = row.region or ANY
    if row.what is Concern.TARIFF:
        return region
    if not row.provider:
        raise ValueError("provider: is missing")
    if row.what is Concern.CARBON:
        return (row.signal, Place(row.provider, region))
    if row.what is Concern.PUE:
        return Place(row.provider, region)
    if row.what is Concern.INTERRUPTIONS:
        return SpotKey(row.provider, region, row.instance_type or ANY, row.zone)
    if not row.instance_type:
        raise ValueError("instanceType: is missing")
    return PriceKey(row.provider, region, row.instance_type, row.capacity_type, row.zone)


def to_row(fact: Fact) -> Row:
    """The other way round."""
    key = fact.key
    row = Row(
        what=fact.concern,
        value=fact.value,
        currency="" if fact.currency == USD else fact.currency,
        since=fact.since,
        until=fact.until,
        as_of=fact.as_of,
    )
    if isinstance(key, str):
        row.region = key
    elif isinstance(key, PriceKey):
        row.provider, row.region, row.instance_type, row.capacity_type, row.zone = key
    elif isinstance(key, SpotKey):
        row.provider, row.region, row.instance_type, row.zone = key
    elif isinstance(key, Place):
        row.provider, row.region = key
    else:
        row.signal, (row.provider, row.region) = key
    return row


def together(readings: Iterable[Reading], name: str, now: datetime, **more: Any) -> Reading:
    """Several files as one reading."""
    each = list(readings)
    return Reading(
        source=name,
        read_at=now,
        facts=tuple(f for r in each for f in r.facts),
        mistakes=tuple(m for r in each for m in r.mistakes),
        **more,
    )
