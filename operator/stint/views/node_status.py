"""What a TrainingJob tells of its nodes while it keeps them: one that is not ready, and until when it waits. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stint.api.meta import Condition
from stint.kube.observe.snapshot import Seen
from stint.lifecycle import grace
from stint.model.cluster import Node
from stint.model.gang import GangState
from stint.model.job import NodeName

Fact = tuple[str, str, str]  # status, reason, message
NODES_READY = "NodesReady"
_MOST_NAMED = 4


def facts(
    seen: Seen,
    nodes: Mapping[NodeName, Node],
    kept: Mapping[NodeName, str],
    old: Mapping[str, Condition],
    *,
    pace: float = 1.0,
) -> dict[str, Fact]:
    """The condition NodesReady, left out of jobs all of whose nodes have always been ready.

    Args:
        nodes: of the cluster, by name.
        kept: those that do not say what they are, and why.
        pace: seconds of the deciding clock that pass in one second on the wall.
    """
    if troubles := list(_troubles(seen, nodes, kept, pace)):
        reason = troubles[0][0]
        text = "; ".join(text for _, text in troubles[:_MOST_NAMED])
        more = len(troubles) - _MOST_NAMED
        return {NODES_READY: ("False", reason, f"{text}; and {more} more" if more > 0 else text)}
    if NODES_READY in old:
        return {NODES_READY: ("True", "NodesReady", "")}
    return {}


def _troubles(
    seen: Seen, nodes: Mapping[NodeName, Node], kept: Mapping[NodeName, str], pace: float
) -> Iterator[tuple[str, str]]:
    plan, known = seen.gang.plan, seen.facts
    if plan is None or known is None or seen.gang.state is not GangState.PLACED:
        return
    for name in sorted(set(known.nodes)):
        if name in kept:
            text = f"node {name} cannot be identified ({kept[name]}); the gang goes on at the price of {plan.offering}"
            yield "NodeUnidentified", text
        node = nodes.get(name)
        if node is None or node.ready or node.unready_since is None:
            continue
        end = grace.until(node.unready_since, known.node_grace, pace=pace)
        yield (
            "NodeNotReady",
            f"node {name} has not been ready since {node.unready_since:%H:%M:%S} UTC; the gang keeps its placement "
            f"until {end:%H:%M:%S} UTC and is requeued from its last checkpoint if the node is not ready by then",
        )
