"""First come, first served, onto the first nodes that have room; the pool that comes first in the list grows.

What every batch system did first, and what most comparisons start from. A job that does not fit lets others pass.
Source: D. Feitelson, L. Rudolph, "Parallel job scheduling: issues and approaches", JSSPP 1995, section 3.
"""

from __future__ import annotations

from stint.sim.policies.in_turn import InTurn, Offer, by_name, oldest_first


def _first(offer: Offer) -> tuple[float, ...]:
    return (float(offer.offering),)


FIFO = InTurn("fifo", oldest_first, by_name, _first, _first)
