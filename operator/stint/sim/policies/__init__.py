"""Policies by name: ours, and others to compete with, each a small file that names its source."""

from __future__ import annotations

from collections.abc import Mapping

from stint.placement.greedy import Greedy
from stint.sim.policies.autoscaler import CLUSTER_AUTOSCALER
from stint.sim.policies.best_fit import BEST_FIT
from stint.sim.policies.cheapest import CHEAPEST_HOUR
from stint.sim.policies.eva import EVA
from stint.sim.policies.fifo import FIFO
from stint.sim.policies.gavel import GAVEL
from stint.sim.policies.karpenter import KARPENTER
from stint.sim.policies.stratus import STRATUS
from stint.sim.policy import Decides, Policy

_SIMPLE = (FIFO, BEST_FIT, CHEAPEST_HOUR, CLUSTER_AUTOSCALER, KARPENTER)
_PUBLISHED = (GAVEL, STRATUS, EVA)
_ALL: tuple[Policy, ...] = (
    Decides("stint"),  # as the operator decides, with the solver that the settings name
    Decides("stint-greedy", Greedy()),
    *(Decides(s.name, s) for s in (*_SIMPLE, *_PUBLISHED)),
)
POLICIES: Mapping[str, Policy] = {p.name: p for p in _ALL}
