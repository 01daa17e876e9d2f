"""One cycle for all jobs: observe, decide, act, tell. Any change triggers it; no job has a cycle of its own.

Nothing is decided here: why a gang is requeued, held or placed is in the plan.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import aiohttp
import msgspec

from stint.catalogue.catalogue import Catalogue
from stint.controllers.bookkeeper import Bookkeeper
from stint.controllers.clock import Clock
from stint.controllers.daily_spend import DailySpends
from stint.controllers.fan_out import together
from stint.controllers.planner_client import Planner
from stint.controllers.pool_writer import PoolWriter
from stint.controllers.recorder import DecisionRecorder
from stint.controllers.status_writer import STARTS_AT_ONCE_S, StatusWriter
from stint.controllers.trigger import TICK_S, Trigger
from stint.kube.act.apply import Actuator
from stint.kube.client.api import ApiError, FencedError
from stint.kube.observe.memory import Memory, remembered
from stint.kube.observe.snapshot import (
    Caches,
    Observation,
    Seen,
    Spending,
    leaves,
    observe,
    since_empty,
    with_spending,
    with_what_was_seen,
)
from stint.kube.plan_note import PlanNote, made_from
from stint.lifecycle import phases
from stint.lifecycle.phases import Outcome
from stint.lifecycle.retries import next_try
from stint.metrics.exporter import Metrics
from stint.model.gang import WITHOUT_PLACE, GangState
from stint.model.job import JobId
from stint.model.limits import NamespaceLimits
from stint.model.measured import Measured
from stint.model.plan import Hold, Placement, Plan, Reason, Requeue
from stint.model.situation import Settings
from stint.views import job_status
from stint.views.requeue_status import backing_off, requeued

log = logging.getLogger(__name__)

SETTLED_TICK_S = 60.0  # where no job waits for anything
_BROKEN_OFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)  # the pause after the first cycle in a row that broke off, the second, ...
MOST_PAUSE_S = 60.0  # whatever the server asks for
_REFUSALS = frozenset({400, 403, 404, 409, 413, 422, 500})  # 500: also a webhook that does not answer


@dataclass(kw_only=True)
class Cycle:
    """The loop, with all that it reads and writes handed in."""

    actuator: Actuator
    planner: Planner
    pools: PoolWriter
    statuses: StatusWriter
    metrics: Metrics
    clock: Clock
    catalogue: Catalogue
    settings: Settings
    caches: Callable[[], Caches]
    books: Bookkeeper
    days: DailySpends
    known_until: Callable[[], datetime]  # on the wall's clock: what happened until then has been told
    may_act: Callable[[], bool]
    notes: Callable[[], tuple[str, ...]]
    steer: Callable[[], Awaitable[object]] | None = None  # sees to other people's workloads, and to what cannot be read
    recorder: DecisionRecorder | None = None
    trigger: Trigger = field(default_factory=Trigger)
    measured: Callable[[], Measured] = Measured
    limits: NamespaceLimits = field(default_factory=NamespaceLimits)
    learn: Callable[[Observation], object] = lambda _: None
    last_finished: float = field(default_factory=time.monotonic)
    observation: Observation | None = None
    _measured: Measured = field(default_factory=Measured)
    _empty_since: dict[str, datetime] = field(default_factory=dict)
    _memory: Memory = field(default_factory=Memory)
    _tick_s: float = TICK_S

    async def run(self) -> None:
        """Until cancelled. A cycle that fails is logged and tried again, after a pause that grows."""
        failures = 0
        while True:
            await self.trigger.fired(self._tick_s)
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
        observation = await self._look()  # 1. what there is, and what it has cost
        await self._release(observation)  # 2. go on with what was decided before
        decide_started = time.monotonic()
        verdict = await self.planner.plan(observation.situation)  # 3. decide
        plan = verdict.plan
        decide_s = time.monotonic() - decide_started
        if self.recorder is not None:
            self.recorder.keep(verdict.situation, verdict.made)
        stopped = await self._requeue(observation, plan)  # 4. gangs that lose their placement
        refused = await self._place(observation, plan, besides=stopped)  # 5. gangs that get one
        await self.pools.act(observation, plan, now=observation.situation.now)  # 6. pools
        outcomes = phases.outcomes(plan)
        await self.statuses.tell(observation, outcomes, self._measured, besides=stopped | refused)  # 7. tell
        await self.pools.tell(observation, plan)
        unhurried = SETTLED_TICK_S if _settled(observation, plan) else TICK_S
        hurried = self.statuses.waits or any(g.refused_since is not None for g in observation.situation.gangs)
        self._tick_s = STARTS_AT_ONCE_S if hurried else unhurried
        self.last_finished = time.monotonic()
        self.metrics.after_cycle(
            observation.situation,
            plan,
            decide_s=decide_s,
            cycle_s=self.last_finished - started,
            paid_shares=observation.paid_shares,
        )

    # 1. Look

    async def _look(self) -> Observation:
        caches = self.caches()
        caches = replace(caches, trainingjobs=self.statuses.as_will_be_told(caches.trainingjobs))
        observation = self._observe(caches)
        await self.days.begin(observation)
        self.observation = observation = self._booked(observation, caches)
        self.learn(observation)
        return observation

    def _observe(self, caches: Caches) -> Observation:
        now = self.clock.now()
        self._measured = self.measured()
        created = {
            t.metadata.uid: self.clock.of(t.metadata.creation_timestamp) if t.metadata.creation_timestamp else now
            for t in caches.trainingjobs
        }
        self._empty_since = since_empty(caches, self._empty_since, now=now)
        self._memory = remembered(self._memory, caches.nodes, now=now, of=self.clock.of)
        observation = observe(
            caches,
            self.catalogue,
            self.settings,
            now=now,
            created=created,
            empty_since=self._empty_since,
            memory=self._memory,
            notes=self.notes(),
            measured=self._measured,
            limits=self.limits,
        )
        self._memory = with_what_was_seen(self._memory, observation, caches)
        return observation

    def _booked(self, observation: Observation, caches: Caches) -> Observation:
        """With what all jobs have spent until now."""
        known_until = min(self.clock.of(self.known_until()), observation.situation.now)
        spending = self.books.book(observation, caches, self._measured.usage, known_until=known_until)
        self.days.book_nodes(known_until)
        return with_spending(observation, spending, self.books.bought)

    # 2. Release

    async def _release(self, observation: Observation) -> None:
        """Carry on with what was decided before: gangs whose pods have all appeared are released."""
        usable = {n.name for n in observation.situation.nodes if n.takes_pods}
        placed = {
            key: s.gang
            for key, s in observation.seen.items()
            if s.job is not None and s.gang.plan and not s.job.suspended and set(s.gang.plan.nodes) <= usable
            # Pods that ask for more than was planned are decided about first.
            if s.facts is None or s.facts.admitted is None
        }
        lacking = self.actuator.ungrouped(placed)
        await together("creating PodGroups", {key: self.actuator.group(placed[key]) for key in lacking})
        ready: dict[str, Awaitable[object]] = {
            key: self.actuator.release(gang) for key, gang in placed.items() if gang.to_release()
        }
        await together("releasing", ready)

    # 4. Requeue

    async def _requeue(self, observation: Observation, plan: Plan) -> set[JobId]:
        """Stop gangs that lose their placement: first note what survives, then let go of the nodes.

        Returns the jobs whose status has been written thereby.
        """
        requeued = {r.job: r for r in plan.requeues}
        writes: dict[str, Awaitable[object]] = {}
        for key, seen in observation.seen.items():
            if seen.job is None:
                continue
            if seen.gang.state is GangState.TAKEN_BACK:
                writes[key] = self._let_go(seen)  # the operator ended between the two
            elif (requeue := requeued.get(key)) is not None:
                writes[key] = self._stop(observation, seen, requeue)
            elif seen.gang.lost and seen.gang.state is not GangState.PLACED:
                writes[key] = self.actuator.forget(seen.gang)
        await together("requeueing", writes)
        return set(requeued)

    async def _stop(self, observation: Observation, seen: Seen, requeue: Requeue) -> None:
        """One gang. Killed after the first of these writes, the next cycle finds the gang `TAKEN_BACK` and goes on."""
        ended = self.clock.of(seen.gang.ended) if seen.gang.ended else None
        status = requeued(seen, requeue, observation.situation.now, ended=ended)
        suspended = seen.resource.spec.suspend or leaves(seen.resource, seen.gang)
        outcome: Outcome = None if suspended else requeue
        after = replace(
            seen,
            resource=msgspec.structs.replace(seen.resource, status=status),
            progress=status.progress,
            spending=self._owing(seen, seen.progress.estimate - status.progress.units_done),
            idle_held=requeue.reason is Reason.IDLE,
        )
        await self.statuses.write(after, outcome, observation, self._measured)
        await self._let_go(after)
        if requeue.reason in (Reason.DID_NOT_START, Reason.NODE_REJECTED):
            self.metrics.rolled_back(requeue.reason.value)

    def _owing(self, seen: Seen, units: float) -> Spending:
        """Work that is lost will be done again, and be told apart."""
        ledger = self.books.owe(seen.resource.metadata.uid, units)
        return seen.spending if ledger is None else replace(seen.spending, ledger=ledger)

    async def _let_go(self, seen: Seen) -> None:
        """Of a gang's nodes, once its status says so."""
        gang = seen.gang
        if gang.state in WITHOUT_PLACE:
            return
        if gang.theirs is not None:
            await asyncio.gather(self.actuator.take_back(gang), self.actuator.forget(gang))
            return
        if gang.job is None:
            return
        # A Job that lost a pod waits ten seconds or more before it makes another one; a new Job does not.
        worn = gang.job.failed_message is not None or gang.disrupted or gang.gone or gang.rejections
        await (self.actuator.discard(gang) if worn else self.actuator.park(gang))
        await self.actuator.forget(gang)

    # 5. Place

    async def _place(self, observation: Observation, plan: Plan, *, besides: set[JobId]) -> set[JobId]:
        """Give gangs their placements, but not those that have just been stopped.

        Returns those that the API server refused: they are told so, and back off.
        """
        coming = {p.job for p in plan.placements}
        served = {
            seen.resource.metadata.namespace
            for key, seen in observation.seen.items()
            if seen.gang.theirs is None and (seen.gang.state is GangState.PLACED or key in coming)
        }
        missing = self.actuator.unserved(served)
        await together("creating Services", {namespace: self.actuator.serve(namespace) for namespace in missing})
        refused: set[JobId] = set()

        async def one(placement: Placement) -> None:
            seen, now = observation.seen[placement.job], observation.situation.now
            try:
                await self.actuator.place(seen, _note(observation, placement, seen, now))
            except ApiError as error:
                if error.status not in _REFUSALS:
                    raise
                refused.add(placement.job)
                await self._refuse(observation, seen, placement.job, error)

        await together("placing", {p.job: one(p) for p in plan.placements if p.job not in besides})
        return refused

    async def _refuse(self, observation: Observation, seen: Seen, job: JobId, error: ApiError) -> None:
        """What the API server does not take is tried again later, as a start that did not hold."""
        old, now = seen.resource.status, observation.situation.now
        until = next_try(now, old.rollbacks, pace=self.clock.pace)
        status = backing_off(old, old.rollbacks + 1, until)
        text = (
            f"the API server refuses its Job: {error.message}; change the job, or what refuses it; the next try is "
            f"after {until:%H:%M:%S} UTC"
        )
        after = replace(seen, resource=msgspec.structs.replace(seen.resource, status=status))
        hold = Hold(job=job, reason=Reason.REFUSED, message=text)
        await self.statuses.write(after, hold, observation, self._measured)


def _note(observation: Observation, placement: Placement, seen: Seen, now: datetime) -> PlanNote:
    chosen, spec = placement.chosen, seen.resource.spec
    offering = observation.inventory.offerings[chosen.offering]
    gpu_resource = offering.slices.resource if offering.slices else ""
    gpus = seen.job.gpus(chosen.workers) if seen.job else chosen.workers * spec.gpu.per_worker
    return PlanNote(
        offering=chosen.offering,
        gpu_model=offering.gpu_model,
        nodes=tuple(placement.nodes),
        since=now,
        usd_per_hour=chosen.usd_per_hour,
        finish=chosen.finish,
        cost_usd=chosen.cost.usd,
        message=job_status.placed_message(placement, offering, gpus, fraction=spec.gpu.fraction),
        attempt=seen.resource.status.retries,
        per_worker=seen.job.per_worker if seen.job else None,
        roles=seen.job.roles if seen.job else (),
        made_from=made_from(spec, gpu_resource),
        gpu_resource=gpu_resource,
    )


def _unsteady(observation: Observation) -> bool:
    """Whether a gang has a node that is not ready: what follows from that comes with time."""
    held = {n for j in observation.situation.jobs if j.assignment is not None for n in j.assignment.nodes}
    return any(not n.ready and n.name in held for n in observation.situation.nodes)


def _settled(observation: Observation, plan: Plan) -> bool:
    """Whether all that may happen next is told by the API server: no job waits, starts, leaves or may be stopped."""
    if plan.holds or plan.placements or plan.requeues or plan.resizes:
        return False
    if _unsteady(observation):
        return False
    if any(n.removable and n.empty_since is not None for n in observation.situation.nodes):
        return False
    if any(s.idle.since is not None and not s.idle.due for s in observation.seen.values()):
        return False  # an idlePolicy has its time
    return all(s.job is None or s.progress.running_since is not None for s in observation.seen.values())
