"""Every kind of workload that Stint places for others, by name. Watches, rights and the gate ask here.

A new one is a file beside this one and a line in `KINDS`.
"""

from __future__ import annotations

from stint.workloads.job import JOB
from stint.workloads.jobset import JOBSET
from stint.workloads.kind import Kind
from stint.workloads.pytorchjob import PYTORCHJOB
from stint.workloads.ray import RAYCLUSTER, RAYJOB
from stint.workloads.trainjob import TRAINJOB

KINDS: dict[str, Kind] = {
    kind.kind: kind
    for kind in (
        JOB,
        JOBSET,
        PYTORCHJOB,
        TRAINJOB,
        RAYCLUSTER,
        RAYJOB,
    )
}


def belongings() -> tuple[Kind, ...]:
    """Kinds by whose labels pods are told apart. A Job's comes last: the pods of all that work through Jobs have it."""
    found = [kind for kind in KINDS.values() if kind.belonging is not None]
    return tuple(sorted(found, key=lambda kind: kind is JOB))
