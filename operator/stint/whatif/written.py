"""Changes as people write them on a command line. Every mistake of all of them is told at once.

--add-pool [NAME=][PROVIDER/]TYPE:NODES@ZONE[:CAPACITY]   p5.48xlarge:4@us-east-1b:spot
--drop-pool POOL
--price WHAT=USD or WHAT=xFACTOR                          p5.48xlarge:spot=21.50, eks-h100=x0.8
--deadline JOB=TIME or =DURATION from now or =none        imaging/mri-knee=24h
--budget JOB=USD or =none
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from stint.api import gpupool
from stint.api.gpupool import GPUPool, PoolOffering
from stint.api.meta import Meta
from stint.api.quantity import duration
from stint.catalogue.catalogue import Catalogue
from stint.catalogue.quote import FreshnessLimits
from stint.errors import InvalidInputError, Mistake
from stint.kube.observe.inventory import POOL, region_of, take_inventory
from stint.model.job import Job
from stint.model.market import Offering, PoolName, offering_id
from stint.model.offering import CapacityType, OfferingId
from stint.model.situation import Situation
from stint.whatif.changes import AddPool, Change, DropPool, NewBudget, NewDeadline, Reprice

MOST_NODES = 10_000  # as in a GPUPool
_ADD = re.compile(
    r"(?:(?P<name>[a-z0-9][a-z0-9-]*)=)?(?:(?P<provider>[\w.-]+)/)?(?P<type>[\w.-]+)"
    r":(?P<nodes>\d{1,6})@(?P<zone>[\w.-]+)(?::(?P<capacity>[\w-]+))?"
)
_DURATION = re.compile(r"[1-9]\d{0,8}[smhd]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the options say."""

    add_pool: Sequence[str] = ()
    drop_pool: Sequence[str] = ()
    price: Sequence[str] = ()
    deadline: Sequence[str] = ()
    budget: Sequence[str] = ()


@dataclass(slots=True)
class _Reader:
    situation: Situation  # with what was read so far
    catalogue: Catalogue
    changes: list[Change] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)

    def each(self, option: str, texts: Sequence[str], read: Callable[[str], Change]) -> None:
        for text in texts:
            try:
                change = read(text)
            except ValueError as error:
                self.mistakes.append(Mistake(option, repr(text), str(error)))
            else:
                self.changes.append(change)
                self.situation = change.applied(self.situation)

    def drop(self, text: str) -> Change:
        if not any(p.name == text for p in self.situation.pools):
            raise ValueError(f"is no pool; there are {_some(p.name for p in self.situation.pools)}")
        return DropPool(pool=PoolName(text))

    def add(self, text: str) -> Change:
        found = _ADD.fullmatch(text)
        if found is None:
            raise ValueError("must be [NAME=][PROVIDER/]TYPE:NODES@ZONE[:CAPACITY], as p5.48xlarge:4@us-east-1b:spot")
        nodes, word = int(found["nodes"]), found["capacity"] or CapacityType.ON_DEMAND.value
        if not 1 <= nodes <= MOST_NODES:
            raise ValueError(f"must have from 1 to {MOST_NODES} nodes")
        if word not in set(CapacityType):
            raise ValueError(f"{word!r} must be one of {', '.join(CapacityType)}")
        capacity = CapacityType(word)
        name = PoolName(found["name"] or re.sub(r"[^a-z0-9]+", "-", f"{found['type']}-{word}".lower()))
        if any(p.name == name for p in self.situation.pools):
            raise ValueError(f"there is a pool {name} already; give another name in front, as more-{name}={text}")
        like = self._like(found["type"], found["provider"], found["zone"], capacity)
        known = like or self._from_catalogue(found["type"], found["provider"], found["zone"], capacity)
        offering = replace(
            known,
            id=offering_id(name, known.instance_type, known.zone, capacity, known.slices),
            pool=name,
            labels={**known.labels, POOL: name},
        )
        return AddPool(
            offering=offering,
            nodes=nodes,
            stand_there=capacity in (CapacityType.OWNED, CapacityType.RESERVED),
        )

    def _like(self, machine: str, provider: str | None, zone: str, capacity: CapacityType) -> Offering | None:
        """One that the situation has already, at its price: the user's own prices are in there."""
        return next(
            (
                o
                for o in sorted(self.situation.offerings, key=lambda o: o.id)
                if (o.instance_type, o.zone, o.capacity_type) == (machine, zone, capacity)
                and provider in (None, o.provider)
            ),
            None,
        )

    def _from_catalogue(self, machine: str, provider: str | None, zone: str, capacity: CapacityType) -> Offering:
        sellers = sorted({t.provider for t in self.catalogue.instance_types() if t.name == machine})
        if provider is None and len(sellers) != 1:
            which = f"is sold by {_some(sellers)}" if sellers else "is sold by nobody whose prices are known"
            raise ValueError(
                f"{machine} {which}; write PROVIDER/TYPE, as aws/p5.48xlarge; `stint prices --catalogue` lists them"
            )
        seller = provider or sellers[0]
        offered = PoolOffering(
            provider=seller,
            region=region_of(seller, zone) or zone,
            zone=zone,
            instance_type=machine,
            capacity_type=capacity,
        )
        pool = GPUPool(metadata=Meta(name="what-if"), spec=gpupool.Spec(node_selector={}, offerings=[offered]))
        seen = take_inventory((), [pool], self.catalogue, today=self.situation.now.date(), limits=FreshnessLimits())
        if seen.problems:
            raise ValueError(
                f"{seller}/{machine} is no machine that the catalogue knows; `stint prices --catalogue` lists them"
            )
        return next(iter(seen.offerings.values()))

    def price(self, text: str) -> Change:
        what, equals, amount = text.rpartition("=")
        factor = amount.startswith("x")
        value = _number(amount.removeprefix("x"))
        if not equals or value is None:
            raise ValueError("must be WHAT=USD for a node-hour or WHAT=xFACTOR, as p5.48xlarge:spot=21.50 or a100=x0.8")
        named = frozenset(o.id for o in self.situation.offerings if what in _names(o))
        if not named:
            raise ValueError(
                "names no pool, offering, TYPE, TYPE:CAPACITY or TYPE@ZONE:CAPACITY that is there; offerings are "
                + _some(o.id for o in self.situation.offerings)
            )
        return Reprice(offerings=named, usd_per_hour=None if factor else value, factor=value if factor else 1.0)

    def deadline(self, text: str) -> Change:
        job, word = self._job(text)
        if word == "none":
            return NewDeadline(job=job.id, deadline=None)
        try:
            moment = self.situation.now + duration(word) if _DURATION.fullmatch(word) else datetime.fromisoformat(word)
        except (ValueError, OverflowError):
            moment = None
        if moment is None or moment.tzinfo is None:
            raise ValueError(
                "must be JOB= and a time with its zone, a duration from now, or none, as =2026-12-01T08:00Z"
            )
        return NewDeadline(job=job.id, deadline=moment.astimezone(UTC))

    def budget(self, text: str) -> Change:
        job, word = self._job(text)
        usd = _number(word)
        if word != "none" and usd is None:
            raise ValueError("must be JOB=USD or JOB=none, as imaging/mri-knee=400")
        return NewBudget(job=job.id, usd=usd)

    def _job(self, text: str) -> tuple[Job, str]:
        name, _, word = text.partition("=")
        found = [j for j in self.situation.jobs if name == j.id or ("/" not in name and j.id.endswith(f"/{name}"))]
        if len(found) != 1:
            why = "is the name of several jobs; write NAMESPACE/NAME" if found else "is no job that has yet to end"
            raise ValueError(f"{name} {why}; there are {_some(j.id for j in self.situation.jobs)}")
        return found[0], word


def read(written: Written, situation: Situation, catalogue: Catalogue) -> tuple[Change, ...]:
    """The changes, in the order in which they are made: pools go, pools come, prices, deadlines, budgets.

    Raises:
        InvalidInputError: with every mistake.
    """
    reader = _Reader(situation=situation, catalogue=catalogue)
    reader.each("--drop-pool", written.drop_pool, reader.drop)
    reader.each("--add-pool", written.add_pool, reader.add)
    reader.each("--price", written.price, reader.price)
    reader.each("--deadline", written.deadline, reader.deadline)
    reader.each("--budget", written.budget, reader.budget)
    without = [
        c.offering for c in reader.changes if isinstance(c, AddPool) and _unpriced(reader.situation, c.offering.id)
    ]
    for offering in without:
        text = f"nobody lists its price; add --price {offering.pool}=USD"
        reader.mistakes.append(Mistake("--add-pool", offering.id, text))
    if reader.mistakes:
        raise InvalidInputError("the command line", reader.mistakes)
    return tuple(reader.changes)


def _names(o: Offering) -> tuple[str, ...]:
    terms = f"{o.instance_type}:{o.capacity_type.value}"
    return o.id, o.pool, o.instance_type, terms, f"{o.instance_type}@{o.zone}:{o.capacity_type.value}"


def _unpriced(situation: Situation, offering: OfferingId) -> bool:
    return any(o.id == offering and o.usd_per_node_hour is None for o in situation.offerings)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return (", ".join(listed[:8]) or "none") + more
