"""The plan of a gang as its Job's annotation tells it: the one durable form of a placement in the cluster.

Whoever may edit a Job may write its annotations, so the note is signed, for one TrainingJob by its uid. A note that is
not signed by us places nothing and holds nothing. What runs is no note's affair: a gang all of whose workers are bound
to the nodes that its note names keeps them, signed or not, since they are taken in any case.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from stint.api.parse.template import worker_template
from stint.api.trainingjob import Spec
from stint.model.job import Role
from stint.model.resources import Resources

PLAN_ANNOTATION = "stint.dev/plan"
SIGNATURE_ANNOTATION = "stint.dev/plan-signature"
MOST_RANKS = 4096  # as the CRD has it
_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)  # sums with them are dates, too
_MOST_USD = 1e12


class PlanNote(msgspec.Struct, frozen=True, rename="camel"):
    """The plan as the Job's annotation tells it."""

    offering: str
    gpu_model: str
    nodes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MOST_RANKS)]  # by rank
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


def signed_note(plan: PlanNote, uid: str, key: bytes) -> dict[str, str]:
    """What carries a plan, signed.

    Args:
        uid: of the TrainingJob that it is a plan for.
    """
    text = note(plan)
    return {PLAN_ANNOTATION: text, SIGNATURE_ANNOTATION: signature(text, uid, key)}


def signature(text: str, uid: str, key: bytes) -> str:
    """Of a note, for one TrainingJob."""
    return hmac.digest(key, f"{uid}\n{text}".encode(), "sha256").hex()


def is_signed(text: str, signed: str, uid: str, key: bytes | None) -> bool:
    """Whether we have written it; without a key, everything counts as written by us."""
    return key is None or hmac.compare_digest(signature(text, uid, key).encode(), signed.encode())


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
    """What an annotation says; None where there is none or it is not ours, as its dates or figures show."""
    if not text:
        return None
    try:
        found = msgspec.json.decode(text, type=PlanNote)
        dates = [d.astimezone(UTC) for d in (found.since, found.finish) if d is not None]
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    asked = [r.per_pod for r in found.roles] + ([found.per_worker] if found.per_worker is not None else [])
    least = min((amount for r in asked for amount in (*r.as_row(), *(a for _, a in r.extended))), default=0.0)
    figures = max(found.usd_per_hour, abs(found.cost_usd)) <= _MOST_USD and least >= 0.0
    others = sum(r.replicas for r in found.roles)
    figures = figures and all(r.replicas >= 1 for r in found.roles) and (not others or others < len(found.nodes))
    return found if figures and all(_FIRST <= d <= _LAST for d in dates) else None


def only_what_is_held(plan: PlanNote, now: datetime) -> PlanNote:
    """Of a note that is not signed by us, what may count once all of its nodes are held: where the gang is."""
    return msgspec.structs.replace(
        plan, since=min(plan.since, now), finish=None, cost_usd=0.0, message="", per_worker=None, roles=(), made_from=""
    )
