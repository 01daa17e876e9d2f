"""Every vendor there is. Inventory, quantities, parsing, the catalogue's names and the fake nodes ask here.

A new one is a file beside this one and a line in `VENDORS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stint.accelerators.amd import AMD
from stint.accelerators.intel import INTEL
from stint.accelerators.nvidia import NVIDIA
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
# Labels of clouds that name a model of any vendor.
_CLOUD_LABELS = ("karpenter.k8s.aws/instance-gpu-name", "cloud.google.com/gke-accelerator")
MODEL_LABELS = (*(v.labels.product for v in VENDORS if v.labels), *_CLOUD_LABELS)
TOLERATIONS = tuple(v.toleration for v in VENDORS)


def named(name: str) -> Vendor:
    """By the name that the catalogue's data has; the default where it is none of these."""
    return next((v for v in VENDORS if v.name == name.lower()), DEFAULT)


def on_node(labels: Iterable[str], taints: Iterable[str]) -> Vendor:
    """Whose devices a node has, by the keys of its labels and taints; the default where they do not say."""
    labels, taints = frozenset(labels), frozenset(taints)
    found = (v for v in VENDORS if v.resource in taints or (v.labels and v.labels.product in labels))
    return next(found, DEFAULT)


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
    """Of one device, as a label says; None: none does."""
    for vendor in VENDORS:
        text = labels.get(vendor.labels.memory_mib, "") if vendor.labels else ""
        if text.isdigit():
            return float(text) / 1024
    return None
