"""What can be bought and what it costs there and then: offerings with their prices resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NewType

from stint.model.figure import Confidence, Figure
from stint.model.offering import CapacityType, OfferingId
from stint.model.resources import Resources

PoolName = NewType("PoolName", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """As on a node."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """How the GPUs of an offering are given out in parts; `per_node.gpus` then counts parts."""

    name: str  # a MIG profile as 1g.10gb, or how many share: 4-shared
    resource: str  # what a pod asks for
    per_gpu: int
    fraction: float  # of one GPU that a part is sure of
    memory_gib: float


_SUNK = Figure(value=0.0, source="reserved, paid for anyway", as_of=None, confidence=Confidence.DEFINITION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """Instance type x zone x capacity type, inside one pool, with every figure that prices it.

    A figure that is None is not known; a job that needs it is told so instead of being charged nothing.
    """

    id: OfferingId
    pool: PoolName
    provider: str
    region: str
    zone: str
    instance_type: str
    capacity_type: CapacityType
    gpu_model: str
    gpu_memory_gib: float
    per_node: Resources  # allocatable of an empty node in good order: what the price of a node is shared by
    labels: Mapping[str, str] = field(default_factory=dict)  # of a new node
    taints: tuple[Taint, ...] = ()  # likewise
    orderable: bool = True  # whether a node that its pool gets may be such a one; False: there are some, no more come
    room_on_new: Resources | None = None  # what a new node has for gangs beside its DaemonSets; None: `per_node`
    usd_per_node_hour: Figure | None
    watts_per_node: Figure | None = None  # at load, GPUs and host
    pue: Figure | None = None
    usd_per_kwh: Figure | None = None  # None where the price of the node contains its energy
    g_co2_per_kwh: Figure | None = None
    interruptions_per_hour: Figure | None = None  # of one node; None: the provider does not interrupt it
    usd_per_storage_gb_month: Figure | None = None
    stale: tuple[str, ...] = ()  # which of its figures are older than the price book allows
    slices: Slices | None = None  # None: its GPUs are whole
    # What the books get, where a commitment makes it differ from what one more hour costs; None: the same.
    billed_usd_per_node_hour: Figure | None = None
    usd_per_new_node_hour: Figure | None = (
        None  # of one that is bought now, where commitments do not reach; None: the same
    )

    @property
    def new_node(self) -> Resources:
        """What gangs find on a node that is bought now."""
        return self.room_on_new or self.per_node

    @property
    def billed_price(self) -> Figure | None:
        """USD for a node and an hour as it is on the bill, where that is more than it costs to use what is paid for."""
        return self.billed_usd_per_node_hour or self.usd_per_node_hour

    @property
    def price_of_existing(self) -> Figure | None:
        """USD that one more hour of a node that is there costs, and one hour less saves: its marginal price.

        A reserved node is paid for whether it is used or not, unless a commitment speaks of it and says otherwise.
        """
        return _SUNK if self._is_sunk else self.usd_per_node_hour

    @property
    def price_of_new(self) -> Figure | None:
        """The same of a node that is bought now."""
        return _SUNK if self._is_sunk else self.usd_per_new_node_hour or self.usd_per_node_hour

    @property
    def _is_sunk(self) -> bool:
        return self.capacity_type is CapacityType.RESERVED and self.billed_usd_per_node_hour is None

    def whole_gpus(self, count: int) -> float:
        """How many GPUs that many of what `per_node.gpus` counts are."""
        return count / self.slices.per_gpu if self.slices else float(count)


def offering_id(
    pool: PoolName, instance_type: str, zone: str, capacity_type: CapacityType, slices: Slices | None = None
) -> OfferingId:
    """The one place where an offering's key is made."""
    machine = f"{instance_type}:{slices.name}" if slices else instance_type
    return OfferingId("/".join((pool, machine, zone or "-", capacity_type.value)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Nodes resized as one. An inferred pool has no scaler: its nodes say what they are, nobody resizes them."""

    name: PoolName
    offerings: tuple[OfferingId, ...]
    inferred: bool = False
    scaler: str | None = None  # the adapter's name; None: cannot be resized
    advise_only: bool = True  # recommend in status, change nothing
    min_nodes: int = 0
    max_nodes: int = 0
    wanted_nodes: int = 0  # what was last asked of the scaler
    cold_start_seconds: float = 300.0  # from order to ready node
    give_back_after_seconds: float = 600.0  # how long a node may stand empty


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressRate:
    """What moving data from one region to another costs."""

    from_provider: str
    from_region: str
    to_provider: str
    to_region: str
    usd_per_gb: Figure
