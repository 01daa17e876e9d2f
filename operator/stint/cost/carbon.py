"""Greenhouse gas of the electricity used, and its price where the user sets one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

GRAMS_PER_TONNE = 1e6


def carbon_g(
    kwh: Float[np.ndarray, " column"], g_co2_per_kwh: Float[np.ndarray, " column"]
) -> Float[np.ndarray, " column"]:
    """Grams of CO2 equivalent. All columns must use one kind of signal: average and marginal do not compare."""
    result: Float[np.ndarray, " column"] = kwh * g_co2_per_kwh
    return result


def carbon_usd(
    grams: Float[np.ndarray, " column"], usd_per_tonne_co2: Float[np.ndarray, " column"]
) -> Float[np.ndarray, " column"]:
    """Dollars for `grams` at a price per metric tonne."""
    result: Float[np.ndarray, " column"] = grams / GRAMS_PER_TONNE * usd_per_tonne_co2
    return result
