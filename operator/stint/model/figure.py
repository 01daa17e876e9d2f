"""A number that says where it comes from, how old it is and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TypeVar

MOST = 1e15
DefaultT = TypeVar("DefaultT", float, None)


class Confidence(StrEnum):
    """What kind of knowledge a figure is. Not an order: a measurement elsewhere may be worse than a list price here."""

    LIST_PRICE = "list-price"  # a provider's public price, before tax and without negotiated discounts
    PUBLISHED = "published"  # a data sheet or an annual report of whoever should know
    MEASURED = "measured"  # somebody's instrument
    DERIVED = "derived"  # computed from other figures, all of them known
    ESTIMATE = "estimate"  # an assumption; good for a first answer, not for a bill
    OVERRIDE = "override"  # the user's own number, which beats all of the above
    DEFINITION = "by-definition"  # true by what the word means, so it cannot be out of date


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number. Its unit is in the name of whatever returned it.

    `as_of` is the oldest day that the source allows for: a table "of 2026" is taken to be of the first of January. So
    an age may be overstated, never understated. None: nobody knows.
    """

    value: float
    source: str
    as_of: date | None
    confidence: Confidence

    @property
    def usable(self) -> bool:
        """Whether it can be reckoned with. No price is negative, and none is more than all the money there is."""
        return 0 <= self.value < MOST  # which nan is not

    def age_days(self, today: date) -> float | None:
        """Days since `as_of`; None if that is unknown."""
        return None if self.as_of is None else float((today - self.as_of).days)


def value_of(figure: Figure | None, default: DefaultT) -> float | DefaultT:
    """Its value, or `default` where it is not known or cannot be reckoned with."""
    return default if figure is None or not figure.usable else figure.value
