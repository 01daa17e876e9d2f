"""Kubernetes quantities and durations as people write them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import timedelta

from kubernetes.utils.quantity import parse_quantity

from stint.model.resources import Resources

GIB = 2**30
GPU_RESOURCES = ("nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@functools.lru_cache(maxsize=4096)
def quantity(text: str) -> float:
    """Of a Kubernetes quantity ("500m", "64Gi").

    Raises:
        ValueError: it is none.
    """
    return float(parse_quantity(text))  # type: ignore[no-untyped-call]


def resources(amounts: Mapping[str, str], *, gpu_resources: tuple[str, ...] = GPU_RESOURCES) -> Resources:
    """Of a container's requests or a node's allocatable.

    Raises:
        ValueError: one of them is no quantity.
    """
    return Resources(
        gpus=int(sum(quantity(amounts[name]) for name in gpu_resources if name in amounts)),
        cpu=quantity(amounts["cpu"]) if "cpu" in amounts else 0.0,
        memory_gib=quantity(amounts["memory"]) / GIB if "memory" in amounts else 0.0,
        pods=int(quantity(amounts["pods"])) if "pods" in amounts else 0,
    )


def duration(text: str) -> timedelta:
    """Of "90m", "24h" or "3d"; the schema has seen to the form."""
    return timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])
