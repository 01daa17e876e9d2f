"""Made-up fleets and queues of four sizes: AWS types at list prices, jobs as the public traces have them.

The parameters are those of a study of what optimisers can attain: markets of three zones, on demand and spot; gangs
of 1 to 64 workers; CPU and memory per GPU spread like the pods of the Alibaba 2023 trace; a third of the jobs pinned
to one GPU model, half elastic, half tolerant of spot.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from stint.catalogue.catalogue import Catalogue
from stint.feeds import bundled
from stint.model.offering import CapacityType
from stint.placement.fleet.model import Fleet
from stint.sim.workload import SPEEDS

JOBS = {"S": 22, "M": 220, "L": 2_200, "XL": 22_000}
ALLOCATABLE = 0.94
PUE, USD_PER_TONNE = 1.15, 100.0
ZONES = ((1.0, 0.38), (1.0, 0.38), (1.04, 0.10))  # of the list price; kg CO2 a kWh
_SIZES = {
    "g4dn": ("xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge"),
    "g5": ("xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "24xlarge", "48xlarge"),
    "g6": ("xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "24xlarge", "48xlarge"),
    "g6e": ("xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "24xlarge", "48xlarge"),
    "p3": ("2xlarge", "8xlarge", "16xlarge"),
    "p4d": ("24xlarge",),
    "p4de": ("24xlarge",),
    "p5": ("4xlarge", "48xlarge"),
    "p5en": ("48xlarge",),
    "p6-b200": ("48xlarge",),
}
_TYPES = [f"{family}.{size}" for family, sizes in _SIZES.items() for size in sizes]
_TOGETHER = frozenset({"L40S", "V100-16GB", "A100-40GB", "A100-80GB", "H100-SXM", "H200-SXM", "B200"})
_SCARCE = frozenset({"A100-40GB", "A100-80GB", "L40S", "H100-SXM", "H200-SXM", "B200"})
_GPU_GIB = ((10, 15, 22, 36, 70, 120), (0.2, 0.15, 0.25, 0.15, 0.2, 0.05))
_WIDTH = ((1, 2, 4, 8, 16, 32, 64), (0.55, 0.15, 0.12, 0.09, 0.05, 0.03, 0.01))
_GPUS_ALONE = ((1, 2, 4, 8), (0.60, 0.12, 0.14, 0.14))
_GPUS_FEW = ((1, 2, 4, 8), (0.35, 0.10, 0.15, 0.40))
_GPUS_MANY = ((1, 4, 8), (0.1, 0.1, 0.8))
_CPU_PER_GPU = ((3, 4, 6, 8, 10, 11.3, 12, 16, 20), (0.15, 0.10, 0.15, 0.15, 0.10, 0.15, 0.10, 0.07, 0.03))
_GIB_PER_GPU = ((5.5, 12, 16, 24, 32, 48, 64, 96), (0.1, 0.1, 0.15, 0.15, 0.15, 0.2, 0.1, 0.05))
FAMILIES = 16


@dataclass(frozen=True)
class _Type:
    model: str
    gpu_gib: float
    gpus: float
    cpu: float
    gib: float
    usd: float
    kw: float


@functools.cache
def _types() -> tuple[_Type, ...]:
    catalogue: Catalogue = bundled.load()
    found = []
    for name in _TYPES:
        machine = catalogue.instance_type("aws", name)
        price = catalogue.price("aws", "us-east-1", name, CapacityType.ON_DEMAND)
        assert machine is not None, name
        assert price is not None, name
        tdp = catalogue.gpus[machine.gpu_model].tdp_watts
        assert tdp is not None, name
        assert machine.vcpu is not None, name
        assert machine.memory_gib is not None, name
        assert machine.gpu_memory_gib is not None, name
        found.append(
            _Type(
                model=machine.gpu_model,
                gpu_gib=machine.gpu_memory_gib,
                gpus=machine.gpu_count,
                cpu=machine.vcpu * ALLOCATABLE,
                gib=machine.memory_gib * ALLOCATABLE,
                usd=price.value,
                kw=machine.gpu_count * tdp.value / 1000.0,
            )
        )
    return tuple(found)


def _pick(rng: np.random.Generator, table: tuple[tuple[float, ...], tuple[float, ...]]) -> float:
    weights = np.array(table[1]) / sum(table[1])
    return float(rng.choice(np.array(table[0], dtype=float), p=weights))


def fleet(size: str, seed: int) -> Fleet:
    """One instance; the same for the same size and seed."""
    rng = np.random.default_rng(seed)
    types = _types()
    models = sorted({t.model for t in types})
    speed = {m: SPEEDS[m] * rng.lognormal(0.0, 0.18, FAMILIES) for m in models}
    jobs = [_job(rng, types, models, speed) for _ in range(JOBS[size])]
    wanted = sum(j.width * j.need[0] for j in jobs)

    markets = [(m, z, spot) for m in models for z in range(len(ZONES)) for spot in (False, True)]
    market_index = {key: i for i, key in enumerate(markets)}
    base = {m: rng.uniform(0.30, 0.62) for m in models}
    pools = []
    for t in types:
        for z, (premium, kg) in enumerate(ZONES):
            for spot in (False, True):
                ratio, rework, limit = 1.0, 1.0, math.inf
                if spot:
                    ratio, rework = base[t.model] * rng.uniform(0.85, 1.2), rng.uniform(1.02, 1.15)
                    limit = math.ceil(0.5 * wanted / t.gpus * rng.uniform(0.005, 0.10))
                elif t.model in _SCARCE and z > 0:
                    limit = math.ceil(wanted / 8 * rng.uniform(0.03, 0.30) * math.sqrt(8 / t.gpus))
                carbon = t.kw * PUE * kg * USD_PER_TONNE / 1000.0
                usd = t.usd * premium * ratio * rework + carbon
                pools.append((t, usd, limit, market_index[t.model, z, spot]))

    shapes = sorted({j.need for j in jobs})
    shape_index = {s: i for i, s in enumerate(shapes)}
    columns = []
    for c, job in enumerate(jobs):
        for m, z, spot in markets:
            workers = _workers(job, m, speed, types)
            if workers and not (spot and not job.spot):
                columns.append((c, market_index[m, z, spot], workers))
    table = np.array(columns, dtype=np.int64)
    return Fleet(
        capacity=np.array([(t.gpus, t.cpu, t.gib) for t, *_ in pools]),
        usd_per_hour=np.array([usd for _, usd, *_ in pools]),
        limit=np.array([limit for *_, limit, _ in pools], dtype=float),
        market=np.array([m for *_, m in pools], dtype=np.int64),
        shape=np.array(shapes),
        class_shape=np.array([shape_index[j.need] for j in jobs], dtype=np.int64),
        count=np.ones(len(jobs), dtype=np.int64),
        column_class=table[:, 0],
        column_market=table[:, 1],
        column_workers=table[:, 2],
        column_usd_per_hour=np.zeros(len(table)),
    )


@dataclass(frozen=True)
class _Job:
    family: int
    gpu_gib: float
    width: int
    need: tuple[float, float, float]
    reference: str
    pinned: bool
    elastic: bool
    spot: bool


def _job(rng: np.random.Generator, types: tuple[_Type, ...], models: list[str], speed: dict[str, np.ndarray]) -> _Job:
    while True:
        family, gib = int(rng.integers(FAMILIES)), _pick(rng, _GPU_GIB)
        width = int(_pick(rng, _WIDTH))
        gpus = _pick(rng, _GPUS_ALONE if width == 1 else _GPUS_FEW if width <= 8 else _GPUS_MANY)
        cpu = _pick(rng, _CPU_PER_GPU)
        need = (gpus, gpus * (min(cpu, 11.0) if gpus == 8 else cpu), gpus * _pick(rng, _GIB_PER_GPU))
        feasible = [m for m in models if _runs(need, gib, width, m, types)]
        if len(feasible) >= 3:
            feasible.remove(max(feasible, key=lambda m: float(speed[m][family])))
        draw = rng.random(4)
        if feasible:
            reference = feasible[int(draw[0] * len(feasible))]
            return _Job(family, gib, width, need, reference, bool(draw[1] < 0.33), bool(draw[2] < 0.5), draw[3] < 0.5)


def _runs(need: tuple[float, float, float], gib: float, width: int, model: str, types: tuple[_Type, ...]) -> bool:
    if width > 1 and model not in _TOGETHER:
        return False
    return any(
        t.model == model and t.gpu_gib >= gib and t.gpus >= need[0] and t.cpu >= need[1] and t.gib >= need[2]
        for t in types
    )


def _workers(job: _Job, model: str, speed: dict[str, np.ndarray], types: tuple[_Type, ...]) -> int:
    """Workers that keep the pace of the reference; 0: this model will not do."""
    if job.pinned and model != job.reference:
        return 0
    ratio = float(speed[model][job.family] / speed[job.reference][job.family])
    if job.elastic:
        workers = math.ceil(job.width / ratio - 1e-9)
        workers = 0 if workers > 4 * job.width else workers
    else:
        workers = job.width if 0.9 <= ratio <= 4.0 else 0
    return workers if workers and _runs(job.need, job.gpu_gib, workers, model, types) else 0
