"""What a capacity adapter is. `stint.testing.suites` has what every one must pass.

An adapter is a value without state. Its `traits` say what the rest of Stint must know of it, so that nothing outside
this room asks which adapter a pool has: the CRD, the observer, the rights and the wiring all read them. What it does,
it does through a `Client`, and it answers with an `Outcome`: a refusal is a value, not an exception.

To add one, write a file beside `scale.py` and a line in `registry.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from stint.model.job import NodeName
from stint.model.market import Offering, PoolName
from stint.model.right import Right

# What an adapter notes on a Node object that it makes.
ORDERED_AT = "stint.dev/ordered-at"
BOUGHT_BY = "stint.dev/bought-by"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Objects other than nodes whose changes may be news of capacity: each starts a cycle."""

    group: str  # empty: the core group
    version: str
    resource: str  # plural

    @property
    def path(self) -> str:
        """Where the API server lists them."""
        return f"/apis/{self.group}/{self.version}/{self.resource}" if self.group else f"/api/v1/{self.resource}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What the rest of Stint must know of an adapter."""

    name: str  # in spec.scaler.adapter
    about: str  # completes "NAME: ..." in the CRD
    chooses_nodes: bool  # the adapter's target chooses which nodes go: they may go only while none of the pool is busy
    announces_nodes: bool  # an ordered node is a Node object at once; otherwise only the pool's status tells of it
    one_offering: bool  # all of a pool's new nodes are alike
    needs_target: bool  # spec.scaler.target
    granted: str  # how the chart grants its rights, as a heading: "Only with `...`, for ..."
    watches: tuple[Watch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What an adapter acts on, as spec.scaler.target names it."""

    api_version: str
    resource: str  # plural
    namespace: str = ""  # empty: of the cluster
    name: str = ""

    @property
    def group(self) -> str:
        """Empty: the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def path(self) -> str:
        """Where the API server has it."""
        root = "/apis" if self.group else "/api"
        inside = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{root}/{self.api_version}{inside}/{self.resource}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """More or fewer nodes of one offering. Nodes that the provider takes are in neither number."""

    offering: Offering
    from_nodes: int
    to_nodes: int
    going: tuple[NodeName, ...] = ()  # which ones, where nodes go


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node of the pool, whatever its offering."""

    name: NodeName
    busy: bool = False  # it has, or is promised to, a pod with devices
    interrupted: bool = False  # it is leaving: the provider takes it, or something removes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All changes of one pool in one plan, and what is known of the pool."""

    pool: PoolName
    changes: tuple[Change, ...]
    members: tuple[Member, ...]
    now: datetime
    target: Target | None = None
    cold_start_seconds: float = 300.0
    coming: int = 0  # nodes on order that are no Node objects yet
    asked: int | None = None  # nodes that Stint asked for before this order; None: it never did
    pace: float = 1.0  # how much faster than the wall clock the deciding clock runs

    @property
    def from_nodes(self) -> int:
        """Nodes of the whole pool before it, without those that the provider takes."""
        return sum(not m.interrupted for m in self.members) + self.coming

    @property
    def to_nodes(self) -> int:
        """Nodes of the whole pool after it."""
        return self.from_nodes + sum(c.to_nodes - c.from_nodes for c in self.changes)

    @property
    def busy(self) -> frozenset[NodeName]:
        """Nodes that must not go."""
        return frozenset(m.name for m in self.members if m.busy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an order."""

    refused: str = ""  # why it was not carried out, with what to do about it; empty: it was
    again: bool = False  # refused only for now: the next cycle may ask for the same
    note: str = ""  # where it was carried out in part or otherwise: how, and why


@runtime_checkable
class Client(Protocol):
    """As much of the API server's client as adapters use. Each call raises `ApiError` where the server refuses."""

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """An object, or a list."""
        ...

    async def create(self, path: str, body: object) -> Any:
        """The object as created."""
        ...

    async def patch(self, path: str, body: object) -> Any:
        """The object after a merge patch."""
        ...

    async def delete(self, path: str) -> bool:
        """False where it was gone already."""
        ...


@runtime_checkable
class CapacityAdapter(Protocol):
    """Brings a pool to a number of nodes. Carrying out the same order twice asks for nothing twice."""

    @property
    def traits(self) -> Traits:
        """Constant."""
        ...

    def rights(self, target: Target | None) -> Sequence[Right]:
        """What the adapter must be allowed to do for pools with this target, beyond what Stint may do anyway."""
        ...

    async def carry_out(self, order: Order, client: Client) -> Outcome:
        """Never remove a busy node, and never undo what another writer has asked for."""
        ...
