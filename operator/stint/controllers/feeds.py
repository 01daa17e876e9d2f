"""Reads the sources of all PriceBooks, each in its time, and keeps the catalogue that decisions use up to date.

Every replica reads, so that one that takes over knows what there is; only the leader writes statuses. After a restart
the last good figures come from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from stint.api.parse.pricebook import with_books
from stint.api.pricebook import PriceBook, Source, SourceStatus, SourceType
from stint.catalogue.catalogue import Catalogue
from stint.feeds import sources
from stint.feeds.feed import FeedError
from stint.feeds.feed_trust import FeedState, Trouble, failed, merged, take, troubles
from stint.feeds.sources import Surroundings, feed_of, name_of, restored, status_of, terms_of, wanted_by
from stint.kube.client.api import Api, ApiError
from stint.metrics.exporter import Metrics
from stint.model.market import Offering

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0  # at what is due, and at whether the hour has changed a price
GRACE_S = 5.0  # beyond its own timeout, for a feed of several requests


@dataclass(slots=True)
class _Kept:
    """One source and what is known of it."""

    source: Source
    state: FeedState
    due: float = 0.0  # monotonic seconds
    reading: asyncio.Task[None] | None = None
    tried: bool = False
    told: list[tuple[Trouble, str]] = field(default_factory=list)


class Feeds:
    """All sources of all PriceBooks."""

    def __init__(
        self,
        *,
        api: Api,
        shipped: Catalogue,
        books: Callable[[], Sequence[PriceBook]],
        namespace: str,
        tokens: Path,
        metrics: Metrics,
        now: Callable[[], datetime],
        on_change: Callable[[Catalogue], None],
    ) -> None:
        """Nothing is read before `run`.

        Args:
            on_change: gets the catalogue to go by when a price has changed.
        """
        self._api = api
        self._shipped = shipped
        self._books = books
        self._metrics = metrics
        self._now = now
        self._on_change = on_change
        self._kept: dict[str, _Kept] = {}
        self._last = now()
        self._settled = False
        self._around = Surroundings(
            get=self._get, namespace=namespace, tokens=tokens, base=lambda at: self._without_overlays(at)
        )

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    self._look()
                except Exception:
                    log.exception("looking at price sources")  # a mistake of ours; the others may be fine next time
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            readings = [kept.reading for kept in self._kept.values() if kept.reading is not None]
            for reading in readings:
                reading.cancel()
            await asyncio.gather(*readings, return_exceptions=True)

    def _look(self) -> None:
        """Begin what is due; drop what is no longer asked for; notice when the hour has changed a price."""
        wanted = {name_of(book, source): (book, source) for book, source in sources.in_order(self._books())}
        changed = False
        for name in [n for n in self._kept if n not in wanted]:
            gone = self._kept.pop(name)
            if gone.reading is not None:
                gone.reading.cancel()
            changed = True
        for name, (book, source) in wanted.items():
            kept = self._kept.get(name)
            if kept is None:
                status = next((s for s in book.status.sources if s.name == source.name), None)
                state = restored(status, name) if status else FeedState(name=name)
                kept = self._kept[name] = _Kept(source=source, state=state)
                changed |= bool(state.held)
            elif kept.source != source:  # what the old one said may have been of something else altogether
                if kept.reading is not None:
                    kept.reading.cancel()
                other = (kept.source.type, kept.source.url, kept.source.config_map) != (
                    source.type,
                    source.url,
                    source.config_map,
                )
                state = FeedState(name=name) if other else kept.state
                kept = self._kept[name] = _Kept(source=source, state=state)
                changed = True
            if time.monotonic() >= kept.due and kept.reading is None:
                kept.due = time.monotonic() + 60 * source.every_minutes
                kept.reading = asyncio.create_task(self._read(name, kept))
        now = self._now()
        changed |= now < self._last or any(kept.state.changes(self._last, now) for kept in self._kept.values())
        self._last = now
        if changed:
            self._tell()
        self._metrics.feeds({n: _gauges(k.state, now) for n, k in self._kept.items()})

    async def _read(self, name: str, kept: _Kept) -> None:
        """One source, once. What is not foreseen is no reason for the others to stop."""
        before = kept.state
        try:
            async with asyncio.timeout(kept.source.timeout_seconds + GRACE_S):
                reading = await feed_of(kept.source, name, self._around).read(self._now())
            base = with_books(self._shipped, self._books())
            kept.state = take(before, reading, terms_of(kept.source, base))
        except FeedError as error:
            kept.state = failed(before, str(error))
        except TimeoutError:
            kept.state = failed(before, f"no answer within {kept.source.timeout_seconds:g} s")
        except Exception as error:
            log.exception("source %s", name)
            kept.state = failed(before, f"it cannot be read, which is a mistake of Stint's: {error!r}"[:300])
        finally:
            kept.reading = None
        first, kept.tried = not kept.tried, True
        told = troubles(kept.state)
        if told != kept.told:
            for trouble, text in told[:5]:
                log.warning("source %s: %s: %s", name, trouble.value, text)
            if not told:
                log.info("source %s: fine again", name)
            kept.told = told
        if first or kept.state.held != before.held or told != troubles(before) or kept.state.up != before.up:
            self._tell()

    def settled(self) -> bool:
        """Whether each source that was there at the start has been asked once: no decision goes by half the prices."""
        if not self._settled:
            names = {name_of(book, source) for book, source in sources.in_order(self._books())}
            self._settled = all(n in self._kept and self._kept[n].tried for n in names)
        return self._settled

    def _tell(self) -> None:
        self._on_change(self.catalogue(self._now()))

    def _states(self, books: Iterable[PriceBook], *, without: SourceType | None = None) -> list[FeedState]:
        """In order, the one that counts most last."""
        found = []
        for book, source in sources.in_order(books):
            kept = self._kept.get(name_of(book, source))
            found += [kept.state] if kept and source.type is not without else []
        return found

    def catalogue(self, at: datetime) -> Catalogue:
        """Prices as they are, or lately were, at an instant; without what PriceBooks say themselves."""
        return merged(self._shipped, self._states(self._books()), at)

    def changes(self, after: datetime, until: datetime) -> list[datetime]:
        """The instants in (after, until] at which a figure of some source becomes another, in order."""
        return sorted({i for kept in self._kept.values() for i in kept.state.changes(after, until)})

    def _without_overlays(self, at: datetime) -> Catalogue:
        return merged(self._shipped, self._states(self._books(), without=SourceType.NODE_OVERLAYS), at)

    def statuses(self, book: PriceBook, offerings: Iterable[Offering]) -> list[SourceStatus]:
        """Of a book's sources, for its status."""
        offerings, now, found = list(offerings), self._now(), []
        for source in book.spec.sources:
            kept = self._kept.get(name_of(book, source))
            if kept is not None:
                found.append(status_of(kept.state, source, wanted_by(offerings, [kept.state]), now))
        return found

    def troubles(self, book: PriceBook) -> list[tuple[Trouble, str]]:
        """What is wrong with a book's sources, each with its name."""
        found = []
        for source in book.spec.sources:
            kept = self._kept.get(name_of(book, source))
            read = kept is not None and kept.tried
            told = troubles(kept.state) if kept and read else [(Trouble.PENDING, "not read yet")]
            found += [(trouble, f"{source.name}: {text}") for trouble, text in told]
        return found

    async def _get(self, path: str) -> Any:
        """An object of the API server's, for feeds that are kept there."""
        try:
            return await self._api.get(path)
        except ApiError as error:
            what = path.rpartition("/")[2]
            remedy = {
                403: "; grant it with the chart's feeds.configMaps or feeds.nodeOverlays",
                404: f"; there is no {what}",
            }.get(error.status, "")
            raise FeedError(f"{error}{remedy}") from error
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            raise FeedError(f"{path}: {error or type(error).__name__}") from error


def _gauges(state: FeedState, now: datetime) -> tuple[bool, float | None, int, int]:
    """Up, the age of its last good reading in seconds, figures, refused ones."""
    age = (now - state.last_good).total_seconds() if state.last_good else None
    return state.up, age, len(state.held), len(state.refused)
