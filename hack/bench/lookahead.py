"""What a free GPU will come to: the look-ahead that places pods which share GPUs better than the next pod's view does.

Fragmentation asks what the *next* pod can use. A hole is filled by several, so this asks what all of them will. With g
free on a GPU and c CPU, over the typical pods m that fit (u_m <= g, c_m <= c):

    V[c, g] = phi(q) * sum_m w_m (u_m + V[c - c_m, g - u_m]) / sum_m w_m
    w_m = p_m * exp(FIT * (u_m + V[c - c_m, g - u_m]) / g),   q = sum_m p_m,   phi(q) = q^3 / (q^3 + SCARCE^3)

w leans to pods that fill the hole well, since they will be sent there; phi is the chance that any comes: a fifth of a
GPU that one pod in a hundred can use mostly stays empty. A node is worth the sum over its GPUs, each with the part of
the CPU that its free part is of all free ones, so CPU without GPUs and GPUs without CPU are worth nothing; and, for
pods with several GPUs, what `Worth` says of whole ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from hack.bench.fragmentation import GPU, Fleet, Host, Shape, Worth

FIT = 2.0
SCARCE = 0.01
TIE = 20.0  # GPU-milli
_STEP = 10  # of GPU-milli, in the table
_CORE = 1000  # CPU-milli


def outlook(
    typical: Sequence[tuple[Shape, float]], models: Sequence[str], *, cores: int
) -> Float[np.ndarray, "model core step"]:
    """V in GPU-milli, by model, whole cores (0 to `cores`) and tens of GPU-milli.

    Demand is rounded up: nothing is promised that is not there.
    """
    steps = GPU // _STEP
    table = np.zeros((len(models), cores + 1, steps + 1))
    for value, model in zip(table, models, strict=True):
        fitting = [
            (-(-shape.gpu_milli // _STEP), -(-shape.cpu_milli // _CORE), popularity)
            for shape, popularity in typical
            if shape.gpus == 1 and shape.cpu_milli <= cores * _CORE and (not shape.models or model in shape.models)
        ]
        for free in range(1, steps + 1):
            gained, weights, popular = np.zeros((3, cores + 1))
            for units, cpu, popularity in fitting:
                if units <= free:
                    gain = units * _STEP + value[: cores + 1 - cpu, free - units]
                    weight = popularity * np.exp(FIT * (gain / (free * _STEP) - 1))
                    gained[cpu:] += weight * gain
                    weights[cpu:] += weight
                    popular[cpu:] += popularity
            chance = popular**3 / (popular**3 + SCARCE**3)
            value[:, free] = np.divide(gained, weights, out=np.zeros_like(gained), where=weights > 0) * chance
    return table


class LookAhead:
    """The place that costs least of what the free GPUs will come to."""

    def __init__(self, typical: Sequence[tuple[Shape, float]], hosts: Sequence[Host]) -> None:
        """`typical` and `hosts` as in `hack.bench.fragmentation.Worth`, which numbers the models alike."""
        models = sorted({host.model for host in hosts})
        self._cores = max((host.cpu_milli for host in hosts), default=0) // _CORE
        self._table = outlook(typical, models, cores=self._cores)
        self._several = Worth([(shape, popularity) for shape, popularity in typical if shape.gpus > 1], hosts)

    def value(
        self,
        model: Int[np.ndarray, " host"],
        cpu: Int[np.ndarray, " host"],
        free: Int[np.ndarray, "host gpu"],
        full: Int[np.ndarray, " host"],
    ) -> Float[np.ndarray, " host"]:
        """What nodes with this much free will come to, in GPU-milli."""
        each = self._each(model, cpu, free, free.sum(axis=1))
        several = self._several.whole[self._several.rows(model, cpu), full]
        value: Float[np.ndarray, " host"] = each.sum(axis=1) + several
        return value

    def _each(
        self,
        model: Int[np.ndarray, " host"],
        cpu: Int[np.ndarray, " host"],
        free: Int[np.ndarray, "host gpu"],
        total: Int[np.ndarray, " host"],
    ) -> Float[np.ndarray, "host gpu"]:
        cores = cpu[:, None] * free // (np.maximum(total, 1)[:, None] * _CORE)
        found: Float[np.ndarray, "host gpu"] = self._table[
            model[:, None], np.clip(cores, 0, self._cores), free // _STEP
        ]
        return found

    def rate(self, fleet: Fleet, at: Int[np.ndarray, " host"], shape: Shape) -> Float[np.ndarray, "host way"]:
        """As `hack.bench.packing.Policy.rate`: the value after, less the value before.

        In steps of `TIE`: what is about as good goes to the first node, so that whole nodes stay free at the end.
        """
        model, free, full = fleet.model[at], fleet.free[at], fleet.full[at]
        cpu = fleet.cpu[at] - shape.cpu_milli
        before = self.value(model, fleet.cpu[at], free, full)[:, None]
        total = free.sum(axis=1) - shape.milli
        each = self._each(model, cpu, free, total)
        rows = self._several.rows(model, cpu)
        after: Float[np.ndarray, "host way"]
        if shape.shares:
            rest = self._each(model, cpu, np.maximum(free - shape.gpu_milli, 0), total)
            left = np.maximum(full[:, None] - (free == GPU), 0)
            after = each.sum(axis=1)[:, None] - each + rest + self._several.whole[rows[:, None], left]
        else:
            left = np.maximum(full - shape.gpus, 0)
            taken = (full - left) * self._each(model, cpu, np.full((len(at), 1), GPU), total)[:, 0]
            after = (each.sum(axis=1) - taken + self._several.whole[rows, left])[:, None]
        steps: Float[np.ndarray, "host way"] = np.floor((after - before) / TIE) * TIE
        return steps
