"""A number somebody vouches for: where it comes from, how old it is, how far to trust it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import StrEnum


class Confidence(StrEnum):
    """How far a figure can be trusted."""

    LIST_PRICE = "list-price"  # published by the seller
    MEASURED = "measured"
    DERIVED = "derived"  # computed from other figures
    ESTIMATE = "estimate"
    OVERRIDE = "override"  # a person of this cluster said so


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value with its source, its date and the confidence it deserves."""

    value: float
    source: str
    as_of: datetime.date | None
    confidence: Confidence

    def age_days(self, today: datetime.date) -> float | None:
        """Days since it was true; None where nobody knows since when it is."""
        return None if self.as_of is None else float((today - self.as_of).days)
