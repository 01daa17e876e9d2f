"""Nodes that several jobs blame: nothing is placed on them for an hour.

Two jobs of one namespace could be made to fail anywhere, by what their templates ask for, and would shut others out of
the whole cluster. So jobs of different namespaces have to agree, but for faults that only the node itself can have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from stint.model.job import JobId, NodeName, split_job_id

SUSPECT_FOR = timedelta(hours=1)
MOST_SUSPECTS = 64
# The kubelet's words for what no pod of the gang has brought about.
NODE_FAULTS = frozenset({"InvalidNodeInfo", "NodeShutdown", "UnexpectedAdmissionError"})
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """One job's word against one node."""

    job: JobId
    node: NodeName
    said: str  # what against it, in a word: UnexpectedAdmissionError
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A node that several jobs blame."""

    node: NodeName
    until: datetime
    message: str


def suspects(blames: Iterable[Blame], now: datetime, *, pace: float = 1.0) -> Mapping[NodeName, Suspect]:
    """The nodes on which nothing is to be placed, those that were blamed last, at most `MOST_SUSPECTS`.

    Args:
        blames: of all jobs; what is older than an hour on the wall counts no more.
        pace: seconds of the deciding clock that pass in one second on the wall.
    """
    lasts = SUSPECT_FOR * pace
    by_node: dict[NodeName, dict[JobId, Blame]] = defaultdict(dict)
    for blame in blames:
        known = by_node[blame.node].get(blame.job)
        if now - lasts < blame.since <= now and (known is None or known.since < blame.since):
            by_node[blame.node][blame.job] = blame
    found = [s for node, mine in by_node.items() if (s := _suspect(node, list(mine.values()), lasts)) is not None]
    last = sorted(found, key=lambda s: (-s.until.timestamp(), s.node))[:MOST_SUSPECTS]
    return {s.node: s for s in sorted(last, key=lambda s: s.node)}


def _suspect(node: NodeName, blames: list[Blame], lasts: timedelta) -> Suspect | None:
    faults = sorted((b.since for b in blames if b.said in NODE_FAULTS), reverse=True)
    newest: dict[str, datetime] = {}  # by namespace
    for blame in blames:
        namespace, _ = split_job_id(blame.job)
        newest[namespace] = max(newest.get(namespace, blame.since), blame.since)
    agreed = [times[1] for times in (faults, sorted(newest.values(), reverse=True)) if len(times) > 1]
    if not agreed:
        return None
    until = max(agreed) + lasts
    words = ", ".join(sorted({b.said for b in blames if b.said}))
    jobs = sorted(b.job for b in blames)
    more = f" and {len(jobs) - _MOST_NAMED} more" if len(jobs) > _MOST_NAMED else ""
    text = (
        f"jobs {', '.join(jobs[:_MOST_NAMED])}{more} could not start on node {node} within an hour"
        f"{f' ({words})' if words else ''}; nothing is placed on it until {until:%H:%M} UTC: drain it and look at its "
        "kubelet and device plugin, or replace it"
    )
    return Suspect(node=node, until=until, message=text)
