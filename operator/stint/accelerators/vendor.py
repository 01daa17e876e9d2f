"""What there is to know of a vendor's accelerators in a cluster: names. Models and their figures are catalogue data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stint.model.job import Toleration
from stint.model.market import Slices, Taint


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLabels:
    """The labels by which a vendor's feature discovery describes a node's devices."""

    product: str
    memory_mib: str
    count: str


@runtime_checkable
class Sharing(Protocol):
    """How a vendor's devices are given out in parts."""

    def is_part(self, resource: str) -> bool:
        """Whether an extended resource is a part of a device."""
        ...

    def whole(self, labels: Mapping[str, str]) -> dict[str, str]:
        """A node's labels as if its devices were not shared."""
        ...

    def cut(self, labels: Mapping[str, str]) -> bool:
        """Whether labels say that devices are cut by hardware, and so describe the parts."""
        ...

    def marked(self, labels: Mapping[str, str]) -> bool:
        """Whether labels say that devices are shared, beyond what `whole` takes off."""
        ...

    def read(
        self, labels: Mapping[str, str], parts: Mapping[str, int], *, whole: int, memory_gib: float
    ) -> Slices | None:
        """How the devices of a node are shared; None: they are not.

        Args:
            parts: what the node has of resources that are parts of a device.
            whole: what it has of the resource of whole devices.
            memory_gib: of a whole device.
        Raises:
            ValueError: in a way that cannot be used; the message says what to do.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One vendor."""

    name: str  # as the catalogue's data spells it, in lower case
    resource: str  # the extended resource of a whole device
    brands: tuple[str, ...]  # words that labels and people put before the name of a model
    labels: NodeLabels | None = None
    sharing: Sharing | None = None
    remedy: str = ""  # how a node with its devices comes to say which they are

    @property
    def taint(self) -> Taint:
        """Which nodes with such devices have by custom."""
        return Taint(key=self.resource, value="present", effect="NoSchedule")

    @property
    def toleration(self) -> Toleration:
        """Of that taint."""
        return Toleration(key=self.resource, operator="Exists", effect="NoSchedule")
