"""Writes what people read of TrainingJobs: the statuses that have changed, their events, and a line in the log."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stint.api.trainingjob import TrainingJob
from stint.api.trainingjob_status import Status
from stint.controllers.fan_out import together
from stint.kube.client.api import Api, ApiError
from stint.kube.client.events import About, Recorder
from stint.kube.observe.snapshot import Observation, Seen
from stint.lifecycle.phases import Outcome
from stint.model.job import ENDED, JobId, Phase
from stint.model.measured import Measured
from stint.views import job_status, usage_status

log = logging.getLogger(__name__)

TELL_AT_ONCE = 100
TELL_FOR_S = 0.5  # of telling, while there is news
STARTS_AT_ONCE_S = 1.0  # a gang that runs within this time after its placement is told of once
MOST_UNTOLD_S = 20.0  # where many start together, they take longer
ROLLING_EVERY_S = 10.0  # how often figures that always move are written at the most
ROLLING_PER_MINUTE = 6  # of all jobs together; the metrics show the same figures without delay


@dataclass(frozen=True, slots=True)
class _Untold:
    """A status that waits to be written, in the hope that the next one makes it needless."""

    status: Status
    since: float  # seconds, on the loop's clock


@dataclass(kw_only=True)
class StatusWriter:
    """One for the whole operator; it remembers what it has not written yet."""

    api: Api
    events: Recorder
    hindrance: Callable[[], str]  # rights that are missing; empty: none
    booking: Callable[[], tuple[str, str] | None]  # what is wrong with the books: reason and message
    absorb: Callable[[dict[str, Any]], object]  # a TrainingJob as the API server answered a write of ours
    more_news: Callable[[], bool]  # a cycle is wanted
    _untold: dict[str, _Untold] = field(default_factory=dict)  # by uid: placed a moment ago, and not told yet
    _written: dict[str, float] = field(default_factory=dict)  # uid -> when its status was written, on the loop's clock

    @property
    def waits(self) -> bool:
        """Whether a status waits to be written."""
        return bool(self._untold)

    def as_will_be_told(self, resources: Sequence[TrainingJob]) -> Sequence[TrainingJob]:
        """With the statuses that wait to be written: nothing may be worked out from those before them."""
        if not self._untold:
            return resources
        there = {t.metadata.uid for t in resources}
        self._untold = {uid: untold for uid, untold in self._untold.items() if uid in there}
        return [
            t
            if (untold := self._untold.get(t.metadata.uid)) is None
            else msgspec.structs.replace(t, status=untold.status)
            for t in resources
        ]

    async def tell(
        self, observation: Observation, outcomes: Mapping[str, Outcome], measured: Measured, *, besides: set[JobId]
    ) -> None:
        """Every status that has changed, side by side.

        Where many have changed and there is news, the rest is left to the next cycle, which sees that it differs:
        gangs whose pods have all appeared do not wait until all jobs have been told of everything.
        """
        began = asyncio.get_running_loop().time()
        writes: dict[str, Awaitable[object]] = {}
        for key, seen in observation.seen.items():
            old = seen.resource.status
            if key in besides or (old.phase in ENDED and old.ledger.closed):
                continue
            if len(writes) >= TELL_AT_ONCE:
                await together("telling", writes)
                writes = {}
                if self.more_news() and asyncio.get_running_loop().time() - began > TELL_FOR_S:
                    return
            writes[key] = self.write(seen, outcomes.get(key), observation, measured)
        await together("telling", writes)

    async def write(self, seen: Seen, outcome: Outcome, observation: Observation, measured: Measured) -> None:
        """One status, where it has changed and is due; then its event.

        Raises:
            ApiError: the API server refuses, but for a TrainingJob that is gone.
        """
        context = job_status.Context(
            now=observation.situation.now,
            offerings=observation.inventory.offerings,
            nodes=observation.nodes,
            kept=observation.inventory.kept,
            pace=observation.situation.settings.pace,
            measured=measured,
            hindrance=self.hindrance(),
            booking=self.booking(),
        )
        resource, old = seen.resource, seen.resource.status
        uid = resource.metadata.uid
        untold = self._untold.get(uid)
        new = job_status.build(seen, outcome, context)
        if new.phase == Phase.STARTING and (untold or old.phase != Phase.STARTING):
            # Most gangs run within a second: one word for both. One that takes longer is told of meanwhile.
            now = asyncio.get_running_loop().time()
            since = untold.since if untold else now
            if now - since < min(STARTS_AT_ONCE_S * (1 + len(self._untold) / 50), MOST_UNTOLD_S):
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
        self._written[uid] = asyncio.get_running_loop().time()
        await self._announce(resource, old, new, anew=untold is not None)

    async def _announce(self, resource: TrainingJob, old: Status, new: Status, *, anew: bool) -> None:
        meta = resource.metadata
        about = About("stint.dev/v1alpha1", "TrainingJob", meta.namespace, meta.name, meta.uid)
        reason = "Placed" if new.reason == "Running" else new.reason or new.phase
        changed = (old.phase, old.reason) != (new.phase, new.reason) and (old.reason, reason) != ("Placed", "Placed")
        if changed or anew:
            await self.events.tell(about, reason, new.message, action=new.phase, warning=_worrying(new))
        for what, note in usage_status.news(old, new):
            await self.events.tell(about, what, note, action="Advise", warning=True)
        if changed or anew:
            log.info("%s/%s: %s %s: %s", meta.namespace, meta.name, new.phase, new.reason, new.message)

    def _recent(self, uid: str, jobs: int) -> bool:
        """Whether a status is too young to be written for the sake of figures that always move.

        The more jobs, the older it may grow: all of them together cost the API server a few requests a minute. After
        a start each gets its turn at a time of its own.
        """
        every = max(ROLLING_EVERY_S, jobs * 60 / ROLLING_PER_MINUTE)
        now = asyncio.get_running_loop().time()
        written = self._written.setdefault(uid, now - every * (zlib.crc32(uid.encode()) % 1000) / 1000)
        return now - written < every


_WORRYING = frozenset(
    {
        "NodeLost",
        "NodeInterrupted",
        "Disrupted",
        "DidNotStart",
        "NodeRejected",
        "PurchaseDidNotHelp",
        "NodesDidNotCome",
        "ScaleUpStopped",
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
