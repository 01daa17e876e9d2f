"""When a figure is too old to be relied on without saying so."""

from __future__ import annotations

from datetime import date

from stint.model.figure import Confidence, Figure

SPOT_LIMIT_DAYS = 7.0  # spot prices move within days
LIST_LIMIT_DAYS = 180.0  # list prices move a few times a year


def stale(figure: Figure, today: date, limit_days: float) -> bool:
    """True if `figure` is older than `limit_days`, or of unknown age. What holds by definition never is."""
    if figure.confidence is Confidence.DEFINITION:
        return False
    age = figure.age_days(today)
    return age is None or age > limit_days
