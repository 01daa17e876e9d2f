"""GPUs that a node gives out in parts: what its labels and resources say of time-slicing and of MIG.

| how it is shared | the node says | pods ask for |
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

from stint.api.quantity import GPU_RESOURCES, MIG_PREFIX, SHARED_RESOURCE
from stint.model.market import Slices

PRODUCT, MEMORY, REPLICAS = "nvidia.com/gpu.product", "nvidia.com/gpu.memory", "nvidia.com/gpu.replicas"
_STRATEGY = "nvidia.com/gpu.sharing-strategy"
_WHOLE = GPU_RESOURCES[0]
_MIG_PRODUCT = re.compile(r"(.+)-MIG-(\S+)")
_PROFILE = re.compile(r"(\d+)g\.(\d+)gb\S*", re.ASCII)
_COMPUTE = 7  # parts that the processors of a GPU are cut into


def whole_product(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels as if the GPUs were not shared. What they say of the memory of a MIG part is left out."""
    product = labels.get(PRODUCT, "").removesuffix("-SHARED")
    if cut := _MIG_PRODUCT.fullmatch(product):
        return {k: v for k, v in labels.items() if k != MEMORY} | {PRODUCT: cut.group(1)}
    return {**labels, PRODUCT: product} if product else dict(labels)


def read(labels: Mapping[str, str], shared: Mapping[str, int], *, whole: int, gpu_memory_gib: float) -> Slices | None:
    """How the GPUs of a node are shared; None: they are not, or whole ones are left and only those are used.

    Args:
        shared: what the node has of resources that are parts of a GPU.
        whole: what it has of `nvidia.com/gpu`.
        gpu_memory_gib: of a whole GPU.
    Raises:
        ValueError: in several ways at once, or in one that nobody knows; the message says what to do.
    """
    cut = _MIG_PRODUCT.fullmatch(labels.get(PRODUCT, "").removesuffix("-SHARED"))
    profiles = sorted(name for name in shared if name.startswith(MIG_PREFIX))
    replicas = int(labels[REPLICAS]) if labels.get(REPLICAS, "").isdecimal() else 1
    if (cut or (profiles and not whole)) and (replicas > 1 or SHARED_RESOURCE in shared):
        raise ValueError("its GPUs are cut by MIG and shared by time besides; Stint uses nodes that do one of them")
    if cut:
        return _mig(cut.group(2), _WHOLE, gpu_memory_gib)
    if profiles and not whole:
        if len(profiles) > 1:
            raise ValueError(f"its GPUs have several MIG profiles ({', '.join(profiles)}); give each node a single one")
        return _mig(profiles[0].removeprefix(MIG_PREFIX), profiles[0], gpu_memory_gib)
    resource = SHARED_RESOURCE if SHARED_RESOURCE in shared else _WHOLE
    if replicas > 1 and (resource == SHARED_RESOURCE or labels.get(_STRATEGY, "none") != "none"):
        memory = gpu_memory_gib / replicas
        return Slices(
            name=f"{replicas}-shared", resource=resource, per_gpu=replicas, fraction=1 / replicas, memory_gib=memory
        )
    if SHARED_RESOURCE in shared or labels.get(PRODUCT, "").endswith("-SHARED"):
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
