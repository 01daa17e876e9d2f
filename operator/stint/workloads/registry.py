"""Every kind of workload that Stint places for others, or refuses, by name. Watches, rights and the gate ask here.

A new one is a file beside this one and a line in `KINDS`. Pods that the gate holds back are those that `told_by` knows,
and the others are told what is missing: there is no second list.
"""

from __future__ import annotations

from collections.abc import Mapping

from stint.workloads.apps import DAEMONSET, DEPLOYMENT, STATEFULSET
from stint.workloads.job import JOB
from stint.workloads.jobset import JOBSET
from stint.workloads.kind import Belonging, Kind, Maker
from stint.workloads.kubeflow import JAXJOB, PADDLEJOB, PYTORCHJOB, TFJOB, XGBOOSTJOB
from stint.workloads.leaderworkerset import LEADERWORKERSET
from stint.workloads.mpijob import MPIJOB
from stint.workloads.ray import RAYCLUSTER, RAYJOB
from stint.workloads.trainjob import TRAINJOB
from stint.workloads.volcano import VOLCANOJOB

KINDS: dict[str, Kind] = {
    kind.kind: kind
    for kind in (
        JOB,
        JOBSET,
        PYTORCHJOB,
        TFJOB,
        XGBOOSTJOB,
        PADDLEJOB,
        JAXJOB,
        MPIJOB,
        TRAINJOB,
        RAYCLUSTER,
        RAYJOB,
        LEADERWORKERSET,
        VOLCANOJOB,
        STATEFULSET,
        DEPLOYMENT,
        DAEMONSET,
    )
}


def belongings() -> tuple[Kind, ...]:
    """Kinds by which pods are told apart, in the order in which they are asked.

    What puts a label on its pods comes first. A Job's comes last of these: the pods of all that work through Jobs have
    it. Then come those that are known by what made the pod: LeaderWorkerSets work through StatefulSets.
    """
    found = [kind for kind in KINDS.values() if kind.belonging is not None]
    return tuple(sorted(found, key=lambda kind: (not (kind.belonging and kind.belonging.label), kind is JOB)))


def told_by(labels: Mapping[str, str], maker: Maker | None) -> tuple[str, Belonging] | None:
    """What a pod belongs to, by the name of the kind and how its pods tell; None: nothing that Stint knows.

    A kind of a family that has no entry of its own, as Kubeflow's MXJob, is told by the name of what made the pod.
    """
    known = belongings()
    for kind in known:
        if kind.belonging is not None and kind.belonging.fits(labels, maker):
            return kind.kind, kind.belonging
    for kind in known:
        belonging = kind.belonging
        if belonging is not None and belonging.of_a_family and labels.get(belonging.label):
            return maker.kind if maker else kind.kind, belonging
    return None


def belonging_of(kind: str) -> Belonging:
    """How pods of a kind tell what they belong to; of one without an entry, as its family does."""
    known = KINDS.get(kind)
    if known is not None and known.belonging is not None:
        return known.belonging
    return next(k.belonging for k in belongings() if k.belonging is not None and k.belonging.of_a_family)


def by_api(group: str | None, kind: str) -> Kind | None:
    """As an API calls it; without a group, the first of that name."""
    found = (k for k in KINDS.values() if k.api_kind == kind and group in (None, k.group))
    return next(found, None)


def refused() -> dict[str, Kind]:
    """Kinds that Stint does not place, by the kind of what makes their pods."""
    found = (k for k in KINDS.values() if k.refused and k.belonging is not None)
    return {maker: kind for kind in found if kind.belonging for _, maker in kind.belonging.makers}


def placed() -> tuple[str, ...]:
    """The names of the kinds that Stint places."""
    return tuple(kind.kind for kind in KINDS.values() if not kind.refused)
