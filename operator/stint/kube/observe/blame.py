"""Which nodes and offerings each job avoids, and which nodes all of them do: read from their statuses. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from stint.api.trainingjob import TrainingJob
from stint.api.trainingjob_status import Blamed
from stint.lifecycle.blame import Blame, Suspect, suspects
from stint.lifecycle.retries import BLAME_LASTS
from stint.model.cluster import Node
from stint.model.job import Job, NodeName, Refusal, job_id
from stint.model.offering import OfferingId
from stint.model.plan import Reason
from stint.placement.fit import node_admits, workers_per_node

REFUSALS = frozenset({Reason.DID_NOT_START.value, Reason.NODE_REJECTED.value})


def standing(resource: TrainingJob, now: datetime) -> list[Blamed]:
    """The blame that holds: its time is not over, and the spec is still the one that the nodes refused."""
    generation = resource.metadata.generation
    return [b for b in resource.status.blamed if b.generation == generation and b.until.tzinfo and b.until > now]


def avoided(resource: TrainingJob, now: datetime) -> tuple[NodeName, ...]:
    """Nodes that a job is not to come back to for a while."""
    status = resource.status
    if not status.blamed and status.avoid and status.not_before is not None:
        # As versions before 0.2 wrote it: all at once.
        return tuple(NodeName(n) for n in status.avoid) if now - BLAME_LASTS < status.not_before else ()
    return tuple(NodeName(n) for n in sorted({b.node for b in standing(resource, now)}))


def refusals(job: Job, resource: TrainingJob, nodes: Iterable[Node], now: datetime) -> tuple[Refusal, ...]:
    """Offerings every node of which has refused the job, as far as it could use them at all.

    One whose node is gone meanwhile counts too: the next one would be ordered only to refuse the job as well.
    """
    blamed: dict[OfferingId, list[Blamed]] = defaultdict(list)
    for each in standing(resource, now):
        if each.reason in REFUSALS and each.offering:
            blamed[OfferingId(each.offering)].append(each)
    if not blamed:
        return ()
    anywhere = replace(job, avoid=())
    left = {
        n.offering
        for n in nodes
        if n.offering in blamed
        and n.name not in job.avoid
        and any(node_admits(k, n) and workers_per_node(k.per_worker, n.allocatable) for k in anywhere.kinds)
    }
    return tuple(
        Refusal(
            offering=offering,
            nodes=tuple(NodeName(b.node) for b in sorted(mine, key=lambda b: b.node)),
            until=min(b.until for b in mine),
            said=", ".join(sorted({b.said for b in mine if b.said})),
        )
        for offering, mine in sorted(blamed.items())
        if offering not in left
    )


def all_suspects(resources: Iterable[TrainingJob], now: datetime, *, pace: float) -> Mapping[NodeName, Suspect]:
    """Nodes that jobs agree about, also jobs that have ended."""
    return suspects((b for r in resources for b in _words(r)), now, pace=pace)


def _words(resource: TrainingJob) -> Iterator[Blame]:
    meta = resource.metadata
    for each in resource.status.blamed:
        if each.reason in REFUSALS and each.generation == meta.generation and each.since.tzinfo:
            job = job_id(meta.namespace, meta.name)
            yield Blame(job=job, node=NodeName(each.node), said=each.said, since=each.since)
