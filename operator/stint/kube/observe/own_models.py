"""GPU models that the catalogue lacks, as the labels of nodes and GPUPools name them.

Such a model is used under its own name: its memory is what the label or the pool says, and it has a price where a
PriceBook gives one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stint.accelerators import registry
from stint.api.gpupool import GPUPool, PoolOffering
from stint.catalogue.catalogue import Catalogue
from stint.catalogue.hardware import GpuFacts
from stint.catalogue.names import own_name
from stint.kube.records import NodeRecord
from stint.model.figure import Confidence, Figure

_MOST_MODELS = 64  # of a cluster: labels can be written by whoever runs a node


def with_own_models(catalogue: Catalogue, nodes: Iterable[NodeRecord], pools: Iterable[GPUPool]) -> Catalogue:
    """The catalogue with the models that only this cluster names; the same one, where there are none."""
    found: dict[str, GpuFacts] = {}
    for gpu in (*_of_pools(catalogue, pools), *_of_nodes(catalogue, nodes)):
        if len(found) < _MOST_MODELS:
            found.setdefault(gpu.model, gpu)
    return catalogue.with_models(found.values()) if found else catalogue


def is_described(o: PoolOffering) -> bool:
    """Whether an offering says of itself all that the catalogue would."""
    return bool(o.gpu_model and o.gpus and o.cpu and o.memory_gib and o.gpu_memory_gib)


def _of_pools(catalogue: Catalogue, pools: Iterable[GPUPool]) -> Iterator[GpuFacts]:
    for pool in pools:
        for o in pool.spec.offerings:
            if is_described(o) and catalogue.canonical_gpu(o.gpu_model) is None:
                yield _facts(o.gpu_model, o.gpu_memory_gib, f"GPUPool {pool.metadata.name}")


def _of_nodes(catalogue: Catalogue, nodes: Iterable[NodeRecord]) -> Iterator[GpuFacts]:
    seen: set[str] = set()
    for node in sorted(nodes, key=lambda n: n.name):
        labels = registry.whole(node.labels)
        for key in registry.PRODUCT_LABELS:
            text = labels.get(key, "")
            if not text or text in seen:
                continue
            seen.add(text)
            memory = registry.memory_gib(labels)
            if memory and catalogue.canonical_gpu(text) is None:
                yield _facts(text, memory, f"label {key} of node {node.name}")


def _facts(text: str, memory_gib: float, source: str) -> GpuFacts:
    memory = Figure(value=memory_gib, source=source, as_of=None, confidence=Confidence.DERIVED)
    return GpuFacts(
        model=own_name(text),
        vendor=registry.DEFAULT.name,
        product=text,
        memory_gib=memory,
        tdp_watts=None,
        idle_watts=None,
        bf16_tflops=None,
        fp8_tflops=None,
        memory_gb_per_s=None,
        link_gb_per_s=None,
        capex_usd=None,
        learnt=True,
    )
