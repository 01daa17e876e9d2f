"""As Karpenter does: pods that do not fit anywhere, the biggest first, onto the cheapest machine that holds them.

Existing nodes first, then nodes that this batch has opened, then a new one: the least price of a machine, spot before
on-demand where both are allowed. Source: kubernetes-sigs/karpenter, pkg/controllers/provisioning/scheduling, `add`, and
https://karpenter.sh/docs/concepts/scheduling/. Consolidation is left out: nodes go when they have stood empty, as with
everybody here. So are bigger machines for several pods together, which a batch of gangs rarely has use for.
"""

from __future__ import annotations

from stint.model.offering import CapacityType
from stint.sim.policies.in_turn import InTurn, Offer, biggest_first, emptiest


def _spread(offer: Offer) -> tuple[float, ...]:
    return (-offer.spare_gpus,)


def _cheapest_machine(offer: Offer) -> tuple[float, ...]:
    spot = offer.problem.offerings[offer.offering].capacity_type is CapacityType.SPOT
    return float(not spot), offer.usd_per_node_hour * max(1, offer.bought)


KARPENTER = InTurn("karpenter-like", biggest_first, emptiest, _spread, _cheapest_machine)
