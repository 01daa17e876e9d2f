"""The CustomResourceDefinitions, made from the typed resources. `hack/gen_crds.py` writes them to `crds/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from stint.api import gpupool, ledger, pricebook, trainingjob, trainingjob_status
from stint.api.schema import rule, structural

GROUP = "stint.dev"
VERSION = "v1alpha1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One resource and how kubectl shows it."""

    kind: str
    plural: str
    short: str
    namespaced: bool
    description: str
    spec: type[msgspec.Struct]
    status: type[msgspec.Struct] | None  # None: it has no status
    rules: tuple[tuple[str, str], ...] = ()
    root_rules: tuple[tuple[str, str], ...] = ()
    columns: tuple[tuple[str, str, str, str, int], ...]  # name, type, path, text, priority
    selectable: tuple[str, ...] = ()
    scale: dict[str, str] = field(default_factory=dict)


TRAINING_JOB = Kind(
    kind="TrainingJob",
    plural="trainingjobs",
    short="tj",
    namespaced=True,
    description="A gang of GPU workers that should finish for the least money.",
    spec=trainingjob.Spec,
    status=trainingjob_status.Status,
    rules=trainingjob.SPEC_RULES,
    root_rules=(
        (
            "size(self.metadata.name) <= 58",
            "metadata.name may have at most 58 characters: workers are called <name>-<index>, and host names end at 63",
        ),
        (
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must be a DNS label that begins with a letter: a Service of this name lets the workers meet",
        ),
    ),
    columns=(
        ("Phase", "string", ".status.phase", "", 0),
        ("Pool", "string", ".status.pool", "", 0),
        ("GPUs", "integer", ".status.gpus", "", 0),
        ("$/H", "string", ".status.usdPerHour", "While it runs", 0),
        ("Spent", "string", ".status.spentUsd", "So far", 0),
        ("Est", "string", ".status.estimatedUsd", "From the beginning to the end", 0),
        ("Budget", "string", ".status.budgetUsd", "", 0),
        ("Slack", "string", ".status.slack", "From the estimated finish to the deadline", 0),
        ("Age", "date", ".metadata.creationTimestamp", "", 0),
        ("Reason", "string", ".status.reason", "", 1),
        ("Next-Best", "string", ".status.nextBest.offering", "Where it would have run instead", 1),
        ("Saved", "string", ".status.savedUsd", "Against the next best place", 1),
        ("vs-Default", "string", ".status.ledger.savedUsd", "Against the default scheduler, on demand, so far", 1),
        ("Waste%", "string", ".status.ledger.waste", "Part of the GPU time that was not useful", 1),
        ("kWh", "string", ".status.ledger.energyKwh", "So far", 1),
        ("CO2kg", "string", ".status.ledger.carbonKg", "So far", 1),
    ),
    selectable=(".spec.queue", ".status.phase", ".status.pool"),
    scale={
        "specReplicasPath": ".spec.workers",
        "statusReplicasPath": ".status.readyWorkers",
        "labelSelectorPath": ".status.selector",
    },
)

GPU_POOL = Kind(
    kind="GPUPool",
    plural="gpupools",
    short="gp",
    namespaced=False,
    description="Nodes that are resized as one.",
    spec=gpupool.Spec,
    status=gpupool.Status,
    rules=gpupool.SPEC_RULES,
    columns=(
        ("Model", "string", ".status.gpuModel", "", 0),
        ("Nodes", "string", ".status.nodesText", "There are, of there may be", 0),
        ("GPUs", "integer", ".status.gpus", "", 0),
        ("Free", "integer", ".status.freeGpus", "GPUs nobody has", 0),
        ("$/GPU-H", "string", ".status.usdPerGpuHour", "", 0),
        ("Source", "string", ".status.priceSource", "Of the price", 0),
        ("Priced", "string", ".status.priceDate", "Since when the price holds", 0),
        ("Scaler", "string", ".status.scaler", "", 0),
        ("Age", "date", ".metadata.creationTimestamp", "", 0),
        ("Advice", "string", ".status.recommendation.message", "", 1),
    ),
)

PRICE_BOOK = Kind(
    kind="PriceBook",
    plural="pricebooks",
    short="pb",
    namespaced=False,
    description="Your own prices, tariffs and rates.",
    spec=pricebook.Spec,
    status=pricebook.Status,
    columns=(
        ("Entries", "integer", ".status.entries", "Figures that it gives", 0),
        ("Offerings", "integer", ".status.offerings", "In this cluster", 0),
        ("Stale", "integer", ".status.stale", "Offerings with a figure that is too old", 0),
        ("Unpriced", "integer", ".status.unpriced", "Offerings without a price", 0),
        ("Updated", "string", ".status.updated", "When its figures were true", 0),
        ("Age", "date", ".metadata.creationTimestamp", "", 0),
    ),
)

DAILY_SPEND = Kind(
    kind="DailySpend",
    plural="dailyspends",
    short="spend",
    namespaced=True,
    description="What a namespace's jobs cost on one day. Stint writes it; it outlives the jobs.",
    spec=ledger.DaySpec,
    status=None,
    columns=(
        ("USD", "string", ".spec.usd", "Of all its jobs", 0),
        ("GPU-H", "string", ".spec.gpuHours", "", 0),
        ("Useful%", "string", ".spec.usefulPercent", "Part of the GPU time that was useful", 0),
        ("kWh", "string", ".spec.energyKwh", "", 0),
        ("CO2kg", "string", ".spec.carbonKg", "", 0),
        ("Age", "date", ".metadata.creationTimestamp", "", 0),
    ),
)

KINDS = (TRAINING_JOB, GPU_POOL, PRICE_BOOK, DAILY_SPEND)


def definition(kind: Kind) -> dict[str, Any]:
    """One CustomResourceDefinition."""
    spec = structural(kind.spec)
    if kind.rules:
        spec["x-kubernetes-validations"] = [rule(*r) for r in kind.rules]
    schema: dict[str, Any] = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"description": "What is wanted." if kind.status else "What was.", **spec},
        },
    }
    if kind.status is not None:
        schema["properties"]["status"] = {"description": "What is, as Stint sees it.", **structural(kind.status)}
    if kind.root_rules:
        schema["x-kubernetes-validations"] = [rule(*r) for r in kind.root_rules]
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": ({"status": {}} if kind.status else {}) | ({"scale": kind.scale} if kind.scale else {}),
        "additionalPrinterColumns": [_column(*c) for c in kind.columns],
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["stint"],
            },
            "versions": [version],
        },
    }


def _column(name: str, of: str, path: str, text: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": of, "jsonPath": path}
    if text:
        column["description"] = text
    if priority:
        column["priority"] = priority
    return column
