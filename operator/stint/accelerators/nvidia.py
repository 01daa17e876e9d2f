"""NVIDIA GPUs: what the device plugin, GPU feature discovery, time-slicing, MPS and MIG call things.

| how a GPU is shared | the node says | pods ask for |
|---|---|---|
| time-slicing, MPS | `gpu.replicas`, `gpu.sharing-strategy`, a product with `-SHARED` | `nvidia.com/gpu` |
| the same, renamed | the same without the suffix | `nvidia.com/gpu.shared` |
| MIG, single | a product with `-MIG-1g.10gb` | `nvidia.com/gpu` |
| MIG, mixed | `nvidia.com/mig-1g.10gb` among its resources | `nvidia.com/mig-1g.10gb` |
| on GKE, time-sharing, MPS | `gke-max-shared-clients-per-gpu`, `gke-gpu-sharing-strategy` | `nvidia.com/gpu` |
| on GKE, MIG | `gke-gpu-partition-size: 1g.5gb` | `nvidia.com/gpu` |

Source: NVIDIA, k8s-device-plugin and gpu-feature-discovery; Google, GKE's documentation of GPU sharing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from stint.accelerators.vendor import NodeLabels, Vendor
from stint.model.market import Slices

GPU, SHARED_GPU, MIG_PREFIX = "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-"
LABELS = NodeLabels(product="nvidia.com/gpu.product", memory_mib="nvidia.com/gpu.memory", count="nvidia.com/gpu.count")
REPLICAS, STRATEGY = "nvidia.com/gpu.replicas", "nvidia.com/gpu.sharing-strategy"
GKE_CLIENTS, GKE_STRATEGY = (
    "cloud.google.com/gke-max-shared-clients-per-gpu",
    "cloud.google.com/gke-gpu-sharing-strategy",
)
GKE_PARTITION = "cloud.google.com/gke-gpu-partition-size"
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

    def cut(self, labels: Mapping[str, str]) -> bool:
        """See `Sharing`."""
        return bool(_profile(labels))

    def marked(self, labels: Mapping[str, str]) -> bool:
        """See `Sharing`. Without a device plugin that shares, feature discovery says 0 or 1."""
        return labels.get(REPLICAS, "1") not in ("0", "1") or _clients(labels) > 1 or GKE_PARTITION in labels

    def read(
        self, labels: Mapping[str, str], parts: Mapping[str, int], *, whole: int, memory_gib: float
    ) -> Slices | None:
        """See `Sharing`. Where whole GPUs are left beside MIG instances, only the whole ones are used."""
        cut = _profile(labels)
        profiles = sorted(name for name in parts if name.startswith(MIG_PREFIX))
        replicas = max(_number(labels.get(REPLICAS, "")), _clients(labels), 1)
        if (cut or (profiles and not whole)) and (replicas > 1 or SHARED_GPU in parts):
            raise ValueError("its GPUs are cut by MIG and shared by time besides; Stint uses nodes that do one of them")
        if cut:
            return _mig(cut, GPU, memory_gib)
        if profiles and not whole:
            if len(profiles) > 1:
                several = ", ".join(profiles)
                raise ValueError(f"its GPUs have several MIG profiles ({several}); give each node a single one")
            return _mig(profiles[0].removeprefix(MIG_PREFIX), profiles[0], memory_gib)
        resource = SHARED_GPU if SHARED_GPU in parts else GPU
        strategy = labels.get(STRATEGY) or labels.get(GKE_STRATEGY) or "none"
        if replicas > 1 and (resource == SHARED_GPU or strategy != "none" or _clients(labels) > 1):
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


def _profile(labels: Mapping[str, str]) -> str:
    """Of the MIG instances that a node gives out as GPUs; empty: it gives out none so."""
    cut = _MIG_PRODUCT.fullmatch(labels.get(LABELS.product, "").removesuffix("-SHARED"))
    return cut.group(2) if cut else labels.get(GKE_PARTITION, "")


def _clients(labels: Mapping[str, str]) -> int:
    """How many share each GPU on GKE; 1: nobody does."""
    return max(1, _number(labels.get(GKE_CLIENTS, "")))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0


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


NVIDIA = Vendor(
    name="nvidia",
    resource=GPU,
    brands=("nvidia", "tesla"),
    labels=LABELS,
    sharing=Parts(),
    remedy="run GPU feature discovery",
)
