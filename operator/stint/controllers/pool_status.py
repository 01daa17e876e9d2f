"""Pools: resizing them as the plan says, and telling people what they are and cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from stint.api import gpupool, pricebook
from stint.api.gpupool import GPUPool, Mode, Recommendation, Scaler, target_of
from stint.api.meta import Condition, condition
from stint.api.pricebook import PriceBook
from stint.capacity.adapter import Change, Order
from stint.capacity.registry import ADAPTERS
from stint.catalogue.layer import CarbonSignal
from stint.controllers.fan_out import together
from stint.controllers.feeds import Feeds
from stint.feeds.feed_trust import Trouble
from stint.kube.client.api import Api, ApiError
from stint.kube.client.events import About, Recorder
from stint.kube.observe.inventory import NodeIssue
from stint.kube.observe.snapshot import Observation
from stint.model.cluster import Node
from stint.model.market import Offering, PoolName
from stint.model.offering import OfferingId
from stint.model.plan import Plan, Resize

log = logging.getLogger(__name__)

_API = "stint.dev/v1alpha1"


class PoolWriter:
    """Acts on pools that may be acted on, and writes the status of GPUPools and PriceBooks."""

    def __init__(
        self,
        api: Api,
        events: Recorder,
        pools: Callable[[], Sequence[GPUPool]],
        books: Callable[[], Sequence[PriceBook]],
        absorb: Mapping[str, Callable[[dict[str, Any]], object]],
        feeds: Feeds,
        *,
        pace: float = 1.0,
    ) -> None:
        """With all that it reads and writes.

        Args:
            absorb: by plural name, takes in an object as the API server answered a write of ours.
            pace: how much faster than the wall clock the deciding clock runs.
        """
        self._feeds = feeds
        self._api = api
        self._events = events
        self._pace = pace
        self._pools = pools
        self._books = books
        self._absorb = absorb
        self._told_nodes: dict[str, str] = {}

    async def act(self, observation: Observation, plan: Plan, *, now: datetime) -> None:
        """Every resize that is more than advice."""
        pools = {PoolName(p.metadata.name): p for p in self._pools()}
        resizes: dict[PoolName, list[Resize]] = {}
        for resize in plan.resizes:
            if not resize.advise_only and resize.pool in pools:
                resizes.setdefault(resize.pool, []).append(resize)
        orders = {
            str(name): self._resize(pools[name], scaler, observation, found, now)
            for name, found in resizes.items()
            if (scaler := pools[name].spec.scaler) is not None
        }
        await together("resizing", orders)

    async def _resize(
        self, pool: GPUPool, scaler: Scaler, observation: Observation, resizes: Sequence[Resize], now: datetime
    ) -> None:
        """All changes of one pool at once. The order is noted first: a restart must not order again."""
        order = order_of(pool, scaler, observation, resizes, now=now, pace=self._pace)
        status = msgspec.structs.replace(pool.status, wanted_nodes=order.to_nodes, ordered_at=now)
        await self._apply("GPUPool", "gpupools", pool.metadata.name, status)
        outcome = await ADAPTERS[scaler.adapter].carry_out(order, self._api)
        for resize in resizes:
            if outcome.refused:
                text = f"{resize.message}, but: {outcome.refused}"
                await self._event(pool, "ResizeRefused", text, warning=True)
                continue
            note = f"; {outcome.note}" if outcome.note else ""
            reason = "GivenBack" if resize.give_back else "Ordered"
            await self._event(pool, reason, f"{resize.message} ({resize.usd_per_hour:+.2f} USD/h){note}")
            log.info("pool %s: %s%s", pool.metadata.name, resize.message, note)

    async def tell(self, observation: Observation, plan: Plan) -> None:
        """Statuses that have changed."""
        there = observation.inventory.pools  # one that has come since is seen by the next cycle
        pools = {p.metadata.name: p for p in self._pools() if PoolName(p.metadata.name) in there}
        await together("telling pools", {name: self._tell_pool(p, observation, plan) for name, p in pools.items()})
        alone = [p for p in observation.inventory.problems if p.node is not None and not p.pools]
        await together("telling nodes", {p.about: self._tell_node(p) for p in alone})
        # A book that has come since the observation is told of after the next one.
        books = {b.metadata.name: b for b in self._books() if observation.books.named(b.metadata.name)}
        await together("telling books", {name: self._tell_book(b, observation) for name, b in books.items()})

    async def _tell_pool(self, pool: GPUPool, observation: Observation, plan: Plan) -> None:
        new = _pool_status(pool, observation, plan)
        if new == pool.status:
            return
        await self._apply("GPUPool", "gpupools", pool.metadata.name, new)
        if new.recommendation and new.recommendation != pool.status.recommendation:
            await self._event(pool, "Recommended", new.recommendation.message)

    async def _tell_node(self, problem: NodeIssue) -> None:
        """Of a node that no pool speaks for, once; the next operator tells it again."""
        node = problem.node
        if node is None or self._told_nodes.get(node.uid) == problem.message:
            return
        self._told_nodes[node.uid] = problem.message
        about = About("v1", "Node", "", node.name, node.uid)
        await self._events.tell(about, problem.reason, problem.message, action="Price", warning=True)
        log.warning("%s: %s", problem.about, problem.message)

    async def _tell_book(self, book: PriceBook, observation: Observation) -> None:
        new = _book_status(book, observation, self._feeds)
        if new != book.status:
            await self._apply("PriceBook", "pricebooks", book.metadata.name, new)

    async def _apply(self, kind: str, plural: str, name: str, status: msgspec.Struct) -> None:
        body = {
            "apiVersion": _API,
            "kind": kind,
            "metadata": {"name": name},
            "status": msgspec.to_builtins(status),
        }
        try:
            self._absorb[plural](await self._api.apply_status(f"/apis/{_API}/{plural}/{name}", body))
        except ApiError as error:
            if error.status != 404:
                raise

    async def _event(self, pool: GPUPool, reason: str, text: str, *, warning: bool = False) -> None:
        about = About(_API, "GPUPool", "", pool.metadata.name, pool.metadata.uid)
        await self._events.tell(about, reason, text, action="Resize", warning=warning)


def order_of(
    pool: GPUPool,
    scaler: Scaler,
    observation: Observation,
    resizes: Sequence[Resize],
    *,
    now: datetime,
    pace: float = 1.0,
) -> Order:
    """What the pool's adapter is told: all changes, and all nodes of the pool whatever their offering."""
    members = observation.members.get(PoolName(pool.metadata.name), ())
    there = {m.name for m in members}
    return Order(
        pool=PoolName(pool.metadata.name),
        changes=tuple(
            Change(
                offering=observation.inventory.offerings[r.offering],
                from_nodes=r.from_nodes,
                to_nodes=r.to_nodes,
                going=r.give_back,
            )
            for r in resizes
        ),
        members=members,
        now=now,
        target=target_of(scaler),
        cold_start_seconds=pool.spec.cold_start_seconds,
        coming=sum(n.ready_at is not None and n.name not in there for n in _members(pool, observation)),
        asked=pool.status.wanted_nodes,
        pace=pace,
    )


def _members(pool: GPUPool, observation: Observation) -> list[Node]:
    offerings = observation.inventory.offerings
    return [n for n in observation.situation.nodes if offerings[n.offering].pool == pool.metadata.name]


def _pool_status(pool: GPUPool, observation: Observation, plan: Plan) -> gpupool.Status:
    inventory, spec = observation.inventory, pool.spec
    name = PoolName(pool.metadata.name)
    offerings = [inventory.offerings[o] for o in inventory.pools[name].offerings]
    nodes = _members(pool, observation)

    def whole(offering: OfferingId, count: int) -> float:
        return inventory.offerings[offering].whole_gpus(count)

    advice = [r for r in plan.resizes if r.pool == name and r.advise_only]
    priced = [o for o in offerings if o.usd_per_node_hour is not None and o.per_node.gpus]
    prices = sorted({_per_gpu(o) for o in priced})
    sources = sorted({o.usd_per_node_hour.source for o in priced if o.usd_per_node_hour})
    dates = sorted({str(o.usd_per_node_hour.as_of or "unknown") for o in priced if o.usd_per_node_hour})
    most = f"/{spec.limits.max_nodes}" if spec.limits else ""
    scaler = f"{spec.scaler.adapter}/{spec.scaler.mode.value}" if spec.scaler else "none"
    return msgspec.structs.replace(
        pool.status,
        observed_generation=pool.metadata.generation,
        gpu_model=",".join(sorted({o.gpu_model for o in offerings})),
        nodes=len(nodes),
        nodes_text=f"{len(nodes)}{most}",
        gpus=round(sum(whole(n.offering, n.allocatable.gpus) for n in nodes)),
        free_gpus=int(sum(whole(n.offering, max(0, n.allocatable.gpus - n.used.gpus)) for n in nodes if n.usable)),
        usd_per_gpu_hour="-".join(f"{p:.2f}" for p in sorted({prices[0], prices[-1]})) if prices else "unknown",
        price_source=",".join(sources)[:120],
        price_date=dates[0] if dates else "",
        scaler=scaler,
        recommendation=_recommendation(advice) if spec.scaler and spec.scaler.mode is Mode.ADVISE else None,
        conditions=_pool_conditions(pool, offerings, observation),
    )


def _recommendation(advice: Sequence[Resize]) -> Recommendation | None:
    if not advice:
        return None
    return Recommendation(
        nodes=sum(r.to_nodes for r in advice),
        usd_per_hour=f"{sum(r.usd_per_hour for r in advice):+.2f}",
        message="; ".join(r.message for r in advice)[:1024],
    )


def _per_gpu(offering: Offering) -> float:
    assert offering.usd_per_node_hour is not None
    return round(offering.usd_per_node_hour.value / offering.whole_gpus(offering.per_node.gpus), 2)


def _pool_conditions(pool: GPUPool, offerings: Sequence[Offering], observation: Observation) -> list[Condition]:
    unpriced = [o.id for o in offerings if o.usd_per_node_hour is None]
    stale = [o.id for o in offerings if o.stale]
    mine = [p for p in observation.inventory.problems if pool.metadata.name in p.pools]
    priced = ("True", "Priced", "")
    if unpriced:
        priced = ("False", "NoPrice", f"no price for {', '.join(unpriced)}; add it to a PriceBook under spec.prices")
    elif stale:
        priced = ("True", "StalePrice", f"older than the price book allows: {', '.join(stale)}; confirm in a PriceBook")
    elif not offerings:
        priced = ("Unknown", "NoOffering", "it has neither nodes nor spec.offerings, so there is nothing to price")
    valid = (
        ("False", mine[0].reason, "; ".join(f"{p.about}: {p.message}" for p in mine)) if mine else ("True", "Valid", "")
    )
    return [
        condition(
            pool.status.conditions, kind, fact, now=observation.situation.now, generation=pool.metadata.generation
        )
        for kind, fact in (("Priced", priced), ("Valid", valid))
    ]


def _book_status(book: PriceBook, observation: Observation, feeds: Feeds) -> pricebook.Status:
    spec, offerings = book.spec, observation.situation.offerings
    valid = ("True", "Valid", "")
    read, signal = observation.books.named(book.metadata.name), observation.books.carbon_signal
    signal = signal or CarbonSignal.AVERAGE_LIFECYCLE
    if read is not None and read.wrong is not None:
        valid = ("False", "Invalid", f"none of it is used: {read.wrong}")
    elif read is not None and read.overrides and read.overrides.carbon and read.overrides.carbon_signal is not signal:
        text = f"none of it is used: its carbon is {read.overrides.carbon_signal}, but decisions use {signal}"
        valid = ("False", "Invalid", f"{text}; set spec.carbon.signal of the book of the highest precedence")
    entries = len(spec.prices) + len(spec.egress) + len(spec.storage) + len(spec.interruptions) + len(spec.licences)
    if spec.energy:
        entries += len(spec.energy.tariffs) + len(spec.energy.pue)
    if spec.carbon:
        entries += len(spec.carbon.intensities)
    now, generation = observation.situation.now, book.metadata.generation
    facts = {"Valid": valid} | ({"SourcesGood": _sources(feeds.troubles(book))} if spec.sources else {})
    return msgspec.structs.replace(
        book.status,
        observed_generation=generation,
        entries=entries + (spec.labour is not None),
        offerings=len(offerings),
        stale=sum(1 for o in offerings if o.stale),
        unpriced=sum(1 for o in offerings if o.usd_per_node_hour is None),
        updated=spec.as_of,
        sources=feeds.statuses(book, offerings),
        conditions=[
            condition(book.status.conditions, kind, fact, now=now, generation=generation)
            for kind, fact in facts.items()
        ],
    )


def _sources(troubles: Sequence[tuple[Trouble, str]]) -> tuple[str, str, str]:
    """The condition of a book's sources: the first trouble gives its reason, all are told."""
    if not troubles:
        return ("True", "Good", "")
    status = "Unknown" if all(trouble is Trouble.PENDING for trouble, _ in troubles) else "False"
    return (status, troubles[0][0].value, "; ".join(text for _, text in troubles))
