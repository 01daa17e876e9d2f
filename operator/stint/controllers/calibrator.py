"""What runs teach about their families: learnt from progress that is told, kept in a ConfigMap, read back at a start.

A run is looked at from when it first says how far it is; its figure is the mean since then, and counts once it is long
enough. Only the leader writes, and seldom: what a killed one had not written yet its successor learns again from the
runs that go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import aiohttp
import msgspec

from stint.api.parse.template import worker_template
from stint.api.trainingjob import TrainingJob
from stint.estimate.calibration import Book, Key, Run, family_of
from stint.estimate.runtime import hours_between
from stint.kube.client.api import Api, ApiError, FencedError
from stint.kube.observe.snapshot import Observation, Seen
from stint.model.cluster import Utilisation
from stint.model.job import ENDED, JobId, job_id
from stint.model.measured import Speed
from stint.workloads.kind import at

log = logging.getLogger(__name__)

NAME = "stint-calibration"
FAMILY = "stint.dev/family"
LONGEST_IMAGE = 1024
LONG_ENOUGH = timedelta(minutes=10)
LOOK_EVERY_S, WRITE_EVERY_S = 1.0, 60.0
_FIELD = "calibration.json"


class _Entry(msgspec.Struct):
    key: Key
    runs: list[Run]


_ENTRIES = msgspec.json.Decoder(list[_Entry])


@dataclass(frozen=True, slots=True)
class _Anchor:
    """When a run first said how far it was, and how far."""

    run: str
    at: datetime
    units: float


@dataclass(slots=True, kw_only=True)
class Calibrator:
    """The book, and where it is kept."""

    api: Api
    namespace: str
    leads: Callable[[], bool]
    canonical: Callable[[str], str | None]  # the catalogue's name of a GPU model
    book: Book = field(default_factory=Book)
    _loaded: bool = False
    _dirty: bool = False
    _families: dict[str, tuple[tuple[int, str], str]] = field(default_factory=dict)  # by uid
    _anchors: dict[JobId, _Anchor] = field(default_factory=dict)

    def speeds(self, resources: Iterable[TrainingJob]) -> Mapping[JobId, Mapping[str, Speed]]:
        """Of each job that has not ended, by GPU model that it states a speed for.

        What the present run does itself says more of it than what others did.
        """
        found: dict[JobId, dict[str, Speed]] = {}
        families = {(key.namespace, key.family) for key in self.book.runs}
        for resource in resources if families else ():
            work, meta = resource.spec.work, resource.metadata
            if resource.status.phase in ENDED or (meta.namespace, self._family(resource)) not in families:
                continue
            name = job_id(meta.namespace, meta.name)
            anchor, known = self._anchors.get(name), {}
            for alias, stated in work.units_per_second.items():
                model = self.canonical(alias) or alias
                key = Key(meta.namespace, self._family(resource), work.unit, model)
                speed = self.book.speed(key, workers=resource.spec.workers, exponent=work.scaling_exponent)
                if speed is None:
                    continue
                own = next((r for r in self.book.runs[key] if anchor is not None and r.id == anchor.run), None)
                if own is not None:
                    mine = own.speed * resource.spec.workers**work.scaling_exponent
                    speed = replace(speed, units_per_second=mine, trusted=True, own=True)
                known[model] = replace(speed, stated=stated)
            if known:
                found[name] = known
        return found

    def _family(self, resource: TrainingJob) -> str:
        meta = resource.metadata
        version = (meta.generation, meta.labels.get(FAMILY, ""))
        known = self._families.get(meta.uid)
        if known is None or known[0] != version:
            known = self._families[meta.uid] = (version, family(resource))
        return known[1]

    def learn(self, observation: Observation, usage: Mapping[JobId, Utilisation]) -> None:
        """From what is seen of the runs that say how far they are."""
        now, anchors = observation.situation.now, self._anchors
        self._anchors = {}
        there = {s.resource.metadata.uid for s in observation.seen.values()}
        self._families = {uid: f for uid, f in self._families.items() if uid in there}
        for key, seen in observation.seen.items():
            progress, plan = seen.progress, seen.gang.plan
            if seen.told.units is None or progress.running_since is None or plan is None:
                continue
            run = f"{seen.resource.metadata.uid[:13]}@{progress.running_since:%Y%m%dT%H%M%S}"
            anchor = anchors.get(key)
            if anchor is None or anchor.run != run or seen.told.units < anchor.units:
                anchor = _Anchor(run, now, seen.told.units)
            self._anchors[key] = anchor
            # Until it last went on: a run that hangs says nothing of how fast its family is.
            if progress.told_at is not None and progress.told_at - anchor.at >= LONG_ENOUGH:
                self._note(seen, anchor, progress.told_at, usage.get(key))

    def _note(self, seen: Seen, anchor: _Anchor, until: datetime, used: Utilisation | None) -> None:
        plan, work = seen.gang.plan, seen.resource.spec.work
        assert plan is not None
        assert seen.told.units is not None
        seconds = hours_between(anchor.at, until) * 3600
        speed = (seen.told.units - anchor.units) / seconds / len(plan.nodes) ** work.scaling_exponent
        watts = None if used is None or used.watts is None or not used.gpus else used.watts / used.gpus
        meta = seen.resource.metadata
        key = Key(meta.namespace, self._family(seen.resource), work.unit, plan.gpu_model)
        self._dirty |= self.book.note(key, Run(anchor.run, float(f"{speed:.5g}"), watts and round(watts, 1)))

    async def run(self) -> None:
        """Read what there is once we lead, and write now and then, until cancelled."""
        saved = float("-inf")
        while True:
            try:
                if not self.leads():
                    self._loaded = False
                elif not self._loaded:
                    await self._load()
                elif self._dirty and time.monotonic() - saved >= WRITE_EVERY_S:
                    saved = time.monotonic()
                    await self._save()
            except (ApiError, FencedError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("ConfigMap %s: %s", NAME, error or type(error).__name__)
            await asyncio.sleep(LOOK_EVERY_S)

    def _path(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps" + (f"/{name}" if name else "")

    async def _load(self) -> None:
        found = await self.api.find(self._path(NAME))
        text = ((found or {}).get("data") or {}).get(_FIELD, "[]")
        try:
            stored = Book.of((e.key, e.runs) for e in _ENTRIES.decode(text))
        except msgspec.MsgspecError as error:
            log.warning("ConfigMap %s cannot be read and begins anew: %s", NAME, error)
            stored = Book()
        for key, runs in self.book.entries():  # learnt before it was read
            for run in runs:
                stored.note(key, run)
        self.book, self._loaded = stored, True

    async def _save(self) -> None:
        text = encode(self.book)
        self._dirty = False
        try:
            await self.api.patch(self._path(NAME), {"data": {_FIELD: text}})
        except ApiError as error:
            self._dirty = True
            if error.status != 404:
                raise
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "stint"}},
                "data": {_FIELD: text},
            }
            await self.api.create(self._path(), body)
            self._dirty = False


def encode(book: Book) -> str:
    """As the ConfigMap has it."""
    return msgspec.json.encode([_Entry(k, list(runs)) for k, runs in book.entries()]).decode()


def family(resource: TrainingJob) -> str:
    """Of a TrainingJob."""
    spec, meta = resource.spec, resource.metadata
    # A raw template may have any shape.
    containers = at(worker_template(spec), "spec", "containers") if spec.steers is None else None
    first = containers[0] if isinstance(containers, list) and containers else None
    return family_of(
        meta.labels.get(FAMILY, ""),
        image=str(at(first, "image") or "")[:LONGEST_IMAGE],
        queue=spec.queue,
        owner=f"{spec.steers.kind}/{spec.steers.name}" if spec.steers is not None else meta.name,
    )
