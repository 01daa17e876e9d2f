"""Which batch Job and which pods are a TrainingJob's: by the uid of what made them, never by a name or a label. Pure.

    TrainingJob  <- uid -  Job of the same name  <- uid -  pod

Whoever may create Jobs and pods may give them any name and label, and a TrainingJob that was deleted may be made again
under its name while the Job of the first is still there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stint.api.trainingjob import TrainingJob
from stint.kube.records import JobRecord, PodRecord
from stint.model.job import JobId, job_id


@dataclass(frozen=True, slots=True)
class Owned:
    """What is one TrainingJob's."""

    job: JobRecord | None = None
    pods: tuple[PodRecord, ...] = ()
    in_the_way: JobRecord | None = None  # has its name, and is not its


class Ownership:
    """All batch Jobs with our label, and all pods that look like workers, by what made them."""

    def __init__(self, jobs: Iterable[JobRecord], pods: Iterable[PodRecord]) -> None:
        self._jobs = {job_id(j.namespace, j.name): j for j in jobs}
        self._uids = {j.uid for j in self._jobs.values()}
        self._pods: dict[JobId, list[PodRecord]] = defaultdict(list)
        for pod in pods:
            if pod.gang is not None and pod.gang.steered is None and pod.gang.run:
                self._pods[job_id(pod.gang.namespace, pod.gang.job)].append(pod)

    def of(self, resource: TrainingJob) -> Owned:
        """One TrainingJob's."""
        key = job_id(resource.metadata.namespace, resource.metadata.name)
        job, pods = self._jobs.get(key), self._pods.get(key, ())
        if job is None:
            # What is left of a Job of its that is no more: nothing new is made before it has gone.
            return Owned(pods=tuple(p for p in pods if p.gang is not None and p.gang.run not in self._uids))
        if job.owner != resource.metadata.uid:
            return Owned(in_the_way=job)
        return Owned(job, tuple(p for p in pods if p.gang is not None and p.gang.run == job.uid))


def told_in_the_way(job: JobRecord) -> str:
    """What keeps a TrainingJob from being placed while such a Job is there, and what to do."""
    if job.deleting:
        return f"Job {job.name} of an earlier TrainingJob is being deleted; a new one is created once it has gone"
    return (
        f"a Job {job.name} is there that does not belong to this TrainingJob, perhaps to an earlier one of that name: "
        f"delete it (kubectl delete job {job.name} -n {job.namespace}), or give the TrainingJob another name"
    )


def members_of(pods: Mapping[JobId, Iterable[PodRecord]]) -> dict[str, JobId]:
    """Whose worker each pod is, by its uid."""
    return {pod.uid: key for key, some in pods.items() for pod in some}
