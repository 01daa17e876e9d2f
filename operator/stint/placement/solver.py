"""What a solver is: a problem in, an assignment out. See `stint.testing.suites` for what every solver must pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from stint.placement.columns import Columns
from stint.placement.problem import Problem

if TYPE_CHECKING:
    from stint.placement.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One job's place: a column of the problem, when it starts, and the node of each rank."""

    column: int
    start_hours: float
    nodes: tuple[int, ...]  # indices into the problem's nodes, by rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A solver's answer. `choices` is parallel to `problem.jobs`; None: no place now or later.

    `unit_usd` are prices of capacity that came with it; see `stint.placement.prices`. They may be anything: what they
    prove is proved. `left` is what the solver has left over, if it kept count; see `explain.full_capacity`.
    """

    choices: tuple[Choice | None, ...]
    unit_usd: Float[np.ndarray, "offering horizon resource"] | None = field(default=None, compare=False, repr=False)
    left: Timeline | None = field(default=None, compare=False, repr=False)


@runtime_checkable
class Solver(Protocol):
    """Anything that answers a problem."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def solve(self, problem: Problem, *, budget_steps: int, rng: np.random.Generator) -> Assignment:
        """Answer within a budget of work. The same problem, budget and dice give the same answer."""
        ...


def objective_usd(problem: Problem, assignment: Assignment) -> float:
    """What an assignment costs: J of every job, the idle part of every node bought, a charge for jobs left out.

    A bought node is paid for as long as any gang holds it; what the gangs on it do not pay for is idle.
    """
    total = sum(
        problem.objective_at(problem.columns, c.column, c.start_hours) if c is not None else float(problem.hold_usd[j])
        for j, c in enumerate(assignment.choices)
    )
    return total + idle_usd(problem, assignment)


def idle_usd(problem: Problem, assignment: Assignment) -> float:
    """The unpaid part of the nodes that an assignment buys."""
    columns: Columns = problem.columns
    longest: dict[int, float] = {}
    paid: dict[int, float] = {}
    price: dict[int, float] = {}
    for choice in assignment.choices:
        if choice is None:
            continue
        held = float(columns.held_hours[choice.column])
        for node in choice.nodes:
            if problem.node_is_new[node]:
                longest[node] = max(longest.get(node, 0.0), choice.start_hours + held)
                paid[node] = paid.get(node, 0.0) + held * float(columns.share[choice.column])
                price[node] = float(columns.usd_per_node_hour[choice.column])
    return sum(price[n] * max(0.0, longest[n] - paid[n]) for n in sorted(longest))
