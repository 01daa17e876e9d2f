"""Where least is left over: the fullest node that has room, or the smallest machine that holds the gang.

Source: D. S. Johnson, "Near-optimal bin packing algorithms", MIT 1973; as kube-scheduler's MostAllocated strategy on
GPUs, https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/.
"""

from __future__ import annotations

from stint.sim.policies.in_turn import InTurn, Offer, fullest, oldest_first


def _snug(offer: Offer) -> tuple[float, ...]:
    return offer.spare_gpus, offer.usd_per_hour


BEST_FIT = InTurn("best-fit", oldest_first, fullest, _snug, _snug)
