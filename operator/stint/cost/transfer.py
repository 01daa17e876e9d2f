"""Moving data to where the work is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

GB_PER_GIB = 2**30 / 1e9  # data is counted in GiB, transfer is priced per GB: 7 % apart


def egress_usd(
    gib: Float[np.ndarray, " column"], usd_per_gb: Float[np.ndarray, " column"]
) -> Float[np.ndarray, " column"]:
    """Dollars for `gib` leaving where the data lies."""
    result: Float[np.ndarray, " column"] = gib * GB_PER_GIB * usd_per_gb
    return result
