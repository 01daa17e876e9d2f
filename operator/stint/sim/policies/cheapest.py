"""The least dollars an hour, as a price list has them; how long the job will take there is not asked.

What brokers of machines do that know no speeds. Source: SkyPilot's optimiser with its default of one hour for every
task, skypilot-org/skypilot, sky/optimizer.py, `_estimate_nodes_cost_or_time`.
"""

from __future__ import annotations

from stint.sim.policies.in_turn import InTurn, Offer, fullest, oldest_first


def _hourly(offer: Offer) -> tuple[float, ...]:
    return (offer.usd_per_hour,)


CHEAPEST_HOUR = InTurn("cheapest-hour", oldest_first, fullest, _hourly, _hourly)
