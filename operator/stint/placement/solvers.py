"""The solvers by name, as the chart and `stint plan --solver` know them."""

from __future__ import annotations

from collections.abc import Mapping

from stint.placement.annealing import Annealing
from stint.placement.exact import Exact
from stint.placement.greedy import Greedy
from stint.placement.portfolio import Portfolio
from stint.placement.solver import Solver

_ALL: tuple[Solver, ...] = (Portfolio(), Greedy(), Annealing(), Exact())
SOLVERS: Mapping[str, Solver] = {s.name: s for s in _ALL}


def solver_of(name: str) -> Solver:
    """By name.

    Raises:
        KeyError: there is none; the message says which there are.
    """
    if name not in SOLVERS:
        raise KeyError(f"solver {name!r} {remedy(name)}")
    return SOLVERS[name]


def remedy(name: str) -> str:
    """What to do about a solver that is not there."""
    gone = "; portfolio has taken the place of auto" if name == "auto" else ""
    return f"must be one of {', '.join(sorted(SOLVERS))}{gone}"
