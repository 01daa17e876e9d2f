"""What can be bought. An offering has no price: prices move, so they live in `stint.catalogue`."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

OfferingId = NewType("OfferingId", str)  # made in `stint.model.market.offering_id` only


class CapacityType(StrEnum):
    """How a node is paid for."""

    ON_DEMAND = "on-demand"  # by the hour, at the list price, for as long as wanted
    SPOT = "spot"  # cheaper, and the provider may interrupt it
    RESERVED = "reserved"  # already paid for: its marginal price is zero
    OWNED = "owned"  # our own machine: its price is its purchase, written off over its life
