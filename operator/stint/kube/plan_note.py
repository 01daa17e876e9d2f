"""The plan of a gang as its Job's annotation tells it: the one durable form of a placement in the cluster."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated

import msgspec

from stint.api.parse.template import worker_template
from stint.api.trainingjob import Spec
from stint.model.job import Role
from stint.model.resources import Resources


class PlanNote(msgspec.Struct, frozen=True, rename="camel"):
    """The plan as the Job's annotation tells it."""

    offering: str
    gpu_model: str
    nodes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]  # by rank
    since: Annotated[datetime, msgspec.Meta(tz=True)]
    usd_per_hour: Annotated[float, msgspec.Meta(ge=0)]
    finish: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    cost_usd: float = 0.0
    message: str = ""  # what people were told of the placement
    attempt: Annotated[int, msgspec.Meta(ge=0)] = 0
    per_worker: Resources | None = None  # what it was placed with: its spec may be edited while it runs
    roles: tuple[Role, ...] = ()  # likewise, of its pods that are unlike the others
    made_from: str = ""  # see the function of that name
    gpu_resource: str = ""  # what pods ask for there, where it is not what the spec says

    def by_rank(self) -> tuple[Resources, ...]:
        """What each pod was placed with; empty: the note does not say."""
        if self.per_worker is None:
            return ()
        others = [r.per_pod for r in self.roles for _ in range(r.replicas)]
        workers = (self.per_worker,) * max(0, len(self.nodes) - len(others))
        return (*workers, *others)[: len(self.nodes)]


def note(plan: PlanNote) -> str:
    """As JSON, for the annotation."""
    return msgspec.json.encode(plan).decode()


def made_from(spec: Spec, gpu_resource: str = "") -> str:
    """A fingerprint of everything in a spec that pods are made from, and that only a new Job can take up.

    Args:
        gpu_resource: as in `PlanNote`.
    """
    parts = [worker_template(spec), spec.gpu.per_worker, gpu_resource or spec.gpu.resource]
    if spec.gpu.fraction is not None:
        parts.append(spec.gpu.fraction)
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:12]


def read_note(text: str) -> PlanNote | None:
    """What an annotation says; None where there is none or it is not ours."""
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=PlanNote)
    except msgspec.MsgspecError:
        return None
