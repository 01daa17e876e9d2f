"""Where a pod that wants less than a node should go, so that what is left can still be used.

A node's free GPUs are worth what the pods we expect could do with them. *Fragmentation* is the rest: with typical pods
m of popularity p_m,

    F(node) = sum_m p_m * (free GPU-milli of the node that pod m cannot use)
            = free - worth,   worth = sum_i g_i A[c, g_i] + 1000 n B[c, n]

where g_i is free on GPU i, n GPUs are wholly free and c CPU is. A[c, g] is the popularity of the typical pods that
share a GPU, need at most g of it and at most c CPU; B[c, n] that of the pods that want 1 to n whole GPUs and at most
c CPU. So one look-up a GPU replaces a walk over all typical pods. Pods without GPUs can use none: they count in p,
never as usable.

Source: Weng et al., Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent,
USENIX ATC 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

GPU = 1000  # one GPU, in milli


@dataclass(frozen=True, slots=True)
class Host:
    """A node with GPUs that pods may share."""

    id: str
    cpu_milli: int
    memory_mib: int
    gpus: int
    model: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pod asks for: no GPU, a share of one (`gpu_milli` below 1000) or `gpus` whole ones; no `models`: any."""

    cpu_milli: int
    memory_mib: int = 0
    gpus: int = 0
    gpu_milli: int = 0
    models: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Raises ValueError if more than one GPU is shared, or a GPU asked for is no share of it."""
        if self.gpus and not 0 < self.gpu_milli <= GPU:
            raise ValueError(f"gpu_milli must be in 1 to {GPU}, not {self.gpu_milli}")
        if self.gpus > 1 and self.gpu_milli < GPU:
            raise ValueError("a pod shares one GPU or has whole ones")

    @property
    def shares(self) -> bool:
        """Whether it wants a part of one GPU."""
        return self.gpus == 1 and self.gpu_milli < GPU

    @property
    def milli(self) -> int:
        """All it wants of GPUs, in milli."""
        return self.gpus * self.gpu_milli


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a pod is: the node's index and the GPUs it has there."""

    host: int
    gpus: tuple[int, ...]


class Worth:
    """What is left of a node, priced by the typical pods: tables by model, CPU and what is free of a GPU."""

    def __init__(self, typical: Sequence[tuple[Shape, float]], hosts: Sequence[Host]) -> None:
        """`typical` are shapes with their popularity (they sum to 1), `hosts` those it will be asked about."""
        models = sorted({host.model for host in hosts})
        most_gpus = max((host.gpus for host in hosts), default=0)
        self.models = {model: at for at, model in enumerate(models)}
        self.levels: Int[np.ndarray, " level"] = np.unique([0, *(shape.cpu_milli for shape, _ in typical)])
        share = np.zeros((len(models), len(self.levels), GPU + 1))
        whole = np.zeros((len(models), len(self.levels), most_gpus + 1))
        for shape, popularity in typical:
            level = int(np.searchsorted(self.levels, shape.cpu_milli))
            for model, at in self.models.items():
                if not shape.gpus or (shape.models and model not in shape.models):
                    continue
                if shape.shares:
                    share[at, level:, shape.gpu_milli :] += popularity
                else:
                    whole[at, level:, shape.gpus :] += popularity
        self.share = (share * np.arange(GPU + 1)).reshape(-1, GPU + 1)
        self.whole = (whole * GPU * np.arange(most_gpus + 1)).reshape(-1, most_gpus + 1)

    def rows(self, model: Int[np.ndarray, " host"], cpu: Int[np.ndarray, " host"]) -> Int[np.ndarray, " host"]:
        """The table rows for nodes of these models with this much CPU (negative: the row is not to be used)."""
        return model * len(self.levels) + np.maximum(np.searchsorted(self.levels, cpu, side="right") - 1, 0)

    def of(
        self, rows: Int[np.ndarray, " host"], free: Int[np.ndarray, "host gpu"], full: Int[np.ndarray, " host"]
    ) -> Float[np.ndarray, " host"]:
        """GPU-milli that the typical pods could use, of each node."""
        worth: Float[np.ndarray, " host"] = self.share[rows[:, None], free].sum(axis=1) + self.whole[rows, full]
        return worth


class Fleet:
    """The nodes and what is free on them, with a log of the nodes that changed so that nothing else is rated again."""

    def __init__(self, hosts: Sequence[Host], typical: Sequence[tuple[Shape, float]]) -> None:
        """`typical` as in `Worth`. The hosts are kept by id, so that the first of equals is the same on every run."""
        self.hosts = tuple(sorted(hosts, key=lambda host: host.id))
        self.worth = worth = Worth(typical, self.hosts)
        width = max((host.gpus for host in self.hosts), default=0)
        self.cpu = np.array([host.cpu_milli for host in self.hosts], dtype=np.int64)
        self.memory = np.array([host.memory_mib for host in self.hosts], dtype=np.int64)
        gpus = np.array([host.gpus for host in self.hosts], dtype=np.int64)
        self.free = np.where(np.arange(width) < gpus[:, None], GPU, 0)
        self.full = gpus
        self.model = np.array([worth.models[host.model] for host in self.hosts], dtype=np.int64)
        self.capacity_milli = int(gpus.sum()) * GPU
        self.useful = worth.of(worth.rows(self.model, self.cpu), self.free, self.full)
        self.changed: list[int] = []

    @property
    def fragmentation_milli(self) -> float:
        """F of the fleet: free GPU-milli that the next typical pod is not expected to be able to use."""
        return float(self.free.sum() - self.useful.sum())

    def change(self, slot: Slot, shape: Shape, *, sign: int) -> None:
        """Takes (-1) or gives back (+1) what `shape` has in `slot`."""
        at = slot.host
        self.cpu[at] += sign * shape.cpu_milli
        self.memory[at] += sign * shape.memory_mib
        for gpu in slot.gpus:
            self.free[at, gpu] += sign * shape.gpu_milli
        self.full[at] = np.count_nonzero(self.free[at] == GPU)
        one = slice(at, at + 1)
        self.useful[one] = self.worth.of(
            self.worth.rows(self.model[one], self.cpu[one]), self.free[one], self.full[one]
        )
        self.changed.append(at)

    def fits(self, at: Int[np.ndarray, " host"], shape: Shape) -> Bool[np.ndarray, "host way"]:
        """The ways there are to put the shape there: one a GPU if it shares one, else one a node."""
        ok = (self.cpu[at] >= shape.cpu_milli) & (self.memory[at] >= shape.memory_mib)
        if shape.models:
            allowed = np.array([model in shape.models for model in self.worth.models])
            ok &= allowed[self.model[at]]
        room = self.free[at] >= shape.gpu_milli if shape.shares else self.full[at, None] >= shape.gpus
        fits: Bool[np.ndarray, "host way"] = ok[:, None] & room
        return fits

    def after(self, at: Int[np.ndarray, " host"], shape: Shape) -> Float[np.ndarray, "host way"]:
        """The worth of what is left of each node, if the shape went there this way."""
        worth = self.worth
        rows = worth.rows(self.model[at], self.cpu[at] - shape.cpu_milli)
        free, full = self.free[at], self.full[at]
        each = worth.share[rows[:, None], free]
        after: Float[np.ndarray, "host way"]
        if shape.shares:
            rest = worth.share[rows[:, None], np.maximum(free - shape.gpu_milli, 0)]
            left = np.maximum(full[:, None] - (free == GPU), 0)
            after = each.sum(axis=1)[:, None] - each + rest + worth.whole[rows[:, None], left]
        else:
            left = np.maximum(full - shape.gpus, 0)
            taken = (full - left) * worth.share[rows, GPU]
            after = (each.sum(axis=1) - taken + worth.whole[rows, left])[:, None]
        return after
