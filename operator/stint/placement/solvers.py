"""The solvers by name, as the chart and `stint plan --solver` know them."""

from __future__ import annotations

from collections.abc import Mapping

from stint.placement.greedy import Greedy
from stint.placement.milp import Auto, Exact
from stint.placement.solver import Solver

_ALL: tuple[Solver, ...] = (Auto(), Greedy(), Exact())
SOLVERS: Mapping[str, Solver] = {s.name: s for s in _ALL}
