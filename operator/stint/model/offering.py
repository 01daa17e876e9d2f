"""How capacity is bought."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

OfferingId = NewType("OfferingId", str)  # made in `stint.model.market.offering_id` only


class CapacityType(StrEnum):
    """Under which terms a node runs."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"  # the provider may interrupt it
    RESERVED = "reserved"  # already paid for: its marginal price is zero
    OWNED = "owned"  # bought: amortised, and its energy is on our bill
