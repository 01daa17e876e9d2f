"""How much longer a run takes on capacity that may be taken away."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import exprel


def gang_interruptions_per_hour(
    node_interruptions_per_hour: Float[np.ndarray, " column"], nodes: Float[np.ndarray, " column"]
) -> Float[np.ndarray, " column"]:
    """Interruptions of a gang that stops when any one of its nodes is taken: independent Poisson rates add up."""
    result: Float[np.ndarray, " column"] = node_interruptions_per_hour * nodes
    return result


def expected_wall_hours(
    work_hours: Float[np.ndarray, " column"],
    interruptions_per_hour: Float[np.ndarray, " column"],
    *,
    checkpoint_every_hours: Float[np.ndarray, " column"],
    checkpoint_hours: Float[np.ndarray, " column"],
    restart_hours: Float[np.ndarray, " column"],
) -> Float[np.ndarray, " column"]:
    """Expected wall-clock hours of each run, interruptions included.

    Interruptions are Poisson with rate r. Each loses the work since the last checkpoint
    and costs a restart, which may itself be interrupted:

        wall = work / tau * e^(r R) * (e^(r (tau + delta)) - 1) / r

    with tau = checkpoint_every_hours, delta = checkpoint_hours, R = restart_hours. Work that ends before its first
    checkpoint is due is one segment and writes none: there tau = work and delta = 0.

    Args:
        work_hours: run time without interruptions or checkpoints; inf where a job cannot run.
        interruptions_per_hour: of the whole gang, not of one node.
        checkpoint_every_hours: work between checkpoints; inf for a job that never writes one.
        checkpoint_hours: the pause while one is written.
        restart_hours: from an interruption until work goes on.
    Returns:
        hours, at least `work_hours`; inf where the run is not expected to end.
    Raises:
        ValueError: if a `checkpoint_every_hours` is not positive.
    Source: J. T. Daly, Future Generation Computer Systems 22(3), 2006, the complete model.
    """
    if not np.all(checkpoint_every_hours > 0):
        raise ValueError("checkpoint_every_hours must be > 0")
    endless = np.isinf(work_hours)
    work = np.where(endless, 1.0, work_hours)
    one_segment = checkpoint_every_hours >= work
    tau = np.where(one_segment, work, checkpoint_every_hours)
    segment_hours = tau + np.where(one_segment, 0.0, checkpoint_hours)
    segments = np.divide(work, tau, out=np.zeros_like(work), where=tau > 0)  # no work is no segment, not 0 / 0
    # exprel(x) = (e^x - 1) / x keeps its precision where interruptions are rare, which is nearly always.
    with np.errstate(over="ignore"):  # e^1000 is infinity for all we care: such a run never ends
        stretch = np.exp(interruptions_per_hour * restart_hours) * exprel(interruptions_per_hour * segment_hours)
        once = np.where(segment_hours > 0, segment_hours, 0.0) * np.where(segment_hours > 0, stretch, 1.0)
        wall: Float[np.ndarray, " column"] = np.where(endless, np.inf, segments * once)
    return wall
