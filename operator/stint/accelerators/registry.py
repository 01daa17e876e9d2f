"""Every vendor there is. Inventory, quantities, parsing, the catalogue's names and the fake nodes ask here.

A new one is a file beside this one and a line in `VENDORS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from stint.accelerators.amd import AMD
from stint.accelerators.intel import INTEL
from stint.accelerators.nvidia import NVIDIA
from stint.accelerators.unsupported import UNSUPPORTED
from stint.accelerators.vendor import NodeLabels, Vendor
from stint.model.market import Slices

VENDORS: tuple[Vendor, ...] = (
    NVIDIA,
    AMD,
    INTEL,
)
DEFAULT = NVIDIA  # where neither a job nor a node says

RESOURCES = tuple(v.resource for v in VENDORS)
# Google and AWS sell accelerators that are in the catalogue and that no resource here counts.
BRANDS = (*(brand for v in VENDORS for brand in v.brands), "google", "aws")
# Labels of clouds that name a model of any vendor, its memory in MiB, and how many a node has.
_CLOUD_LABELS = (
    "karpenter.k8s.aws/instance-gpu-name",
    "cloud.google.com/gke-accelerator",
    "gpu.nvidia.com/class",
    "gpu.nvidia.com/model",
    "beta.amd.com/gpu.product-name",
)
_CLOUD_MEMORY = ("karpenter.k8s.aws/instance-gpu-memory",)
_CLOUD_COUNTS = (
    "karpenter.k8s.aws/instance-gpu-count",
    "cloud.google.com/gke-accelerator-count",
    "gpu.nvidia.com/count",
)
PRODUCT_LABELS = tuple(v.labels.product for v in VENDORS if v.labels)
MODEL_LABELS = (*PRODUCT_LABELS, *_CLOUD_LABELS)
MOST_DEVICES = 16  # no machine has more of them; what counts more gives each out several times
_MEMORY = re.compile(r"([0-9]{1,7})(G?)", re.ASCII)
# What gives out every device several times, in parts of any size, by an annotation of the nodes where it does.
SHARERS = {"HAMi": "hami.io/node-nvidia-register", "Volcano vGPU": "volcano.sh/node-vgpu-register"}
TOLERATIONS = tuple(v.toleration for v in VENDORS)


def named(name: str) -> Vendor:
    """By the name that the catalogue's data has; the default where it is none of these."""
    return next((v for v in VENDORS if v.name == name.lower()), DEFAULT)


def on_node(labels: Iterable[str], taints: Iterable[str], device: str = "") -> Vendor:
    """Whose devices a node has, by the keys of its labels and taints; the default where they do not say.

    Args:
        device: the resource that counts them; empty: not known.
    """
    labels, taints = frozenset(labels), frozenset(taints)
    if counted := next((v for v in VENDORS if v.resource == device), None):
        return counted
    found = (v for v in VENDORS if v.resource in taints or (v.labels and v.labels.product in labels))
    return next(found, DEFAULT)


def device_of(allocatable: Mapping[str, str]) -> str:
    """The resource that counts a node's whole devices, also of those that are not supported; empty: none."""
    return next((r for r in (*RESOURCES, *UNSUPPORTED) if allocatable.get(r, "0") != "0"), "")


def labels_of(vendor: Vendor) -> NodeLabels:
    """How nodes with its devices are described: the default vendor's way where it has none of its own."""
    labels = vendor.labels or DEFAULT.labels
    assert labels is not None
    return labels


def is_part(resource: str) -> bool:
    """Whether an extended resource is a part of a device."""
    return any(v.sharing.is_part(resource) for v in VENDORS if v.sharing)


def whole(labels: Mapping[str, str]) -> dict[str, str]:
    """A node's labels as if its devices were not shared."""
    for vendor in VENDORS:
        if vendor.sharing:
            labels = vendor.sharing.whole(labels)
    return dict(labels)


def shared(labels: Mapping[str, str]) -> bool:
    """Whether labels say that a node's devices are shared."""
    return whole(labels) != labels or any(v.sharing.marked(labels) for v in VENDORS if v.sharing)


def sharing_of(labels: Mapping[str, str], parts: Mapping[str, int], *, whole: int, memory_gib: float) -> Slices | None:
    """How the devices of a node are shared; None: they are not. See `Sharing.read`.

    Raises:
        ValueError: in a way that cannot be used.
    """
    for vendor in VENDORS:
        if vendor.sharing and (found := vendor.sharing.read(labels, parts, whole=whole, memory_gib=memory_gib)):
            return found
    return None


def memory_gib(labels: Mapping[str, str]) -> float | None:
    """Of one device, as a label says in MiB, or in GiB with a `G` behind it; None: none does."""
    for key in (*(v.labels.memory_mib for v in VENDORS if v.labels), *_CLOUD_MEMORY):
        if found := _MEMORY.fullmatch(labels.get(key, "")):
            return float(found.group(1)) / (1 if found.group(2) else 1024)
    return None


def devices(labels: Mapping[str, str]) -> tuple[int, str] | None:
    """How many whole devices a node has, and the label that says so; None: none does.

    What is cut by hardware counts its parts there, so that says nothing of whole ones.
    """
    cut = any(v.sharing.cut(labels) for v in VENDORS if v.sharing)
    own = () if cut else tuple(v.labels.count for v in VENDORS if v.labels)
    for key in (*own, *_CLOUD_COUNTS):
        text = labels.get(key, "")
        if text.isascii() and text.isdigit() and 0 < len(text) < 5 and int(text):
            return int(text), key
    return None


def given_out_by(annotations: Mapping[str, str]) -> str:
    """What else than its vendor's plugin gives out a node's devices, each several times; empty: nothing is known to."""
    return next((name for name, annotation in SHARERS.items() if annotation in annotations), "")
