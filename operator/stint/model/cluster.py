"""The cluster at an instant, read-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from stint.model.job import JobId, NodeName
from stint.model.market import Taint
from stint.model.offering import OfferingId
from stint.model.resources import Resources

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"  # labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node that belongs to an offering. `used` counts every pod that is bound to it or promised to it.

    A node that was ordered and is not there yet has a name of its own, no use, and `ready_at` in the future.
    """

    name: NodeName
    offering: OfferingId
    allocatable: Resources
    used: Resources = field(default_factory=Resources)
    ready: bool = True
    schedulable: bool = True  # not cordoned, not being disrupted
    interrupted: bool = False  # the provider has said that it takes this node
    ready_at: datetime | None = None  # for nodes under way: when they are expected
    empty_since: datetime | None = None
    removable: bool = False  # ours to give back
    labels: Mapping[str, str] = field(default_factory=dict)  # those that some job's nodeSelector or topology names
    taints: tuple[Taint, ...] = ()

    @property
    def usable(self) -> bool:
        """A worker released now would start here."""
        return self.ready and self.schedulable and not self.interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilisation:
    """What Prometheus says about a running job's GPUs. Unknown is None, never zero."""

    job: JobId
    gpu_ratio: float | None  # mean over its GPUs, 0 to 1
    watts: float | None  # all its GPUs together
    idle_gpus: int | None
