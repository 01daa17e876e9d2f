"""Jobs that end at about the same time share a machine, so that it can be given back whole.

Run times fall into bins, each twice as long as the one before. A job goes to a node whose last gang ends in the job's
own bin, else in a longer one (up-packing), else in a shorter one (down-packing), the longest jobs first; if there is
none, to an empty node, and last the machine is bought that costs least for what is used of it. Source: A. Chung,
J. W. Park, G. R. Ganger, "Stratus: cost-aware container scheduling in the public cloud", SoCC 2018.

Kinder than the original: it knows exactly how long each job runs. Not as good: it neither moves jobs off machines that
are used badly, nor looks for a machine for several new jobs at once; later ones join it where their bins fit.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stint.placement.greedy import columns_of_jobs
from stint.placement.problem import Problem
from stint.sim.policies.in_turn import InTurn, Offer, Room

_MOST_BINS = 64.0  # apart
_SHORTEST_HOURS = 1 / 60


def runtime_bin(hours: np.ndarray) -> np.ndarray:
    """Which bin: of a minute or less, two, four and so on."""
    found: np.ndarray = np.ceil(np.log2(np.maximum(hours, _SHORTEST_HOURS) / _SHORTEST_HOURS))
    return found


def distance(until_hours: np.ndarray, hours: float) -> np.ndarray:
    """How little a job of so many hours belongs onto nodes that are in use until then: 0 is its own bin."""
    apart = runtime_bin(until_hours) - runtime_bin(np.array([hours]))
    far = np.where(apart >= 0, apart, _MOST_BINS - apart)
    found: np.ndarray = np.where(until_hours > 0, far, 2 * _MOST_BINS + 1)
    return found


def _co_terminating(room: Room) -> np.ndarray:
    near = np.abs(room.until_hours - room.hours)
    keys: np.ndarray = distance(room.until_hours, room.hours) + near / (1.0 + near)
    return keys


def _where(offer: Offer) -> tuple[float, ...]:
    until = np.array(offer.until_hours)
    return float(distance(until, offer.hours).max()), float(np.abs(until - offer.hours).max())


def _least_for_what_is_used(offer: Offer) -> tuple[float, ...]:
    gpus = float(offer.problem.need[offer.job][0]) * len(offer.choice.nodes)
    return offer.usd_per_node_hour * offer.bought / gpus if gpus else offer.usd_per_hour, offer.usd_per_hour


def _longest_first(problem: Problem) -> Iterable[int]:
    own, held = columns_of_jobs(problem.columns, len(problem.jobs)), problem.columns.held_hours
    hours = [float(held[c].min()) if len(c) else 0.0 for c in own]
    return sorted(range(len(own)), key=lambda j: (-hours[j], problem.jobs[j].created, problem.jobs[j].id))


STRATUS = InTurn("stratus-like", _longest_first, _co_terminating, _where, _least_for_what_is_used)
