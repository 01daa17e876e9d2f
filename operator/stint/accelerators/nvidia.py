"""NVIDIA GPUs: what the device plugin, GPU feature discovery, time-slicing, MPS and MIG call things.

| how a GPU is shared | the node says | pods ask for |
|---|---|---|
| time-slicing, MPS | `gpu.replicas`, `gpu.sharing-strategy`, a product with `-SHARED` | `nvidia.com/gpu` |
| the same, renamed | the same without the suffix | `nvidia.com/gpu.shared` |
| MIG, single | a product with `-MIG-1g.10gb` | `nvidia.com/gpu` |
| MIG, mixed | `nvidia.com/mig-1g.10gb` among its resources | `nvidia.com/mig-1g.10gb` |

Source: NVIDIA, k8s-device-plugin and gpu-feature-discovery.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from stint.accelerators.vendor import NodeLabels, Vendor
from stint.model.market import Slices

GPU, SHARED_GPU, MIG_PREFIX = "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-"
LABELS = NodeLabels(product="nvidia.com/gpu.product", memory_mib="nvidia.com/gpu.memory", count="nvidia.com/gpu.count")
REPLICAS, STRATEGY = "nvidia.com/gpu.replicas", "nvidia.com/gpu.sharing-strategy"
_MIG_PRODUCT = re.compile(r"(.+)-MIG-(\S+)")
_PROFILE = re.compile(r"(\d+)g\.(\d+)gb\S*", re.ASCII)
_COMPUTE = 7  # parts that the processors of a GPU are cut into


class Parts:
    """Time slices, MPS clients and MIG instances."""

    def is_part(self, resource: str) -> bool:
        """See `Sharing`."""
        return resource == SHARED_GPU or resource.startswith(MIG_PREFIX)

    def whole(self, labels: Mapping[str, str]) -> dict[str, str]:
        """See `Sharing`. What labels say of the memory of a MIG instance is left out."""
        product = labels.get(LABELS.product, "").removesuffix("-SHARED")
        if cut := _MIG_PRODUCT.fullmatch(product):
            return {k: v for k, v in labels.items() if k != LABELS.memory_mib} | {LABELS.product: cut.group(1)}
        return {**labels, LABELS.product: product} if product else dict(labels)

    def marked(self, labels: Mapping[str, str]) -> bool:
        """See `Sharing`."""
        return labels.get(REPLICAS, "1") != "1"

    def read(
        self, labels: Mapping[str, str], parts: Mapping[str, int], *, whole: int, memory_gib: float
    ) -> Slices | None:
        """See `Sharing`. Where whole GPUs are left beside MIG instances, only the whole ones are used."""
        cut = _MIG_PRODUCT.fullmatch(labels.get(LABELS.product, "").removesuffix("-SHARED"))
        profiles = sorted(name for name in parts if name.startswith(MIG_PREFIX))
        replicas = int(labels[REPLICAS]) if labels.get(REPLICAS, "").isdecimal() else 1
        if (cut or (profiles and not whole)) and (replicas > 1 or SHARED_GPU in parts):
            raise ValueError("its GPUs are cut by MIG and shared by time besides; Stint uses nodes that do one of them")
        if cut:
            return _mig(cut.group(2), GPU, memory_gib)
        if profiles and not whole:
            if len(profiles) > 1:
                several = ", ".join(profiles)
                raise ValueError(f"its GPUs have several MIG profiles ({several}); give each node a single one")
            return _mig(profiles[0].removeprefix(MIG_PREFIX), profiles[0], memory_gib)
        resource = SHARED_GPU if SHARED_GPU in parts else GPU
        if replicas > 1 and (resource == SHARED_GPU or labels.get(STRATEGY, "none") != "none"):
            return Slices(
                name=f"{replicas}-shared",
                resource=resource,
                per_gpu=replicas,
                fraction=1 / replicas,
                memory_gib=memory_gib / replicas,
            )
        if SHARED_GPU in parts or labels.get(LABELS.product, "").endswith("-SHARED"):
            raise ValueError(f"its GPUs are shared and {REPLICAS} does not say by how many; run GPU feature discovery")
        return None


def _mig(profile: str, resource: str, gpu_memory_gib: float) -> Slices:
    size = _PROFILE.fullmatch(profile)
    if size is None or not int(size.group(1)) or not int(size.group(2)):
        raise ValueError(f"{profile!r} is no MIG profile that Stint knows, such as 1g.10gb")
    compute, memory = int(size.group(1)), int(size.group(2))
    by_memory = round(gpu_memory_gib / memory) if gpu_memory_gib else _COMPUTE
    return Slices(
        name=profile,
        resource=resource,
        per_gpu=max(1, min(_COMPUTE // compute, by_memory)),
        fraction=min(1.0, compute / _COMPUTE),
        memory_gib=float(memory),
    )


NVIDIA = Vendor(name="nvidia", resource=GPU, brands=("nvidia", "tesla"), labels=LABELS, sharing=Parts())
