"""Keeps every job's ledger: what is booked, until when, and what of it the API server has been told.

A ledger grows in memory from cycle to cycle. What a status says is a copy of it from some moment, with the watermark of
that moment; whoever leads next goes on from there, and books what happened meanwhile from the times that the API server
tells of pods. Nothing is booked past `known_until`: what happened later may not have been told yet.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from stint.api.ledger import Components, Ledger, Line, Row, Uses
from stint.api.trainingjob import TrainingJob
from stint.api.trainingjob_status import Status
from stint.catalogue.catalogue import Catalogue
from stint.cost.transfer import GB_PER_GIB
from stint.estimate.runtime import SECONDS_PER_HOUR, units_per_hour
from stint.kube.observe.bought import BoughtNodes, ended, held_by, without_what_is_booked
from stint.kube.observe.inventory import Inventory
from stint.kube.observe.pod_spans import NodeTimes, Worktimes
from stint.kube.observe.snapshot import Caches, Observation, Seen, Spending
from stint.kube.records import GangPod, NodeRecord, PodRecord
from stint.ledger.baseline import baseline
from stint.ledger.book import Held, Span, Terms, book, book_baseline, book_held, book_transfer, day_of, total_usd
from stint.ledger.days import less, resume, whole
from stint.ledger.rates import Rates, Timeline, rates_of
from stint.model.cluster import Utilisation
from stint.model.figure import value_of
from stint.model.job import ENDED, JobId, NodeName, Phase, job_id
from stint.model.market import Offering
from stint.model.offering import OfferingId
from stint.placement.columns import egress

log = logging.getLogger(__name__)

RecordT = TypeVar("RecordT")

TEAM = "stint.dev/team"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SETTLE_AFTER_S = 2.0  # times that the API server tells are whole seconds, and take a moment to arrive
CLOCKS_APART = timedelta(seconds=30)  # from then on it is told
_KEEP_GONE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One job's ledger, and what is needed to go on with it when the job itself is no more."""

    namespace: str
    name: str
    uid: str
    team: str
    created: datetime
    ledger: Ledger
    through: datetime
    terms: Terms = field(default_factory=Terms)
    settled: bool = False  # no status waits for it: its TrainingJob was deleted, or says that the ledger is closed
    open: bool = True  # there is, or may be, something to book


@dataclass(frozen=True, slots=True)
class _Time:
    """What a job pays for."""

    spans: Sequence[Span]  # its workers' time
    held: Sequence[Held]  # and nodes that stand unused


@dataclass(kw_only=True)
class Bookkeeper:
    """All accounts. Only a leader keeps them."""

    of: Callable[[datetime], datetime]  # from the wall's clock to the one that decisions go by
    catalogue: Catalogue
    count: Callable[[str, Line], object] = lambda _namespace, _line: None  # told of everything that is booked here
    accounts: dict[str, Account] = field(default_factory=dict)  # by uid
    _done: set[str] = field(default_factory=set)  # accounts of jobs that are there still, for which nothing is to do
    timeline: Timeline = field(default_factory=Timeline)
    kept: Mapping[str, Sequence[Row]] = field(default_factory=dict)  # by uid: what was written before we began
    new_prices: bool = False  # which nobody would know any more after a kill
    worktimes: Worktimes = field(init=False)
    nodetimes: NodeTimes = field(init=False)
    bought: BoughtNodes = field(default_factory=dict)  # for jobs that pay for them until a gang is on them
    counted_until: datetime = EPOCH  # whoever led before has counted what was until then
    _gone_pods: deque[tuple[PodRecord, datetime]] = field(default_factory=deque)
    _gone_nodes: deque[tuple[NodeRecord, datetime]] = field(default_factory=deque)
    _unused_until: dict[str, datetime] = field(default_factory=dict)  # bought nodes that stand unused no more, by uid
    _held: Mapping[str, Sequence[Held]] = field(default_factory=dict)  # by uid of the job
    _offerings: dict[OfferingId, Offering] = field(default_factory=dict)  # also those that are no more

    def __post_init__(self) -> None:
        """Both follow the same clock."""
        self.worktimes, self.nodetimes = Worktimes(self.of), NodeTimes(self.of)

    def begin(self, counted_until: datetime) -> None:
        """Forget what was booked in an earlier reign: statuses tell where to go on."""
        self.accounts.clear()
        self._done.clear()
        self._unused_until.clear()
        self.counted_until = counted_until

    def gone(self, record: PodRecord | NodeRecord, at: datetime) -> None:
        """Take note of what the API server says is no more; `at` is on the wall's clock."""
        if isinstance(record, PodRecord):
            if record.gang is not None and record.node:
                self._gone_pods.append((record, at))
                _forget_old(self._gone_pods, at)
        else:
            self._gone_nodes.append((record, at))
            _forget_old(self._gone_nodes, at)

    def book(
        self,
        observation: Observation,
        caches: Caches,
        usage: Mapping[JobId, Utilisation],
        *,
        known_until: datetime,
    ) -> dict[JobId, Spending]:
        """Book everybody's time.

        Args:
            known_until: on the deciding clock; everything that happened until then has been told.
        """
        now, inventory = observation.situation.now, observation.inventory
        self._offerings.update(inventory.offerings)
        self.new_prices |= self.timeline.learn(self.rates(inventory), now)
        resources = {s.resource.metadata.uid: s for s in observation.seen.values()}
        self._look(observation, caches, now)
        self._done &= resources.keys()
        for uid, account in self.accounts.items():
            if not account.settled and (uid not in resources or _closed(resources[uid].resource)):
                self.accounts[uid] = replace(account, settled=True)
        found: dict[JobId, Spending] = {}
        for key, seen in observation.seen.items():
            if _closed(seen.resource):
                self._reopen(seen, now)
                continue
            account = self._account(seen)
            account = replace(account, terms=self._terms(account, seen, observation, usage.get(key)))
            account = self._about(account, seen, observation)
            account, pending = self._advance(account, known_until, now, over=_ended(seen))
            account = self._close(self._credit(account, seen), seen)
            self.accounts[account.uid] = account
            told = seen.resource.status.spent_through
            ends = [s.end for s in self.worktimes.spans(account.uid)]
            ends += [h.end for h in self._held.get(account.uid, ())]
            found[key] = Spending(
                ledger=account.ledger,
                through=account.through,
                settled_usd=total_usd(account.ledger),
                usd=pending,
                pressing=any(end and (told is None or told < end) and end <= account.through for end in ends),
            )
        for uid, account in self.accounts.items():
            if account.settled and account.open:
                account, _ = self._advance(account, known_until, now, over=True)
                still = any(s.end is None or s.end > account.through for s in self.worktimes.spans(uid))
                self.accounts[uid] = replace(account, open=still)
        self.bought = self._still_bought(observation, resources)
        self.worktimes.settle(self._told(resources))
        return found

    def rates(self, inventory: Inventory) -> dict[OfferingId, Rates]:
        """Of every offering, as it is now."""
        host_watts = self.catalogue.assumptions.host_watts_per_gpu.value
        return {i: rates_of(o, host_watts) for i, o in inventory.offerings.items()}

    def _told(self, resources: Mapping[str, Seen]) -> dict[str, datetime]:
        """Until when each job's status, or what is left of a job that was deleted, speaks for itself."""
        told = {uid: a.through for uid, a in self.accounts.items() if a.settled}
        for uid, seen in resources.items():
            status = seen.resource.status
            if status.spent_through is not None:
                told[uid] = status.spent_through
            elif uid in self.accounts:
                told[uid] = EPOCH
        return told

    def _look(self, observation: Observation, caches: Caches, now: datetime) -> None:
        pods, self._gone_pods = self._gone_pods, deque()
        nodes, self._gone_nodes = self._gone_nodes, deque()
        offering_of = observation.inventory.offering_of

        def of_node(name: str) -> Offering | None:
            found = offering_of.get(NodeName(name))
            return self._offerings.get(found) if found is not None else None

        def of_pod(node: str, gang: GangPod) -> Offering | None:
            seen = observation.seen.get(job_id(gang.namespace, gang.job))
            planned = OfferingId(seen.resource.status.offering) if seen else None
            return of_node(node) or (self._offerings.get(planned) if planned else None)

        def owner(gang: GangPod) -> str | None:
            seen, newer = observation.seen.get(job_id(gang.namespace, gang.job)), ""
            if seen is not None:
                meta = seen.resource.metadata
                older = gang.created and meta.creation_timestamp and gang.created < meta.creation_timestamp
                if gang.steered is not None or not older:
                    return meta.uid
                newer = meta.uid
            same = [a for a in self.accounts.values() if (a.namespace, a.name) == (gang.namespace, gang.job)]
            last = max((a for a in same if a.uid != newer), key=lambda a: a.created, default=None)
            return last.uid if last is not None else None

        self.worktimes.look(caches.pods, pods, owner=owner, offering=of_pod, now=now)
        self.nodetimes.look(caches.nodes, nodes, of_node, now=now)
        self._look_at_bought(observation, caches, pods, nodes)

    def _look_at_bought(
        self,
        observation: Observation,
        caches: Caches,
        gone_pods: Iterable[tuple[PodRecord, datetime]],
        gone_nodes: Iterable[tuple[NodeRecord, datetime]],
    ) -> None:
        """Which of the nodes that were bought stand unused, and what jobs hold of them."""
        kept = {pool: p.bought for pool, p in observation.purchases.items()}
        names = {n.name for groups in kept.values() for b in groups for n in b.nodes}
        begun = self.worktimes.begun(names)
        for pod in [*caches.pods, *(p for p, _ in gone_pods)] if names else ():
            start = (pod.gang.times.bound or pod.gang.created) if pod.gang is not None and pod.node in names else None
            if start is not None:  # also where nobody's books have it
                begun.setdefault(pod.node, []).append(self.of(start))
        there = {n.name: n.uid for n in caches.nodes if n.name in names}
        # What was found out earlier holds, whether the pool could be told of it or not.
        gone = {n.uid: self.of(at) for n, at in gone_nodes if n.name in names} | self._unused_until
        self.bought = {
            pool: tuple(ended(b, begun=begun, gone=gone, there=there) for b in groups) for pool, groups in kept.items()
        }
        nodes = [n for groups in self.bought.values() for b in groups for n in b.nodes]
        self._unused_until = {n.uid: n.until for n in nodes if n.until is not None}
        self._held = held_by(self.bought, lambda name: self._offerings.get(OfferingId(name)))

    def _still_bought(self, observation: Observation, resources: Mapping[str, Seen]) -> BoughtNodes:
        """Without what all who pay have in their statuses."""
        told = {
            uid: seen.resource.status.spent_through for uid, seen in resources.items() if not _closed(seen.resource)
        }
        return {
            pool: without_what_is_booked(groups, observation.purchases[pool].orders, told)
            for pool, groups in self.bought.items()
        }

    def _account(self, seen: Seen) -> Account:
        """As it is in memory, or as the status tells where that knows more."""
        meta, status = seen.resource.metadata, seen.resource.status
        known = self.accounts.get(meta.uid)
        team = meta.labels.get(TEAM, "")
        if known is not None and (status.spent_through is None or known.through >= status.spent_through):
            return known if known.team == team else replace(known, team=team)
        ledger, through = resume(_as_written(status), status.spent_through, self.kept.get(meta.uid, ()))
        return Account(
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            team=team,
            created=seen.created,
            ledger=ledger,
            through=through or seen.created,
            # Where its plan is gone already, that of a gang which was never whole: it has not worked.
            terms=Terms(size=max(1, status.workers or seen.resource.spec.workers)),
        )

    def _reopen(self, seen: Seen, now: datetime) -> None:
        """After a start: what a closed ledger says of these days may not be written elsewhere yet."""
        uid = seen.resource.metadata.uid
        if uid in self.accounts or uid in self._done:
            return
        recent = day_of(now - timedelta(days=1))
        if any(line.day >= recent for line in seen.resource.status.ledger.lines):
            self.accounts[uid] = replace(self._account(seen), settled=True, open=False)
        else:
            self._done.add(uid)

    def _terms(self, account: Account, seen: Seen, observation: Observation, usage: Utilisation | None) -> Terms:
        job, plan = seen.last, seen.gang.plan
        if job is None or plan is None:
            return account.terms
        rates = observation.situation.rates
        licences = (rates.licence_usd_per_gpu_hour.get(name) for name in job.licences)
        gpus = job.gpus(len(plan.nodes))
        idle = usage.idle_gpus if usage is not None and usage.gpus == gpus else None  # of a part is not of the whole
        owed = account.ledger.rework_units > 0
        return Terms(
            size=len(plan.nodes),
            units_per_second=units_per_hour(job, plan.gpu_model, len(plan.nodes)) / SECONDS_PER_HOUR if owed else 0.0,
            idle_share=min(1.0, idle / gpus) if idle is not None and gpus else None,
            gpu_watts=usage.watts if usage is not None else None,
            licence_usd_per_gpu_hour=sum(value_of(f, 0.0) for f in licences),
            labour_usd_per_hour=value_of(rates.labour_usd_per_job_hour, 0.0),
            scratch_gib=job.data.scratch_gib,
        )

    def _about(self, account: Account, seen: Seen, observation: Observation) -> Account:
        """What is booked once: what savings are against, and data that is brought to where the gang is."""
        job, plan, ledger = seen.last, seen.gang.plan, account.ledger
        if job is None:
            return account
        if ledger.baseline_usd is None and (found := baseline(job, observation.situation.offerings)) is not None:
            credited = whole(ledger)  # before a kill, and after the status was written last
            done = min(1.0, credited.baseline_usd / found.usd) if credited is not None and found.usd else 0.0
            ledger = msgspec.structs.replace(
                ledger, baseline=found.text[:256], baseline_usd=found.usd, baseline_done=max(done, ledger.baseline_done)
            )
        offering = self._offerings.get(OfferingId(plan.offering)) if plan is not None else None
        if plan is not None and offering is not None and self.worktimes.spans(account.uid):
            usd = job.data.gib * GB_PER_GIB * (egress(job, offering, observation.situation.rates) or 0.0)
            place = (day_of(observation.situation.now), offering.pool, offering.gpu_model, offering.capacity_type.value)
            before, ledger = ledger, book_transfer(ledger, usd, placed=plan.since, place=place)
            if plan.since > self.counted_until:
                self._count(account, before, ledger)
        return replace(account, ledger=ledger)

    def _credit(self, account: Account, seen: Seen) -> Account:
        """What the work that is done by now would have cost otherwise."""
        if seen.last is None:
            return account
        done = 1.0 if seen.phase is Phase.SUCCEEDED else seen.progress.estimate / max(seen.last.work.units, 1e-9)
        ledger = book_baseline(account.ledger, done)
        if account.through > self.counted_until:
            self._count(account, account.ledger, ledger)
        return replace(account, ledger=ledger)

    def _advance(self, account: Account, known_until: datetime, now: datetime, *, over: bool) -> tuple[Account, float]:
        """The account, booked until then; and what it comes to at this moment, in USD.

        Args:
            over: the job has ended or is gone: a node is held for it no longer than what is booked of it already.
        """
        spans, held = self.worktimes.spans(account.uid), self._held.get(account.uid, ())
        last = max((s.end for s in spans if s.end is not None), default=account.through)
        if over:
            held = [replace(h, end=min(h.end or account.through, account.through)) for h in held]
        if not spans and not held:
            return account, total_usd(account.ledger)
        time = _Time(spans, held)
        goes_on = any(s.end is None for s in spans) or any(h.end is None or h.end > known_until for h in held)
        until = known_until if goes_on else max(known_until, last)
        ledger, through = account.ledger, account.through
        if until > through:
            # What whoever led before has counted is booked here, and not counted again.
            between = min(max(self.counted_until, through), until)
            ledger = self._book(account, ledger, time, through, between)
            counted, ledger = ledger, self._book(account, ledger, time, between, until)
            self._count(account, counted, ledger)
            through = until
        shown = ledger if now <= through else self._book(account, ledger, time, through, now)
        return replace(account, ledger=ledger, through=through), total_usd(shown)

    def _book(self, account: Account, ledger: Ledger, time: _Time, start: datetime, until: datetime) -> Ledger:
        ledger = book(ledger, time.spans, account.terms, self.timeline, start=start, until=until)
        return book_held(ledger, time.held, self.timeline, start=start, until=until)

    def _count(self, account: Account, before: Ledger, after: Ledger) -> None:
        for line in less(after, before):
            self.count(account.namespace, line)

    def _close(self, account: Account, seen: Seen) -> Account:
        """After the end of a job, and of all that its workers did, nothing more will come."""
        if not _ended(seen):
            return account
        if any(s.end is None or s.end > account.through for s in self.worktimes.spans(account.uid)):
            return account
        return replace(account, ledger=msgspec.structs.replace(account.ledger, closed=True), open=False)

    def owe(self, uid: str, units: float) -> Ledger | None:
        """Work that was lost has to be done again. Returns the job's ledger with that; None: it has none."""
        account = self.accounts.get(uid)
        if account is None:
            return None
        ledger = msgspec.structs.replace(account.ledger, rework_units=account.ledger.rework_units + max(0.0, units))
        self.accounts[uid] = replace(account, ledger=ledger)
        return ledger

    def drop(self, uids: Iterable[str]) -> None:
        """Forget accounts that are settled and whose days are written."""
        for uid in uids:
            self.accounts.pop(uid, None)
            self._done.add(uid)


def _forget_old(gone: deque[tuple[RecordT, datetime]], now: datetime) -> None:
    """A standby hears of everything and books nothing; whoever leads has booked what is older."""
    while gone and gone[0][1] < now - _KEEP_GONE:
        gone.popleft()


def _ended(seen: Seen) -> bool:
    return seen.resource.status.phase in ENDED or seen.phase in ENDED


def _closed(resource: TrainingJob) -> bool:
    return resource.status.phase in ENDED and resource.status.ledger.closed


def _as_written(status: Status) -> Ledger:
    """A status of a version that kept no ledger says what was spent, and not on what."""
    ledger, usd, through = status.ledger, status.spent_exactly, status.spent_through
    if ledger.lines or ledger.earlier or usd <= 0 or through is None:
        return ledger
    before = Line(
        day=day_of(through),
        pool=status.pool,
        gpu_model=status.gpu_model,
        capacity_type=status.offering.rpartition("/")[2],
        usd=Uses(useful=usd),
        components=Components(hardware=usd),
    )
    return msgspec.structs.replace(ledger, earlier=before)


def known_until(now: datetime, told: datetime | None, silent_s: float) -> datetime:
    """Until when everything that happened to pods has been told, on the wall's clock.

    Args:
        now: by our own clock.
        told: what time it is by the API server's; None: it has not said so lately. Of the two the earlier one counts,
            so that no time is booked that has not passed on both: a clock that has jumped ahead pays for nothing.
        silent_s: for how long nothing has been heard of pods.
    """
    return min(now, told or now) - timedelta(seconds=max(SETTLE_AFTER_S, silent_s))


def clock_wrong(now: datetime, told: datetime | None) -> str:
    """What is wrong with our own clock, by the API server's; empty: nothing that matters, or nobody knows."""
    if told is None or abs(now - told) < CLOCKS_APART:
        return ""
    ahead = (now - told).total_seconds()
    which = "ahead of" if ahead > 0 else "behind"
    return (
        f"the operator's clock is {abs(ahead):.0f} s {which} the API server's; only time that has passed on both is "
        "booked: set them right"
    )
