"""PriceBooks are read once a cycle, and each is told whether it counts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.api.parse import pricebook
from stint.api.pricebook import PriceBook, Status
from stint.controllers.feeds import Feeds
from stint.controllers.pool_writer import PoolWriter
from stint.kube.client.api import Api
from stint.kube.client.events import Recorder
from stint.model.plan import Plan
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_record
from tests.unit.kube.test_observe import look


def a_book(name: str, **spec: Any) -> PriceBook:
    return msgspec.convert({"metadata": {"name": name, "uid": name}, "spec": spec}, PriceBook)


class NotingApi(Api):
    def __init__(self) -> None:
        self.statuses: dict[str, dict[str, Any]] = {}

    async def apply_status(self, path: str, body: Any) -> Any:
        self.statuses[path.rpartition("/")[2]] = body["status"]
        return body


class NoFeeds(Feeds):
    def __init__(self) -> None:
        pass

    def statuses(self, *_: Any) -> Any:
        return []


async def told(seen_books: list[PriceBook], there: list[PriceBook]) -> dict[str, tuple[str, str]]:
    """Of each book, whether it counts, and why not."""
    api = NotingApi()
    seen = look(nodes=[a_record()], books=seen_books)
    taken: list[dict[str, Any]] = []
    writer = PoolWriter(api, Recorder.__new__(Recorder), list, lambda: there, {"pricebooks": taken.append}, NoFeeds())
    await writer.tell(seen, Plan(decided_at=NOW))
    found = {}
    for name, body in api.statuses.items():
        (valid,) = [c for c in msgspec.convert(body, Status).conditions if c.type == "Valid"]
        found[name] = (valid.status, valid.message)
    return found


GOOD = a_book("good", prices=[{"provider": "aws", "instanceType": "p5.48xlarge", "usdPerNodeHour": 31.5}])
UNDATED = a_book("undated", asOf="2026-13-01")
MARGINAL = a_book("marginal", carbon={"signal": "marginal", "intensities": [{"at": "aws/x", "gPerKwh": 100}]})
LAST = a_book("last", precedence=9, carbon={"signal": "average-operational"})


async def test_each_is_told_whether_it_counts():
    books = [GOOD, UNDATED, MARGINAL, LAST]
    found = await told(books, books)
    assert {name: status for name, (status, _) in found.items()} == {
        "good": "True",
        "undated": "False",
        "marginal": "False",
        "last": "True",
    }
    assert "write it as 2026-11-01" in found["undated"][1]
    assert "decisions use average-operational" in found["marginal"][1]


async def test_one_that_has_come_since_is_told_of_after_the_next_cycle():
    assert set(await told([GOOD], [GOOD, UNDATED])) == {"good"}


async def test_each_is_read_once_a_cycle(monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    original = pricebook.to_overrides

    def noting(book: PriceBook) -> object:
        read.append(book.metadata.name)
        return original(book)

    monkeypatch.setattr(pricebook, "to_overrides", noting)
    books = [GOOD, UNDATED, MARGINAL, LAST]
    await told(books, books)
    assert sorted(read) == sorted(b.metadata.name for b in books)
