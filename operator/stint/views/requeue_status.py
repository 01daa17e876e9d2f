"""What a status keeps of a gang that is requeued: the work that survives, retries, back-off and blame. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import msgspec

from stint.api.trainingjob_status import AdmittedStatus, Blamed, Progress, Status
from stint.estimate.runtime import hours_between, units_kept
from stint.kube.observe.progress import kept as kept_of
from stint.kube.observe.snapshot import Seen
from stint.lifecycle.blame import SUSPECT_FOR
from stint.lifecycle.retries import BLAME_LASTS, MOST_AVOIDED
from stint.model.plan import MOVES, Reason, Requeue

MOST_ADMITTED = 64  # resources and labels that are kept of what admission did


def requeued(seen: Seen, requeue: Requeue, now: datetime, *, ended: datetime | None) -> Status:
    """The status after a requeue, written before anything of the gang is touched.

    Args:
        ended: when its Job ended, on the deciding clock; None: it has not.
    """
    old, gang = seen.resource.status, seen.gang
    kept, live = _kept_units(seen, ended or now), seen.progress if seen.progress.running_since else old.progress
    status = msgspec.structs.replace(
        old,
        progress=Progress(units_done=kept, estimate=kept, told=live.told),
        taken_back=gang.plan.since if gang.plan else old.taken_back,
    )
    if requeue.reason is Reason.IDLE:
        return msgspec.structs.replace(status, idle_held=seen.resource.metadata.generation, idle_since=None)
    if requeue.avoid:
        status = _blaming(status, seen, requeue, now)
    if requeue.reason in MOVES:
        # It may start at once, and comes back to none of these nodes as long as blame lasts.
        return msgspec.structs.replace(status, moved=now, moved_for=requeue.made_room_for or "", not_before=now)
    if requeue.admitted is not None:
        requests = requeue.admitted.requests
        found = AdmittedStatus(
            generation=seen.resource.metadata.generation,
            since=now,
            cpu=requests.cpu,
            memory_gib=requests.memory_gib,
            resources=dict(requests.extended[:MOST_ADMITTED]),
            node_selector=dict(requeue.admitted.node_selector[:MOST_ADMITTED]),
        )
        return msgspec.structs.replace(status, admitted=found, not_before=requeue.not_before or status.not_before)
    if requeue.retries is not None:
        status = msgspec.structs.replace(status, retries=max(old.retries, requeue.retries))
    if requeue.failed_starts is not None:
        return backing_off(status, requeue.failed_starts, requeue.not_before or now)
    return status


def backing_off(status: Status, failed_starts: int, until: datetime) -> Status:
    """After a start that did not hold."""
    return msgspec.structs.replace(status, rollbacks=failed_starts, not_before=until)


def _blaming(status: Status, seen: Seen, requeue: Requeue, now: datetime) -> Status:
    """The nodes that refuse it now, beside those that have before: two bad nodes would be tried in turn for ever.

    A further refusal renews the blame of those before it. What is over is kept for as long as it may count against a
    node that other jobs blame, too.
    """
    until = requeue.avoid_until or now + BLAME_LASTS
    generation = seen.resource.metadata.generation
    blamed = {
        b.node: msgspec.structs.replace(b, until=max(b.until, until)) if b.until > now else b
        for b in status.blamed
        if b.generation == generation
        and b.since.tzinfo
        and b.until.tzinfo
        and (b.until > now or b.since > now - SUSPECT_FOR)
    }
    for node in requeue.avoid:
        blamed[node] = Blamed(
            node=node,
            offering=seen.gang.plan.offering if seen.gang.plan else "",
            reason=requeue.reason.value,
            said=requeue.avoid_for,
            since=now,
            until=until,
            generation=generation,
        )
    last = sorted(blamed.values(), key=lambda b: b.since, reverse=True)[:MOST_AVOIDED]
    kept = sorted(last, key=lambda b: b.node)
    return msgspec.structs.replace(status, blamed=kept, avoid=[b.node for b in kept if b.until > now])


def _kept_units(seen: Seen, until: datetime) -> float:
    """Units of work up to the last checkpoint."""
    old, gang, job = seen.resource.status, seen.gang, seen.job
    assert job is not None
    live = seen.progress if seen.progress.running_since else old.progress
    # A gang that failed or whose Job is gone runs no longer; its status still says since when it had, and where.
    since = seen.progress.running_since or old.progress.running_since
    gpu_model = gang.plan.gpu_model if gang.plan else old.gpu_model
    if not gpu_model or since is None:
        return seen.progress.units_done
    before = replace(job, work=replace(job.work, units_done=seen.progress.units_done))
    ran_hours = hours_between(since, until)
    if live.source:
        return kept_of(before, live, ran_hours=ran_hours)
    return units_kept(before, gpu_model, len(gang.plan.nodes) if gang.plan else old.workers, ran_hours=ran_hours)
