"""What a job has spent, booked so that no hour counts twice."""

from __future__ import annotations

from datetime import datetime, timedelta


def accrue(spent_usd: float, through: datetime, rate_usd_per_hour: float, until: datetime) -> tuple[float, datetime]:
    """Book the time from `through` to `until` at a constant rate.

    `through` is a watermark: everything before it is in `spent_usd`. A caller stores both results together, so that
    after a crash the same interval may be offered again and adds nothing. An `until` before the watermark (a clock
    that stepped back) adds nothing either and leaves the watermark where it is.

    Raises:
        ValueError: if `spent_usd` or the rate is negative, not a number, or infinite.
    """
    for name, value in (("spent_usd", spent_usd), ("rate_usd_per_hour", rate_usd_per_hour)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and >= 0, not {value}")
    if until <= through:
        return spent_usd, through
    return spent_usd + rate_usd_per_hour * ((until - through) / timedelta(hours=1)), until
