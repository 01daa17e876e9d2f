"""Kubernetes quantities and durations as people write them."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping
from datetime import timedelta

from kubernetes.utils.quantity import parse_quantity

from stint.accelerators import registry
from stint.model.resources import Extended, Resources

GIB = 2**30
_COUNTED = frozenset({*registry.RESOURCES, "cpu", "memory", "pods"})
# As k8s.io/apimachinery/pkg/api/resource reads them: no NaN, no infinity, no underscores, no other alphabet's digits.
_QUANTITY = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?", re.ASCII)
_MOST = 2.0**63  # the scheduler counts no further either
_MOST_THINGS = 2**31 - 1  # whatever a node claims to have: sums must still fit into a status
# What a node lists, and no pod asks for by this name; and what pods ask for by name, and no node lists.
_UNLISTED = ("attachable-volumes-", "deviceclass.resource.kubernetes.io/")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@functools.lru_cache(maxsize=4096)
def quantity(text: str) -> float:
    """Of a Kubernetes quantity ("500m", "64Gi"); finite, as in Kubernetes itself: larger ones count as 2^63.

    Raises:
        ValueError: it is none.
    """
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is none")
    value = float(parse_quantity(text))  # type: ignore[no-untyped-call]
    return max(-_MOST, min(value, _MOST))


def amounts(texts: Mapping[str, str]) -> dict[str, float]:
    """Of every resource, in base units.

    Raises:
        ValueError: one of them is no quantity.
    """
    return {name: quantity(text) for name, text in texts.items()}


def as_resources(found: Mapping[str, float]) -> Resources:
    """Those amounts that are counted."""
    return Resources(
        gpus=_things(sum(found[name] for name in registry.RESOURCES if name in found)),
        cpu=found.get("cpu", 0.0),
        memory_gib=found.get("memory", 0.0) / GIB,
        pods=_things(found.get("pods", 0.0)),
        extended=_extended(found),
    )


def _extended(found: Mapping[str, float]) -> Extended:
    """Every other resource, by its name. What Dynamic Resource Allocation counts, a node does not list."""
    return tuple(
        sorted(
            (sys.intern(name), amount)
            for name, amount in found.items()
            if name not in _COUNTED and amount > 0 and not registry.is_part(name) and not name.startswith(_UNLISTED)
        )
    )


def as_slices(found: Mapping[str, float]) -> dict[str, int]:
    """The resources that are parts of a GPU, and how many."""
    parts = {name: _things(amount) for name, amount in found.items() if registry.is_part(name)}
    return {resource: count for resource, count in parts.items() if count > 0}


def resources(texts: Mapping[str, str]) -> Resources:
    """Of a container's requests or a node's allocatable.

    Raises:
        ValueError: a GPU resource, CPU, memory or pods is no quantity. Of what else is none, nothing is there.
    """
    found = amounts({name: text for name, text in texts.items() if name in _COUNTED})
    for name, text in texts.items():
        if name not in _COUNTED and _QUANTITY.fullmatch(text):
            found[name] = quantity(text)
    return as_resources(found)


def slices(texts: Mapping[str, str]) -> dict[str, int]:
    """The same, of resources that are parts of a GPU."""
    return as_slices(amounts({name: text for name, text in texts.items() if registry.is_part(name)}))


def _things(amount: float) -> int:
    return int(max(-_MOST_THINGS, min(amount, _MOST_THINGS)))


def duration(text: str) -> timedelta:
    """Of "90m", "24h" or "3d"; the schema has seen to the form."""
    return timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])
