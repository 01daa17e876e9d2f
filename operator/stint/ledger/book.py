"""Booking: from what the workers of a job did and when, to GPU-seconds and dollars, each of them once.

A worker is paid for from when it is bound to its node until it has ended there; one that has finished its part, until
its gang has. Times are those that the API server tells, not those at which somebody looked. Everything before the
watermark `through` is booked; a caller keeps ledger and watermark together, so that an interval that is offered again
adds nothing, and one in which nobody looked is booked when somebody looks again.

Every second of a worker is of one use:

    startup  bound to a node, and not running yet
    held     running while the gang is not whole, or finished before it, or asked to leave
             and without any worker: a node that was bought for the job and that no gang has been on yet
    rework   the gang works, on what an interruption had lost
    idle     the gang works, but so many of its GPUs were measured to do nothing
    useful   the gang works
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec

from stint.api.ledger import COMPONENTS, USES, Components, Ledger, Line, Uses
from stint.cost.energy import WATTS_PER_KILOWATT
from stint.cost.storage import HOURS_PER_MONTH
from stint.cost.transfer import GB_PER_GIB
from stint.estimate.runtime import SECONDS_PER_HOUR
from stint.ledger.rates import Timeline
from stint.model.offering import OfferingId

_DAY = timedelta(days=1)
_STARTUP, _HELD, _USEFUL, _IDLE, _REWORK = range(len(USES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One worker's time on a node."""

    run: str  # spans of one run are one gang's
    offering: OfferingId
    share: float  # of the node's price
    gpus: float  # whole ones; a part counts as a part
    start: datetime  # bound
    works: datetime | None = None  # since when its containers run
    leaving: datetime | None = None  # when it was asked to go
    end: datetime | None = None  # None: it is there still
    finished: bool = False  # it ended because it had done its part


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A job's part of a node that was bought for it, for the time in which no gang is on that node."""

    offering: OfferingId
    share: float  # of the node
    gpus: float  # whole ones, of its share
    start: datetime  # the node exists
    end: datetime | None = None  # a gang is on it, or it is gone; None: it stands there unused


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What else is to be known of a job to book its time."""

    size: int = 1  # workers that make it whole
    units_per_second: float = 0.0  # at which lost work is done again
    idle_share: float | None = None  # of its GPUs, lately; None: nobody knows
    gpu_watts: float | None = None  # of all its GPUs, as measured; None: as its offering says
    licence_usd_per_gpu_hour: float = 0.0
    labour_usd_per_hour: float = 0.0
    scratch_gib: float = 0.0


@dataclass(slots=True)
class _Sum:
    """A line in the making."""

    gpu_seconds: list[float] = field(default_factory=lambda: [0.0] * len(USES))
    usd: list[float] = field(default_factory=lambda: [0.0] * len(USES))
    components: list[float] = field(default_factory=lambda: [0.0] * len(COMPONENTS))
    kwh: float = 0.0
    grams: float = 0.0
    unrated: float = 0.0
    measured: float = 0.0
    unpriced: float = 0.0


Place = tuple[str, str, str, str]  # as `Line.place`


def book(
    ledger: Ledger, spans: Sequence[Span], terms: Terms, timeline: Timeline, *, start: datetime, until: datetime
) -> Ledger:
    """Book the time from `start`, the watermark, to `until`. Where that is not later, nothing changes.

    Returns:
        The ledger with everything until then.

    Raises:
        KeyError: nothing is known of an offering that a span names.
    """
    if until <= start or not spans:
        return ledger
    sums: dict[Place, _Sum] = {}
    owed = ledger.rework_units
    ends = _ends(spans, until)
    for a, b in pairwise(_cuts(spans, start, until)):
        there = [s for s in spans if s.start <= a and _paid_until(s, ends, b) >= b]
        if not there:
            continue
        working = _works(there, spans, terms.size, a)
        seconds = (b - a).total_seconds()
        again = 0.0  # part of this time that goes into what was lost
        if working and owed > 0 and terms.units_per_second > 0:
            again = min(1.0, owed / (terms.units_per_second * seconds))
            owed = max(0.0, owed - again * terms.units_per_second * seconds)
        alike = Counter((s.offering, s.share, s.gpus, _use(s, a, working)) for s in there)
        for (offering, share, gpus, use), count in alike.items():
            group = _Group(offering, share * count, gpus * count, count / len(there), use, again)
            _add(sums, group, a, b, terms=terms, timeline=timeline)
    return msgspec.structs.replace(_with(ledger, sums), rework_units=owed)


def book_held(ledger: Ledger, held: Sequence[Held], timeline: Timeline, *, start: datetime, until: datetime) -> Ledger:
    """Book nodes that stand unused from `start`, the watermark, to `until`: what they cost, and their energy.

    There is no worker, so there is neither licence, labour nor scratch volume.

    Raises:
        KeyError: nothing is known of an offering.
    """
    sums: dict[Place, _Sum] = {}
    for each in held:
        first, last = max(each.start, start), until if each.end is None else min(each.end, until)
        group = _Group(each.offering, each.share, each.gpus, part=0.0, use=_HELD, again=0.0)
        for a, b in cuts_at_midnight(first, last):
            _add(sums, group, a, b, terms=Terms(), timeline=timeline)
    return _with(ledger, sums) if sums else ledger


def _with(ledger: Ledger, sums: Mapping[Place, _Sum]) -> Ledger:
    lines = {line.place: line for line in ledger.lines}
    for place, total in sums.items():
        lines[place] = _plus(lines.get(place), place, total)
    return msgspec.structs.replace(ledger, lines=[lines[p] for p in sorted(lines)])


def _cuts(spans: Iterable[Span], start: datetime, until: datetime) -> list[datetime]:
    """Instants between which nothing changes but prices."""
    cuts = {start, until}
    for span in spans:
        for at in (span.start, span.works, span.leaving, span.end):
            if at is not None and start < at < until:
                cuts.add(at)
    cuts.update(_midnights(start, until))
    return sorted(cuts)


def _midnights(start: datetime, until: datetime) -> Iterator[datetime]:
    following = midnight(day_of(start)) + _DAY
    while following < until:
        yield following
        following += _DAY


def cuts_at_midnight(start: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The same time in pieces that lie in one day (UTC) each; none where `until` is not later."""
    if start < until:
        yield from pairwise([start, *_midnights(start, until), until])


def day_of(at: datetime) -> str:
    """UTC's date, as lines have it."""
    return at.astimezone(UTC).date().isoformat()


def midnight(day: str) -> datetime:
    """When a day begins."""
    return datetime.fromisoformat(f"{day}T00:00:00+00:00")


def _ends(spans: Iterable[Span], until: datetime) -> dict[str, datetime]:
    """When each run's last worker ends, as far as that matters before `until`."""
    ends: dict[str, datetime] = {}
    for span in spans:
        end = until if span.end is None else span.end
        ends[span.run] = max(ends.get(span.run, end), end)
    return ends


def _paid_until(span: Span, ends: dict[str, datetime], b: datetime) -> datetime:
    """Until when it is paid for, as far as that matters before `b`."""
    if span.end is None:
        return b
    return ends[span.run] if span.finished else span.end


def _works(there: Sequence[Span], spans: Sequence[Span], size: int, at: datetime) -> bool:
    """Whether the gang is whole: who runs and who has finished make it so."""
    run = max(there, key=lambda s: s.start).run
    count = sum(
        1
        for s in spans
        if s.run == run
        and s.works is not None
        and s.works <= at
        and (s.leaving is None or at < s.leaving)
        and (s.end is None or at < s.end or s.finished)
    )
    return count >= size


def _use(span: Span, at: datetime, working: bool) -> int:
    """What a span's time is used for from `at` on; what a gang that works does is told apart later."""
    leaves = span.leaving is not None and span.leaving <= at
    ended = span.end is not None and span.end <= at
    if leaves or ended:
        return _HELD
    if working:
        return _USEFUL
    return _HELD if span.works is not None and span.works <= at else _STARTUP


@dataclass(frozen=True, slots=True)
class _Group:
    """Workers that are alike: most of a gang's are."""

    offering: OfferingId
    share: float  # of nodes, all of them together
    gpus: float
    part: float  # of the workers of the job
    use: int
    again: float  # part of this time that goes into what was lost


def _add(sums: dict[Place, _Sum], group: _Group, a: datetime, b: datetime, *, terms: Terms, timeline: Timeline) -> None:
    for start, end, rates in timeline.between(group.offering, a, b):
        seconds = (end - start).total_seconds()
        hours = seconds / SECONDS_PER_HOUR
        total = sums.setdefault((day_of(start), rates.pool, rates.gpu_model, rates.capacity_type), _Sum())
        gpu_seconds, working = group.gpus * seconds, group.use == _USEFUL
        watts = group.share * rates.watts
        if terms.gpu_watts is not None and working:
            watts = terms.gpu_watts * group.part + group.share * rates.host_watts
        kwh = hours * watts * rates.pue / WATTS_PER_KILOWATT
        scratch = terms.scratch_gib * GB_PER_GIB * rates.usd_per_storage_gb_month / HOURS_PER_MONTH
        parts = (
            hours * group.share * (rates.usd_per_hour or 0.0),
            kwh * rates.usd_per_kwh,
            hours * group.gpus * terms.licence_usd_per_gpu_hour,
            hours * group.part * terms.labour_usd_per_hour,
            hours * group.part * scratch,
        )
        for i, usd in enumerate(parts):
            total.components[i] += usd
        wasted = terms.idle_share or 0.0
        uses = (
            ((_IDLE, wasted), (_REWORK, group.again * (1.0 - wasted)), (_USEFUL, (1.0 - group.again) * (1.0 - wasted)))
            if working
            else ((group.use, 1.0),)
        )
        for use, part in uses:
            total.gpu_seconds[use] += part * gpu_seconds
            total.usd[use] += part * sum(parts)
        total.kwh += kwh
        total.grams += kwh * (rates.g_per_kwh or 0.0)
        total.unrated += kwh if rates.g_per_kwh is None else 0.0
        total.measured += gpu_seconds if working and terms.idle_share is not None else 0.0
        total.unpriced += gpu_seconds if rates.usd_per_hour is None else 0.0


def _plus(line: Line | None, place: Place, more: _Sum) -> Line:
    old = line or Line(day=place[0], pool=place[1], gpu_model=place[2], capacity_type=place[3])
    seconds, usd, parts = old.gpu_seconds, old.usd, old.components
    return msgspec.structs.replace(
        old,
        gpu_seconds=Uses(**{u: getattr(seconds, u) + more.gpu_seconds[i] for i, u in enumerate(USES)}),
        usd=Uses(**{u: getattr(usd, u) + more.usd[i] for i, u in enumerate(USES)}),
        components=Components(
            **{c: getattr(parts, c) + more.components[i] for i, c in enumerate(COMPONENTS)}, transfer=parts.transfer
        ),
        energy_kwh=old.energy_kwh + more.kwh,
        carbon_g=old.carbon_g + more.grams,
        unrated_kwh=old.unrated_kwh + more.unrated,
        measured_gpu_seconds=old.measured_gpu_seconds + more.measured,
        unpriced_gpu_seconds=old.unpriced_gpu_seconds + more.unpriced,
    )


def book_transfer(ledger: Ledger, usd: float, *, placed: datetime, place: Place) -> Ledger:
    """Book what bringing the data to a place costs, once for each time it is given one."""
    if ledger.moved_for is not None and placed <= ledger.moved_for:
        return ledger
    ledger = msgspec.structs.replace(ledger, moved_for=placed)
    if usd == 0.0:
        return ledger
    lines = {line.place: line for line in ledger.lines}
    line = lines.get(place) or Line(day=place[0], pool=place[1], gpu_model=place[2], capacity_type=place[3])
    parts = msgspec.structs.replace(line.components, transfer=line.components.transfer + usd)
    lines[place] = msgspec.structs.replace(line, components=parts)
    return msgspec.structs.replace(ledger, lines=[lines[p] for p in sorted(lines)])


def book_baseline(ledger: Ledger, done: float) -> Ledger:
    """Book what the work that is done costs at the baseline, beside what it cost here last. Lost work counts once.

    Args:
        done: part of all the work, 0 to 1.
    """
    more = min(done, 1.0) - ledger.baseline_done
    if ledger.baseline_usd is None or more <= 0 or not ledger.lines:
        return ledger
    last = max(ledger.lines, key=lambda line: line.place)
    grown = msgspec.structs.replace(last, baseline_usd=last.baseline_usd + more * ledger.baseline_usd)
    lines = [grown if line is last else line for line in ledger.lines]
    return msgspec.structs.replace(ledger, lines=lines, baseline_done=ledger.baseline_done + more)


def total_usd(ledger: Ledger) -> float:
    """All that was ever booked."""
    return sum(line.total_usd for line in ledger.lines) + (ledger.earlier.total_usd if ledger.earlier else 0.0)
