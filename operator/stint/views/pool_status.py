"""What the statuses of GPUPools and PriceBooks say: size, price, advice, conditions. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stint.api import gpupool, pricebook
from stint.api.gpupool import MOST_ORDERS, GPUPool, LateOrder, Mode, NodeOrder, Recommendation, RefusedNode
from stint.api.meta import Condition, condition
from stint.api.pricebook import PriceBook, SourceStatus
from stint.catalogue.layer import CarbonSignal
from stint.feeds.feed_trust import Trouble
from stint.kube.observe.purchases import Purchases
from stint.kube.observe.snapshot import Observation
from stint.model.cluster import Node
from stint.model.market import Offering, PoolName
from stint.model.offering import OfferingId
from stint.model.plan import Plan, Resize


def members_of(pool: GPUPool, observation: Observation) -> list[Node]:
    """The nodes of a pool, those on order among them."""
    offerings = observation.inventory.offerings
    return [n for n in observation.situation.nodes if offerings[n.offering].pool == pool.metadata.name]


def pool_status(pool: GPUPool, observation: Observation, plan: Plan) -> gpupool.Status:
    """The whole status of a GPUPool."""
    inventory, spec = observation.inventory, pool.spec
    name = PoolName(pool.metadata.name)
    offerings = [inventory.offerings[o] for o in inventory.pools[name].offerings]
    nodes = members_of(pool, observation)

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
        new_nodes=list(inventory.new_nodes.get(name, ())),
        orders=_orders(pool, observation),
        bought=list(_purchases(pool, observation).bought),
        refused=list(_purchases(pool, observation).refused),
        late=_late(pool, observation),
        conditions=_pool_conditions(pool, offerings, observation, plan.scale_up_stopped),
    )


def _purchases(pool: GPUPool, observation: Observation) -> Purchases:
    return observation.purchases.get(PoolName(pool.metadata.name), Purchases())


def _orders(pool: GPUPool, observation: Observation) -> list[NodeOrder]:
    """As they were looked at, and those that were made since."""
    new = [o for o in pool.status.orders if o.at >= observation.situation.now]
    return [*_purchases(pool, observation).orders, *new][-MOST_ORDERS:]


def _late(pool: GPUPool, observation: Observation) -> list[LateOrder]:
    """Likewise: an order that the adapter refused counts as one that does not come."""
    late = {o.offering: o for o in _purchases(pool, observation).late}
    late |= {o.offering: o for o in pool.status.late if o.since >= observation.situation.now}
    return sorted(late.values(), key=lambda o: o.until)[-16:]


def refusals_told(pool: GPUPool, new: gpupool.Status) -> list[RefusedNode]:
    """Those that are news, for events."""
    old = {(r.offering, r.job, r.since) for r in pool.status.refused}
    return [r for r in new.refused if (r.offering, r.job, r.since) not in old]


def late_told(pool: GPUPool, new: gpupool.Status) -> list[LateOrder]:
    """Likewise."""
    old = {(o.offering, o.since) for o in pool.status.late}
    return [o for o in new.late if (o.offering, o.since) not in old]


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


def spec_acts(pool: GPUPool) -> bool:
    """Whether Stint resizes the pool itself."""
    return pool.spec.scaler is not None and pool.spec.scaler.mode is Mode.ACT


def _pool_conditions(
    pool: GPUPool, offerings: Sequence[Offering], observation: Observation, stopped: str
) -> list[Condition]:
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
    facts = {"Priced": priced, "Valid": valid}
    if stopped and spec_acts(pool):
        facts["ScaleUp"] = ("False", "ScaleUpStopped", stopped)
    elif any(c.type == "ScaleUp" for c in pool.status.conditions):
        facts["ScaleUp"] = ("True", "ScaleUp", "")
    return [
        condition(
            pool.status.conditions, kind, fact, now=observation.situation.now, generation=pool.metadata.generation
        )
        for kind, fact in facts.items()
    ]


def book_status(
    book: PriceBook,
    observation: Observation,
    *,
    troubles: Sequence[tuple[Trouble, str]],
    sources: list[SourceStatus],
) -> pricebook.Status:
    """The whole status of a PriceBook.

    Args:
        troubles: of its sources, the worst first.
        sources: what each of them says at the moment.
    """
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
    facts = {"Valid": valid} | ({"SourcesGood": _sources(troubles)} if spec.sources else {})
    return msgspec.structs.replace(
        book.status,
        observed_generation=generation,
        entries=entries + (spec.labour is not None),
        offerings=len(offerings),
        stale=sum(1 for o in offerings if o.stale),
        unpriced=sum(1 for o in offerings if o.usd_per_node_hour is None),
        updated=spec.as_of,
        sources=sources,
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
