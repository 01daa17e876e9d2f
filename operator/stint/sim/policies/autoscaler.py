"""kube-scheduler spreads pods over what there is; for those left over, cluster-autoscaler grows a node group.

kube-scheduler: NodeResourcesFit with LeastAllocated, its default,
https://kubernetes.io/docs/reference/scheduling/config/. cluster-autoscaler: the `least-waste` expander, the group that
leaves the least unused after the scale-up; kubernetes/autoscaler, cluster-autoscaler/FAQ.md, "What are Expanders?".
Kinder than they are: a gang's pods go together or not at all.
"""

from __future__ import annotations

from stint.sim.policies.in_turn import InTurn, Offer, emptiest, oldest_first


def _spread(offer: Offer) -> tuple[float, ...]:
    return (-offer.spare_gpus,)


def _least_waste(offer: Offer) -> tuple[float, ...]:
    """The part of the new nodes' GPUs, then of their cores, that nobody will use."""
    problem, c = offer.problem, offer.choice.column
    node = problem.offerings[offer.offering].per_node
    need = problem.need[problem.columns.job[c]] * len(offer.choice.nodes)
    count = len(set(offer.choice.nodes))
    return 1.0 - float(need[0]) / (count * node.gpus), 1.0 - float(need[1]) / (count * node.cpu)


CLUSTER_AUTOSCALER = InTurn("cluster-autoscaler", oldest_first, emptiest, _spread, _least_waste)
