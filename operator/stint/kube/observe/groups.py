"""Pods that somebody else makes, as groups that are let go whole: what each consists of, and where it stands.

A group stands beside our own gangs as a `Gang`; all that differs is who makes its pods, and so how it is taken back:
what made them is suspended and resumed, or they are deleted and made anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from stint.kube.observe.gang import Gang, Theirs, disrupted
from stint.kube.observe.roles import parts_of, unlike_ranks
from stint.kube.plan_note import PlanNote
from stint.kube.records import PodRecord
from stint.kube.steered import GROUP_SIZE, MANAGED, Steered
from stint.kube.workloads import RESUME, WorkloadRecord
from stint.model.constraints import UNCONSTRAINED
from stint.model.gang import GangState
from stint.model.job import JobId, job_id
from stint.workloads.registry import KINDS, belonging_of

_TERMINAL = ("Succeeded", "Failed")


class Workloads:
    """What makes pods, by name and by uid."""

    def __init__(self, records: Iterable[WorkloadRecord]) -> None:
        self._by_name: dict[tuple[str, str, str], WorkloadRecord] = {}
        self._by_uid: dict[str, WorkloadRecord] = {}
        for record in records:
            if not record.managed:
                continue
            self._by_name[record.kind, record.namespace, record.name] = record
            self._by_uid[record.uid] = record

    def chain(self, kind: str, namespace: str, name: str) -> tuple[WorkloadRecord, ...]:
        """It, what made it, and so on; empty: it is not there, or not labelled for Stint."""
        found: list[WorkloadRecord] = []
        record = self._by_name.get((kind, namespace, name))
        if record is None and kind in KINDS:
            record = self._by_name.get((kind, namespace, belonging_of(kind).object_of(name)))
        while record is not None and record not in found:
            found.append(record)
            record = self._by_uid.get(record.owner)
        return tuple(found)

    def __iter__(self) -> Iterator[WorkloadRecord]:
        """All of them."""
        return iter(self._by_uid.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Pods that belong together."""

    job: JobId  # the TrainingJob that stands for it
    namespace: str
    kind: str
    name: str
    pods: tuple[PodRecord, ...]
    chain: tuple[WorkloadRecord, ...]
    known_size: int = 0  # as its TrainingJob has it

    @property
    def what(self) -> str:
        """For messages."""
        return f"{self.kind} {self.name}"

    @property
    def size(self) -> int:
        """Pods that ask for GPUs, as somebody says; 0: nobody does."""
        said = max((s.size for s in self.steered()), default=0)
        return said or (self.chain[0].pods if self.chain else self._in_all or self.known_size)

    @property
    def _in_all(self) -> int:
        """Its pods, with or without GPUs, as what makes them writes on each."""
        return max((s.in_all for s in self.steered()), default=0)

    @property
    def sizeless(self) -> str:
        """Of a group without a size: what is missing, and what to do."""
        if self.chain:
            return (
                f"{self.what} has no GPU pods as it is written: raise its replicas, or annotate each pod with "
                f"{GROUP_SIZE}"
            )
        return (
            f"nobody says how many pods {self.what} has: annotate each with {GROUP_SIZE}, or label what makes them "
            f"{MANAGED}=true, too"
        )

    @property
    def wrong(self) -> str:
        """What keeps it from being placed, whatever else is there, and what to do; empty: nothing."""
        if text := next((s.wrong for s in self.steered() if s.wrong), ""):
            return text
        cause = self.chain[0].one_by_one if self.chain and self.size > 1 else ""
        return f"{self.what} can never be there as a whole: {cause}" if cause else ""

    def steered(self) -> tuple[Steered, ...]:
        """What its pods say."""
        return tuple(p.gang.steered for p in self.pods if p.gang and p.gang.steered)


def gather(pods: Iterable[PodRecord], workloads: Workloads) -> dict[JobId, Group]:
    """Every group that has a pod."""
    found: dict[tuple[str, str, str, str], list[PodRecord]] = defaultdict(list)
    for pod in pods:
        if pod.gang is not None and pod.gang.steered is not None:
            steered = pod.gang.steered
            found[pod.gang.namespace, pod.gang.job, steered.kind, steered.group].append(pod)
    return {
        job_id(namespace, job): Group(
            job=job_id(namespace, job),
            namespace=namespace,
            kind=kind,
            name=name,
            pods=tuple(members),
            chain=workloads.chain(kind, namespace, name),
        )
        for (namespace, job, kind, name), members in found.items()
    }


def look_group(group: Group, plan: PlanNote | None, *, taken_back: datetime | None, lost_nodes: frozenset[str]) -> Gang:
    """Read one group's state.

    Args:
        plan: what its TrainingJob's annotation says.
        taken_back: places given until then are taken back.
    """
    there = sorted((p for p in group.pods if p.phase not in _TERMINAL), key=_order)
    staying = [p for p in there if p.gang and not p.gang.deleting and p.node not in lost_nodes]
    done = sum(1 for p in group.pods if p.phase == "Succeeded")
    gang = Gang(
        state=GangState.ABSENT,
        plan=plan,
        pods=tuple(staying),
        lost=tuple(p for p in there if p.node in lost_nodes),
        done=done,
        theirs=_theirs(group, staying),
    )
    if failure := _failure(group, there):
        return replace(gang, state=GangState.FAILED, failure=failure)
    if any(w.complete for w in group.chain) or (not group.chain and not there and done and done >= group.size):
        return replace(gang, state=GangState.SUCCEEDED)
    let_go = [p for p in there if p.gang and not p.gang.gated]
    if plan is None or (taken_back is not None and plan.since <= taken_back):
        going = any(w.suspended and RESUME in w.annotations for w in group.chain)
        if going or not let_go:
            return replace(gang, state=GangState.LEAVING if there and going else GangState.ABSENT)
        leaving = all(p.gang and p.gang.deleting for p in let_go)
        # Without a plan, too: somebody has deleted it, and nobody knows any more where this gang belongs.
        return replace(gang, state=GangState.LEAVING if leaving else GangState.TAKEN_BACK)
    ranked = _ranked(staying, plan)
    gang = replace(gang, state=GangState.PLACED, pods=ranked)
    return replace(gang, disrupted=disrupted(gang.state, ranked))


def _order(pod: PodRecord) -> tuple[object, ...]:
    assert pod.gang is not None
    return (pod.gang.index < 0, pod.gang.index, pod.gang.steered.order if pod.gang.steered else (), pod.uid)


def _ranked(pods: Sequence[PodRecord], plan: PlanNote) -> tuple[PodRecord, ...]:
    """Pods that were let go keep their ranks; the others get those that are left over, in their order.

    Of unlike pods each gets a rank that was planned for one like it, or for one that needs as much; or none.
    """
    ranks = len(plan.nodes)
    held: dict[int, PodRecord] = {}
    rest = []
    for pod in pods:
        assert pod.gang is not None
        if 0 <= pod.gang.index < ranks and pod.gang.index not in held and not pod.gang.gated:
            held[pod.gang.index] = pod
        elif pod.gang.gated:
            rest.append(pod)
    free = [rank for rank in range(ranks) if rank not in held]
    pairs = unlike_ranks(rest, free, plan) if plan.roles else zip(free, rest, strict=False)
    held |= {rank: _with_rank(pod, rank) for rank, pod in pairs}
    return tuple(held[rank] for rank in sorted(held))


def _with_rank(pod: PodRecord, rank: int) -> PodRecord:
    assert pod.gang is not None
    return msgspec.structs.replace(pod, gang=msgspec.structs.replace(pod.gang, index=rank))


def _failure(group: Group, there: Sequence[PodRecord]) -> str:
    """Whether it has failed for good: as what made it says; of plain pods, that some failed and none is left."""
    told = next((w.failure for w in group.chain if w.failure), "")
    if told or group.chain or there:
        return told
    failed = sum(1 for p in group.pods if p.phase == "Failed")
    return f"{failed} of its {len(group.pods)} pods failed" if failed else ""


def _theirs(group: Group, staying: Sequence[PodRecord]) -> Theirs:
    found = parts_of(staying, belonging_of(group.kind).role if group.kind in KINDS else "")
    first = found[0] if found else None
    claims = [c for part in found for c in part.claims]
    return Theirs(
        what=group.what,
        size=group.size,
        lacking=_lacking(group, staying),
        per_worker=first.role.per_pod if first else None,
        roles=tuple(part.role for part in found[1:]),
        node_selector=first.role.node_selector if first else (),
        tolerations=first.role.tolerations if first else (),
        constraints=first.role.constraints if first else UNCONSTRAINED,
        claims=tuple(dict.fromkeys(claims)),
        chain=group.chain,
        progress=next((w.progress for w in group.chain if w.progress is not None), None),
    )


def _lacking(group: Group, staying: Sequence[PodRecord]) -> str:
    gated = [p for p in staying if p.gang and p.gang.gated]
    if group.wrong:
        return group.wrong
    if group.size == 0:
        return group.sizeless
    if len(gated) < group.size:
        why = next((f": {w.kind} {w.name} is suspended" for w in group.chain if w.suspended), "")
        if not group.chain and any(s.in_all for s in group.steered()):
            why = f" (if some of its pods ask for no GPUs, label what makes them {MANAGED}=true, too)"
        return f"{len(gated)} of the {group.size} GPU pods of {group.what} are there{why}; they are let go together"
    if others := sorted({g for p in gated if p.gang and p.gang.steered for g in p.gang.steered.others_gates}):
        text = f"somebody else holds pods of {group.what}, by the scheduling gate {', '.join(others)}"
        return f"{text}; Stint gives them their place after that"
    if len(gated) > group.size:
        return f"{len(gated)} pods of {group.what} wait, and there should be {group.size}; take away those too many"
    return ""
