"""Kinds that say what a cluster adds to pods and where volumes are: followed by the operator, read once by commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stint.kube.reduce import (
    reduce_daemon_set,
    reduce_limit_range,
    reduce_namespace,
    reduce_runtime_class,
    reduce_storage_class,
    reduce_volume,
    reduce_volume_claim,
)
from stint.kube.steered import MANAGED
from stint.kube.wire import (
    WireDaemonSet,
    WireLimitRange,
    WireNamespace,
    WireRuntimeClass,
    WireStorageClass,
    WireVolume,
    WireVolumeClaim,
)


@dataclass(frozen=True, slots=True)
class Listed:
    """How one kind is listed."""

    path: str
    wire: type[Any]
    reduce: Callable[[Any], tuple[str, str, Any]]
    params: Mapping[str, str] | None = None


# By the name of the field of `Caches`.
SURROUNDINGS: Mapping[str, Listed] = {
    "daemon_sets": Listed("/apis/apps/v1/daemonsets", WireDaemonSet, reduce_daemon_set),
    "runtime_classes": Listed("/apis/node.k8s.io/v1/runtimeclasses", WireRuntimeClass, reduce_runtime_class),
    "limit_ranges": Listed("/api/v1/limitranges", WireLimitRange, reduce_limit_range),
    "volume_claims": Listed("/api/v1/persistentvolumeclaims", WireVolumeClaim, reduce_volume_claim),
    "volumes": Listed("/api/v1/persistentvolumes", WireVolume, reduce_volume),
    "storage_classes": Listed("/apis/storage.k8s.io/v1/storageclasses", WireStorageClass, reduce_storage_class),
}
# In which other people's pods are placed.
NAMESPACES = Listed("/api/v1/namespaces", WireNamespace, reduce_namespace, {"labelSelector": f"{MANAGED}=true"})
