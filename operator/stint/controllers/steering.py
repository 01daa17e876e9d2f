"""Other people's workloads: each group of their pods gets a TrainingJob that stands for it, and then is one of ours.

What only concerns steering is done here, before each cycle: TrainingJobs are written and follow what people edit, pods
whose owner does not want to wait are let go, and what was suspended to take its gang back is resumed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stint.api.trainingjob import TrainingJob
from stint.controllers.fan_out import together
from stint.kube.act.apply import Actuator
from stint.kube.act.proxy_jobs import MADE_FROM, Refusal, manifest
from stint.kube.client.api import JSON_PATCH, Api, ApiError
from stint.kube.client.events import About, Recorder
from stint.kube.observe.groups import Group, Workloads, gather
from stint.kube.records import PodRecord
from stint.kube.steered import Unplaced
from stint.kube.workloads import RESUME, WorkloadRecord
from stint.model.job import JobId, job_id

log = logging.getLogger(__name__)

_API = "/apis/stint.dev/v1alpha1"
_AGAIN_S = 60.0  # a group that cannot be steered as it is
_TERMINAL = ("Succeeded", "Failed")


@dataclass(kw_only=True)
class Steering:
    """Writes TrainingJobs for groups of pods that others make."""

    api: Api
    actuator: Actuator
    events: Recorder
    pods: Callable[[], Sequence[PodRecord]]
    workloads: Callable[[], Sequence[WorkloadRecord]]
    trainingjobs: Callable[[], Sequence[TrainingJob]]
    absorb: Callable[[dict[str, Any]], object]
    _told: dict[JobId, tuple[str, float]] = field(default_factory=dict)  # what is wrong, and since when (monotonic)
    _warned: dict[str, str] = field(default_factory=dict)  # by uid: what the owner of something else has been told

    async def tend(self) -> None:
        """Once, for all groups.

        Raises:
            ApiError, aiohttp.ClientError, TimeoutError, FencedError: what concerns everybody.
        """
        workloads = Workloads(self.workloads())
        pods = self.pods()
        groups = gather(pods, workloads)
        known = {job_id(t.metadata.namespace, t.metadata.name): t for t in self.trainingjobs()}
        self._told = {job: told for job, told in self._told.items() if job in groups}
        if self._warned:
            alive = {p.uid for p in pods} | {w.uid for w in self.workloads()}
            self._warned = {uid: warned for uid, warned in self._warned.items() if uid in alive}
        work: dict[str, Awaitable[object]] = {}
        for key, group in groups.items():
            at_once = [p for p in group.pods if p.gang and p.gang.steered and p.gang.steered.at_once]
            if at_once:
                work[key] = self._let_go(group, at_once, known.get(key))
            elif (made := self._wanted_of_one(key, group, known.get(key))) is not None:
                work[key] = self._write(group, made, known.get(key))
        work |= self._resumed(groups, workloads)
        work |= self._strays(pods)
        work |= self._left_over(groups, workloads, known)
        await together("steering", work)

    def _wanted_of_one(self, key: JobId, group: Group, there: TrainingJob | None) -> dict[str, Any] | Refusal | None:
        """What is written on one group is no other group's affair."""
        try:
            return self._wanted(key, group, there)
        except Exception as error:
            log.exception("%s/%s cannot be read", group.namespace, group.what)
            text = f"Stint cannot read it ({error!r:.200}), which is a mistake of Stint's; please report it"
            what, since = self._told.get(key, ("", 0.0))
            return None if what == text and time.monotonic() - since < _AGAIN_S else Refusal(text)

    def _wanted(self, key: JobId, group: Group, there: TrainingJob | None) -> dict[str, Any] | Refusal | None:
        """The TrainingJob that stands for a group, where it is to be written; None: it is as it should be."""
        waits = any(p.gang and p.gang.gated for p in group.pods)
        if there is None and not waits:
            return None  # its pods run, and somebody has deleted what stood for it
        if there is not None and there.spec.steers is not None and MADE_FROM not in there.metadata.annotations:
            return None  # somebody has written it himself
        made: dict[str, Any] | Refusal = manifest(group, key)
        if there is not None and there.spec.steers is None:
            made = Refusal(f"there is a TrainingJob {there.metadata.name} already that stands for something else")
        elif there is not None and there.metadata.annotations.get(MADE_FROM) == _what(made):
            return None
        what, since = self._told.get(key, ("", 0.0))
        return None if what == _what(made) and time.monotonic() - since < _AGAIN_S else made

    async def _write(self, group: Group, made: dict[str, Any] | Refusal, there: TrainingJob | None) -> None:
        if isinstance(made, Refusal):
            await self._refuse(group, made.text, made.text)
            return
        path = f"{_API}/namespaces/{group.namespace}/trainingjobs"
        try:
            if there is None:
                self.absorb(await self.api.create(path, made))
            else:
                # Not merged into what is there: what somebody has taken out of a map of his is to be gone.
                spec = {"suspend": there.spec.suspend, **made["spec"]}
                annotations = {**there.metadata.annotations, MADE_FROM: _what(made)}
                patch = [
                    {"op": "test", "path": "/metadata/uid", "value": there.metadata.uid},
                    {"op": "replace", "path": "/metadata/resourceVersion", "value": there.metadata.resource_version},
                    {"op": "replace", "path": "/spec", "value": spec},
                    {"op": "add", "path": "/metadata/annotations", "value": annotations},
                ]
                self.absorb(await self.api.patch(f"{path}/{there.metadata.name}", patch, content_type=JSON_PATCH))
        except ApiError as error:
            if error.status == 409:
                return  # the watch has yet to tell what it is by now
            if error.status not in (400, 403, 422):
                raise
            await self._refuse(group, _what(made), f"the API server refuses its TrainingJob: {error.message}")
            return
        self._told.pop(group.job, None)

    async def _refuse(self, group: Group, what: str, text: str) -> None:
        """Say on the workload itself, and on its first pod, why it is not steered."""
        self._told[group.job] = (what, time.monotonic())
        log.warning("%s/%s is not steered: %s", group.namespace, group.what, text)
        for about in _abouts(group):
            await self.events.tell(about, "NotSteered", text, action="Steer", warning=True)

    def _left_over(
        self, groups: Mapping[JobId, Group], workloads: Workloads, known: Mapping[JobId, TrainingJob]
    ) -> dict[str, Awaitable[object]]:
        """Of what has several groups: TrainingJobs of those that it no longer has, as it was scaled down."""
        work: dict[str, Awaitable[object]] = {}
        for key, there in known.items():
            steers, meta = there.spec.steers, there.metadata
            if key in groups or steers is None or MADE_FROM not in meta.annotations:
                continue
            chain = workloads.chain(steers.kind, meta.namespace, steers.name)
            index = steers.name.rpartition("-")[2]
            if chain and chain[0].name != steers.name and index.isdecimal() and int(index) >= chain[0].groups:
                path = f"{_API}/namespaces/{meta.namespace}/trainingjobs/{meta.name}"
                work[key] = self.api.delete(path, uid=meta.uid)
        return work

    def _strays(self, pods: Sequence[PodRecord]) -> dict[str, Awaitable[object]]:
        """What is labelled for Stint, or waits behind its gate, and belongs to no group that Stint can place."""
        work: dict[str, Awaitable[object]] = {}
        told: set[str] = set()  # of the pods of one object, the first
        for pod in pods:
            if (pod.gang is None and pod.unplaced is None) or pod.over:
                continue
            stray, gang = pod.unplaced, pod.gang
            if gang is not None:
                if gang.steered is None and gang.gated and gang.at_once:
                    work[f"pod {gang.namespace}/{gang.name}"] = self.actuator.let_go_anywhere(pod)
                elif gang.steered is not None and gang.steered.odd:
                    about = About("v1", "Pod", gang.namespace, gang.name, pod.uid)
                    work[f"pod {gang.namespace}/{gang.name}"] = self._warn(pod.uid, gang.steered.odd, about)
            elif stray is not None:
                maker = stray.maker.uid if stray.maker else ""
                quiet = bool(maker) and maker in told
                told.add(maker)
                if stray.at_once and not stray.gated:
                    continue
                work[f"pod {stray.namespace}/{stray.name}"] = self._see_to(pod, stray, quiet=quiet)
        for workload in self.workloads():
            if workload.wrong and not workload.deleting:
                about = About(workload.api_version, workload.api_kind, workload.namespace, workload.name, workload.uid)
                work[f"{workload.kind} {workload.namespace}/{workload.name}"] = self._warn(
                    workload.uid, workload.wrong, about
                )
        return work

    async def _see_to(self, pod: PodRecord, stray: Unplaced, *, quiet: bool) -> None:
        """Open its gate where that is wanted, and otherwise say why it is not placed."""
        if not stray.at_once and not quiet:
            abouts = [About("v1", "Pod", stray.namespace, stray.name, pod.uid)]
            if stray.maker is not None and stray.maker.api_version:
                m = stray.maker
                abouts.append(About(m.api_version, m.kind, stray.namespace, m.name, m.uid))
            await self._warn(pod.uid, stray.why, *abouts)
        if stray.gated and (stray.at_once or stray.kind):
            await self.actuator.let_go_anywhere(pod)

    async def _warn(self, uid: str, text: str, *abouts: About) -> None:
        """Say once what is wrong with the object that has this uid."""
        if self._warned.get(uid) == text:
            return
        self._warned[uid] = text
        for about in abouts:
            log.warning("%s %s/%s is not placed: %s", about.kind, about.namespace, about.name, text)
            await self.events.tell(about, "NotSteered", text, action="Steer", warning=True)

    async def _let_go(self, group: Group, pods: Sequence[PodRecord], there: TrainingJob | None) -> None:
        """Somebody does not want to wait for a place: the pods go anywhere, and Stint has no more to do with them."""
        for pod in pods:
            if pod.gang is not None and pod.gang.gated and pod.phase not in _TERMINAL:
                await self.actuator.let_go_anywhere(pod)
        if there is None or there.spec.steers is None:
            return
        text = f"stint.dev/release is now: {len(pods)} pods were let go without a place; nobody prices them"
        for about in _abouts(group):
            await self.events.tell(about, "Released", text, action="Steer")
        await self.api.delete(
            f"{_API}/namespaces/{group.namespace}/trainingjobs/{there.metadata.name}", uid=there.metadata.uid
        )

    def _resumed(self, groups: Mapping[JobId, Group], workloads: Workloads) -> dict[str, Awaitable[object]]:
        """What we have suspended, once no pod of it is left."""
        busy = {w.uid for g in groups.values() for w in g.chain if any(p.phase not in _TERMINAL for p in g.pods)}
        return {
            f"{w.kind} {w.namespace}/{w.name}": self.actuator.resume(w)
            for w in workloads
            if RESUME in w.annotations and not (w.suspended and w.uid in busy)
        }


def _what(made: dict[str, Any] | Refusal) -> str:
    """By which two of them are told apart."""
    return made.text if isinstance(made, Refusal) else str(made["metadata"]["annotations"][MADE_FROM])


def _abouts(group: Group) -> list[About]:
    """Where people look: at what they have made, and at a pod that waits."""
    found = [About(w.api_version, w.api_kind, w.namespace, w.name, w.uid) for w in group.chain[-1:]]
    first = next((p for p in group.pods if p.gang), None)
    if first is not None and first.gang is not None:
        found.append(About("v1", "Pod", group.namespace, first.gang.name, first.uid))
    return found
