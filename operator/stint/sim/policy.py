"""Who decides. All policies see the same situations, and all their plans are carried out by the same world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stint.decide import decide
from stint.errors import UnsoundAssignmentError
from stint.model.plan import Plan
from stint.model.situation import Situation
from stint.placement.greedy import Greedy
from stint.placement.solver import Solver


@runtime_checkable
class Policy(Protocol):
    """A situation in, a plan out. Called with what is known at that instant, and never with the future."""

    @property
    def name(self) -> str:
        """What the tables call it. Ours begin with `stint`."""
        ...

    def __call__(self, situation: Situation) -> Plan:
        """Decide."""
        ...


@dataclass(frozen=True, slots=True)
class Decides:
    """`decide`, as the operator calls it: with the solver that the settings name, and greedy where that one fails.

    With a `solver` of its own it is another way to choose places under the very same rules: who can go on, what each
    job may use, what it costs and when nodes are given back are not left to it.
    """

    name: str
    solver: Solver | None = None

    def __call__(self, situation: Situation) -> Plan:
        """See `Policy`."""
        if self.solver is not None:
            return decide(situation, solver=self.solver)
        try:
            return decide(situation)
        except UnsoundAssignmentError:
            return decide(situation, solver=Greedy())
