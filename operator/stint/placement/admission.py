"""Which nodes each job may use at all, and why an offering has none for it. Like nodes are judged together.

A node is judged by what it is itself: its own labels, taints and size. What an offering says counts for nodes that are
not there yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from stint.model.cluster import Node
from stint.model.job import Job
from stint.model.market import Offering, Pool
from stint.model.offering import OfferingId
from stint.model.plan import Reason
from stint.model.resources import AXES
from stint.placement import fit
from stint.placement.neighbours import Neighbourhood, View

_PRECEDENCE = {reason: i for i, reason in enumerate(Reason)}
_ANY = OfferingId("")
_Verdict = tuple[Reason, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Of one kind of job."""

    nodes: Bool[np.ndarray, " node"]  # that are there or under way: it may go there, and would fit if they were empty
    why: Mapping[int, _Verdict]  # by offering that has no node for it, and gets none
    new: frozenset[int]  # offerings whose new nodes would do
    partly: Mapping[int, str]  # by offering, some of whose nodes would do: what is in the way on others


class Judge:
    """Nodes laid out once, to be judged for each kind of job."""

    def __init__(
        self,
        offerings: Sequence[Offering],
        pools: Mapping[str, Pool],
        nodes: Sequence[Node],
        node_offering: Int[np.ndarray, " node"],
        neighbourhood: Neighbourhood,
    ) -> None:
        self._offerings, self._nodes, self._of = offerings, nodes, node_offering
        self._neighbourhood = neighbourhood
        self._grows = [pools[o.pool].scaler is not None and o.orderable and o.slices is None for o in offerings]
        self._own = [np.flatnonzero(node_offering == o) for o in range(len(offerings))]
        facts: dict[object, int] = {}
        group = [facts.setdefault((tuple(sorted(n.labels.items())), n.taints), len(facts)) for n in nodes]
        self._group = np.array(group, dtype=np.int64)
        self._first = [group.index(g) for g in range(len(facts))]
        self._size = np.array([n.allocatable.as_row() for n in nodes], dtype=float).reshape(-1, len(AXES))

    def of(self, job: Job, *, looks_around: bool) -> Admission:
        """Judge all nodes and offerings for a job.

        Args:
            looks_around: whether pods that are there may matter to it.
        """
        view = self._neighbourhood.view(job) if looks_around else None
        refused = self._refused(job, view)
        admits = np.array([no is None for no in refused], dtype=bool)
        fits: Bool[np.ndarray, " node"] = np.all(self._size + fit.HAIR >= np.array(job.per_worker.as_row()), axis=1)
        for name, need in job.per_worker.extended:
            fits &= np.array(
                [dict(n.allocatable.extended).get(name, 0.0) + fit.HAIR >= need for n in self._nodes], dtype=bool
            )
        why: dict[int, _Verdict] = {}
        bars = {n.offering: (Reason(n.why.value), n.message) for n in job.no_new}
        new = set()
        for o, offering in enumerate(self._offerings):
            own = self._own[o]
            no_new = fit.new_refuses(job, offering) or (view.refuses_new(offering) if view is not None else None)
            barred = bars.get(offering.id) or bars.get(_ANY)
            does = bool((admits[own] & fits[own]).any())
            if no_new is None and self._grows[o] and barred is None:
                new.add(o)
            elif no_new is None and self._grows[o] and barred is not None and not does:
                why[o] = barred
            elif not len(own) and no_new is not None:
                why[o] = no_new
            elif len(own) and not does:
                why[o] = self._nearest(job, own, refused, admits & ~fits)
        partly = {
            o: self._nearest(job, own, refused, admits & ~fits)[1]
            for o, own in enumerate(self._own)
            if o not in why and not (admits[own] & fits[own]).all()
        }
        return Admission(nodes=admits & fits, why=why, new=frozenset(new), partly=partly)

    def _refused(self, job: Job, view: View | None) -> list[_Verdict | None]:
        by_name = any(r.field for term in job.constraints.node_affinity or () for r in term)
        if by_name:
            found = [fit.node_refuses(job, n) for n in self._nodes]
        else:
            each = [fit.refuses(job, "", self._nodes[i].labels, self._nodes[i].taints) for i in self._first]
            found = [each[g] for g in self._group]
            if job.avoid:
                found = [no or fit.node_refuses(job, n) for no, n in zip(found, self._nodes, strict=True)]
        if view is not None:
            found = [no or view.refuses(n) for no, n in zip(found, self._nodes, strict=True)]
        return found

    def _nearest(
        self,
        job: Job,
        own: Int[np.ndarray, " own"],
        refused: Sequence[_Verdict | None],
        small: Bool[np.ndarray, " node"],
    ) -> _Verdict:
        """What keeps it off the node that comes nearest to being possible."""
        texts: dict[_Verdict, list[str]] = {}
        for n in own:
            node = self._nodes[n]
            no = refused[n]
            if no is None and small[n]:
                no = Reason.WORKER_EXCEEDS_NODE, fit.exceeds(job.per_worker, node.allocatable, "node")
            if no is not None:
                texts.setdefault(no, []).append(node.name)
        (reason, text), names = max(texts.items(), key=lambda item: (_PRECEDENCE[item[0][0]], len(item[1])))
        if reason is Reason.WORKER_EXCEEDS_NODE:
            return reason, text.replace("a node has", f"{_named(names, len(own))} has")
        return reason, f"{_named(names, len(own))} {text}"


def seats_of_roles(job: Job) -> tuple[Job, ...]:
    """What is asked of a node for a pod of each role that is unlike the workers."""
    return job.kinds[1:]


def with_roles(workers: Admission, job: Job, others: Sequence[Admission]) -> Admission:
    """Where the whole gang may go: an offering is possible where each of its roles has a node or gets one."""
    if not others:
        return workers
    why = dict(workers.why)
    partly = dict(workers.partly)
    for role, admission in zip(job.roles, others, strict=True):
        for o, (reason, text) in admission.why.items():
            why.setdefault(o, (reason, f"role {role.name}: {text}"))
        for o, text in admission.partly.items():
            partly.setdefault(o, f"role {role.name}: {text}")
    new = workers.new.union(*(admission.new for admission in others))
    return replace(workers, why=why, partly=partly, new=new)


def _named(names: Iterable[str], of: int) -> str:
    some = sorted(names)
    if len(some) == 1:
        return some[0]
    return f"each of its {of} nodes" if len(some) == of else f"each of {len(some)} of its {of} nodes, as {some[0]},"
