"""What all our resources have alike: their metadata as far as we read it, and conditions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import msgspec

from stint.api.schema import doc

_MESSAGE_LIMIT = 4096


class Camel(msgspec.Struct, rename="camel", omit_defaults=True):
    """Fields are spelled as Kubernetes spells them."""


class Meta(Camel, kw_only=True):
    """metadata, as far as we read it."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: list[str] = []
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class Condition(Camel, kw_only=True):
    """As metav1.Condition."""

    type: Annotated[str, doc("Which condition.", max_length=64)]
    status: Annotated[str, doc("True, False or Unknown.")]
    reason: Annotated[str, doc("One word for machines.", max_length=128)]
    message: Annotated[str, doc("A sentence for people, with what to do.", max_length=_MESSAGE_LIMIT)] = ""
    last_transition_time: Annotated[datetime, doc("When the status changed.")]
    observed_generation: Annotated[int, doc("Of the spec that it speaks of.")] = 0


Conditions = Annotated[
    list[Condition],
    doc(
        "What machines read.",
        max_length=16,
        extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


def condition(
    before: Iterable[Condition], kind: str, fact: tuple[str, str, str], *, now: datetime, generation: int
) -> Condition:
    """One condition from (status, reason, message). It keeps the time of its last change, if there was none since."""
    status, reason, message = fact
    same = next((c for c in before if c.type == kind and c.status == status), None)
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:_MESSAGE_LIMIT],
        last_transition_time=same.last_transition_time if same else now,
        observed_generation=generation,
    )
