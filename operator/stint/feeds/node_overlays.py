"""Prices that people have told Karpenter: its NodeOverlays, laid over the prices that are known without them.

Of several that fit, the one of the greatest weight counts, then the first by name; they do not add up. A requirement on
a label that no price depends on here (a NodePool, say) cannot be judged, and its overlay is left out and named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from stint.catalogue.catalogue import Catalogue
from stint.catalogue.layer import Concern, PriceKey
from stint.feeds.config_map import GetObject
from stint.feeds.feed import Fact, FeedError, Reading
from stint.model.figure import Confidence
from stint.model.offering import CapacityType

PATH = "/apis/karpenter.sh/v1alpha1/nodeoverlays"
_OF_KEY: dict[str, Callable[[PriceKey], str]] = {
    "node.kubernetes.io/instance-type": lambda k: k.instance_type,
    "karpenter.sh/capacity-type": lambda k: k.capacity_type.value,
    "topology.kubernetes.io/region": lambda k: k.region,
    "topology.kubernetes.io/zone": lambda k: k.zone,
    "topology.k8s.aws/zone-id": lambda k: k.zone,
    "karpenter.k8s.aws/instance-family": lambda k: k.instance_type.partition(".")[0],
    "karpenter.k8s.aws/instance-size": lambda k: k.instance_type.partition(".")[2],
}
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


class _Meta(msgspec.Struct):
    name: str = ""


class _Requirement(msgspec.Struct):
    key: str
    operator: str
    values: list[str] = []


class _Spec(msgspec.Struct, rename="camel"):
    requirements: list[_Requirement] = []
    price: str | None = None
    price_adjustment: str | None = None
    weight: int = 0


class _Overlay(msgspec.Struct):
    metadata: _Meta
    spec: _Spec


@dataclass(frozen=True, slots=True)
class NodeOverlayFeed:
    """All NodeOverlays of the cluster."""

    name: str
    get: GetObject
    base: Callable[[datetime], Catalogue]  # prices without them
    provider: str = "aws"

    async def read(self, now: datetime) -> Reading:
        """See `Feed`."""
        listed = await self.get(PATH)
        try:
            overlays = msgspec.convert(listed.get("items") or [], list[_Overlay])
        except (msgspec.ValidationError, AttributeError) as error:
            raise FeedError(f"no NodeOverlays: {error}") from error
        base, mistakes, usable = self.base(now), [], []
        for overlay in overlays:
            if overlay.spec.price is None and overlay.spec.price_adjustment is None:
                continue  # it adds resources, not dollars
            why = _unusable(overlay.spec)
            if why:
                mistakes.append(f"NodeOverlay {overlay.metadata.name}: {why}")
            else:
                usable.append(overlay)
        usable.sort(key=lambda o: (-o.spec.weight, o.metadata.name))
        return Reading(
            source=self.name,
            read_at=now,
            as_of=now,
            facts=tuple(self._facts(usable, base)),
            mistakes=tuple(mistakes),
            confidence=Confidence.OVERRIDE,
            complete=True,
        )

    def _facts(self, overlays: Sequence[_Overlay], base: Catalogue) -> Iterator[Fact]:
        keys = {k for layer in base.layers for k in layer.prices if k.provider == self.provider and k.region != "*"}
        for key in sorted(keys):
            overlay = next((o for o in overlays if all(_fits(r, key) for r in o.spec.requirements)), None)
            known = base.price(*key[:4], zone=key.zone or None)
            if overlay is None or (known is None and overlay.spec.price is None):
                continue
            if key.capacity_type in (CapacityType.RESERVED, CapacityType.OWNED):
                continue
            value = _price(overlay.spec, known.value if known else 0.0)
            yield Fact(concern=Concern.PRICE, key=key, value=value)


def _unusable(spec: _Spec) -> str:
    for requirement in spec.requirements:
        if requirement.key not in _OF_KEY:
            return f"whether {requirement.key} fits cannot be judged here; its prices are not used"
        if requirement.operator not in _OPERATORS:
            return f"operator {requirement.operator} of {requirement.key} is not known; its prices are not used"
    try:
        _price(spec, 1.0)
    except ValueError:
        return f"{spec.price or spec.price_adjustment!r} is no price; write 1.25, +0.5, -10% or the like"
    return ""


def _fits(requirement: _Requirement, key: PriceKey) -> bool:
    value = _OF_KEY[requirement.key](key)
    if requirement.operator == "In":
        return value in requirement.values
    if requirement.operator == "NotIn":
        return value not in requirement.values
    return bool(value) == (requirement.operator == "Exists")


def _price(spec: _Spec, known: float) -> float:
    """As Karpenter reckons it: never below nothing.

    Raises:
        ValueError: no number.
    """
    if spec.price is not None:
        return float(spec.price)
    told = spec.price_adjustment or ""
    changed = known * (1 + float(told[:-1]) / 100) if told.endswith("%") else known + float(told)
    return max(0.0, changed)
