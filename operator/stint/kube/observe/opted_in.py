"""Other people's pods count where an administrator has labelled their namespace, and nowhere else. Pure.

The gate and the label are on pods, and whoever may create a pod may write them. The namespace's label takes an
administrator. What Stint has let go already stays a member of its gang: training goes on where a label is removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from stint.kube.records import PodRecord
from stint.kube.steered import outside


def only_opted_in(pods: Iterable[PodRecord], namespaces: Collection[str]) -> tuple[PodRecord, ...]:
    """The same pods; those that wait behind our gate elsewhere are members of nothing.

    Args:
        namespaces: that are labelled.
    """
    return tuple(_outside(pod) if _waits(pod) and pod.namespace not in namespaces else pod for pod in pods)


def _waits(pod: PodRecord) -> bool:
    return pod.gang is not None and pod.gang.steered is not None and pod.gang.gated


def _outside(pod: PodRecord) -> PodRecord:
    assert pod.gang is not None
    told = outside(pod.namespace, pod.gang.name, at_once=pod.gang.at_once)
    return msgspec.structs.replace(pod, gang=None, unplaced=told)
