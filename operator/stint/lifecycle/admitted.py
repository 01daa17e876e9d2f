"""Whether admission made pods into something else than was planned, and in which words that is told."""

from __future__ import annotations

from collections.abc import Mapping

from stint.model.gang import Admitted
from stint.model.job import Job
from stint.model.resources import Resources

_HAIR = 1e-6


def otherwise(job: Job, requests: Resources, node_selector: Mapping[str, str]) -> Admitted | None:
    """What a worker's pod asks for beyond what its job was placed by; None: no more than that.

    Args:
        requests: of the pod as it is there.
        node_selector: likewise.
    """
    found = Admitted(requests=requests, node_selector=tuple(sorted(node_selector.items())))
    return found if in_words(found, job) else None


def in_words(admitted: Admitted, job: Job) -> str:
    """What it asks for where that is more than before."""
    has, had = admitted.requests, job.per_worker
    planned = dict(had.extended)
    found = []
    if has.cpu > had.cpu + _HAIR:
        found.append(f"{has.cpu:g} CPU cores instead of {had.cpu:g}")
    if has.memory_gib > had.memory_gib + _HAIR:
        found.append(f"{has.memory_gib:.4g} GiB of memory instead of {had.memory_gib:.4g}")
    for name, amount in has.extended:
        if amount > planned.get(name, 0.0) + _HAIR:
            found.append(f"{amount:.10g} {name} instead of {planned.get(name, 0.0):.10g}")
    for key, value in admitted.node_selector:
        if job.node_selector.get(key) != value:
            found.append(f"nodes with {key}={value}")
    return ", ".join(found)
