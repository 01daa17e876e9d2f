"""One cycle for all jobs: observe, decide, act, tell. Any change triggers it; no job has a cycle of its own."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import msgspec

from stint.api.trainingjob import Progress, Status, TrainingJob
from stint.catalogue.catalogue import Catalogue
from stint.controllers.bookkeeper import Bookkeeper
from stint.controllers.clock import Clock
from stint.controllers.daily_spend import DailySpends
from stint.controllers.fan_out import together
from stint.controllers.planner_client import Planner
from stint.controllers.pool_status import PoolWriter
from stint.controllers.recorder import DecisionRecorder
from stint.estimate.runtime import hours_between, units_kept
from stint.kube.act.apply import Actuator
from stint.kube.client.api import Api, ApiError, FencedError
from stint.kube.client.events import About, Recorder
from stint.kube.observe.gang import GangState
from stint.kube.observe.progress import kept as kept_of
from stint.kube.observe.snapshot import Caches, Observation, Seen, Spending, observe, since_empty, with_spending
from stint.kube.plan_note import PlanNote, made_from
from stint.metrics.exporter import Metrics
from stint.model.job import ENDED, JobId, Phase
from stint.model.measured import Measured
from stint.model.plan import MOVES, Hold, Placement, Plan, Reason, Recall
from stint.model.situation import Settings
from stint.views import job_status, usage_status

log = logging.getLogger(__name__)

QUIET_S = 0.03  # without a trigger, before a cycle begins
PATIENCE_S = 1.0  # then go anyway
TICK_S = 5.0  # time passes although nothing triggers a cycle
SETTLED_TICK_S = 60.0  # where nobody waits for anything
TELL_AT_ONCE = 100
TELL_FOR_S = 0.5  # of telling, while there is news
STARTS_AT_ONCE_S = 1.0  # a gang that runs within this time after it got its place is told of once
MOST_UNTOLD_S = 20.0  # where many start together, they take longer
ROLLING_EVERY_S = 10.0  # how often figures that always move are written at the most
ROLLING_PER_MINUTE = 6  # of all jobs together; the metrics show the same figures without delay
BACKOFF_S, MOST_BACKOFF_S = 10.0, 600.0
_BROKEN_OFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)  # the pause after the first cycle in a row that broke off, the second, ...
MOST_PAUSE_S = 60.0  # whatever the server asks for
_PLACED = (Phase.STARTING, Phase.RUNNING)
_WITHOUT_PLACE = (GangState.ABSENT, GangState.PARKED, GangState.LEAVING)
_REFUSALS = frozenset({400, 403, 404, 409, 413, 422, 500})  # 500: also a webhook that does not answer


@dataclass(frozen=True, slots=True)
class _Untold:
    """A status that waits to be written, in the hope that the next one makes it needless."""

    status: Status
    since: float  # monotonic seconds


@dataclass(slots=True)
class Trigger:
    """Something has changed."""

    event: asyncio.Event = field(default_factory=asyncio.Event)

    def fire(self) -> None:
        """Ask for a cycle."""
        self.event.set()

    async def heard(self, tick_s: float = TICK_S) -> None:
        """Wait for a trigger, then for quiet, but not for ever."""
        try:
            await asyncio.wait_for(self.event.wait(), tick_s)
        except TimeoutError:
            return
        first = time.monotonic()
        while self.event.is_set() and time.monotonic() - first < PATIENCE_S:
            self.event.clear()
            await asyncio.sleep(QUIET_S)
        self.event.clear()


@dataclass(kw_only=True)
class Cycle:
    """The loop, with all that it reads and writes handed in."""

    api: Api
    actuator: Actuator
    planner: Planner
    pools: PoolWriter
    events: Recorder
    metrics: Metrics
    clock: Clock
    catalogue: Catalogue
    settings: Settings
    caches: Callable[[], Caches]
    books: Bookkeeper
    days: DailySpends
    booking: Callable[[], tuple[str, str] | None]  # what is wrong with the books: reason and message
    known_until: Callable[[], datetime]  # on the wall's clock: what happened until then has been told
    may_act: Callable[[], bool]
    notes: Callable[[], tuple[str, ...]]
    hindrance: Callable[[], str]  # rights that are missing; empty: none
    absorb: Callable[[dict[str, Any]], object]  # a TrainingJob as the API server answered a write of ours
    steer: Callable[[], Awaitable[object]] | None = None  # sees to other people's workloads beforehand
    recorder: DecisionRecorder | None = None
    trigger: Trigger = field(default_factory=Trigger)
    measured: Callable[[], Measured] = Measured
    learn: Callable[[Observation], object] = lambda _: None
    last_finished: float = field(default_factory=time.monotonic)
    observation: Observation | None = None
    _measured: Measured = field(default_factory=Measured)
    _empty_since: dict[str, datetime] = field(default_factory=dict)
    _tick_s: float = TICK_S
    _untold: dict[str, _Untold] = field(default_factory=dict)  # by uid: placed a moment ago, and not told yet
    _written: dict[str, float] = field(default_factory=dict)  # uid -> when its status was written, monotonic

    async def run(self) -> None:
        """Until cancelled. A cycle that fails is logged and tried again, after a pause that grows."""
        failures = 0
        while True:
            await self.trigger.heard(self._tick_s)
            if not self.may_act():
                continue
            try:
                await self.once()
                failures = 0
                continue
            except (ApiError, FencedError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("cycle broken off: %s", error or type(error).__name__)
                asked = error.retry_after_s or 0.0 if isinstance(error, ApiError) else 0.0
            except Exception:
                # A mistake of ours. Ending the process would only repeat it; the liveness probe sees to that in time.
                log.exception("cycle broken off by something unforeseen")
                self.metrics.unforeseen()
                asked = 0.0
            pause = max(_BROKEN_OFF_S[min(failures, len(_BROKEN_OFF_S) - 1)], min(asked, MOST_PAUSE_S))
            failures += 1
            await asyncio.sleep(pause)
            self.trigger.fire()

    async def once(self) -> None:
        """One pass."""
        started = time.monotonic()
        if self.steer is not None:
            await self.steer()
        caches = self._caches()
        observation = self._observe(caches)
        await self.days.begin(observation)
        observation = self._booked(observation, caches)
        self.observation = observation
        self.learn(observation)
        await self._release(observation)
        decide_started = time.monotonic()
        verdict = await self.planner.plan(observation.situation)
        plan = verdict.plan
        decide_s = time.monotonic() - decide_started
        if self.recorder is not None:
            self.recorder.keep(verdict.situation, verdict.made)
        outcomes = job_status.outcomes(plan)
        taken_back = await self._take_back(observation, outcomes)
        refused = await self._place(observation, plan, besides=taken_back)
        await self.pools.act(observation, plan, now=observation.situation.now)
        await self._tell(observation, outcomes, besides=taken_back | refused)
        await self.pools.tell(observation, plan)
        unhurried = SETTLED_TICK_S if self._settled(observation, plan) else TICK_S
        self._tick_s = STARTS_AT_ONCE_S if self._untold else unhurried
        self.last_finished = time.monotonic()
        self.metrics.after_cycle(observation.situation, plan, decide_s=decide_s, cycle_s=self.last_finished - started)

    def _settled(self, observation: Observation, plan: Plan) -> bool:
        """Whether all that may happen next is told by the API server: nobody waits, starts, leaves or may be let go."""
        if plan.holds or plan.placements or plan.recalls or plan.resizes:
            return False
        if any(n.removable and n.empty_since is not None for n in observation.situation.nodes):
            return False
        if any(s.idle.since is not None and not s.idle.due for s in observation.seen.values()):
            return False  # an idlePolicy has its time
        return all(s.job is None or s.progress.running_since is not None for s in observation.seen.values())

    def _caches(self) -> Caches:
        caches = self.caches()
        if not self._untold:
            return caches
        there = {t.metadata.uid for t in caches.trainingjobs}
        self._untold = {uid: untold for uid, untold in self._untold.items() if uid in there}
        return replace(caches, trainingjobs=[self._as_will_be_told(t) for t in caches.trainingjobs])

    def _booked(self, observation: Observation, caches: Caches) -> Observation:
        """With what everybody has spent until now."""
        known_until = min(self.clock.of(self.known_until()), observation.situation.now)
        spending = self.books.book(observation, caches, self._measured.usage, known_until=known_until)
        self.days.book_nodes(known_until)
        return with_spending(observation, spending)

    def _observe(self, caches: Caches) -> Observation:
        now = self.clock.now()
        self._measured = self.measured()
        created = {
            t.metadata.uid: self.clock.of(t.metadata.creation_timestamp) if t.metadata.creation_timestamp else now
            for t in caches.trainingjobs
        }
        self._empty_since = since_empty(caches, self._empty_since, now=now)
        return observe(
            caches,
            self.catalogue,
            self.settings,
            now=now,
            created=created,
            empty_since=self._empty_since,
            notes=self.notes(),
            measured=self._measured,
        )

    def _as_will_be_told(self, resource: TrainingJob) -> TrainingJob:
        """With the status that waits to be written: nothing may be worked out from the one before it."""
        untold = self._untold.get(resource.metadata.uid)
        return resource if untold is None else msgspec.structs.replace(resource, status=untold.status)

    async def _release(self, observation: Observation) -> None:
        """Carry on with what was decided before: gangs whose pods have all appeared are let go."""
        usable = {n.name for n in observation.situation.nodes if n.usable}
        placed = {
            key: s.gang
            for key, s in observation.seen.items()
            if s.job is not None and s.gang.plan and not s.job.suspended and set(s.gang.plan.nodes) <= usable
        }
        lacking = self.actuator.ungrouped(placed)
        await together("creating PodGroups", {key: self.actuator.group(placed[key]) for key in lacking})
        ready: dict[str, Awaitable[object]] = {
            key: self.actuator.release(gang) for key, gang in placed.items() if gang.to_release()
        }
        await together("releasing", ready)

    async def _take_back(self, observation: Observation, outcomes: dict[str, job_status.Outcome]) -> set[JobId]:
        """Gangs that cannot go on, may not, or did not start: first note what survives, then let go of the nodes.

        Returns the jobs whose status has been written thereby.
        """
        now = observation.situation.now
        recalls: dict[JobId, Recall] = {}
        forgotten: dict[str, Awaitable[object]] = {}
        for key, seen in observation.seen.items():
            if seen.job is None:
                continue
            if seen.gang.state is GangState.TAKEN_BACK:
                forgotten[key] = self._let_go(seen)
                continue
            recall = self._why_back(seen, outcomes.get(key), now)
            if recall is not None:
                recalls[key] = recall
            elif seen.gang.lost and seen.gang.state is not GangState.PLACED:
                forgotten[key] = self.actuator.forget(seen.gang)
        taking: dict[str, Awaitable[object]] = {
            key: self._recall(observation, observation.seen[key], recall) for key, recall in recalls.items()
        }
        await together("taking back", forgotten | taking)
        return set(recalls)

    async def _recall(self, observation: Observation, seen: Seen, recall: Recall) -> None:
        """One gang. Killed after the first of these writes, the next cycle finds the gang `TAKEN_BACK` and goes on."""
        status = self._after_recall(seen, recall, observation.situation.now)
        assert seen.job is not None
        outcome = None if seen.resource.spec.suspend else recall
        after = replace(
            seen,
            resource=msgspec.structs.replace(seen.resource, status=status),
            progress=status.progress,
            spending=self._owing(seen, seen.progress.estimate - status.progress.units_done),
            idle_held=recall.reason is Reason.IDLE,
        )
        await self._write(after, outcome, observation)
        await self._let_go(after)
        if recall.reason is Reason.DID_NOT_START:
            self.metrics.rolled_back(recall.reason.value)

    def _owing(self, seen: Seen, units: float) -> Spending:
        """Work that is lost will be done again, and be told apart."""
        ledger = self.books.owe(seen.resource.metadata.uid, units)
        return seen.spending if ledger is None else replace(seen.spending, ledger=ledger)

    async def _let_go(self, seen: Seen) -> None:
        """Of a gang's nodes, once its status says so."""
        gang = seen.gang
        if gang.theirs is not None:
            if gang.state not in _WITHOUT_PLACE:
                await asyncio.gather(self.actuator.take_back(gang), self.actuator.forget(gang))
            return
        if gang.job is None or gang.state in _WITHOUT_PLACE:
            return
        # A Job that lost a pod waits ten seconds or more before it makes another one; a new Job does not.
        worn = gang.job.failed_message is not None or gang.disrupted or gang.gone
        await (self.actuator.discard(gang) if worn else self.actuator.park(gang))
        await self.actuator.forget(gang)

    def _why_back(self, seen: Seen, outcome: job_status.Outcome, now: datetime) -> Recall | None:
        """Why a gang's objects must go, if they must."""
        job, gang, spec = seen.job, seen.gang, seen.resource.spec
        if job is None:
            return None
        vanished = gang.theirs is not None and gang.state is GangState.PLACED
        vanished = vanished and not (gang.pods or gang.lost or gang.done)
        if (gang.state in _WITHOUT_PLACE or vanished) and seen.resource.status.phase in _PLACED:
            what = f"all pods of {gang.theirs.what} were" if gang.theirs else "its Job was"
            text = f"{what} deleted or suspended by somebody; the gang starts again from its last checkpoint"
            return Recall(job=job.id, reason=Reason.DISRUPTED, message=text)
        if gang.disrupted:
            # Not the worker's fault, and so none of its retries: also where the others have failed for want of it.
            text = f"{gang.disrupted}; the gang was taken back whole, to its last checkpoint"
            return Recall(job=job.id, reason=Reason.DISRUPTED, message=text)
        if gang.state is GangState.FAILED:
            text = f"a worker failed ({gang.failure}); the gang starts again from its last checkpoint"
            return Recall(job=job.id, reason=Reason.WORKER_FAILED, message=text)
        if gang.state is not GangState.PLACED or gang.plan is None:
            return None
        if job.suspended and not spec.suspend:
            return Recall(job=job.id, reason=Reason.IDLE, message=usage_status.idle_message(seen))
        if job.suspended:
            return Recall(job=job.id, reason=Reason.BACKING_OFF, message="spec.suspend is true")
        if isinstance(outcome, Recall):
            return outcome
        if gang.gone and seen.progress.running_since is not None:
            # What its Job puts in place of it would start alone, among others that wait for the one that is gone.
            lost = ", ".join(f"{rank} on {gang.plan.nodes[rank]}" for rank in gang.gone)
            text = f"worker {lost} was taken away or deleted; the gang was taken back whole, to its last checkpoint"
            return Recall(job=job.id, reason=Reason.DISRUPTED, message=text)
        waited = self.clock.wall_seconds(now - gang.plan.since)
        if gang.running or seen.progress.running_since or waited <= spec.placement_timeout_seconds:
            return None
        stuck = sorted({gang.plan.nodes[p.gang.index] for p in gang.stuck() if p.gang})
        there = f"{gang.ready_workers} of {len(gang.plan.nodes)} workers ran after {waited:.0f} s"
        where = f"; none started on {', '.join(stuck)}" if stuck else ""
        if ignored := gang.ignored_by_schedulers():
            where += f"; no scheduler has looked at {len(ignored)} of its pods: another's scheduling gate holds them, "
            where += "or nobody answers to their schedulerName"
        if missing := len(gang.plan.nodes) - len(gang.pods) - gang.done:
            maker = gang.theirs.what.lower() if gang.theirs else f"job {seen.resource.metadata.name}"
            where += f"; {missing} of its pods were never created, `kubectl describe {maker}` says why"
        return Recall(job=job.id, reason=Reason.DID_NOT_START, message=f"{there}{where}; the gang was taken back whole")

    def _after_recall(self, seen: Seen, recall: Recall, now: datetime) -> Status:
        """The bookkeeping of a recall: what survives of the work, whom to blame, when to try again."""
        old, gang, job = seen.resource.status, seen.gang, seen.job
        assert job is not None
        kept, live = seen.progress.units_done, seen.progress if seen.progress.running_since else old.progress
        # A gang that failed or whose Job is gone runs no longer; its status still says since when it had, and where.
        since = seen.progress.running_since or old.progress.running_since
        gpu_model = gang.plan.gpu_model if gang.plan else old.gpu_model
        if gpu_model and since is not None:
            before = replace(job, work=replace(job.work, units_done=seen.progress.units_done))
            ran = hours_between(since, self.clock.of(gang.ended) if gang.ended else now)
            workers = len(gang.plan.nodes) if gang.plan else old.workers
            kept = units_kept(before, gpu_model, workers, ran_hours=ran)
            if live.source:
                kept = kept_of(before, live, ran_hours=ran)
        status = msgspec.structs.replace(
            old,
            progress=Progress(units_done=kept, estimate=kept, told=live.told),
            taken_back=gang.plan.since if gang.plan else old.taken_back,
        )
        if recall.reason is Reason.IDLE:
            return msgspec.structs.replace(status, idle_held=seen.resource.metadata.generation, idle_since=None)
        if recall.reason in MOVES:
            # It may start at once, and comes back to none of these nodes as long as blame lasts.
            return msgspec.structs.replace(status, moved=now, not_before=now, avoid=sorted(recall.avoid))
        if recall.reason is Reason.WORKER_FAILED and gang.plan is not None:
            return msgspec.structs.replace(status, retries=max(old.retries, gang.plan.attempt + 1))
        if recall.reason is not Reason.DID_NOT_START:
            return status
        blamed = [gang.plan.nodes[p.gang.index] for p in gang.stuck() if p.gang] if gang.plan else []
        return self._back_off(status, now, blamed=blamed)

    async def _place(self, observation: Observation, plan: Plan, *, besides: set[JobId]) -> set[JobId]:
        """Give gangs their places, but not those that have just been taken back.

        Returns those that the API server refused: they are told so, and back off.
        """
        refused: set[JobId] = set()
        coming = {p.job for p in plan.placements}
        served = {
            seen.resource.metadata.namespace
            for key, seen in observation.seen.items()
            if seen.gang.theirs is None and (seen.gang.state is GangState.PLACED or key in coming)
        }
        missing = self.actuator.unserved(served)
        await together("creating Services", {namespace: self.actuator.serve(namespace) for namespace in missing})

        async def one(placement: Placement) -> None:
            seen, now = observation.seen[placement.job], observation.situation.now
            try:
                await self.actuator.place(seen, self._note(observation, placement, seen, now))
            except ApiError as error:
                if error.status not in _REFUSALS:
                    raise
                refused.add(placement.job)
                status = self._back_off(seen.resource.status, now)
                again = f"{status.not_before or now:%H:%M:%S} UTC"
                text = (
                    f"the API server refuses its Job: {error.message}; change the job, or what refuses it; it is tried "
                    f"again after {again}"
                )
                after = replace(seen, resource=msgspec.structs.replace(seen.resource, status=status))
                await self._write(after, Hold(job=placement.job, reason=Reason.REFUSED, message=text), observation)

        await together("placing", {p.job: one(p) for p in plan.placements if p.job not in besides})
        return refused

    def _back_off(self, old: Status, now: datetime, *, blamed: Iterable[str] = ()) -> Status:
        """Try again later: twice as late every time, up to a limit."""
        pause = min(BACKOFF_S * 2 ** min(old.rollbacks, 10), MOST_BACKOFF_S) * self.clock.pace
        return msgspec.structs.replace(
            old,
            rollbacks=old.rollbacks + 1,
            not_before=now + timedelta(seconds=pause),
            avoid=sorted(set(blamed))[:64],
        )

    def _note(self, observation: Observation, placement: Placement, seen: Seen, now: datetime) -> PlanNote:
        chosen, spec = placement.chosen, seen.resource.spec
        offering = observation.inventory.offerings[chosen.offering]
        gpu_resource = offering.slices.resource if offering.slices else ""
        return PlanNote(
            offering=chosen.offering,
            gpu_model=offering.gpu_model,
            nodes=tuple(placement.nodes),
            since=now,
            usd_per_hour=chosen.usd_per_hour,
            finish=chosen.finish,
            cost_usd=chosen.cost.usd,
            message=job_status.placed_message(
                placement, offering, chosen.workers * spec.gpu.per_worker, fraction=spec.gpu.fraction
            ),
            attempt=seen.resource.status.retries,
            per_worker=seen.job.per_worker if seen.job else None,
            made_from=made_from(spec, gpu_resource),
            gpu_resource=gpu_resource,
        )

    async def _tell(
        self, observation: Observation, outcomes: dict[str, job_status.Outcome], *, besides: set[JobId]
    ) -> None:
        """Every status that has changed, side by side.

        Where many have changed and there is news, the rest is left to the next cycle, which sees that it differs:
        gangs whose pods have all appeared do not wait until everybody has been told of everything.
        """
        began = time.monotonic()
        writes: dict[str, Awaitable[object]] = {}
        for key, seen in observation.seen.items():
            old = seen.resource.status
            if key in besides or (old.phase in ENDED and old.ledger.closed):
                continue
            if len(writes) >= TELL_AT_ONCE:
                await together("telling", writes)
                writes = {}
                if self.trigger.event.is_set() and time.monotonic() - began > TELL_FOR_S:
                    return
            writes[key] = self._write(seen, outcomes.get(key), observation)
        await together("telling", writes)

    async def _write(self, seen: Seen, outcome: job_status.Outcome, observation: Observation) -> None:
        context = job_status.Context(
            now=observation.situation.now,
            offerings=observation.inventory.offerings,
            measured=self._measured,
            hindrance=self.hindrance(),
            booking=self.booking(),
        )
        resource, old = seen.resource, seen.resource.status
        uid = resource.metadata.uid
        untold = self._untold.get(uid)
        new = job_status.build(seen, outcome, context)
        if new.phase == Phase.STARTING and (untold or old.phase != Phase.STARTING):
            # Most gangs run within a second: one word for both. Whoever takes longer is told of meanwhile.
            since = untold.since if untold else time.monotonic()
            if time.monotonic() - since < min(STARTS_AT_ONCE_S * (1 + len(self._untold) / 50), MOST_UNTOLD_S):
                self._untold[uid] = _Untold(new, since)
                return
        self._untold.pop(uid, None)
        loud = untold is not None or seen.spending.pressing or job_status.significant(old, new)
        if (new == old and not untold) or (not loud and self._recent(uid, len(observation.situation.jobs))):
            return
        meta = resource.metadata
        path = f"/apis/stint.dev/v1alpha1/namespaces/{meta.namespace}/trainingjobs/{meta.name}"
        try:
            self.absorb(await self.api.apply_status(path, job_status.body(resource, new)))
        except ApiError as error:
            if error.status == 404:
                return
            raise
        self._written[uid] = time.monotonic()
        reason = "Placed" if new.reason == "Running" else new.reason or new.phase
        changed = (old.phase, old.reason) != (new.phase, new.reason) and (old.reason, reason) != ("Placed", "Placed")
        if changed or untold:
            about = About("stint.dev/v1alpha1", "TrainingJob", meta.namespace, meta.name, meta.uid)
            await self.events.tell(about, reason, new.message, action=new.phase, warning=_worrying(new))
        for reason, note in usage_status.news(old, new):
            about = About("stint.dev/v1alpha1", "TrainingJob", meta.namespace, meta.name, meta.uid)
            await self.events.tell(about, reason, note, action="Advise", warning=True)
        if changed or untold:
            log.info("%s/%s: %s %s: %s", meta.namespace, meta.name, new.phase, new.reason, new.message)

    def _recent(self, uid: str, jobs: int) -> bool:
        """Whether a status is too young to be written for the sake of figures that always move.

        The more jobs, the older it may grow: all of them together cost the API server a few requests a minute. After
        a start each gets its turn at a time of its own.
        """
        every = max(ROLLING_EVERY_S, jobs * 60 / ROLLING_PER_MINUTE)
        now = time.monotonic()
        written = self._written.setdefault(uid, now - every * (zlib.crc32(uid.encode()) % 1000) / 1000)
        return now - written < every


_WORRYING = frozenset(
    {
        "NodeLost",
        "NodeInterrupted",
        "Disrupted",
        "DidNotStart",
        "WorkerFailed",
        "InvalidSpec",
        "OverBudget",
        "Refused",
        "NoPlan",
        "Idle",
    }
)


def _worrying(status: Status) -> bool:
    return status.phase == Phase.FAILED or status.reason in _WORRYING
