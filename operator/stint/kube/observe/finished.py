"""What a cluster remembers of GPU jobs that have ended, as rows of a log: batch Jobs, Volcano Jobs, Kueue Workloads.

Each says when it was created, when it began and ended, and what its pods ask for. What belongs to something that is
counted already is left out, and so is what says too little; why is counted. Volcano: volcano.sh/apis, batch/v1alpha1,
JobStatus; Kueue: sigs.k8s.io/kueue/apis/kueue/v1beta1, WorkloadStatus.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stint.accelerators import registry
from stint.kube.records import JOB_LABEL
from stint.kube.workloads import gpus_of
from stint.sim.trace import Models, Row
from stint.workloads.job import pods_of_job

_ANY = Mapping[str, Any]
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:([0-9.]+)s)?", re.ASCII)  # as Go writes one
_OVER = ("Completed", "Failed", "Terminated", "Aborted")  # phases of a Volcano Job


@dataclass(frozen=True, slots=True)
class _Ended:
    """When something began and ended."""

    began: datetime
    seconds: float


class _UnusableError(Exception):
    """Why an object gives no row."""


def rows_of(
    jobs: Iterable[_ANY], volcano: Iterable[_ANY], workloads: Iterable[_ANY], models: Models, unused: Counter[str]
) -> Iterator[tuple[datetime, Row]]:
    """Rows with the dates of their submission. In `unused` it counts the others, by why.

    Args:
        jobs: batch/v1 Jobs, as the API server lists them.
        volcano: batch.volcano.sh Jobs; none where it is not installed.
        workloads: Kueue's; likewise.
    """
    counted: set[str] = set()  # uids of what speaks for itself, and of what made it
    for kind, things in (("Job", jobs), ("VolcanoJob", volcano), ("Workload", workloads)):
        for thing in things:
            meta = thing.get("metadata") or {}
            owners = {o.get("uid", "") for o in meta.get("ownerReferences") or ()}
            try:
                if JOB_LABEL in (meta.get("labels") or {}) or (kind == "Workload" and owners & counted):
                    raise _UnusableError("belong to something that is counted itself")
                found = _row(kind, thing, models)
            except _UnusableError as error:
                unused[f"{kind}s that {error}"] += 1
            else:
                yield found
            counted |= {meta.get("uid", ""), *owners}


def _row(kind: str, thing: _ANY, models: Models) -> tuple[datetime, Row]:
    meta, spec, status = thing["metadata"], thing.get("spec") or {}, thing.get("status") or {}
    ended = _HOW[kind](status)
    gpus = workers = 0
    hints: set[str] = set()
    for count, pod in _PODS[kind](spec):
        each = gpus_of(pod)
        gpus, workers = gpus + count * each, workers + count * (each > 0)
        chosen = (pod or {}).get("nodeSelector") or {}
        hints |= {chosen[label] for label in registry.MODEL_LABELS if each and label in chosen}
    if gpus < 1:
        raise _UnusableError("ask for no whole GPU")
    model = ""
    if hints:
        model, remedy = models.meaning(min(hints))
        if remedy:
            raise _UnusableError(f"ask for {min(hints)}, which {remedy}")
    created = _moment(meta.get("creationTimestamp")) or ended.began
    where = meta.get("namespace", "")
    return created, Row(
        id=f"{kind.lower()}-{meta['name']}-{meta.get('uid', '')[:8]}",
        at=timedelta(0),
        duration_s=ended.seconds,
        gpus=gpus,
        gpu_model=model,
        pinned=True if model else None,
        owner=where,
        workers=workers,
    )


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError):
        return None


def _since(status: _ANY, *types: str) -> datetime | None:
    """Since when one of some conditions is true."""
    for c in status.get("conditions") or ():
        if c.get("type") in types and c.get("status") == "True":
            return _moment(c.get("lastTransitionTime"))
    return None


def _between(began: datetime | None, ended: datetime | None) -> _Ended:
    if ended is None:
        raise _UnusableError("have not ended")
    if began is None or ended < began:
        raise _UnusableError("do not say when they began")
    return _Ended(began, (ended - began).total_seconds())


def _job(status: _ANY) -> _Ended:
    ended = _moment(status.get("completionTime")) or _since(status, "Complete", "Failed")
    return _between(_moment(status.get("startTime")), ended)


def _workload(status: _ANY) -> _Ended:
    return _between(_since(status, "Admitted"), _since(status, "Finished"))


def _volcano(status: _ANY) -> _Ended:
    state = status.get("state") or {}
    ended = _moment(state.get("lastTransitionTime")) if state.get("phase") in _OVER else None
    ran = _DURATION.fullmatch(status.get("runningDuration") or "")
    if ended is not None and ran is not None and any(ran.groups()):
        hours, minutes, seconds = (float(x or 0) for x in ran.groups())
        whole = hours * 3600 + minutes * 60 + seconds
        return _Ended(ended - timedelta(seconds=whole), whole)
    history = [c for c in status.get("conditions") or () if c.get("status") == "Running"]
    return _between(_moment(history[0].get("lastTransitionTime")) if history else None, ended)


def _pod_sets(spec: _ANY) -> Iterator[tuple[int, Any]]:
    for each in spec.get("podSets") or ():
        yield int(each.get("count") or 0), (each.get("template") or {}).get("spec")


def _tasks(spec: _ANY) -> Iterator[tuple[int, Any]]:
    for each in spec.get("tasks") or ():
        yield int(each.get("replicas") or 0), (each.get("template") or {}).get("spec")


_HOW = {"Job": _job, "VolcanoJob": _volcano, "Workload": _workload}
_PODS = {"Job": pods_of_job, "VolcanoJob": _tasks, "Workload": _pod_sets}
