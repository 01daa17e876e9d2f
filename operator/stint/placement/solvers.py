"""The solvers by name, as the chart and `stint plan --solver` know them."""

from __future__ import annotations

from collections.abc import Mapping

from stint.placement.annealing import Annealing
from stint.placement.greedy import Greedy
from stint.placement.milp import Auto, Exact
from stint.placement.portfolio import Portfolio
from stint.placement.solver import Solver

_ALL: tuple[Solver, ...] = (Portfolio(), Auto(), Greedy(), Annealing(), Exact())
SOLVERS: Mapping[str, Solver] = {s.name: s for s in _ALL}
