"""Pools: resizing them as the plan says, and writing the statuses of GPUPools and PriceBooks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from stint.api.gpupool import (
    MOST_ORDER_JOBS,
    MOST_ORDERS,
    GPUPool,
    LateOrder,
    NodeOrder,
    Payer,
    RefusedNode,
    Scaler,
    target_of,
)
from stint.api.pricebook import PriceBook
from stint.capacity.adapter import Change, Order
from stint.capacity.registry import ADAPTERS
from stint.controllers.fan_out import together
from stint.controllers.feeds import Feeds
from stint.kube.client.api import Api, ApiError
from stint.kube.client.events import About, Recorder
from stint.kube.observe.inventory import NodeIssue
from stint.kube.observe.snapshot import Observation
from stint.lifecycle.retries import next_order
from stint.model.job import JobId
from stint.model.market import PoolName
from stint.model.plan import Plan, Resize
from stint.placement.columns import share_of_node
from stint.views.pool_status import book_status, late_told, members_of, pool_status, refusals_told

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
        self._told_nodes: dict[tuple[str, str], str] = {}

    async def act(self, observation: Observation, plan: Plan, *, now: datetime) -> None:
        """Every resize that is more than advice."""
        pools = {PoolName(p.metadata.name): p for p in self._pools()}
        resizes: dict[PoolName, list[Resize]] = {}
        for resize in plan.resizes:
            if not resize.advise_only and resize.pool in pools:
                resizes.setdefault(resize.pool, []).append(resize)
        orders: dict[str, Awaitable[object]] = {}
        for name, found in resizes.items():
            scaler = pools[name].spec.scaler
            if scaler is not None and (kept := _carried_out(scaler, found, observation, plan)):
                orders[str(name)] = self._resize(pools[name], scaler, observation, kept, now)
        await together("resizing", orders)

    async def _resize(
        self, pool: GPUPool, scaler: Scaler, observation: Observation, resizes: Sequence[Resize], now: datetime
    ) -> None:
        """All changes of one pool at once. The order is noted first: a restart must not order again."""
        order = order_of(pool, scaler, observation, resizes, now=now, pace=self._pace)
        made = [_noted(r, observation, now) for r in resizes if r.to_nodes > r.from_nodes]
        orders = [*pool.status.orders, *made][-MOST_ORDERS:]
        status = msgspec.structs.replace(pool.status, wanted_nodes=order.to_nodes, ordered_at=now, orders=orders)
        await self._apply("GPUPool", "gpupools", pool.metadata.name, status)
        outcome = await ADAPTERS[scaler.adapter].carry_out(order, self._api)
        if outcome.again:
            await self._apply("GPUPool", "gpupools", pool.metadata.name, pool.status)  # nothing is on order
        elif outcome.refused and made:
            late = {o.offering: o for o in pool.status.late}
            late |= {m.offering: _refused(m, late.get(m.offering), outcome.refused, now, self._pace) for m in made}
            status = msgspec.structs.replace(pool.status, late=list(late.values())[-16:])
            await self._apply("GPUPool", "gpupools", pool.metadata.name, status)
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
        alone += observation.suspects
        await together("telling nodes", {f"{p.about} {p.reason}": self._tell_node(p) for p in alone})
        # A book that has come since the observation is told of after the next one.
        books = {b.metadata.name: b for b in self._books() if observation.books.named(b.metadata.name)}
        await together("telling books", {name: self._tell_book(b, observation) for name, b in books.items()})

    async def _tell_pool(self, pool: GPUPool, observation: Observation, plan: Plan) -> None:
        new = pool_status(pool, observation, plan)
        if new == pool.status:
            return
        await self._apply("GPUPool", "gpupools", pool.metadata.name, new)
        for late in late_told(pool, new):
            text = f"{late.message}; none is ordered again before {late.until:%H:%M:%S} UTC"
            await self._event(pool, "NodesDidNotCome", text, warning=True)
        for refused in refusals_told(pool, new):
            await self._tell_refusal(pool, refused, observation)
        stopped = {c.type: c for c in new.conditions}.get("ScaleUp")
        before = {c.type: c.status for c in pool.status.conditions}.get("ScaleUp")
        if stopped is not None and stopped.status == "False" and before != "False":
            await self._event(pool, "ScaleUpStopped", stopped.message, warning=True)
        if new.recommendation and new.recommendation != pool.status.recommendation:
            await self._event(pool, "Recommended", new.recommendation.message)

    async def _tell_refusal(self, pool: GPUPool, refused: RefusedNode, observation: Observation) -> None:
        """Of a bought node that did not help, at the pool and at the job that it was bought for."""
        text = (
            f"a node of {refused.offering} was bought for job {refused.job} and did not help: {refused.message}; none "
            f"is ordered again for jobs that need as much before {refused.until:%H:%M:%S} UTC, unless spec.template "
            "of the job or the nodes of the pool change"
        )
        await self._event(pool, "PurchaseDidNotHelp", text, warning=True)
        seen = observation.seen.get(JobId(refused.job))
        if seen is not None:
            meta = seen.resource.metadata
            about = About(_API, "TrainingJob", meta.namespace, meta.name, meta.uid)
            await self._events.tell(about, "PurchaseDidNotHelp", text, action="Resize", warning=True)
        log.warning("pool %s: %s", pool.metadata.name, text)

    async def _tell_node(self, problem: NodeIssue) -> None:
        """Of a node that no pool speaks for, once; the next operator tells it again."""
        node = problem.node
        if node is None or self._told_nodes.get((node.uid, problem.reason)) == problem.message:
            return
        self._told_nodes[node.uid, problem.reason] = problem.message
        about = About("v1", "Node", "", node.name, node.uid)
        await self._events.tell(about, problem.reason, problem.message, action="Price", warning=True)
        log.warning("%s: %s", problem.about, problem.message)

    async def _tell_book(self, book: PriceBook, observation: Observation) -> None:
        new = book_status(
            book,
            observation,
            troubles=self._feeds.troubles(book),
            sources=self._feeds.statuses(book, observation.situation.offerings),
        )
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


def _carried_out(scaler: Scaler, resizes: Sequence[Resize], observation: Observation, plan: Plan) -> Sequence[Resize]:
    """Those that go together. A target that chooses itself which nodes go removes none while any of them is wanted."""
    if not ADAPTERS[scaler.adapter].traits.chooses_nodes:
        return resizes
    given = {observation.inventory.offerings[p.chosen.offering].pool for p in plan.placements}
    grows = [r for r in resizes if r.to_nodes > r.from_nodes]
    return grows if grows or resizes[0].pool in given else resizes


def _noted(resize: Resize, observation: Observation, now: datetime) -> NodeOrder:
    """What is kept of an order until it has shown whether it helps, and who pays for what it brings."""
    jobs = resize.for_jobs[:MOST_ORDER_JOBS]
    return NodeOrder(
        offering=resize.offering,
        nodes=resize.to_nodes - resize.from_nodes,
        at=now,
        jobs=[str(j) for j in jobs],
        payers=_payers(resize, observation) if resize.usd_per_hour > 0 else [],
    )


def _payers(resize: Resize, observation: Observation) -> list[Payer]:
    """The jobs of an order, each with its share by what its gang takes of such nodes."""
    offering = observation.inventory.offerings[resize.offering]
    takes = {
        j: seen.job.workers * share_of_node(seen.job, offering, seen.job.workers)
        for j in resize.for_jobs[:MOST_ORDER_JOBS]
        if (seen := observation.seen.get(j)) is not None and seen.job is not None
    }
    total = sum(takes.values())
    return [
        Payer(job=str(j), uid=observation.seen[j].resource.metadata.uid, share=takes[j] / total)
        for j in takes
        if total > 0
    ]


def _refused(made: NodeOrder, before: LateOrder | None, why: str, now: datetime, pace: float) -> LateOrder:
    """An order that the adapter refused is asked for again later, and other offerings are used meanwhile."""
    times = 1 + (before.times if before is not None else 0)
    return LateOrder(
        offering=made.offering,
        message=f"{made.nodes} of {made.offering} ordered and refused: {why}"[:1024],
        since=now,
        until=next_order(now, times, pace=pace),
        times=times,
    )


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
        coming=sum(n.ready_at is not None and n.name not in there for n in members_of(pool, observation)),
        asked=pool.status.wanted_nodes,
        pace=pace,
    )
