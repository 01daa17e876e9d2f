"""What a missed deadline costs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def lateness_usd(
    finish_hours: Float[np.ndarray, " column"],
    hours_to_deadline: Float[np.ndarray, " column"],
    lateness_usd_per_hour: Float[np.ndarray, " column"],
) -> Float[np.ndarray, " column"]:
    """Dollars for each hour that `finish_hours` (finite) is past the deadline; both count from now.

    Without a deadline `hours_to_deadline` is inf. Where it has passed, it is 0: lateness so far is sunk.
    """
    result: Float[np.ndarray, " column"] = np.maximum(finish_hours - hours_to_deadline, 0.0) * lateness_usd_per_hour
    return result
