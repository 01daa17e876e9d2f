"""Writes DailySpends: a namespace's rows by day, and what all nodes cost, whoever had them.

Rows are set, not added to, and each says until when it is booked; so a write that is repeated, lost or overtaken by
another process does no harm. They are written now and then: a TrainingJob's status has the same lines until they are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from stint.api.ledger import DailySpend, DaySpec, Line, NodeRow, PriceStep, Row
from stint.controllers.bookkeeper import EPOCH, Account, Bookkeeper
from stint.kube.client.api import Api, ApiError
from stint.kube.observe.snapshot import Observation
from stint.ledger.book import day_of, midnight
from stint.ledger.days import NodePlace, book_nodes, fold, merge, rows_of
from stint.model.offering import OfferingId

log = logging.getLogger(__name__)

API = "stint.dev/v1alpha1"
EVERY_S = 60.0  # an object of this many rows, or fewer, is written at the most so often; a larger one less often
EVERY_ROWS = 1000
PAGE = 50  # of them in an answer to a list: they may be large
HURRY = 6.0  # so many times as often where a job has ended
KEEP_DAYS = 62
LAST_DAYS = timedelta(days=1)  # so long a past day stays in statuses
MOST_STEPS = 5000  # of prices in one day; the last ones, after a start the others are not known
_RETRIES = 3
_REFUSALS = frozenset({400, 403, 404, 413, 422})

Key = tuple[str, str]  # namespace and day


@dataclass(slots=True)
class _Object:
    """One DailySpend as we know it."""

    name: str
    spec: DaySpec
    version: str = ""  # empty: not there yet
    written: float = float("-inf")  # monotonic seconds


@dataclass(kw_only=True)
class DailySpends:
    """All that has to be written of them. Only a leader writes."""

    api: Api
    namespace: str  # the operator's own, for what belongs to nobody
    books: Bookkeeper
    keep_days: int = KEEP_DAYS
    every_s: float = EVERY_S
    clock: Callable[[], float] = time.monotonic
    _refused: dict[str, str] = field(default_factory=dict)  # namespaces that take none, and why
    _known: dict[Key, list[_Object]] = field(default_factory=dict)
    _nodes: dict[NodePlace, NodeRow] = field(default_factory=dict)
    _through: datetime | None = None  # until then nodes are booked
    _begun: bool = False
    _swept: str = ""  # the day on which old ones were deleted last
    # (uid, day): until then it is written, and what
    _flushed: dict[tuple[str, str], tuple[datetime, list[Line]]] = field(default_factory=dict)

    @property
    def absent(self) -> str:
        """Why a namespace has none; empty: all have."""
        return next(iter(self._refused.values()), "")

    async def begin(self, observation: Observation) -> None:
        """Read what was written before: prices as they were known, and until when jobs and nodes are booked."""
        if self._begun:
            return
        self._known.clear()
        self._nodes, self._through = {}, None
        now = observation.situation.now
        like = self.books.rates(observation.inventory)
        for age in range(max(2, self.keep_days)):
            day = day_of(now - timedelta(days=age))
            for known in await self._load((self.namespace, day)):
                for step in known.spec.prices:
                    offering = OfferingId(step.offering)
                    if offering in like:
                        self.books.timeline.recall(
                            offering, step.since, step.usd_per_node_hour, step.source, like[offering]
                        )
                for row in known.spec.nodes:
                    self._nodes[day, row.pool, row.gpu_model, row.capacity_type] = row
                if known.spec.through is not None:
                    self._through = max(self._through or EPOCH, known.spec.through)
            if age > 0 and (self._through is not None or self.namespace in self._refused):
                break  # nobody may have been there for days: nodes cost all the same
        self.books.kept = await self._kept(observation)
        self._begun = True

    async def _kept(self, observation: Observation) -> dict[str, list[Row]]:
        """What the last days say of the jobs that go on: their statuses are written less often."""
        now = observation.situation.now
        rows: dict[str, list[Row]] = {}
        days: dict[str, set[str]] = {}
        for seen in observation.seen.values():
            told = seen.resource.status.spent_through
            if told is not None and not seen.resource.status.ledger.closed:
                # Also where nothing is left of it: its place may have been taken away while nobody was there.
                several = (told, told + timedelta(days=1), now - timedelta(days=1), now)
                days.setdefault(seen.resource.metadata.namespace, set()).update(map(day_of, several))
        for namespace in sorted(days):
            for day in sorted(days[namespace]):
                for known in await self._load((namespace, day)):
                    for row in known.spec.rows:
                        rows.setdefault(row.uid, []).append(row)
        return rows

    def stop(self) -> None:
        """Somebody else writes from now on."""
        self._begun = False

    def book_nodes(self, known_until: datetime) -> None:
        """Nodes cost from when they come until they are gone, whoever has them."""
        start = self._through if self._through is not None else known_until
        if known_until <= start and self._through is not None:
            return
        spans = [s for s in self.books.nodetimes.spans() if self.books.timeline.know(s.offering)]
        self._nodes = book_nodes(self._nodes, spans, self.books.timeline, start=start, until=known_until)
        self._through = max(start, known_until)
        self.books.nodetimes.settle(self._through)

    async def write(self, now: datetime) -> None:
        """Everything that is due. What cannot be written now is tried again with the next cycle."""
        today = day_of(now)
        for key, rows in self._rows(today).items():
            await self._write_rows(key, rows)
        for day in sorted({place[0] for place in self._nodes}):
            await self._write_nodes(day, today)
        self._tidy(now)
        if self._swept != today:
            await self._sweep(now.date())
            self._swept = today

    def _rows(self, today: str) -> dict[Key, list[tuple[Account, Row]]]:
        """What is due: sooner where a job has ended, or a day has; at once where no status has it any more."""
        found: dict[Key, list[tuple[Account, Row]]] = {}
        for uid, account in self.books.accounts.items():
            days = {line.day for line in account.ledger.lines if not self._written(account, line.day, today)}
            due = {d for d in days if account.settled or self._due(account, d, today)}
            if not due:
                continue
            by_day = rows_of(account.ledger, job=account.name, uid=uid, team=account.team, through=account.through)
            for day in due:
                found.setdefault((account.namespace, day), []).extend((account, row) for row in by_day[day])
        return found

    def _due(self, account: Account, day: str, today: str) -> bool:
        objects = self._known.get((account.namespace, day), ())
        last = max((o.written for o in objects), default=float("-inf"))
        patience = self.every_s * max(1.0, sum(len(o.spec.rows) for o in objects) / EVERY_ROWS)
        return self.clock() - last >= (patience if account.open and day == today else patience / HURRY)

    def _written(self, account: Account, day: str, today: str) -> bool:
        """Whether what is booked of a day is written: all that there is, or of a day that is past all there will be."""
        until, lines = self._flushed.get((account.uid, day), (EPOCH, []))
        if lines != _lines(account, day):
            return False  # what is credited at the end comes without time passing
        return until >= account.through or (day < today and day_of(until) > day)

    async def _write_rows(self, key: Key, rows: Sequence[tuple[Account, Row]]) -> None:
        def grown(specs: Sequence[DaySpec]) -> Sequence[DaySpec]:
            return merge(specs, (row for _, row in rows), key[1])

        if await self._store(key, grown):
            for account, _ in rows:
                self._flushed[account.uid, key[1]] = account.through, _lines(account, key[1])

    async def _write_nodes(self, day: str, today: str) -> None:
        key = (self.namespace, day)
        objects = await self._load(key)
        last = objects[0].written if objects else float("-inf")
        waits = day == today and not self.books.new_prices and self.clock() - last < self.every_s
        if self._through is None or waits:
            return
        if day == today:
            self.books.new_prices = False
        nodes = [row for place, row in sorted(self._nodes.items()) if place[0] == day]
        begins = midnight(day)
        steps = [
            PriceStep(
                offering=offering, since=max(since, begins), usd_per_node_hour=rates.usd_per_hour, source=rates.source
            )
            for offering, since, rates in self.books.timeline.steps(begins)
            if day_of(since) <= day
        ]
        through = self._through if day == today else min(self._through, begins + timedelta(days=1))

        def with_nodes(specs: Sequence[DaySpec]) -> Sequence[DaySpec]:
            first, *rest = specs or (DaySpec(day=day),)
            if first.through is not None and first.through > through:
                return specs  # somebody else knows more
            # What is no more is not known after a start; bills name it all the same.
            lost = [step for step in first.prices if not self.books.timeline.know(OfferingId(step.offering))]
            prices = sorted([*lost, *steps], key=lambda step: step.since)[-MOST_STEPS:]
            return msgspec.structs.replace(first, nodes=nodes, prices=prices, through=through), *rest

        if not await self._store(key, with_nodes) and day == today:
            self.books.new_prices = True

    def _tidy(self, now: datetime) -> None:
        """Sum up days in statuses that are past and written; drop accounts that have ended and are written."""
        yesterday = day_of(now - LAST_DAYS)
        for uid, account in list(self.books.accounts.items()):
            days = {line.day for line in account.ledger.lines}
            written = {d for d in days if self._written(account, d, day_of(now))}
            refused = account.namespace in self._refused
            if account.settled and not account.open and (written == days or refused):
                self.books.drop([uid])
                continue
            safe = {d for d in days if d < yesterday and (d in written or refused)}
            if safe:
                self.books.accounts[uid] = replace(account, ledger=fold(account.ledger, safe))
        going = {self.namespace, *(a.namespace for a in self.books.accounts.values())}
        self._refused = {n: why for n, why in self._refused.items() if n in going}
        self._flushed = {k: t for k, t in self._flushed.items() if k[0] in self.books.accounts and k[1] >= yesterday}
        if self._through is not None and day_of(self._through) > yesterday:
            self._nodes = {p: row for p, row in self._nodes.items() if p[0] >= yesterday}
        self._known = {k: o for k, o in self._known.items() if k[1] >= yesterday}
        self.books.timeline.forget(now - 2 * LAST_DAYS)

    async def _load(self, key: Key, *, anew: bool = False) -> list[_Object]:
        """The objects of a namespace's day, in order."""
        if key in self._known and not anew:
            return self._known[key]
        objects: list[_Object] = []
        while True:
            name = _name(key[1], len(objects))
            try:
                body = await self.api.find(f"{_path(key[0])}/{name}")
            except ApiError as error:
                if error.status != 403:
                    raise
                self._cannot(key, error)
                return []
            if body is None:
                break
            objects.append(_Object(name, _spec(body, key[1]), body["metadata"]["resourceVersion"]))
        self._known[key] = objects
        return objects

    async def _store(self, key: Key, change: Callable[[Sequence[DaySpec]], Sequence[DaySpec]]) -> bool:
        """Change a namespace's day; where somebody else was faster, read his and change that. False: it cannot be."""
        for attempt in range(_RETRIES):
            objects = await self._load(key, anew=attempt > 0)
            specs = change([o.spec for o in objects])
            try:
                for i, spec in enumerate(specs):
                    if i >= len(objects) or spec != objects[i].spec:
                        await self._put(key, objects, i, spec)
            except ApiError as error:
                if error.status == 409 or (error.status == 404 and attempt == 0):
                    continue  # 404: somebody has deleted it, or its namespace
                if error.status in _REFUSALS:
                    return self._cannot(key, error)
                if error.status == 500:  # also a webhook that does not answer, which is no reason to let others wait
                    log.warning("DailySpends of namespace %s: %s", key[0], error)
                    return False
                raise
            self._refused.pop(key[0], None)
            return True
        return False

    async def _put(self, key: Key, objects: list[_Object], i: int, spec: DaySpec) -> None:
        if i >= len(objects):
            objects.append(_Object(_name(key[1], i), DaySpec(day=key[1])))
        known = objects[i]
        body: dict[str, Any] = {
            "apiVersion": API,
            "kind": "DailySpend",
            "metadata": {"name": known.name, "namespace": key[0]},
            "spec": msgspec.to_builtins(spec),
        }
        if known.version:
            body["metadata"]["resourceVersion"] = known.version
            answer = await self.api.replace(f"{_path(key[0])}/{known.name}", body)
        else:
            answer = await self.api.create(_path(key[0]), body)
        known.spec, known.version, known.written = spec, answer["metadata"]["resourceVersion"], self.clock()

    def _cannot(self, key: Key, error: ApiError) -> bool:
        """The kind is not installed, we have no right to it, a webhook minds, or the namespace is on its way out."""
        self._known.pop(key, None)
        text = f"DailySpends of namespace {key[0]} cannot be written: {error}; totals of deleted jobs are lost"
        if key[0] not in self._refused:
            log.warning("%s", text)
        self._refused[key[0]] = text
        return False

    async def _sweep(self, today: date) -> None:
        """Delete what is too old: long history is somebody else's business."""
        oldest = (today - timedelta(days=self.keep_days)).isoformat()
        old: list[DailySpend] = []
        try:
            async for page in self.api.pages(f"/apis/{API}/dailyspends", limit=PAGE):
                old += [d for d in _readable(page.items) if d.spec.day < oldest]
        except ApiError as error:
            if error.status not in (403, 404):
                raise
        for item in old:
            await self.api.delete(f"{_path(item.metadata.namespace)}/{item.metadata.name}", uid=item.metadata.uid)


def _spec(body: Any, day: str) -> DaySpec:
    """What one says. Who has edited it so that it cannot be read has it written anew."""
    try:
        return msgspec.convert(body, DailySpend).spec
    except msgspec.ValidationError as error:
        log.warning(
            "DailySpend %s/%s cannot be read: %s", body["metadata"]["namespace"], body["metadata"]["name"], error
        )
        return DaySpec(day=day)


def _lines(account: Account, day: str) -> list[Line]:
    return [line for line in account.ledger.lines if line.day == day]


def _readable(items: Sequence[msgspec.Raw]) -> Iterator[DailySpend]:
    for item in items:
        try:
            yield msgspec.json.decode(item, type=DailySpend)
        except msgspec.ValidationError as error:
            log.warning("a DailySpend cannot be read: %s", error)


def _path(namespace: str) -> str:
    return f"/apis/{API}/namespaces/{namespace}/dailyspends"


def _name(day: str, number: int) -> str:
    return day if number == 0 else f"{day}-{number + 1}"
