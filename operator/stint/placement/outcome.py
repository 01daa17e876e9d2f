"""A solver's choice, or the lack of one, as something to act on and to read: a placement or a hold."""

from __future__ import annotations

from stint.estimate.runtime import hours_between
from stint.model.plan import Candidate, Explanation, Hold, Placement, Reason, Rejection
from stint.placement import explain
from stint.placement.columns import Columns
from stint.placement.problem import Problem
from stint.placement.solver import Choice

_NOW_HOURS = 1e-6


def goes_now(problem: Problem, choice: Choice) -> bool:
    """True when every node is there and free at this moment."""
    return choice.start_hours <= _NOW_HOURS and not any(problem.node_is_new[n] for n in choice.nodes)


def placement(problem: Problem, j: int, choice: Choice, explanation: Explanation) -> Placement:
    """Let it go now."""
    chosen = _candidate(problem, problem.columns, choice)
    deadline = problem.jobs[j].deadline
    return Placement(
        job=problem.jobs[j].id,
        chosen=chosen,
        nodes=tuple(problem.nodes[n].name for n in choice.nodes),
        late_by_hours=0.0 if deadline is None else max(0.0, hours_between(deadline, chosen.finish)),
        explanation=explanation,
    )


def hold(problem: Problem, j: int, choice: Choice | None, explanation: Explanation, advised: Choice | None) -> Hold:
    """Wait, and say for what."""
    job = problem.jobs[j].id
    tip = "" if advised is None else "; " + _tip(problem, advised)
    if choice is None:
        reason, text = _nearest(explanation.rejected)
        if advised is not None:
            reason = Reason.ADVICE_ONLY
        return Hold(job=job, reason=reason, message=text + tip, explanation=explanation)
    chosen = _candidate(problem, problem.columns, choice)
    reason, text = _waits_for(problem, choice, chosen, explanation)
    if reason is Reason.NOT_ENOUGH_GPUS:
        besides = problem.partly[j].get(int(problem.columns.offering[choice.column]), "")
        text += f"; besides, {besides}" if besides else ""
    deadline = problem.jobs[j].deadline
    if deadline is not None and chosen.finish > deadline and goes_now(problem, choice):
        late = hours_between(deadline, chosen.finish)
        reason, text = (
            Reason.MISSES_DEADLINE,
            (
                f"would finish {late:.1f} h after its deadline at the earliest, on {chosen.offering} "
                f"for {chosen.cost.usd:.2f} USD; move spec.deadline or set spec.onDeadlineMiss to Run"
            ),
        )
    return Hold(job=job, reason=reason, message=text + tip, chosen=chosen, explanation=explanation)


def _candidate(problem: Problem, columns: Columns, choice: Choice) -> Candidate:
    objective = problem.objective_at(columns, choice.column, choice.start_hours)
    return explain.candidate(problem, columns, choice, objective)


def _waits_for(problem: Problem, choice: Choice, chosen: Candidate, explanation: Explanation) -> tuple[Reason, str]:
    wait = _duration(hours_between(problem.situation.now, chosen.start))
    money = f"{chosen.cost.usd:.2f} USD to finish at {chosen.usd_per_hour:.2f} USD/h"
    offering = problem.offerings[problem.columns.offering[choice.column]]
    if chosen.new_nodes:
        pool = problem.pools[problem.pool_of_offering[problem.columns.offering[choice.column]]]
        each = 0.0 if offering.price_of_new is None else offering.price_of_new.value
        return Reason.NODES_ON_THE_WAY, (
            f"{chosen.new_nodes} more {offering.instance_type} ordered in pool {pool.name} at {each:.2f} USD/h each, "
            f"ready in about {pool.cold_start_seconds / 60:.0f} min; {money}"
        )
    if any(problem.nodes[n].ready_at is not None for n in choice.nodes if n < len(problem.nodes)):
        return Reason.NODES_ON_THE_WAY, f"its nodes in {chosen.offering} arrive in about {wait}; {money}"
    others = explanation.runner_up
    if others is not None and (others.start <= problem.situation.now or others.new_nodes):
        sooner = hours_between(problem.situation.now, others.start)
        when = "at once" if sooner < 1 / 60 else f"in about {_duration(sooner)}"
        return Reason.WAITING_IS_CHEAPER, (
            f"starts in about {wait} on {chosen.offering}: {money}; {others.offering} would start it {when} "
            f"for {others.cost.usd:.2f} USD"
        )
    return Reason.NOT_ENOUGH_GPUS, f"{chosen.offering} has room in about {wait}; {money}"


def _duration(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"


def _nearest(rejected: tuple[Rejection, ...]) -> tuple[Reason, str]:
    """Of all the constraints in the way, those of the offerings that came nearest to being chosen."""
    if not rejected:
        return Reason.NOT_ENOUGH_GPUS, "the cluster has no GPU node, and no pool that can add one"
    last = rejected[-1].reason  # they are sorted by precedence: the last one failed latest
    if last is Reason.NODE_SELECTOR_MISMATCH and any(r.reason is Reason.WORKER_EXCEEDS_NODE for r in rejected):
        last = Reason.WORKER_EXCEEDS_NODE  # the nodes that the selector asks for are there, and too small
    same = [r for r in rejected if r.reason is last]
    more = f" (and {len(same) - 1} more offerings alike)" if len(same) > 1 else ""
    return last, f"{same[0].offering}: {same[0].message}{more}"


def _tip(problem: Problem, advised: Choice) -> str:
    new = len({n for n in advised.nodes if problem.node_is_new[n]})
    offering = problem.offerings[problem.advice.offering[advised.column]]
    each = 0.0 if offering.price_of_new is None else offering.price_of_new.value
    noun = "node" if new == 1 else "nodes"
    what = f"{new} more {offering.instance_type} {noun} in pool {offering.pool}"
    return f"{what} would be enough, for {each * new:.2f} USD/h"
