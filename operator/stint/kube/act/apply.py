"""Carrying a plan out, one idempotent write after the other. Killed between any two, the next cycle goes on.

The write that makes a placement durable is the creation of the Job with the plan in its annotation (or, for a parked
Job, the patch that resumes it). What follows, one patch a pod, only carries that plan out and can be repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from stint.api.parse.template import worker_template
from stint.kube.act.manifests import has_own_group, indexed_job, let_go_patch, pod_group, release_patch, service
from stint.kube.act.podgroups import VERSION_PATH, PodGroups
from stint.kube.client.api import MERGE, STRATEGIC, Api, ApiError
from stint.kube.client.informer import Informer
from stint.kube.observe.gang import Gang
from stint.kube.observe.ownership import told_in_the_way
from stint.kube.observe.snapshot import Seen
from stint.kube.plan_note import PlanNote, signed_note
from stint.kube.records import JobRecord, PodRecord, ServiceRecord
from stint.kube.reduce import reduce_job
from stint.kube.wire import WireJob, WirePod, WireService
from stint.kube.workloads import RESUME, WorkloadRecord
from stint.model.gang import GangState
from stint.model.job import JobId
from stint.workloads.registry import KINDS

log = logging.getLogger(__name__)


def _core(namespace: str, plural: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def _batch(namespace: str, name: str = "") -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" + (f"/{name}" if name else "")


def _groups(namespace: str) -> str:
    return f"{VERSION_PATH}/namespaces/{namespace}/podgroups"


class _Listed(msgspec.Struct):
    items: list[msgspec.Raw]


class Actuator:
    """Writes Jobs, Services, PodGroups and pods."""

    def __init__(
        self,
        api: Api,
        jobs: Informer[WireJob, JobRecord],
        pods: Informer[WirePod, PodRecord],
        services: Informer[WireService, ServiceRecord],
        pod_groups: PodGroups,
        placed: Callable[[dict[str, Any]], object],
        *,
        key: Callable[[], bytes],
        keep: bool = True,
    ) -> None:
        """With all that it reads and writes.

        Args:
            key: by which plans are signed.
            placed: takes in a TrainingJob as the API server answered a write of ours.
            keep: pods of gangs ask other controllers to leave them where they are.
        """
        self._placed = placed
        self._key = key
        self._keep = keep
        self._api = api
        self._jobs = jobs
        self._pods = pods
        self._services = services
        self._pod_groups = pod_groups

    def unserved(self, namespaces: Iterable[str]) -> set[str]:
        """Those without the Service by which the ranks of a gang find each other."""
        return set(namespaces) - {s.namespace for s in self._services}

    async def serve(self, namespace: str) -> None:
        """Create that Service.

        Raises:
            ApiError: the API server refuses it.
        """
        answer = await self._create(_core(namespace, "services"), service())
        if answer is not None:
            self._services.absorb(answer)

    async def place(self, seen: Seen, plan: PlanNote) -> bool:
        """Give a gang its place. False: not yet, an earlier Job has to go first.

        Raises:
            ApiError: the API server refuses the Job; its message says why.
        """
        meta, spec, gang = seen.resource.metadata, seen.resource.spec, seen.gang
        if gang.theirs is not None:
            noted = {"metadata": {"uid": meta.uid, "annotations": signed_note(plan, meta.uid, self._key())}}
            path = f"/apis/stint.dev/v1alpha1/namespaces/{meta.namespace}/trainingjobs/{meta.name}"
            self._placed(await self._api.patch(path, noted))
            return True
        template = worker_template(spec)
        grouped = self._pod_groups.usable and not has_own_group(template)
        if gang.state is GangState.PARKED and gang.job is not None:
            resized = gang.job.completions != len(plan.nodes)
            # Without a plan of ours, the Job may be somebody else's as a whole.
            edited = gang.plan is None or gang.plan.made_from != plan.made_from
            # Pods name their group for good; without one a gang would wait for it for ever.
            if resized or edited or bool(gang.job.pod_group) != grouped:
                await self._api.delete(_batch(meta.namespace, meta.name), uid=gang.job.uid)
                return False
            body = {
                "metadata": {"uid": gang.job.uid, "annotations": signed_note(plan, meta.uid, self._key())},
                "spec": {"suspend": False},
            }
            answer = await self._api.raw("PATCH", _batch(meta.namespace, meta.name), body=body, content_type=MERGE)
            self._jobs.absorb(answer)
            return True
        job = indexed_job(
            meta.name,
            meta.uid,
            template,
            workers=len(plan.nodes),
            gpus_per_worker=spec.gpu.per_worker,
            gpu_resource=spec.gpu.resource,
            plan=plan,
            key=self._key(),
            grouped=grouped,
            keep=self._keep,
        )
        answer_ = await self._create(_batch(meta.namespace), job)
        if answer_ is not None:
            self._jobs.absorb(answer_)
        else:
            await self._look_at_what_is_there(meta.namespace, meta.name, meta.uid)
        return answer_ is not None

    async def _look_at_what_is_there(self, namespace: str, name: str, uid: str) -> None:
        """A Job that has the name already: what is ours is taken in, whatever else is there is told.

        Raises:
            ApiError: it is not ours.
        """
        found = await self._api.raw("GET", _batch(namespace), params={"fieldSelector": f"metadata.name={name}"})
        for item in msgspec.json.decode(found, type=_Listed).items:
            _, _, record = reduce_job(msgspec.json.decode(item, type=WireJob))
            if record.owner != uid:
                raise ApiError(409, "AlreadyExists", told_in_the_way(record))
            self._jobs.absorb(item)

    async def _create(self, path: str, body: object) -> bytes | None:
        """None where it was there already."""
        try:
            return await self._api.raw("POST", path, body=body, params={"fieldManager": "stint"})
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                return None
            raise

    def ungrouped(self, gangs: Mapping[JobId, Gang]) -> set[JobId]:
        """Those whose pods name a PodGroup that is not there, while a scheduler has yet to bind some of them."""
        if not self._pod_groups.usable:
            return set()
        there = {(g.namespace, g.name) for g in self._pod_groups.informer}
        return {
            key
            for key, gang in gangs.items()
            if gang.job is not None
            and gang.job.pod_group
            and not all(p.gang.scheduled for p in gang.pods if p.gang)
            and (gang.job.namespace, gang.job.pod_group) not in there
        }

    async def group(self, gang: Gang) -> None:
        """Create its PodGroup: before its pods are let go, so that none is looked at alone.

        Raises:
            ApiError: the API server refuses it. Pods that are let go all the same wait until there is one.
        """
        job = gang.job
        first = next((p.gang for p in gang.pods if p.gang), None)
        if job is None or gang.plan is None or first is None:
            return
        workers, priority = len(gang.plan.nodes), first.priority_class
        body = pod_group(job.pod_group, job.name, job.uid, workers=workers, priority_class=priority)
        answer = await self._create(_groups(job.namespace), body)
        if answer is not None:
            self._pod_groups.informer.absorb(answer)

    async def release(self, gang: Gang) -> None:
        """Let go every gated pod of a complete gang, each onto its node, in one patch a pod.

        Raises:
            ApiError: the API server refuses one of them; the others have been tried, too.
        """
        nodes = gang.plan.nodes if gang.plan is not None else ()
        patches = [
            self._let_go(pod, nodes[pod.gang.index])
            for pod in gang.to_release()
            if pod.gang is not None and 0 <= pod.gang.index < len(nodes)
        ]
        for result in await asyncio.gather(*patches, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _let_go(self, pod: PodRecord, node: str) -> None:
        assert pod.gang is not None
        rank = pod.gang.index if pod.gang.steered is not None else None
        await self._open(pod, release_patch(pod.uid, node, pod.gang.affinity, rank=rank))

    async def let_go_anywhere(self, pod: PodRecord) -> None:
        """Open our gate on a pod whose owner does not want to wait for a place."""
        await self._open(pod, let_go_patch(pod.uid))

    async def _open(self, pod: PodRecord, patch: dict[str, Any]) -> None:
        which = pod.gang or pod.unplaced
        assert which is not None
        path = _core(which.namespace, "pods", which.name)
        try:
            answer = await self._api.raw("PATCH", path, body=patch, content_type=STRATEGIC)
        except ApiError as error:
            # Gone, or another pod of the same name by now (422 on the uid): the next look at the cache will tell.
            if error.status in (404, 409, 422):
                log.warning("pod %s/%s was not released: %s", which.namespace, which.name, error)
                return
            raise
        self._pods.absorb(answer)

    async def park(self, gang: Gang) -> None:
        """Take a whole gang back: suspend its Job, which deletes its pods."""
        if gang.job is None:
            return
        body = {"metadata": {"uid": gang.job.uid}, "spec": {"suspend": True}}
        path = _batch(gang.job.namespace, gang.job.name)
        try:
            self._jobs.absorb(await self._api.raw("PATCH", path, body=body, content_type=MERGE))
        except ApiError as error:
            if error.status not in (404, 409, 422):
                raise

    async def take_back(self, gang: Gang) -> None:
        """Take a whole gang back whose pods somebody else makes: they go, and are made anew behind our gate.

        What made them is suspended where it can be, with a note that it is to be resumed: killed in between, the
        next operator finds the note. Otherwise the pods are deleted one by one.
        """
        assert gang.theirs is not None
        owner = gang.theirs.suspends
        if owner is None:
            await asyncio.gather(*(self._forget(pod, at_once=False) for pod in gang.pods))
        elif not owner.suspended:
            note_it = {"metadata": {"uid": owner.uid, "annotations": {RESUME: "true"}}}
            await self._suspend(owner, True, note_it)

    async def resume(self, owner: WorkloadRecord) -> None:
        """Let what we have suspended make its pods again."""
        await self._suspend(owner, False, {"metadata": {"uid": owner.uid, "annotations": {RESUME: None}}})

    async def _suspend(self, owner: WorkloadRecord, value: bool, body: dict[str, Any]) -> None:
        kind = KINDS[owner.kind]
        try:
            await self._api.patch(kind.path(owner.namespace, owner.name), body | kind.suspended(value))
        except ApiError as error:
            if error.status not in (404, 409, 422):
                raise
            log.warning("%s %s/%s: %s", owner.kind, owner.namespace, owner.name, error)

    async def forget(self, gang: Gang) -> None:
        """Remove pods on nodes that are gone: their kubelets will never say that they have ended.

        Those of somebody else's Job only once it deletes them itself: before, each would count as its failure.
        """
        waits = gang.theirs is not None and gang.theirs.suspends is not None
        lost = [p for p in gang.lost if not waits or (p.gang is not None and p.gang.deleting)]
        await asyncio.gather(*(self._forget(pod) for pod in lost))

    async def _forget(self, pod: PodRecord, *, at_once: bool = True) -> None:
        assert pod.gang is not None
        body: dict[str, Any] = {"preconditions": {"uid": pod.uid}}
        if at_once:
            body["gracePeriodSeconds"] = 0
        try:
            await self._api.raw("DELETE", _core(pod.gang.namespace, "pods", pod.gang.name), body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def discard(self, gang: Gang) -> None:
        """Delete a Job whose gang is to start afresh."""
        if gang.job is not None and not gang.job.deleting:
            await self._api.delete(_batch(gang.job.namespace, gang.job.name), uid=gang.job.uid)
