"""The cluster at an instant, read-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from stint.model.job import JobId, NodeName
from stint.model.market import Taint
from stint.model.offering import OfferingId
from stint.model.resources import Resources

# The provider has said that it takes a node with such a taint.
INTERRUPTED_TAINTS = frozenset(
    {"stint.dev/interrupted", "aws-node-termination-handler/spot-itn", "cloud.google.com/impending-node-termination"}
)
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"  # labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node that belongs to an offering. `used` counts every pod that is bound to it or promised to it.

    What DaemonSets take is not in `used`: `allocatable` is without it.

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
    unready_since: datetime | None = None  # of one that is not ready; None: nobody knows
    suspect: bool = False  # several jobs could not start there lately
    unidentified: bool = False  # it does not say what it is at the moment: it counts as what it was
    empty_since: datetime | None = None
    removable: bool = False  # ours to give back
    bought: bool = False  # ordered by Stint
    labels: Mapping[str, str] = field(default_factory=dict)  # those that some job's constraints or topology name
    taints: tuple[Taint, ...] = ()

    @property
    def takes_pods(self) -> bool:
        """A worker released now would start here."""
        return self.ready and self.schedulable and not self.interrupted

    @property
    def usable(self) -> bool:
        """A gang may be placed here now."""
        return self.takes_pods and not self.unidentified and not self.suspect


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilisation:
    """What Prometheus says about a running job's GPUs. Unknown is None, never zero."""

    job: JobId
    gpu_ratio: float | None  # mean over its GPUs of the time that something ran on them, 0 to 1
    watts: float | None  # all its GPUs together, its part of those that it shares
    idle_gpus: int | None  # on which next to nothing ran
    work_ratio: float | None = None  # mean use of the tensor cores, 0 to 1: the best sign of work, where it is measured
    gpus: int | None = None  # GPUs, or parts of one, that were measured
    processless_gpus: int | None = None  # that it holds and that no process has opened lately
    memory_gib: float | None = None  # the most that was in use on one of them
    measured_at: datetime | None = None  # None: nothing of it is known

    @property
    def measured(self) -> bool:
        """Whether anything is known at all."""
        known = (self.gpu_ratio, self.watts, self.idle_gpus, self.memory_gib)
        return any(v is not None for v in known)

    @property
    def all_idle(self) -> bool | None:
        """Whether none of its GPUs did anything; None: not known of all of them."""
        if self.idle_gpus is None or not self.gpus:
            return None
        return self.idle_gpus >= self.gpus
