"""Samples of a metric: from the text that an exporter serves, or from a Prometheus that scrapes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from stint.feeds.feed import FeedError
from stint.feeds.fetch import Where, get


@dataclass(frozen=True, slots=True)
class Sample:
    """One of them."""

    metric: str
    labels: dict[str, str]
    value: float


class _Result(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct):
    result: list[_Result] = []


class _Answer(msgspec.Struct):
    status: str
    data: _Data = msgspec.field(default_factory=_Data)
    error: str = ""


async def samples(where: Where, metrics: Sequence[str], *, prometheus: bool) -> list[Sample]:
    """All of these metrics; none where there are none.

    Raises:
        FeedError: no answer, or one that is neither.
    """
    if prometheus:
        query = f'{{__name__=~"{"|".join(metrics)}"}}'
        payload, _ = await get(where, "/api/v1/query", params={"query": query})
        try:
            answer = msgspec.json.decode(payload, type=_Answer)
            found = [Sample(r.metric.get("__name__", ""), r.metric, float(r.value[1])) for r in answer.data.result]
        except ValueError as error:  # msgspec's errors are ValueErrors
            raise FeedError(f"{where.url}: no answer of Prometheus: {error}") from error
        if answer.status != "success":
            raise FeedError(f"{where.url}: {answer.error}")
        return found
    payload, _ = await get(where)
    wanted = frozenset(metrics)
    try:
        families = list(text_string_to_metric_families(payload.decode()))
    except (ValueError, IndexError, KeyError) as error:
        raise FeedError(f"{where.url}: no metrics: {error}") from error
    return [Sample(s.name, dict(s.labels), s.value) for f in families for s in f.samples if s.name in wanted]
