"""TrainingJobs, GPUPools and PriceBooks: kopf's events fill the stores, lists mend what the events have missed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec

from stint.api.gpupool import GPUPool
from stint.api.meta import Meta, condition
from stint.api.pricebook import PriceBook
from stint.api.trainingjob import TrainingJob
from stint.controllers.kopf_watch import KopfWatch
from stint.controllers.room import Room
from stint.controllers.store import Store
from stint.kube.client.api import Api, ApiError
from stint.kube.client.events import About, Recorder
from stint.model.job import Phase
from stint.model.limits import NamespaceLimits

log = logging.getLogger(__name__)

_MOST_TEXT = 4000  # of a condition

GROUP, VERSION = "stint.dev", "v1alpha1"
RELIST_EVERY_S = 60.0
AFTER_A_GAP_S = 0.3
UNWATCHED_S = 2.0  # between lists while kopf does not watch


class OwnResources:
    """The stores, and what keeps them true."""

    def __init__(
        self, api: Api, *, identity: str, on_change: Callable[[], None], limits: NamespaceLimits | None = None
    ) -> None:
        """`on_change` is called when something that people write has changed; `limits` are for TrainingJobs."""
        self.trainingjobs: Store[TrainingJob] = Store(TrainingJob, Room(limits or NamespaceLimits()))
        self.gpu_pools: Store[GPUPool] = Store(GPUPool)
        self.price_books: Store[PriceBook] = Store(PriceBook)
        self.stores: Mapping[str, Store[Any]] = {
            "trainingjobs": self.trainingjobs,
            "gpupools": self.gpu_pools,
            "pricebooks": self.price_books,
        }
        self.listed = False
        self._told_unread: dict[str, str] = {}  # by uid
        self._api = api
        self._on_change = on_change
        self._relist_now = asyncio.Event()
        self.kopf = KopfWatch(
            api.connection,
            group=GROUP,
            version=VERSION,
            plurals=tuple(self.stores),
            identity=identity,
            on_event=self._on_event,
            on_gap=self.relist,
        )

    def relist(self) -> None:
        """A watch has had a gap: list soon."""
        self._relist_now.set()

    async def keep_listed(self) -> None:
        """List after gaps, and now and then: kopf does not tell what vanished unwatched. Until cancelled."""
        while True:
            self._relist_now.clear()
            pause = RELIST_EVERY_S if self.kopf.working else UNWATCHED_S
            try:
                for plural, store in self.stores.items():
                    await self._list(plural, store)
                if not self.listed:
                    self.listed = True
                    self._on_change()
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("listing our own resources: %s", error or type(error).__name__)
                pause = UNWATCHED_S
            except Exception:
                log.exception("listing our own resources")
                pause = UNWATCHED_S
            with suppress(TimeoutError):
                await asyncio.wait_for(self._relist_now.wait(), pause)
                await asyncio.sleep(AFTER_A_GAP_S)  # several watches notice the same gap

    async def tell_unread(self, events: Recorder) -> None:
        """An object that cannot be read is told so itself: it may have been written before the CRD was as it is now."""
        for store in self.stores.values():
            for uid, (meta, why) in list(store.unread.items()):
                if self._told_unread.get(uid) == why:
                    continue
                self._told_unread[uid] = why
                about = About(f"{GROUP}/{VERSION}", store.kind.__name__, meta.namespace, meta.name, uid)
                text = f"Stint does not use it: {why}"
                if store is self.trainingjobs and uid not in store.items:  # as it was before, it counts on
                    await self._tell_in_status(meta, why)
                await events.tell(about, "CannotBeRead", text, action="Read", warning=True)
        there = {uid for store in self.stores.values() for uid in store.unread}
        self._told_unread = {uid: why for uid, why in self._told_unread.items() if uid in there}

    async def _tell_in_status(self, meta: Meta, text: str) -> None:
        """Merged into its status: what it has spent stays there, for when it can be read again."""
        fact = ("False", "CannotBeRead", text[:_MOST_TEXT])
        said = condition((), "Admitted", fact, now=datetime.now(UTC), generation=meta.generation)
        status = {
            "phase": Phase.INVALID.value,
            "reason": fact[1],
            "message": fact[2],
            "conditions": [msgspec.to_builtins(said)],
        }
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{meta.namespace}/trainingjobs/{meta.name}/status"
        try:
            await self._api.patch(path, {"metadata": {"uid": meta.uid}, "status": status})
        except ApiError as error:  # it has an event, too, and may be gone by now
            log.warning("TrainingJob %s/%s was not told in its status: %s", meta.namespace, meta.name, error)

    async def _list(self, plural: str, store: Store[Any]) -> None:
        there: set[str] = set()
        async for page in self._api.pages(f"/apis/{GROUP}/{VERSION}/{plural}"):
            uids, changed = store.put_page(page.items)
            there |= uids
            if page.last:
                changed |= store.keep_only(there, page.metadata.resource_version)
            if changed:
                self._on_change()

    def _on_event(self, kind: str | None, body: dict[str, Any], plural: str) -> None:
        if kind is None and self.listed:  # kopf lists anew, and so it had a gap
            self.relist()
        store, meta = self.stores[plural], body["metadata"]
        if store.drop(meta["uid"], meta["resourceVersion"]) if kind == "DELETED" else store.put(body):
            self._on_change()
