"""What the cluster shows of one TrainingJob: its batch Job and its pods, read as one state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from stint.kube.plan_note import PlanNote, read_note
from stint.kube.records import JobRecord, PodRecord
from stint.kube.rejection import passes
from stint.kube.workloads import WorkloadRecord
from stint.model.constraints import UNCONSTRAINED, PodConstraints
from stint.model.gang import GangState, NodeRejection
from stint.model.job import Binding, NodeName, Role, Toleration
from stint.model.offering import OfferingId
from stint.model.resources import Resources
from stint.workloads.registry import KINDS

_TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """What else is known of a gang whose pods somebody else makes."""

    what: str  # for messages: "PyTorchJob mnist"
    size: int  # pods that ask for GPUs; 0: nobody says how many there are to be
    lacking: str = ""  # what has to happen before it can be placed
    per_worker: Resources | None = None  # None: no pod is there
    roles: tuple[Role, ...] = ()  # its pods that are unlike the others; these come after them in rank
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    constraints: PodConstraints = UNCONSTRAINED
    claims: tuple[str, ...] = ()  # PersistentVolumeClaims that its pods mount
    chain: tuple[WorkloadRecord, ...] = ()  # what makes its pods, and what made that, up to what a person made
    progress: float | None = None  # 0 to 1, as it tells itself

    @property
    def suspends(self) -> WorkloadRecord | None:
        """What is suspended and resumed to get all its pods anew; None: its pods are deleted one by one."""
        return who_suspends(self.chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """One TrainingJob's objects."""

    state: GangState
    job: JobRecord | None = None
    plan: PlanNote | None = None
    pods: tuple[PodRecord, ...] = ()  # alive, by rank
    lost: tuple[
        PodRecord, ...
    ] = ()  # on nodes that are gone, or not ready for too long: nobody will hear of them again
    done: int = 0  # workers that have finished what they had to do
    failure: str = ""
    disrupted: str = ""  # which worker is preempted or evicted while the gang is placed, and why
    rejections: tuple[NodeRejection, ...] = ()  # what kubelets did not take, by rank
    gone: tuple[int, ...] = ()  # ranks that are neither there nor ended by themselves: evicted, or deleted by somebody
    ended: datetime | None = None
    theirs: Theirs | None = None  # None: its pods are made by a Job of ours

    @property
    def released(self) -> bool:
        """Every worker is there and none is gated."""
        return self._complete and not any(p.gang.gated for p in self.pods if p.gang)

    @property
    def running(self) -> bool:
        """Every worker runs, or has finished what it had to do."""
        if self.plan is None or (self.job is None and self.theirs is None):
            return False
        done = max(self.done, self.job.succeeded if self.job else 0)
        return self.ready_workers + done >= len(self.plan.nodes)

    @property
    def ready_workers(self) -> int:
        """Workers that run."""
        return sum(1 for p in self.pods if p.phase == "Running")

    @property
    def _complete(self) -> bool:
        return self.plan is not None and len(self.pods) + self.done >= len(self.plan.nodes)

    def to_release(self) -> tuple[PodRecord, ...]:
        """Gated pods, once all of the gang are there: it is let go whole or not at all.

        What somebody else puts in place of a worker of his follows the others, who are let go already.
        """
        begun = self.theirs is not None and any(p.gang and not p.gang.gated for p in self.pods)
        if self.state is not GangState.PLACED or not (self._complete or begun):
            return ()
        return tuple(p for p in self.pods if p.gang and p.gang.gated)

    def stuck(self) -> tuple[PodRecord, ...]:
        """Released workers that a scheduler found no room for.

        Of a PodGroup all are refused for the sake of one: only that one's node is to blame, where it is told apart.
        """
        refused = tuple(p for p in self._unscheduled() if p.gang and p.gang.unschedulable)
        return tuple(p for p in refused if p.gang and not p.gang.for_its_group) or refused

    def refused(self) -> tuple[PodRecord, ...]:
        """Those of them that kube-scheduler calls unschedulable themselves, and that will not be for a moment only.

        Room is being made for one that is nominated to a node.
        """
        told = (p for p in self.stuck() if p.gang and p.gang.refusal and not p.nominated)
        return tuple(p for p in told if p.gang and not p.gang.for_its_group and not passes(p.gang.refusal))

    def ignored_by_schedulers(self) -> tuple[PodRecord, ...]:
        """Released workers that no scheduler has looked at: their nodes are not to blame."""
        return tuple(p for p in self._unscheduled() if p.gang and not p.gang.unschedulable)

    def _unscheduled(self) -> tuple[PodRecord, ...]:
        return tuple(p for p in self.pods if p.gang and not p.gang.gated and not p.gang.scheduled)

    def assignment(self) -> Binding | None:
        """The gang's place, as its Job's annotation has it."""
        if self.state is not GangState.PLACED or self.plan is None:
            return None
        return Binding(
            offering=OfferingId(self.plan.offering),
            nodes=tuple(NodeName(n) for n in self.plan.nodes),
            since=self.plan.since,
            released=self.released,
            running=self.running,
            usd_per_hour=self.plan.usd_per_hour,
            finish=self.plan.finish,
        )


def who_suspends(chain: Sequence[WorkloadRecord]) -> WorkloadRecord | None:
    """The one that a person made, as those below do as it does; but not what Kueue suspends and resumes."""
    if not chain or chain[-1].owner or any(w.queued for w in chain) or not KINDS[chain[-1].kind].suspend:
        return None
    return chain[-1]


def held(plan: PlanNote, pods: Sequence[PodRecord]) -> bool:
    """Whether a gang has every node that a plan names: each worker is bound to its own, or has finished."""
    bound = {(p.gang.index, p.node) for p in pods if p.gang and p.node and (not p.over or p.phase == "Succeeded")}
    return all((rank, node) in bound for rank, node in enumerate(plan.nodes))


def look(job: JobRecord | None, pods: Sequence[PodRecord], *, lost_nodes: frozenset[str], signed: bool = True) -> Gang:
    """Read one gang's state.

    Pods on nodes that are given up are told apart: the garbage collector would see to them only after a minute.

    Args:
        job: its own, and `pods` are those of that Job.
        lost_nodes: those that are gone, or not ready for longer than this gang waits.
        signed: the plan that its Job carries is one of ours. Another one counts only where it is so in any case.
    """
    there = sorted(
        (p for p in pods if p.gang and p.phase not in _TERMINAL), key=lambda p: (p.gang.index if p.gang else 0, p.uid)
    )
    plan = read_note(job.plan) if job is not None else None
    if plan is not None and not signed and not held(plan, pods):
        plan = None
    gang = _read(job, plan, [p for p in there if p.node not in lost_nodes], there, pods)
    return replace(
        gang,
        lost=tuple(p for p in there if p.node in lost_nodes),
        disrupted=disrupted(gang.state, there),
        rejections=_rejections(gang, pods),
    )


def _rejections(gang: Gang, pods: Sequence[PodRecord]) -> tuple[NodeRejection, ...]:
    """Pods of an earlier Job of this name may still be there: they tell nothing of this placement."""
    if gang.state not in (GangState.PLACED, GangState.FAILED) or gang.job is None or gang.plan is None:
        return ()
    return tuple(
        NodeRejection(rank=g.index, node=NodeName(p.node), reason=g.rejected, message=g.rejection)
        for p in sorted(pods, key=lambda p: (p.gang.index if p.gang else 0, p.uid))
        if (g := p.gang) is not None
        and g.rejected
        and g.run in ("", gang.job.uid)
        and 0 <= g.index < len(gang.plan.nodes)
        and p.node == gang.plan.nodes[g.index]
    )


def disrupted(state: GangState, there: Sequence[PodRecord]) -> str:
    """Which worker is preempted or evicted, and why.

    Said of pods that are still there only: one that was evicted earlier is history.
    """
    if state not in (GangState.PLACED, GangState.FAILED):
        return ""
    found = next((p for p in there if p.gang and p.gang.disrupted), None)
    return f"{found.gang.name} on {found.node} is taken away ({found.gang.disrupted})" if found and found.gang else ""


def _read(
    job: JobRecord | None,
    plan: PlanNote | None,
    alive: Sequence[PodRecord],
    there: Sequence[PodRecord],
    pods: Sequence[PodRecord],
) -> Gang:
    if job is None:
        return Gang(state=GangState.LEAVING if there else GangState.ABSENT, pods=tuple(alive))
    if job.complete:
        return Gang(state=GangState.SUCCEEDED, job=job, plan=plan, ended=job.ended)
    if job.failed_message is not None:
        return Gang(
            state=GangState.FAILED, job=job, plan=plan, pods=tuple(alive), failure=job.failed_message, ended=job.ended
        )
    if job.deleting:
        return Gang(state=GangState.LEAVING, job=job, plan=plan, pods=tuple(alive))
    if plan is None and not job.suspended:
        # Somebody has changed it, or made the Job in our name: it is taken back before it gets a place from us.
        return Gang(state=GangState.TAKEN_BACK, job=job, pods=tuple(alive))
    if job.suspended or plan is None:
        return Gang(state=GangState.LEAVING if there else GangState.PARKED, job=job, plan=plan, pods=tuple(alive))
    # Somebody may have raised its completions.
    pods, alive = ([p for p in some if p.gang and p.gang.index < len(plan.nodes)] for some in (pods, alive))
    staying = tuple(p for p in alive if p.gang and not p.gang.deleting)
    done = sum(1 for p in pods if p.phase == "Succeeded")
    gone = _gone(job, plan, staying, pods)
    return Gang(state=GangState.PLACED, job=job, plan=plan, pods=staying, done=done, gone=gone)


def _gone(job: JobRecord, plan: PlanNote, staying: Sequence[PodRecord], pods: Sequence[PodRecord]) -> tuple[int, ...]:
    """A worker that failed by itself is not meant: it fails its Job, which will say so."""
    if any(p.phase == "Failed" and p.gang and not (p.gang.disrupted or p.gang.deleting) for p in pods):
        return ()
    accounted = {p.gang.index for p in (*staying, *(p for p in pods if p.phase == "Succeeded")) if p.gang}
    # A pod that waits behind our gate while the others run is what its Job puts in place of one that is gone.
    accounted -= {p.gang.index for p in staying if p.gang and p.gang.gated}
    found = tuple(rank for rank in range(len(plan.nodes)) if rank not in accounted)
    cleared = job.succeeded - sum(1 for p in pods if p.phase == "Succeeded")  # done, and the pod is no more
    return found if len(found) > max(cleared, 0) else ()
