"""Per-GPU series as dcgm-exporter 4 writes them, made up from what the API server says about nodes and pods."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

GPU = "nvidia.com/gpu"
DEFAULT_UTIL = 85.0
IDLE_SHARE = 0.15  # of the peak, the usual rule
_WATTS = {"H100": 700, "H200": 700, "B200": 1000, "A100": 400, "L40S": 350, "A10": 150, "L4": 72, "T4": 70, "V100": 300}
_METRICS = {
    "DCGM_FI_DEV_GPU_UTIL": "GPU utilization (in %).",
    "DCGM_FI_DEV_POWER_USAGE": "Power draw (in W).",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "Total energy consumption since boot (in mJ).",
    "DCGM_FI_DEV_FB_USED": "Framebuffer memory used (in MiB).",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "Ratio of time the graphics engine is active.",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "Ratio of cycles the tensor (HMMA) pipe is active.",
}


_COUNTERS = frozenset({"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"})


class Meter:
    """Energy by GPU. It only grows: power now is taken to have been drawn since it was last read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read: dict[str, tuple[float, float]] = {}  # by UUID: when, and millijoules until then

    def read(self, uuid: str, watts: float) -> float:
        """Millijoules since the GPU was first seen."""
        now = self._clock()
        before, millijoules = self._read.get(uuid, (now, 0.0))
        millijoules += 1000 * watts * (now - before)
        self._read[uuid] = now, millijoules
        return millijoules


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


def _owners(pods: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Running pods by node, each as often as it has GPUs."""
    held: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pod in sorted(pods, key=lambda p: p["metadata"]["uid"]):
        if pod["status"].get("phase") != "Running" or not pod["spec"].get("nodeName"):
            continue
        asked = sum(int(c.get("resources", {}).get("requests", {}).get(GPU, 0)) for c in pod["spec"]["containers"])
        held[pod["spec"]["nodeName"]] += [pod] * asked
    return held


def render(
    nodes: Iterable[dict[str, Any]],
    pods: Iterable[dict[str, Any]],
    *,
    host_label: str = "hostname",
    meter: Meter | None = None,
) -> str:
    """The whole page. GPUs that no pod has are there without a pod. `meter`: what remembers energy between pages."""
    meter = meter or Meter()
    lines: dict[str, list[str]] = {name: [] for name in _METRICS}
    owners = _owners(pods)
    for node in nodes:
        for labels, values in _gpus(node, owners.get(node["metadata"]["name"], []), host_label, meter):
            for name, value in values.items():
                lines[name].append(f"{name}{{{labels}}} {value:.10g}")
    page: list[str] = []
    for name, text in _METRICS.items():
        kind = "counter" if name in _COUNTERS else "gauge"
        page += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines[name]]
    return "\n".join(page) + "\n"


def _gpus(
    node: dict[str, Any], owners: list[dict[str, Any]], host_label: str, meter: Meter
) -> Iterator[tuple[str, dict[str, float]]]:
    meta = node["metadata"]
    product = meta.get("labels", {}).get("nvidia.com/gpu.product", "NVIDIA GPU")
    memory = float(meta.get("labels", {}).get("nvidia.com/gpu.memory", 80 * 1024))
    peak = _peak_watts(meta, product)
    for i in range(int(node["status"].get("allocatable", {}).get(GPU, 0))):
        pod = owners[i] if i < len(owners) else None
        labels = {
            "gpu": str(i),
            "UUID": "GPU-" + hashlib.sha256(f"{meta['name']}/{i}".encode()).hexdigest()[:32],
            "device": f"nvidia{i}",
            "modelName": product.replace("-", " "),
            host_label: meta["name"],
        }
        util = 0.0
        if pod is not None:
            labels |= {
                "namespace": pod["metadata"]["namespace"],
                "pod": pod["metadata"]["name"],
                "container": pod["spec"]["containers"][0]["name"],
            }
            told = pod["metadata"].get("annotations", {}).get("sim.stint.dev/gpu-util")
            util = DEFAULT_UTIL + 3 * _wobble(meta["name"], i) if told is None else float(told)
        watts = peak * (IDLE_SHARE + (1 - IDLE_SHARE) * util / 100)
        yield (
            ",".join(f'{k}="{v}"' for k, v in labels.items()),
            {
                "DCGM_FI_DEV_GPU_UTIL": util,
                "DCGM_FI_DEV_POWER_USAGE": watts,
                "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": meter.read(labels["UUID"], watts),
                "DCGM_FI_DEV_FB_USED": memory * (0.8 if util else 0.01),
                "DCGM_FI_PROF_GR_ENGINE_ACTIVE": util / 100,
                "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": util / 100 * 0.6,
            },
        )
