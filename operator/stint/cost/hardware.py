"""Rent: nodes, their price, and the hours they are held."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def hardware_usd(
    hours: Float[np.ndarray, " column"],
    billed_nodes: Float[np.ndarray, " column"],
    usd_per_node_hour: Float[np.ndarray, " column"],
) -> Float[np.ndarray, " column"]:
    """Dollars for `billed_nodes` (node-equivalents: half a node is 0.5) over `hours`."""
    result: Float[np.ndarray, " column"] = hours * billed_nodes * usd_per_node_hour
    return result
