"""What people read with kubectl: phase, money, conditions. Built from what was seen and decided; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from stint.api.ledger import Ledger
from stint.api.meta import Condition, condition
from stint.api.parse.job import deadline_of
from stint.api.trainingjob import TrainingJob
from stint.api.trainingjob_status import NextBest, Rejected, Status
from stint.estimate.runtime import SECONDS_PER_HOUR
from stint.kube.observe.snapshot import Seen, leaves
from stint.kube.plan_note import PlanNote, made_from
from stint.kube.records import JOB_LABEL
from stint.kube.steered import selector
from stint.ledger.days import whole
from stint.lifecycle import phases
from stint.lifecycle.phases import Outcome
from stint.model.cluster import Node
from stint.model.gang import GangState
from stint.model.job import ENDED, NodeName, Phase
from stint.model.market import Offering
from stint.model.measured import Measured
from stint.model.offering import OfferingId
from stint.model.plan import MOVES, Candidate, Explanation, Hold, Placement, Reason, Requeue, Stay
from stint.views import node_status, usage_status

MOST_REJECTED = 10
_WHY_BACK = frozenset(
    r.value
    for r in (
        Reason.DID_NOT_START,
        Reason.NODE_REJECTED,
        Reason.WORKER_FAILED,
        Reason.NODE_LOST,
        Reason.NODE_INTERRUPTED,
        Reason.DISRUPTED,
        *MOVES,
        Reason.REFUSED,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is the same for every job of a cycle."""

    now: datetime
    offerings: Mapping[OfferingId, Offering]
    nodes: Mapping[NodeName, Node] = field(default_factory=dict)
    kept: Mapping[NodeName, str] = field(default_factory=dict)  # nodes that do not say what they are, and why
    pace: float = 1.0  # seconds of the deciding clock that pass in one second on the wall
    measured: Measured = field(default_factory=Measured)
    hindrance: str = ""  # what keeps the operator itself from doing its work
    booking: tuple[str, str] | None = None  # why what was spent is not booked as it should be: reason and message


def usd(amount: float) -> str:
    """As in every column."""
    return f"{amount:.2f}"


def span(delta: timedelta) -> str:
    """-1h12m, 3d4h, 45s: two units at the most."""
    seconds = round(abs(delta.total_seconds()))
    sign = "-" if delta.total_seconds() <= -1 else ""
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return sign + "".join(parts[:2])


def phase_of(seen: Seen, outcome: Outcome) -> Phase:
    """Where a job stands: as the cluster alone tells it, else as `stint.lifecycle.phases` says."""
    if seen.phase is not None:
        return seen.phase
    return phases.phase(
        outcome,
        suspended=seen.resource.spec.suspend or seen.idle_held or leaves(seen.resource, seen.gang),
        placed=seen.gang.state is GangState.PLACED,
        runs=seen.progress.running_since is not None,
    )


def build(seen: Seen, outcome: Outcome, context: Context) -> Status:
    """The whole status of one TrainingJob, from what it was and what is new."""
    resource, old = seen.resource, seen.resource.status
    phase, steers = phases.step(old.phase, phase_of(seen, outcome)), resource.spec.steers
    status = msgspec.structs.replace(
        old,
        observed_generation=resource.metadata.generation,
        phase=phase.value,
        ready_workers=seen.gang.ready_workers if phase in (Phase.STARTING, Phase.RUNNING) else 0,
        selector=f"{JOB_LABEL}={resource.metadata.name}"
        if steers is None
        else selector(steers.kind, steers.name, resource.spec.workers),
        spent_exactly=seen.spending.settled_usd,
        spent_usd=usd(seen.spent_usd),
        spent_through=seen.spending.through,
        ledger=_summed(seen.spending.ledger),
        budget_usd=usd(resource.spec.budget.usd) if resource.spec.budget else "",
        deadline=deadline_of(resource.spec, seen.created),
        progress=seen.progress,
        usage=usage_status.usage(context.measured.usage.get(seen.job.id)) if seen.job else old.usage,
        idle_since=seen.idle.since,
        advice=usage_status.advice(seen, context.measured, context.offerings),
        calibration=usage_status.calibration(seen, context.measured),
    )
    status = _told(status, seen, outcome, context, phase)
    late = status.deadline - status.finish if status.deadline and status.finish else None
    status = msgspec.structs.replace(status, slack=span(late) if late is not None and phase not in ENDED else old.slack)
    return msgspec.structs.replace(status, conditions=_conditions(status, seen, outcome, context))


def _summed(ledger: Ledger) -> Ledger:
    """With the figures that people look at."""
    line = whole(ledger)
    if line is None:
        return ledger
    gpu_seconds = line.gpu_seconds.total
    return msgspec.structs.replace(
        ledger,
        saved_usd=usd(line.baseline_usd - line.total_usd) if ledger.baseline_usd is not None else "",
        waste=f"{100 * (1 - line.gpu_seconds.useful / gpu_seconds):.0f}" if gpu_seconds else "",
        energy_kwh=f"{line.energy_kwh:.1f}",
        carbon_kg=f"{line.carbon_g / 1000:.2f}",
    )


def _told(status: Status, seen: Seen, outcome: Outcome, context: Context, phase: Phase) -> Status:
    """The part that depends on what was decided."""
    change = msgspec.structs.replace
    if seen.invalid is not None:
        text = "; ".join(str(m) for m in seen.invalid.mistakes)
        return change(status, reason="InvalidSpec", message=text[:4096])
    total = usd(seen.spent_usd)
    text = f"finished for {total} USD"
    if seen.resource.status.phase in ENDED:  # it was told when and why; only what it cost may be settled since
        return change(status, message=text, estimated_usd=total) if phase is Phase.SUCCEEDED else status
    if phase is Phase.SUCCEEDED:
        return change(
            status,
            reason="Finished",
            message=text,
            estimated_usd=total,
            usd_per_hour=usd(0),
            nodes={},
            finish=status.finish if seen.resource.status.phase == phase else context.now,
        )
    if phase is Phase.FAILED and seen.idle_held:
        text = f"ended by spec.idlePolicy after {usd(seen.spent_usd)} USD: {status.message}"
        return change(status, reason="IdleStopped", message=text[:4096], usd_per_hour=usd(0), nodes={})
    if phase is Phase.FAILED:
        tried = f"gave up after {seen.resource.spec.retries} retries and {usd(seen.spent_usd)} USD"
        if seen.gang.theirs is not None:
            tried = f"{seen.gang.theirs.what} failed after {usd(seen.spent_usd)} USD"
        text = f"{tried}: {seen.gang.failure}"
        return change(status, reason="WorkerFailed", message=text[:4096], usd_per_hour=usd(0), nodes={})
    if isinstance(outcome, Placement):
        chosen = outcome.chosen
        per_worker = seen.resource.spec.gpu.per_worker
        gpus = seen.job.gpus(chosen.workers) if seen.job else chosen.workers * per_worker
        fraction = seen.resource.spec.gpu.fraction
        text = placed_message(outcome, context.offerings[chosen.offering], gpus, fraction=fraction)
        placed = _where(status, chosen, seen, context, outcome.explanation)
        return change(placed, reason="Placed", message=text, nodes=ranks(outcome.nodes))
    if isinstance(outcome, Stay):
        text = status.message if status.reason in ("Placed", "Running") else ""
        plan = seen.gang.plan
        if plan is not None and (status.offering != plan.offering or not text):
            # The operator ended between giving the place and telling of it.
            status, text = _as_planned(status, plan, seen), plan.message
        return change(
            status,
            reason="Running" if phase is Phase.RUNNING else "Placed",
            message=text,
            usd_per_hour=usd(outcome.usd_per_hour),
            estimated_usd=usd(seen.spent_usd + outcome.cost_to_finish_usd),
            finish=outcome.finish,
            nodes=ranks(seen.gang.plan.nodes) if seen.gang.plan else {},
        )
    if isinstance(outcome, Requeue):
        return change(status, reason=outcome.reason.value, message=outcome.message, nodes={}, usd_per_hour="")
    if isinstance(outcome, Hold):
        if outcome.chosen is not None:
            status = _where(status, outcome.chosen, seen, context, outcome.explanation)
        else:
            status = change(
                status,
                pool="",
                offering="",
                gpu_model="",
                usd_per_hour="",
                estimated_usd="",
                finish=None,
                next_best=None,
                rejected=_rejected(outcome.explanation),
            )
        if outcome.reason is Reason.BACKING_OFF and status.reason in _WHY_BACK:
            return change(status, nodes={}, usd_per_hour="")  # why it backs off says more than that it does
        return change(status, reason=outcome.reason.value, message=outcome.message, nodes={}, usd_per_hour="")
    if phase is Phase.SUSPENDED and leaves(seen.resource, seen.gang):
        held = ", ".join(seen.resource.metadata.finalizers)
        text = f"it is being deleted, and its nodes are given back; it goes once its finalizers are removed: {held}"
        return change(status, reason="Deleting", message=text[:4096], nodes={}, usd_per_hour="", finish=None)
    if phase is Phase.SUSPENDED and not seen.resource.spec.suspend:
        return change(status, reason=Reason.IDLE.value, nodes={}, usd_per_hour="", finish=None)  # its message stands
    if phase is Phase.SUSPENDED:
        text = "spec.suspend is true; its nodes are given back and its last checkpoint is kept"
        return change(status, reason="Suspended", message=text, nodes={}, usd_per_hour="", finish=None)
    return status


def _as_planned(status: Status, plan: PlanNote, seen: Seen) -> Status:
    return msgspec.structs.replace(
        status,
        pool=plan.offering.partition("/")[0],
        offering=plan.offering,
        gpu_model=plan.gpu_model,
        workers=len(plan.nodes),
        gpus=seen.job.gpus(len(plan.nodes)) if seen.job else 0,
        next_best=None,
        saved_usd="",
        rejected=[],
    )


def _where(status: Status, chosen: Candidate, seen: Seen, context: Context, why: Explanation) -> Status:
    offering = context.offerings[chosen.offering]
    best = why.runner_up
    saved = max(0.0, best.cost.usd - chosen.cost.usd) if best else 0.0
    return msgspec.structs.replace(
        status,
        pool=offering.pool,
        offering=offering.id,
        gpu_model=offering.gpu_model,
        workers=chosen.workers,
        gpus=seen.job.gpus(chosen.workers) if seen.job else 0,
        usd_per_hour=usd(chosen.usd_per_hour),
        estimated_usd=usd(seen.spent_usd + chosen.cost.usd),
        energy_kwh=f"{chosen.cost.energy_kwh:.1f}",
        carbon_kg=f"{chosen.cost.carbon_g / 1000:.2f}",
        finish=chosen.finish,
        next_best=NextBest(
            offering=best.offering, usd=round(best.cost.usd, 2), usd_per_hour=round(best.usd_per_hour, 2)
        )
        if best
        else None,
        saved_usd=usd(saved) if best else "",
        rejected=_rejected(why),
    )


def _rejected(why: Explanation) -> list[Rejected]:
    """The ones that came nearest, which are the last in order of precedence."""
    nearest = why.rejected[-MOST_REJECTED:]
    return [Rejected(offering=r.offering, reason=r.reason.value, message=r.message[:1024]) for r in nearest]


def placed_message(placement: Placement, offering: Offering, gpus: int, *, fraction: float | None = None) -> str:
    """The event's sentence, with money in it. `fraction`: of a GPU, that would have been enough for a worker."""
    chosen, best = placement.chosen, placement.explanation.runner_up
    what = f"{gpus} {offering.gpu_model}"
    if offering.slices is not None:
        what = f"{gpus} part{'s' if gpus > 1 else ''} ({offering.slices.name}) of {offering.gpu_model}"
    elif fraction is not None:
        what += f" for the price of whole ones, as no part of {fraction:g} was to be had for less"
    text = (
        f"placed on {what} ({chosen.workers} workers, {offering.capacity_type}) in pool "
        f"{offering.pool} at {chosen.usd_per_hour:.2f} USD/h, {chosen.cost.usd:.2f} USD to finish"
    )
    if best is not None:
        text += f"; next best {best.offering}: {best.usd_per_hour:.2f} USD/h, {best.cost.usd:.2f} USD"
    return text


def ranks(nodes: Iterable[str]) -> dict[str, str]:
    """Node to ranks, as 0-7,9."""
    held: dict[str, list[int]] = {}
    for rank, node in enumerate(nodes):
        held.setdefault(node, []).append(rank)
    return {node: _ranges(r) for node, r in held.items()}


def _ranges(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def _conditions(status: Status, seen: Seen, outcome: Outcome, context: Context) -> list[Condition]:
    phase = Phase(status.phase)
    old = {c.type: c for c in seen.resource.status.conditions}
    placed = phase in (Phase.STARTING, Phase.RUNNING)
    why, text = status.reason or phase.value, status.message
    facts: dict[str, tuple[str, str, str]] = {}
    if seen.invalid is not None:
        facts["Admitted"] = ("False", "InvalidSpec", text)
    elif phase not in ENDED:
        facts["Admitted"] = ("True", "Placed", text) if placed else ("False", why, text)
        facts["Priced"] = _priced(status, outcome, context)
        facts["CapacityReady"] = ("True", "Placed", "") if placed else ("False", why, text)
        facts["Placed"] = ("True", "Placed", text) if placed else ("False", why, text)
        facts["Running"] = ("True", "AllWorkersRun", "") if phase is Phase.RUNNING else ("False", why, text)
        facts["AtRisk"] = _at_risk(status, seen)
        facts["UpToDate"] = _up_to_date(seen)
        facts |= node_status.facts(seen, context.nodes, context.kept, old, pace=context.pace)
        facts |= usage_status.facts(seen, context.measured, old, context.now)
        unmodelled = [u for kind in seen.job.kinds for u in kind.constraints.unmodelled] if seen.job else []
        if unmodelled:
            what = "; ".join(dict.fromkeys(unmodelled))[:1024]
            text = f"kube-scheduler will also look at {what}; Stint does not, and may choose a node that it refuses"
            facts["FullyModelled"] = ("False", "NotModelled", text)
        elif "FullyModelled" in old:
            facts["FullyModelled"] = ("True", "FullyModelled", "")
        if seen.capped:
            text = f"{'; '.join(seen.capped)}: the most that counts of namespace {seen.resource.metadata.namespace}"
            facts["WithinLimits"] = ("False", "Capped", f"{text}; ask whoever runs Stint for more (chart value limits)")
        elif "WithinLimits" in old:
            facts["WithinLimits"] = ("True", "WithinLimits", "")
        if context.hindrance:
            facts["Actionable"] = ("False", "MissingRights", context.hindrance)
        elif "Actionable" in old:
            facts["Actionable"] = ("True", "RightsGranted", "")
        booked = _booked(seen, context)
        if booked is not None:
            facts["Booked"] = ("False", *booked)
        elif "Booked" in old:
            facts["Booked"] = ("True", "Booked", "")
        if isinstance(outcome, Requeue):
            facts["Interrupted"] = ("True", outcome.reason.value, outcome.message)
        elif phase is Phase.RUNNING and "Interrupted" in old:
            facts["Interrupted"] = ("False", "RunsAgain", old["Interrupted"].message)
    if phase in ENDED:
        facts["Finished"] = ("True", phase.value, text)
        facts["Running"] = ("False", phase.value, "")
    kept = [c for t, c in old.items() if t not in facts]
    before, generation = seen.resource.status.conditions, status.observed_generation
    built = [condition(before, t, fact, now=context.now, generation=generation) for t, fact in facts.items()]
    return sorted(kept + built, key=lambda c: c.type)


def _priced(status: Status, outcome: Outcome, context: Context) -> tuple[str, str, str]:
    if isinstance(outcome, Hold) and outcome.reason is Reason.NO_PRICE:
        return "False", "NoPrice", outcome.message
    offering = context.offerings.get(OfferingId(status.offering))
    if offering is None:
        return "Unknown", "NotPlacedYet", "there is nothing to price yet"
    price = offering.usd_per_node_hour
    if price is None:
        return "False", "NoPrice", f"nobody gives a price for {offering.id}; add it to a PriceBook"
    dated = f"{price.value:.2f} USD/h a node from {price.source}, {price.as_of or 'of unknown date'}"
    if offering.stale:
        return "True", "StalePrice", f"{dated}: older than the price book allows; confirm it in a PriceBook"
    return "True", "Priced", dated


def _booked(seen: Seen, context: Context) -> tuple[str, str] | None:
    """What is wrong with its books; None: nothing."""
    if context.booking is not None:
        return context.booking
    line = whole(seen.spending.ledger)
    if line is None or not line.unpriced_gpu_seconds:
        return None
    hours = line.unpriced_gpu_seconds / SECONDS_PER_HOUR
    text = f"{hours:.2f} GPU-hours had no price when they were used and are booked as 0; give one in a PriceBook"
    return "NoPrice", text


def _up_to_date(seen: Seen) -> tuple[str, str, str]:
    """Whether a placed gang is what its spec asks for now."""
    plan, spec = seen.gang.plan, seen.resource.spec
    if plan is None or seen.gang.state is not GangState.PLACED:
        return "True", "UpToDate", ""
    edited = (
        ["spec.template or spec.gpu"] if plan.made_from and plan.made_from != made_from(spec, plan.gpu_resource) else []
    )
    if spec.elastic is None and len(plan.nodes) != spec.workers:
        edited.append("spec.workers")
    if not edited:
        return "True", "UpToDate", ""
    text = (
        f"{' and '.join(edited)} changed after the gang was placed; it goes on as it was placed, and its next start "
        "takes up the change: set spec.suspend to true and back to start it again from its last checkpoint"
    )
    return "False", "SpecChanged", text


def _at_risk(status: Status, seen: Seen) -> tuple[str, str, str]:
    budget = seen.resource.spec.budget
    if budget is not None and status.estimated_usd and float(status.estimated_usd) > budget.usd:
        text = f"is expected to cost {status.estimated_usd} USD, spec.budget.usd is {budget.usd:.2f}"
        return "True", "OverBudget", text
    if status.deadline and status.finish and status.finish > status.deadline:
        text = f"is expected to finish {span(status.finish - status.deadline)} after its deadline"
        return "True", "MissesDeadline", text
    return "False", "OnTrack", ""


_ROLLING = (
    "ready_workers",
    "spent_usd",
    "spent_exactly",
    "spent_through",
    "ledger",
    "estimated_usd",
    "slack",
    "finish",
    "progress",
    "usage",
    "advice",
    "calibration",
)


def significant(old: Status, new: Status) -> bool:
    """Whether more changed than the figures that always move."""
    still = {name: getattr(old, name) for name in _ROLLING}
    quiet = msgspec.structs.replace(new, **still)
    if old.progress.running_since != new.progress.running_since or old.progress.units_done != new.progress.units_done:
        return True
    if _idle(old) != _idle(new) or {a.what for a in old.advice} != {a.what for a in new.advice}:
        return True
    if old.ledger.closed != new.ledger.closed:
        return True
    if [(c.gpu_model, c.used) for c in old.calibration] != [(c.gpu_model, c.used) for c in new.calibration]:
        return True
    return _without_times(quiet) != _without_times(old)


def _idle(status: Status) -> int | None:
    """Idle GPUs are what people look for; None: nothing is known of them."""
    return None if status.usage is None else status.usage.idle_gpus


def _without_times(status: Status) -> Status:
    return msgspec.structs.replace(
        status, conditions=[msgspec.structs.replace(c, message="") for c in status.conditions], message=""
    )


def body(resource: TrainingJob, status: Status) -> dict[str, object]:
    """For server-side apply."""
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": resource.metadata.name, "namespace": resource.metadata.namespace},
        "status": msgspec.to_builtins(status),
    }
