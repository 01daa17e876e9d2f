"""Gangs that are placed in one plan, seen as neighbours of one another.

Solvers look at the pods that are there. Of two gangs that keep apart, or that want to be together, and that are both
placed now, the later one in the queue waits until the earlier one has its nodes, and is decided again a moment later.
"""

from __future__ import annotations

from collections.abc import Sequence

from stint.model.job import NodeName
from stint.placement.neighbours import Neighbourhood, looks_around
from stint.placement.problem import Problem


class Beside:
    """The gangs of one plan so far."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._nodes = {n.name: n for n in problem.nodes}
        self._matters = any(looks_around(j) for j in problem.jobs)
        self._all = problem.neighbourhood.copy()
        self._new = Neighbourhood.empty()  # placed in this plan: solvers have looked at the others
        self._any = False

    def clash(self, job: int, nodes: Sequence[NodeName]) -> str:
        """Why a gang may not go where it is to go, beside those that are placed before it; empty: it may."""
        if not (self._matters and self._any):
            return ""
        mine = self._problem.jobs[job]
        if not self._new.matters_to(mine):
            return ""
        seats = mine.seats(len(nodes))
        views = {id(s): (self._all if s.constraints.affinity else self._new).view(s) for s in seats}
        pairs = dict.fromkeys((name, id(seat)) for name, seat in zip(nodes, seats, strict=True))
        refusals = ((name, views[seat].refuses(self._nodes[name])) for name, seat in pairs)
        return next((f"{name}: {no[1]}" for name, no in refusals if no is not None), "")

    def add(self, job: int, nodes: Sequence[NodeName]) -> None:
        """A gang that is placed now."""
        if self._matters:
            for around in (self._all, self._new):
                around.add(self._problem.jobs[job], [self._nodes[n] for n in nodes])
            self._any = True
