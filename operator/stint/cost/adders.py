"""What runs up by the hour beside the machines: software licences and people."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def licence_usd(
    hours: Float[np.ndarray, " column"], licence_usd_per_hour: Float[np.ndarray, " column"]
) -> Float[np.ndarray, " column"]:
    """Dollars for the whole gang's licences, which are taken as soon as its nodes are."""
    result: Float[np.ndarray, " column"] = hours * licence_usd_per_hour
    return result


def labour_usd(
    hours: Float[np.ndarray, " column"], labour_usd_per_hour: Float[np.ndarray, " column"]
) -> Float[np.ndarray, " column"]:
    """Dollars for those who look after the job while it holds nodes."""
    result: Float[np.ndarray, " column"] = hours * labour_usd_per_hour
    return result
