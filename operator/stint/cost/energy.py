"""Electricity: what a gang draws, with the building around it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

WATTS_PER_KILOWATT = 1000.0


def energy_kwh(
    hours: Float[np.ndarray, " column"], watts: Float[np.ndarray, " column"], pue: Float[np.ndarray, " column"]
) -> Float[np.ndarray, " column"]:
    """Kilowatt-hours at the meter: `watts` of the machines, times the building's power usage effectiveness."""
    result: Float[np.ndarray, " column"] = hours * watts * pue / WATTS_PER_KILOWATT
    return result


def energy_usd(
    kwh: Float[np.ndarray, " column"], usd_per_kwh: Float[np.ndarray, " column"]
) -> Float[np.ndarray, " column"]:
    """Dollars for `kwh`. A cloud's price contains its electricity: pass a tariff of 0 there."""
    result: Float[np.ndarray, " column"] = kwh * usd_per_kwh
    return result
