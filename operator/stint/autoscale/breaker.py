"""No more nodes are ordered while nodes that Stint bought and nothing uses cost as much as they may."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from stint.model.figure import value_of
from stint.model.job import Job, JobId, NodeName, NoNew, WhyNoNew
from stint.model.offering import OfferingId
from stint.model.situation import Situation
from stint.placement.outcome import goes_now
from stint.placement.problem import Problem
from stint.placement.solver import Assignment

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Stopped:
    """Orders that would go beyond the limit."""

    jobs: frozenset[JobId]
    why: str


def unused_usd_per_hour(situation: Situation, besides: Collection[NodeName] = ()) -> float:
    """USD/h of the nodes that Stint bought and that are empty, or on order: also of those that never became ready.

    Args:
        besides: nodes that do not count, as a job gets them now.
    """
    offerings = {o.id: o for o in situation.offerings}
    return sum(
        value_of(offerings[n.offering].price_of_existing, 0.0)
        for n in situation.nodes
        if n.bought and n.used.gpus == 0 and not n.interrupted and n.name not in besides
    )


def stopped(problem: Problem, answer: Assignment) -> Stopped | None:
    """The jobs of an answer, in queue order, whose nodes would cost too much beside those that are unused; None: none.

    A job that shares a new node with one before it pays for the rest only.
    """
    most = problem.situation.settings.max_unused_usd_per_hour
    if most is None:
        return None
    choices = [(j, c) for j, c in enumerate(answer.choices) if c is not None]
    given = {problem.nodes[n].name for _, c in choices if goes_now(problem, c) for n in c.nodes}
    unused = unused_usd_per_hour(problem.situation, given)
    total, ordered, beyond, first = unused, set[int](), set[JobId](), 0.0
    for j, choice in choices:
        new = {n for n in choice.nodes if problem.node_is_new[n]} - ordered
        if not new:
            continue
        price = sum(value_of(problem.offerings[int(problem.node_offering[n])].price_of_new, 0.0) for n in new)
        if price > 0 and total + price > most + _ROUNDING:
            first = first or price
            beyond.add(problem.jobs[j].id)
        else:
            total += price
            ordered |= new
    if not beyond:
        return None
    why = (
        f"nodes that Stint bought and that are empty or on order cost {total:.2f} USD/h; {first:.2f} USD/h more would "
        f"go beyond scaleUp.maxUnusedUsdPerHour, which is {most:.2f}: no node is ordered until jobs use them, or they "
        "are removed"
    )
    return Stopped(frozenset(beyond), why)


def barred(jobs: Sequence[Job], found: Stopped, *, everybody: bool = False) -> list[Job]:
    """The same jobs, of which those that were stopped get no new node of any offering."""
    bar = NoNew(offering=OfferingId(""), why=WhyNoNew.STOPPED, message=found.why)
    return [replace(j, no_new=(bar,)) if everybody or j.id in found.jobs else j for j in jobs]
