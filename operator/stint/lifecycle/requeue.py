"""Every reason for which a gang loses its placement, but for moves that save money (`stint.autoscale`).

The rules are asked in the order of `RULES`; the first that applies gives the reason, the message, the retry and the
back-off. A gang is requeued whole: no worker of it goes on alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from stint.lifecycle import idle
from stint.lifecycle.admitted import in_words
from stint.lifecycle.grace import is_over
from stint.lifecycle.retries import SETTLE_S, avoided, blamed_until, next_try
from stint.model.cluster import Node
from stint.model.gang import WITHOUT_PLACE, GangFacts, GangState
from stint.model.job import Job, JobId, NodeName, OnExceed
from stint.model.plan import Reason, Requeue
from stint.model.situation import Situation

_GRACE = GangFacts(job=JobId(""), state=GangState.ABSENT).node_grace
_FROM_CHECKPOINT = "requeued from the last checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one verdict may look at. `facts` is None where a situation was written by hand, without gangs."""

    job: Job
    facts: GangFacts | None
    nodes: Mapping[NodeName, Node]
    now: datetime
    pace: float


Rule = Callable[[Case], Requeue | None]


def requeues(situation: Situation) -> tuple[Requeue, ...]:
    """Every gang that cannot go on, may not, or did not start; sorted by job."""
    facts = {g.job: g for g in situation.gangs}
    nodes = {n.name: n for n in situation.nodes}
    found = []
    for job in sorted(situation.jobs, key=lambda j: j.id):
        mine = facts.get(job.id)
        if job.assignment is None and mine is None:
            continue
        case = Case(job=job, facts=mine, nodes=nodes, now=situation.now, pace=situation.settings.pace)
        if (requeue := verdict(case)) is not None:
            found.append(requeue)
    return tuple(found)


def verdict(case: Case) -> Requeue | None:
    """The first rule that applies; None: the gang keeps its placement, has none, or was requeued already."""
    if case.facts is not None and case.facts.state is GangState.TAKEN_BACK:
        return None
    for rule in RULES:
        if (requeue := rule(case)) is not None:
            return requeue
    return None


def _vanished(case: Case) -> Requeue | None:
    """Its Job, or every pod that something else makes, was deleted or suspended while it had its placement."""
    facts = case.facts
    if facts is None or not facts.had_place or not (facts.state in WITHOUT_PLACE or facts.vanished):
        return None
    what = f"all pods of {facts.made_by} were" if facts.made_by else "its Job was"
    return _requeued(case, Reason.DISRUPTED, f"{what} deleted or suspended by something else than Stint")


def _rejected(case: Case) -> Requeue | None:
    """The node's affair, so it uses no retry, although its Job counts the pod as failed. The others wait for nobody."""
    facts = case.facts
    if facts is None or not facts.rejections or facts.state not in (GangState.PLACED, GangState.FAILED):
        return None
    first, nodes = facts.rejections[0], avoided(r.node for r in facts.rejections)
    why = f"{first.reason}: {first.message}" if first.message else first.reason
    text = f"node {first.node} rejected worker {first.rank} ({why})"
    if others := [n for n in nodes if n != first.node]:
        text += f"; so did {', '.join(others)}"
    # A gang that ran has shown that it can: the pause begins small again.
    before = facts.failed_starts if facts.running_since is None else 0
    return _refused(case, Reason.NODE_REJECTED, text, nodes, before=before, word=first.reason)


def _disrupted(case: Case) -> Requeue | None:
    """Not the worker's fault, so it uses no retry: also where the others have failed for want of it."""
    facts = case.facts
    if facts is None or not facts.disruption:
        return None
    return _requeued(case, Reason.DISRUPTED, facts.disruption)


def _failed(case: Case) -> Requeue | None:
    facts = case.facts
    if facts is None or facts.state is not GangState.FAILED:
        return None
    retries = facts.attempt + 1 if facts.nodes else None
    return _requeued(case, Reason.WORKER_FAILED, f"a worker failed ({facts.failure})", retries=retries)


def _idle(case: Case) -> Requeue | None:
    facts = case.facts
    if facts is None or not _placed(facts) or facts.suspend:
        return None
    if not (facts.idle_held or idle.acts(facts, case.now)):
        return None
    return Requeue(job=case.job.id, reason=Reason.IDLE, message=idle.message(facts, case.now))


def _suspended(case: Case) -> Requeue | None:
    facts = case.facts
    if facts is None or not _placed(facts) or not case.job.suspended:
        return None
    text = "its TrainingJob is being deleted" if facts.deleting else "spec.suspend is true"
    return Requeue(job=case.job.id, reason=Reason.SUSPENDED, message=text)


def _node_lost(case: Case) -> Requeue | None:
    assignment = case.job.assignment
    if assignment is None:
        return None
    for name in sorted(set(assignment.nodes)):
        node = case.nodes.get(name)
        if node is None:
            return _requeued(case, Reason.NODE_LOST, f"node {name} is gone")
        if not node.ready and (what := _not_ready(case, node, runs=_runs(case))):
            return _requeued(case, Reason.NODE_LOST, f"node {name} {what}")
        if node.interrupted:
            return _requeued(case, Reason.NODE_INTERRUPTED, f"node {name} received a spot interruption notice")
        if not node.schedulable and not assignment.running:
            return _requeued(case, Reason.NODE_LOST, f"node {name} was cordoned before the gang ran")
    return None


def _runs(case: Case) -> bool:
    running = case.job.assignment is not None and case.job.assignment.running
    return running or (case.facts is not None and case.facts.running_since is not None)


def _not_ready(case: Case, node: Node, *, runs: bool) -> str:
    """Why a node that is not ready ends its gang; empty: not yet. A gang that does not run yet has nothing to lose."""
    if not runs or node.unready_since is None:
        return "is not ready"
    grace = case.facts.node_grace if case.facts is not None else _GRACE
    if not is_over(node.unready_since, case.now, grace, pace=case.pace):
        return ""
    return f"has not been ready since {node.unready_since:%H:%M:%S} UTC, for more than {grace.total_seconds():g} s"


def _budget_spent(case: Case) -> Requeue | None:
    job = case.job
    if job.assignment is None or job.budget_usd is None or job.on_exceed is not OnExceed.CHECKPOINT_AND_STOP:
        return None
    if job.spent_usd < job.budget_usd:
        return None
    text = (
        f"spent {job.spent_usd:.2f} USD of its budget of {job.budget_usd:.2f} USD; held at the last checkpoint: raise "
        "spec.budget.usd to go on"
    )
    return Requeue(job=job.id, reason=Reason.OVER_BUDGET, message=text)


def _worker_gone(case: Case) -> Requeue | None:
    """What its Job puts in place of a worker that is gone would start alone, while the others wait for the old one."""
    facts = case.facts
    if facts is None or not _placed(facts) or not facts.gone or facts.running_since is None:
        return None
    lost = ", ".join(f"{rank} on {facts.nodes[rank]}" for rank in facts.gone)
    return _requeued(case, Reason.DISRUPTED, f"worker {lost} was evicted or deleted")


def _unschedulable(case: Case) -> Requeue | None:
    """What kube-scheduler has no room for will not start: the others hold their nodes in vain."""
    facts = case.facts
    if facts is None or not _placed(facts) or facts.refused_since is None or facts.running_since is not None:
        return None
    if case.now - facts.refused_since < timedelta(seconds=SETTLE_S) * case.pace:
        return None
    nodes = avoided(facts.nodes[rank] for rank in facts.unschedulable)
    text = f"{facts.ready} of {len(facts.nodes)} workers ran; none started on {', '.join(nodes)}: {_words(facts)}"
    return _refused(case, Reason.DID_NOT_START, text, nodes, before=facts.failed_starts, word="Unschedulable")


def _words(facts: GangFacts) -> str:
    return f"kube-scheduler says {facts.refusal!r}"


def _refused(
    case: Case, reason: Reason, what: str, nodes: tuple[NodeName, ...], *, before: int, word: str = ""
) -> Requeue:
    """Requeued with a pause, and with nodes to blame. `before`: starts in a row that failed before this one."""
    again = next_try(case.now, before, pace=case.pace)
    return Requeue(
        job=case.job.id,
        reason=reason,
        message=f"{what}; the whole gang was requeued",
        avoid=nodes,
        avoid_until=blamed_until(again, pace=case.pace) if nodes else None,
        avoid_for=word if nodes else "",
        failed_starts=before + 1,
        not_before=again,
    )


def _admitted_otherwise(case: Case) -> Requeue | None:
    """Before a pod is let go: a gang whose pods ask for more than was reckoned with would start in part."""
    facts = case.facts
    if facts is None or not _placed(facts) or facts.admitted is None:
        return None
    text = f"admission made each worker ask for {in_words(facts.admitted, case.job)}; it is placed again by that"
    # What makes something else of pods each time must not make the operator create Jobs without a pause.
    later = next_try(case.now, facts.failed_starts, pace=case.pace) if facts.admitted_before else None
    reason = Reason.ADMITTED_OTHERWISE
    return Requeue(job=case.job.id, reason=reason, message=text, admitted=facts.admitted, not_before=later)


def _did_not_start(case: Case) -> Requeue | None:
    facts = case.facts
    if facts is None or not _placed(facts) or facts.since is None or facts.running or facts.running_since is not None:
        return None
    waited = case.now - facts.since
    if waited <= facts.placement_timeout * case.pace:
        return None
    blamed = avoided(facts.nodes[rank] for rank in facts.unschedulable)
    text = f"{facts.ready} of {len(facts.nodes)} workers ran after {waited.total_seconds() / case.pace:.0f} s"
    if blamed:
        text += f"; none started on {', '.join(blamed)}"
    if facts.refusal:
        text += f": {_words(facts)}"
    if facts.ignored:
        text += (
            f"; no scheduler has looked at {facts.ignored} of its pods: another scheduling gate holds them, or no "
            "scheduler has the name in their schedulerName"
        )
    if missing := len(facts.nodes) - facts.pods - facts.done:
        maker = facts.made_by.lower() if facts.made_by else f"job {_name(case.job.id)}"
        text += f"; {missing} of its pods were never created, `kubectl describe {maker}` says why"
    word = "Unschedulable" if facts.refusal else ""
    return _refused(case, Reason.DID_NOT_START, text, blamed, before=facts.failed_starts, word=word)


RULES: tuple[Rule, ...] = (
    _vanished,
    _rejected,
    _disrupted,
    _failed,
    _idle,
    _suspended,
    _node_lost,
    _budget_spent,
    _worker_gone,
    _admitted_otherwise,
    _unschedulable,
    _did_not_start,
)

REASONS: Mapping[Reason, str] = {
    Reason.NODE_REJECTED: "a kubelet did not take a worker, or did not let it go on (`UnexpectedAdmissionError`, "
    "`OutOf...`, `Evicted`, ...); blames the node, uses none of `spec.retries`, backs off from 10 s to 10 min",
    Reason.DISRUPTED: "a worker was preempted, evicted or deleted, or something else deleted or suspended the Job",
    Reason.WORKER_FAILED: "a worker failed; uses one of `spec.retries`",
    Reason.IDLE: "all of its GPUs were idle for as long as `spec.idlePolicy` allows",
    Reason.SUSPENDED: "`spec.suspend` is true, or the TrainingJob is being deleted",
    Reason.NODE_LOST: "a node is gone, or is not ready for longer than `spec.nodeGraceSeconds`; before the gang runs, "
    "also one that is cordoned or not ready",
    Reason.NODE_INTERRUPTED: "the provider announced that it takes a node",
    Reason.OVER_BUDGET: "the budget is spent and `spec.budget.onExceed` is `CheckpointAndStop`",
    Reason.ADMITTED_OTHERWISE: "a LimitRange, a RuntimeClass or a webhook made its pods ask for more than the "
    "template; no pod was let go, and it is placed by what they ask for",
    Reason.DID_NOT_START: "kube-scheduler has had no room for a worker for 5 s, or not every worker ran within "
    "`spec.placementTimeoutSeconds`; backs off from 10 s to 10 min",
    Reason.CHEAPER_ELSEWHERE: "the rest of the work costs less elsewhere, and the move pays for itself",
    Reason.MAKES_ROOM: "a job that would miss its deadline needs the nodes",
}


def _placed(facts: GangFacts) -> bool:
    return facts.state is GangState.PLACED and bool(facts.nodes)


def _requeued(case: Case, reason: Reason, what: str, *, retries: int | None = None) -> Requeue:
    text = f"{what}; the whole gang was {_FROM_CHECKPOINT}"
    return Requeue(job=case.job.id, reason=reason, message=text, retries=retries)


def _name(job: JobId) -> str:
    return job.partition("/")[2]
