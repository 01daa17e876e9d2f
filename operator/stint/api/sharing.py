"""Quotas, limits and fair shares of namespaces, as the chart hands them to the operator: JSON on its command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import msgspec

from stint.api.meta import Camel
from stint.catalogue.catalogue import Catalogue
from stint.errors import InvalidInputError, Mistake
from stint.model.limits import Limits, NamespaceLimits
from stint.model.situation import FairShare, Quota


class _Quota(Camel, kw_only=True, forbid_unknown_fields=True):
    namespace: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    usd_per_hour: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None
    gpus: dict[str, Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]] = {}


class _FairShare(Camel, kw_only=True, forbid_unknown_fields=True):
    weights: dict[str, Annotated[float, msgspec.Meta(gt=0, le=1e6)]] = {}
    patience_hours: Annotated[float, msgspec.Meta(gt=0, le=100_000)] = 24.0


class _Limits(Camel, kw_only=True, forbid_unknown_fields=True):
    priority: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] | None = None
    lateness_usd_per_hour: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    usd_per_hour: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    training_jobs: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    spec_bytes: Annotated[int, msgspec.Meta(ge=1024, le=2**20)] | None = None
    total_bytes: Annotated[int, msgspec.Meta(ge=1024, le=2**30)] | None = None

    def on_top_of(self, limits: Limits) -> Limits:
        """What is given here, and the rest as it is there."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return replace(limits, **given)


class _AllLimits(Camel, kw_only=True, forbid_unknown_fields=True):
    default: _Limits = msgspec.field(default_factory=_Limits)
    namespaces: dict[str, _Limits] = {}


def limits_of(text: str) -> NamespaceLimits:
    """`{"default": {"priority": 100}, "namespaces": {"prod": {"priority": 1000}}}`.

    Raises:
        InvalidInputError: with the mistake.
    """
    found: _AllLimits = _convert(text, _AllLimits, "--limits")
    default = found.default.on_top_of(Limits())
    return NamespaceLimits(default=default, namespaces={n: x.on_top_of(default) for n, x in found.namespaces.items()})


def quotas_of(text: str, catalogue: Catalogue) -> tuple[Quota, ...]:
    """`[{"namespace": "ml", "usdPerHour": 100, "gpus": {"H100": 8}}]`.

    Raises:
        InvalidInputError: with every mistake.
    """
    found: list[_Quota] = _convert(text, list[_Quota], "--quotas")
    mistakes = []
    quotas: dict[str, Quota] = {}
    for i, given in enumerate(found):
        if given.namespace in quotas:
            mistakes.append(Mistake(f"[{i}].namespace", given.namespace, "has a quota already; give one for each"))
        gpus, wrong = _canonical(given.gpus, catalogue, f"[{i}].gpus")
        mistakes += wrong
        quotas[given.namespace] = Quota(namespace=given.namespace, usd_per_hour=given.usd_per_hour, gpus=gpus)
    if mistakes:
        raise InvalidInputError("--quotas", mistakes)
    return tuple(quotas.values())


def fair_share_of(text: str) -> FairShare:
    """`{"weights": {"ml": 2}, "patienceHours": 24}`.

    Raises:
        InvalidInputError: with the mistake.
    """
    found: _FairShare = _convert(text, _FairShare, "--fair-share")
    return FairShare(weights=found.weights, patience_hours=found.patience_hours)


def _canonical(gpus: Mapping[str, int], catalogue: Catalogue, path: str) -> tuple[dict[str, int], list[Mistake]]:
    known, mistakes = {}, []
    for name, count in gpus.items():
        model = catalogue.canonical_gpu(name)
        if model is None:
            mistakes.append(Mistake(f"{path}.{name}", name, "is no GPU model; `stint prices --gpus` lists them"))
        else:
            known[model] = count
    return known, mistakes


def _convert(text: str, kind: Any, what: str) -> Any:
    try:
        return msgspec.convert(json.loads(text), kind)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise InvalidInputError(what, [Mistake("", text[:80], str(error)[:500])]) from error
