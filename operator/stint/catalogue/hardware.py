"""GPUs and the machines they are sold in. No prices: those move."""

from __future__ import annotations

from dataclasses import dataclass

from stint.model.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One accelerator model. A figure is None where nobody told us."""

    model: str  # canonical: how all of Stint calls it
    vendor: str
    product: str  # what the node label says: see `stint.accelerators.vendor.NodeLabels`
    memory_gib: Figure | None
    tdp_watts: Figure | None
    idle_watts: Figure | None
    bf16_tflops: Figure | None  # dense
    fp8_tflops: Figure | None  # dense; int8 where a chip has no fp8
    memory_gb_per_s: Figure | None
    link_gb_per_s: Figure | None  # to its peers, both directions together
    capex_usd: Figure | None  # with its share of the server
    aliases: tuple[str, ...] = ()
    learnt: bool = False  # only a node's label or a GPUPool names it: nothing but its memory is known


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """A machine as a provider sells it."""

    provider: str
    name: str
    gpu_model: str  # canonical
    gpu_count: float  # a fraction where a share of one GPU is sold
    gpu_memory_gib: float | None  # of each
    vcpu: float | None
    memory_gib: float | None
    local_disk_gb: float | None
    network_gbps: float | None
    source: str
