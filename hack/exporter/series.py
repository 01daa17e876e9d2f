"""Per-GPU series as dcgm-exporter 4 writes them, made up from what the API server says about nodes and pods.

Annotations say what a GPU is to do, on a pod:

    sim.stint.dev/gpu-util: "35"          percent; without it about 85
    sim.stint.dev/gpu-process: "false"    allocated, and no process on it
and on a node:
    sim.stint.dev/gpu-watts: "700"        at the peak
    sim.stint.dev/gpu-gap: "true"         its exporter says nothing
    sim.stint.dev/boot: "2"               another word than before: it was restarted, and its counters begin anew

MIG instances (`nvidia.com/mig-1g.10gb` among the node's resources) have no DCGM_FI_DEV_GPU_UTIL. Of a GPU that
several pods share by time (`nvidia.com/gpu.replicas`) the one device's series come once for each of them.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stint.accelerators import nvidia

GPU, SHARED, MIG = nvidia.GPU, nvidia.SHARED_GPU, nvidia.MIG_PREFIX
DEFAULT_UTIL = 85.0
IDLE_SHARE = 0.15  # of the peak, the usual rule
DRIVER = "580.95.05"
_MIG_PARTS = 7
_NO_PROCESS_MIB = 4.0
_WATTS = {"H100": 700, "H200": 700, "B200": 1000, "A100": 400, "L40S": 350, "A10": 150, "L4": 72, "T4": 70, "V100": 300}
_METRICS = {
    "DCGM_FI_DEV_GPU_UTIL": "GPU utilization (in %).",
    "DCGM_FI_DEV_POWER_USAGE": "Power draw (in W).",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "Total energy consumption since boot (in mJ).",
    "DCGM_FI_DEV_FB_USED": "Framebuffer memory used (in MiB).",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "Ratio of time the graphics engine is active.",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "Ratio of cycles the tensor (HMMA) pipe is active.",
}
_OWNER_LABELS = {True: ("pod", "namespace", "container"), False: ("pod_name", "pod_namespace", "container_name")}
_COUNTERS = frozenset({"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"})


class Meter:
    """Energy by GPU. It only grows, until the node starts anew: power now is taken to have been drawn since."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read: dict[str, tuple[float, float, str]] = {}  # by UUID: when, millijoules until then, which boot

    def read(self, uuid: str, watts: float, boot: str = "") -> float:
        """Millijoules since the GPU was first seen, or since its node started anew."""
        now = self._clock()
        before, millijoules, known = self._read.get(uuid, (now, 0.0, boot))
        millijoules = 0.0 if known != boot else millijoules + 1000 * watts * (now - before)
        self._read[uuid] = now, millijoules, boot
        return millijoules


@dataclass(frozen=True, slots=True)
class Style:
    """How an exporter spells."""

    host_label: str = "hostname"  # Hostname until May 2026
    new_labels: bool = True  # False: pod_name, pod_namespace, container_name
    profiling: bool = True  # False: no DCGM_FI_PROF_*, as on GPUs that have none


def _peak_watts(meta: dict[str, Any], product: str) -> float:
    """As the node's annotation says, or by a small table."""
    told = meta.get("annotations", {}).get("sim.stint.dev/gpu-watts")
    if told is not None:
        return float(told)
    return float(next((w for name, w in _WATTS.items() if name in product.replace("-", "")), 300))


def _wobble(*parts: object) -> float:
    """The same small deviation for the same GPU every time, from -1 to 1."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return digest[0] / 127.5 - 1


def _owners(pods: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Running pods by node and resource, each as often as it has of it."""
    held: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for pod in sorted(pods, key=lambda p: (p["metadata"].get("creationTimestamp", ""), p["metadata"]["uid"])):
        if pod["status"].get("phase") != "Running" or not pod["spec"].get("nodeName"):
            continue
        for container in pod["spec"]["containers"]:
            for resource, count in container.get("resources", {}).get("requests", {}).items():
                if resource in (GPU, SHARED) or resource.startswith(MIG):
                    held[pod["spec"]["nodeName"], resource] += [pod] * int(count)
    return held


def render(
    nodes: Iterable[dict[str, Any]],
    pods: Iterable[dict[str, Any]],
    *,
    style: Style | None = None,
    meter: Meter | None = None,
) -> str:
    """The whole page. GPUs that no pod has are there without a pod. `meter`: what remembers energy between pages."""
    meter, style = meter or Meter(), style or Style()
    lines: dict[str, list[str]] = {name: [] for name in _METRICS}
    owners = _owners(pods)
    for node in nodes:
        if node["metadata"].get("annotations", {}).get("sim.stint.dev/gpu-gap") == "true":
            continue
        for labels, values in _gpus(node, owners, style, meter):
            for name, value in values.items():
                lines[name].append(f"{name}{{{labels}}} {value:.10g}")
    page: list[str] = []
    for name, text in _METRICS.items():
        kind = "counter" if name in _COUNTERS else "gauge"
        page += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines[name]]
    return "\n".join(page) + "\n"


def _gpus(
    node: dict[str, Any], owners: dict[tuple[str, str], list[dict[str, Any]]], style: Style, meter: Meter
) -> Iterator[tuple[str, dict[str, float]]]:
    """Labels and values of each GPU, MIG instance, or sharer of one."""
    meta = node["metadata"]
    name, allocatable = meta["name"], node["status"].get("allocatable", {})
    replicas = int(meta.get("labels", {}).get(nvidia.REPLICAS, "1"))
    for resource in (GPU, SHARED):
        held = owners.get((name, resource), [])
        for i in range(int(allocatable.get(resource, 0)) // replicas):
            mine = held[i * replicas : (i + 1) * replicas] if replicas > 1 else held[i : i + 1]
            busiest = max((_util(p, name, i) for p in mine), default=0.0)  # of one device there is one figure
            sharers: list[dict[str, Any] | None] = [*mine] or [None]
            for pod in sharers:
                yield _series(node, i, pod, busiest, style, meter, used=any(map(_has_process, mine)))
    for resource in (r for r in allocatable if r.startswith(MIG)):
        profile, held = resource.removeprefix(MIG), owners.get((name, resource), [])
        per_gpu = _MIG_PARTS // int(profile[0])
        for i in range(int(allocatable[resource])):
            owner = held[i] if i < len(held) else None
            util = 0.0 if owner is None else _util(owner, name, i)
            instance = {"GPU_I_PROFILE": profile, "GPU_I_ID": str(i % per_gpu + 1)}
            used = owner is not None and _has_process(owner)
            yield _series(node, i // per_gpu, owner, util, style, meter, used=used, instance=instance)


def _has_process(pod: dict[str, Any]) -> bool:
    return bool(pod["metadata"].get("annotations", {}).get("sim.stint.dev/gpu-process") != "false")


def _util(pod: dict[str, Any], *where: object) -> float:
    """Percent."""
    if not _has_process(pod):
        return 0.0
    told = pod["metadata"].get("annotations", {}).get("sim.stint.dev/gpu-util")
    return DEFAULT_UTIL + 3 * _wobble(*where) if told is None else float(told)


def _series(
    node: dict[str, Any],
    i: int,
    pod: dict[str, Any] | None,
    util: float,
    style: Style,
    meter: Meter,
    *,
    used: bool,
    instance: dict[str, str] | None = None,
) -> tuple[str, dict[str, float]]:
    meta = node["metadata"]
    product = meta.get("labels", {}).get(nvidia.LABELS.product, "NVIDIA GPU")
    memory = float(meta.get("labels", {}).get(nvidia.LABELS.memory_mib, 80 * 1024))
    peak = _peak_watts(meta, product)
    labels = {
        "gpu": str(i),
        "UUID": "GPU-" + hashlib.sha256(f"{meta['name']}/{i}".encode()).hexdigest()[:32],
        "pci_bus_id": f"00000000:{i + 1:02X}:00.0",
        "device": f"nvidia{i}",
        "modelName": product.replace("-", " "),
        style.host_label: meta["name"],
        "DCGM_FI_DRIVER_VERSION": DRIVER,
        **(instance or {}),
    }
    if pod is not None:
        names = (pod["metadata"]["name"], pod["metadata"]["namespace"], pod["spec"]["containers"][0]["name"])
        labels |= dict(zip(_OWNER_LABELS[style.new_labels], names, strict=True))
    watts = peak * (IDLE_SHARE + (1 - IDLE_SHARE) * util / 100)
    boot = meta.get("annotations", {}).get("sim.stint.dev/boot", "")
    values = {
        "DCGM_FI_DEV_POWER_USAGE": watts,
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": meter.read(labels["UUID"], watts, boot),
        "DCGM_FI_DEV_FB_USED": _memory_mib(memory, util) if used else _NO_PROCESS_MIB,
    }
    if instance is None:
        values["DCGM_FI_DEV_GPU_UTIL"] = util
    if style.profiling:
        values["DCGM_FI_PROF_GR_ENGINE_ACTIVE"] = util / 100
        values["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"] = util / 100 * 0.6
    return ",".join(f'{k}="{v}"' for k, v in labels.items()), values


def _memory_mib(whole: float, util: float) -> float:
    """A process that does nothing still has its context."""
    return whole * 0.8 if util else 600.0
