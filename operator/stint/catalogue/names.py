"""The many names of one GPU.

A node label says `BRAND-A100-SXM4-80GB` (feature discovery), `a100` (Karpenter) or `brand-a100-80gb` (GKE). People
write `A100 80GB`. All of them become one canonical model, or None: a wrong guess would price the wrong GPU.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence

from stint.accelerators import registry
from stint.catalogue.hardware import GpuFacts

_NOT_WHOLE = re.compile(r"-shared$|-mig-")  # a time slice or a MIG slice of a GPU is not that GPU
_BRANDS = re.compile(rf"^({'|'.join(registry.BRANDS)})-")
_BRANDS_AS_WRITTEN = re.compile(rf"^({'|'.join(registry.BRANDS)})[-_](?=.)", re.IGNORECASE)


@functools.lru_cache(maxsize=4096)
def spell(text: str) -> str:
    """Lower case, dashes for blanks and underscores, no brand in front."""
    plain = re.sub(r"[\s_]+", "-", text.strip().lower())
    while (shorter := _BRANDS.sub("", plain)) != plain:
        plain = shorter
    return plain


def own_name(text: str) -> str:
    """What a model is called that only a label names: the label's value without the brand in front."""
    name = re.sub(r"\s+", "-", text.strip())
    while (shorter := _BRANDS_AS_WRITTEN.sub("", name)) != name:
        name = shorter
    return name


def index(gpus: Iterable[GpuFacts]) -> dict[str, tuple[GpuFacts, ...]]:
    """Every spelling, and which models it may mean, the smallest memory first."""
    meanings: dict[str, list[GpuFacts]] = {}
    for gpu in gpus:
        for name in (gpu.model, gpu.product, *gpu.aliases):
            known = meanings.setdefault(spell(name), [])
            if gpu not in known:
                known.append(gpu)
    for gpu in {gpu.model: gpu for known in meanings.values() for gpu in known}.values():
        meanings[spell(gpu.model)] = [gpu]  # a canonical name means itself and nothing else
    return {name: tuple(sorted(known, key=_memory)) for name, known in meanings.items()}


def all_named(meanings: Mapping[str, tuple[GpuFacts, ...]], text: str) -> tuple[GpuFacts, ...]:
    """Every GPU that `text` may name, the smallest memory first. A part of a GPU is none."""
    name = spell(text)
    return () if _NOT_WHOLE.search(name) else meanings.get(name, ())


def nearest(known: Sequence[GpuFacts], memory_gib: float | None) -> GpuFacts | None:
    """Of several, the one nearest to `memory_gib`, or else the smallest."""
    if not known:
        return None
    if memory_gib is None:
        return known[0]
    return min(known, key=lambda gpu: abs(_memory(gpu) - memory_gib))


def look_up(
    meanings: Mapping[str, tuple[GpuFacts, ...]], text: str, memory_gib: float | None = None
) -> GpuFacts | None:
    """The GPU that `text` names. Where it names several, the one nearest to `memory_gib`, or else the smallest."""
    return nearest(all_named(meanings, text), memory_gib)


def _memory(gpu: GpuFacts) -> float:
    return gpu.memory_gib.value if gpu.memory_gib else 0.0
