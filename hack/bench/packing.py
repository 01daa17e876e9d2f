"""Puts pods that share GPUs onto nodes, one as it comes: the best place by a policy.

Each shape remembers its ratings, and only nodes that changed since it last came are rated again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from hack.bench.fragmentation import GPU, Fleet, Shape, Slot
from hack.bench.lookahead import LookAhead


@runtime_checkable
class Policy(Protocol):
    """Rates every way to place a shape on some nodes; the best wins, ties go to the first node and its first GPU."""

    def rate(self, fleet: Fleet, at: Int[np.ndarray, " host"], shape: Shape) -> Float[np.ndarray, "host way"]:
        """The ways of `Fleet.fits`; what it says does not fit may have any rating."""
        ...


class BestFit:
    """The node with least left over, CPU and GPUs weighing the same; on it, the fullest GPU with room."""

    def rate(self, fleet: Fleet, at: Int[np.ndarray, " host"], shape: Shape) -> Float[np.ndarray, "host way"]:
        """As `Policy.rate`; a node of 128 cores and 8 GPUs is the measure, as for its authors."""
        left = (fleet.cpu[at] - shape.cpu_milli) / 128_000 + (fleet.free[at].sum(axis=1) - shape.milli) / 8_000
        # The GPU within the node must never outweigh the node.
        ratings: Float[np.ndarray, "host way"] = -left[:, None]
        return ratings - 1e-10 * fleet.free[at] if shape.shares else ratings


class Gradient:
    """FGD: where fragmentation grows least."""

    def rate(self, fleet: Fleet, at: Int[np.ndarray, " host"], shape: Shape) -> Float[np.ndarray, "host way"]:
        """As `Policy.rate`: growth of F in GPUs, squashed to whole points out of 100 as by its authors.

        The many ties that makes, which go to the first node, decide a lot: without them it packs worse than best fit.
        """
        growth = fleet.useful[at, None] - fleet.after(at, shape) - shape.milli
        points: Float[np.ndarray, "host way"] = np.floor(100 / (1 + np.exp(growth / GPU)))
        return points


@dataclass(slots=True)
class _Rated:
    """What one shape knows of the nodes, up to a point in the fleet's log."""

    id: int
    best: Float[np.ndarray, " host"]
    way: Int[np.ndarray, " host"]
    seen: int = 0
    top: int = 0  # the best node when last looked


class Packer:
    """Places shapes one by one. Nobody else may change its fleet but through `Fleet.change`."""

    def __init__(self, fleet: Fleet, policy: Policy) -> None:
        self.fleet = fleet
        self.policy = policy
        self.placed: list[tuple[Shape, Slot]] = []
        self._rated: dict[Shape, _Rated] = {}

    def place(self, shape: Shape) -> Slot | None:
        """Takes the best place for `shape` and returns it, or None if it fits nowhere."""
        slot = self.find(shape)
        if slot is not None:
            self.fleet.change(slot, shape, sign=-1)
            self.placed.append((shape, slot))
        return slot

    def find(self, shape: Shape) -> Slot | None:
        """The best place for `shape`, or None if it fits nowhere."""
        rated = self._up_to_date(shape)
        if not rated.best.size or rated.best[rated.top] == -np.inf:
            return None
        return self._slot(rated, shape, rated.top)

    def _slot(self, rated: _Rated, shape: Shape, at: int) -> Slot:
        if shape.shares:
            return Slot(at, (int(rated.way[at]),))
        return Slot(at, tuple(int(gpu) for gpu in np.flatnonzero(self.fleet.free[at] == GPU)[: shape.gpus]))

    def _up_to_date(self, shape: Shape) -> _Rated:
        fleet = self.fleet
        rated = self._rated.get(shape)
        if rated is None:
            hosts = len(fleet.hosts)
            rated = _Rated(len(self._rated), np.full(hosts, -np.inf), np.zeros(hosts, dtype=np.int64))
            self._rated[shape] = rated
            stale = np.arange(hosts)
        else:
            stale = np.array(list(dict.fromkeys(fleet.changed[rated.seen :])), dtype=np.int64)
        rated.seen = len(fleet.changed)
        if stale.size and fleet.free.shape[1]:
            ratings = np.where(fleet.fits(stale, shape), self.policy.rate(fleet, stale, shape), -np.inf)
            rated.way[stale] = ways = ratings.argmax(axis=1)
            rated.best[stale] = ratings[np.arange(len(stale)), ways]
            rated.top = int(rated.best.argmax())
        return rated


class MovingPacker(Packer):
    """A packer that may move a pod already placed to another node, at most one for every `pods_a_move` that came.

    A move is worth what its node gains without the pod, less what the best other node loses with it. Only the most
    promising pods by what was last known are looked at again, so that a search costs as much as placing a few pods.
    """

    def __init__(self, fleet: Fleet, policy: LookAhead, *, pods_a_move: int = 50, least_gain_milli: float = 20) -> None:
        super().__init__(fleet, policy)
        self.outlook = policy
        self.pods_a_move = pods_a_move
        self.least_gain_milli = least_gain_milli
        self.arrived = 0
        self.moves: list[tuple[int, Slot, Slot]] = []  # index into `placed`, from, to
        width = fleet.free.shape[1]
        self._host: Int[np.ndarray, " pod"] = np.zeros(0, dtype=np.int64)
        self._shape: Int[np.ndarray, " pod"] = np.zeros(0, dtype=np.int64)
        self._cpu: Int[np.ndarray, " pod"] = np.zeros(0, dtype=np.int64)
        self._gpu: Int[np.ndarray, "pod gpu"] = np.zeros((0, width), dtype=np.int64)  # milli held of each
        self._leaving: Float[np.ndarray, " pod"] = np.zeros(0)  # what its node would gain without it
        self._seen = 0

    def place(self, shape: Shape) -> Slot | None:
        """As `Packer.place`, and moves a pod if it is time and worth it."""
        slot = super().place(shape)
        self.arrived += 1
        if self.arrived % self.pods_a_move == 0 and self.placed:
            self._refresh()
            self._move()
        return slot

    def _refresh(self) -> None:
        """Takes in the pods placed and the nodes changed since."""
        known, fleet = len(self._host), self.fleet
        fresh = self.placed[known:]
        gpu = np.zeros((len(fresh), fleet.free.shape[1]), dtype=np.int64)
        for row, (shape, slot) in zip(gpu, fresh, strict=True):
            row[list(slot.gpus)] = shape.gpu_milli
        self._gpu = np.concatenate([self._gpu, gpu])
        self._host = np.append(self._host, [slot.host for _, slot in fresh]).astype(np.int64)
        self._cpu = np.append(self._cpu, [shape.cpu_milli for shape, _ in fresh]).astype(np.int64)
        self._shape = np.append(self._shape, [self._rated[shape].id for shape, _ in fresh]).astype(np.int64)
        self._leaving = np.append(self._leaving, np.zeros(len(fresh)))
        changed: Bool[np.ndarray, " host"] = np.zeros(len(fleet.hosts), dtype=bool)
        changed[fleet.changed[self._seen :]] = True
        self._seen = len(fleet.changed)
        pods = np.flatnonzero(changed[self._host])
        at = self._host[pods]
        free = fleet.free[at] + self._gpu[pods]
        without = self.outlook.value(fleet.model[at], fleet.cpu[at] + self._cpu[pods], free, (free == GPU).sum(axis=1))
        self._leaving[pods] = without - self.outlook.value(
            fleet.model[at], fleet.cpu[at], fleet.free[at], fleet.full[at]
        )

    def _move(self, *, looked_at: int = 3) -> None:
        arriving = np.array([rated.best[rated.top] for rated in self._rated.values()])
        hoped = self._leaving + arriving[self._shape]
        best: tuple[float, int, Slot] | None = None
        for _ in range(min(looked_at, len(hoped))):
            pod = int(hoped.argmax())
            hoped[pod] = -np.inf
            shape, slot = self.placed[pod]
            rated = self._up_to_date(shape)
            elsewhere = rated.best.copy()
            elsewhere[slot.host] = -np.inf
            to = int(elsewhere.argmax())
            gain = float(self._leaving[pod] + elsewhere[to])
            if gain >= self.least_gain_milli and (best is None or gain > best[0]):
                best = gain, pod, self._slot(rated, shape, to)
        if best is None:
            return
        _, pod, to_slot = best
        shape, from_slot = self.placed[pod]
        self.fleet.change(from_slot, shape, sign=+1)
        self.fleet.change(to_slot, shape, sign=-1)
        self.placed[pod] = shape, to_slot
        self.moves.append((pod, from_slot, to_slot))
        self._host[pod] = to_slot.host
        self._gpu[pod] = 0
        self._gpu[pod, list(to_slot.gpus)] = shape.gpu_milli
