"""Scratch volumes, rented while the nodes are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stint.cost.transfer import GB_PER_GIB

HOURS_PER_MONTH = 730.0  # 8760 / 12, as the price lists count


def storage_usd(
    hours: Float[np.ndarray, " column"],
    gib: Float[np.ndarray, " column"],
    usd_per_gb_month: Float[np.ndarray, " column"],
) -> Float[np.ndarray, " column"]:
    """Dollars for `gib` of storage over `hours`."""
    result: Float[np.ndarray, " column"] = gib * GB_PER_GIB * usd_per_gb_month * hours / HOURS_PER_MONTH
    return result
