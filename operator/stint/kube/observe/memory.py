"""What one observation leaves to the next: since when things are as they are, and what nodes were. Pure.

All of it may be lost. After a restart a time begins anew, or is taken from what the API server tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from stint.catalogue.quote import Machine
from stint.kube.observe.inventory import UNREADY_TAINTS
from stint.kube.records import NodeRecord
from stint.model.job import NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Times are on the deciding clock."""

    begun: bool = False  # False: nothing was observed before
    unready_since: Mapping[str, datetime] = field(default_factory=dict)  # by node
    refused_since: Mapping[str, datetime] = field(default_factory=dict)  # by uid of the pod that is unschedulable
    created: Mapping[str, datetime] = field(default_factory=dict)  # by node
    machines: Mapping[NodeName, Machine] = field(default_factory=dict)  # what nodes are that gangs hold

    def since(self, record: NodeRecord, now: datetime) -> datetime | None:
        """Since when a node is not ready; None: it is ready."""
        if is_ready(record):
            return None
        told = record.ready_since if not record.ready else None
        return self.unready_since.get(record.name) or (told if told is not None and told <= now else now)


def is_ready(record: NodeRecord) -> bool:
    """Whether a node says that it is ready and nothing marks it as not yet there."""
    return record.ready and not any(t.key in UNREADY_TAINTS for t in record.taints)


def remembered(
    before: Memory, nodes: Sequence[NodeRecord], *, now: datetime, of: Callable[[datetime], datetime]
) -> Memory:
    """What is known before the next observation.

    Args:
        of: from the wall's clock to the one that decisions go by.
    """
    unready = {n.name: _unready_since(before, n, now, of) for n in nodes if not is_ready(n)}
    created = {n.name: of(n.created) for n in nodes if n.created is not None}
    return replace(before, begun=True, unready_since=unready, created=created)


def _unready_since(before: Memory, node: NodeRecord, now: datetime, of: Callable[[datetime], datetime]) -> datetime:
    """The later of what we have seen and what the node's condition tells.

    A kubelet's clock that is behind takes nothing off the grace period; one that is ahead is not believed. Only the
    first observation after a start goes by the condition alone.
    """
    told = of(node.ready_since) if node.ready_since is not None and not node.ready else None
    told = told if told is not None and told <= now else None
    seen = before.unready_since.get(node.name) or (now if before.begun else None)
    return max((t for t in (seen, told) if t is not None), default=now)
