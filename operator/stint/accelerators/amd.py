"""AMD Instinct: what its device plugin and node labeller call things.

The labeller gives memory as `192G` and no number of devices; fake nodes have one under the name that would be its own.

Source: ROCm, k8s-device-plugin and gpu-operator.
"""

from __future__ import annotations

from stint.accelerators.vendor import NodeLabels, Vendor

AMD = Vendor(
    name="amd",
    resource="amd.com/gpu",
    brands=("amd", "instinct"),
    labels=NodeLabels(product="amd.com/gpu.product-name", memory_mib="amd.com/gpu.vram", count="amd.com/gpu.count"),
    remedy="run the node labeller of AMD's GPU operator, which labels nodes amd.com/gpu.product-name",
)
