"""How much of a cluster of shared GPUs can be used: the FGD paper's arrivals, beside what its authors published.

`hack/bench.py openb --traces DIR`: DIR/openb has `nodes_gpu.csv`, `pods_<workload>.csv.gz`, `arrival_order.csv.gz`
and, if the peers are to stand beside, `peer_published.csv.gz`. Pods come in order and never leave; one that fits must
be placed. Every workload and seed that `arrival_order` has is run, unless `--workload` and `--seeds` say fewer.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hack.bench.fragmentation import GPU, Fleet, Host, Shape
from hack.bench.lookahead import LookAhead
from hack.bench.packing import BestFit, Gradient, MovingPacker, Packer

Typical = Sequence[tuple[Shape, float]]
MARKS = (100, 110, 120, 130)  # arrived, in per cent of all GPUs
PODS_A_MOVE = 50
PUBLISHED_AS = {"best-fit": "BestFit", "fgd": "FGD"}
POLICIES: Mapping[str, Callable[[Fleet, Typical], Packer]] = {
    "best-fit": lambda fleet, _: Packer(fleet, BestFit()),
    "fgd": lambda fleet, _: Packer(fleet, Gradient()),
    "stint": lambda fleet, typical: Packer(fleet, LookAhead(typical, fleet.hosts)),
    "stint-moves": lambda fleet, typical: MovingPacker(fleet, LookAhead(typical, fleet.hosts), pods_a_move=PODS_A_MOVE),
}


def _table(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        yield from csv.DictReader(lines)


def _shape(row: Mapping[str, str]) -> Shape:
    gpus = int(row["num_gpu"])
    return Shape(
        cpu_milli=int(row["cpu_milli"]),
        memory_mib=int(row["memory_mib"]),
        gpus=gpus,
        gpu_milli=int(row["gpu_milli"]) if gpus else 0,
        models=frozenset(filter(None, row.get("gpu_spec", "").split("|"))),
    )


def typical(shapes: Sequence[Shape], *, cover: float = 0.95) -> Typical:
    """The most popular shapes, memory aside, that together are `cover` of all, and how popular among themselves."""
    counts = Counter((s.cpu_milli, s.gpu_milli, s.gpus, tuple(sorted(s.models))) for s in shapes)
    chosen: list[tuple[Shape, int]] = []
    for (cpu, milli, gpus, models), count in sorted(counts.items(), key=lambda kv: (kv[1], kv[0]), reverse=True):
        if sum(n for _, n in chosen) >= cover * len(shapes):
            break
        chosen.append((Shape(cpu, gpus=gpus, gpu_milli=milli, models=frozenset(models)), count))
    total = sum(n for _, n in chosen)
    return [(shape, n / total) for shape, n in chosen]


def limit_pct(arrivals: Sequence[Shape], capacity_milli: int) -> float:
    """What nobody allocates more than, in per cent, who turns nothing away while all that came could still be held.

    A GPU with a share of 1 - s or more (s below a half) has room for shares up to s only. For every s, the holes of
    the big shares that came are lost but for the small shares that ever come. Pods are taken until they and the loss
    fill the cluster, and none of the big ones after that; CPU and memory are no matter.
    """
    most = 100.0
    for hole in sorted({GPU - s.gpu_milli for s in arrivals if s.shares and s.gpu_milli > GPU / 2}):
        small = sum(s.gpu_milli for s in arrivals if s.shares and s.gpu_milli <= hole)
        held = holes = small_held = most_holes = 0
        for shape in arrivals:
            held += shape.milli
            if shape.shares and shape.gpu_milli >= GPU - hole:
                holes += GPU - shape.gpu_milli
            elif shape.shares and shape.gpu_milli <= hole:
                small_held += shape.gpu_milli
            if held + max(0, holes - small_held) > capacity_milli:
                break
            most_holes = holes
        most = min(most, 100 * (1 - max(0, most_holes - small) / capacity_milli))
    return most


def replay(packer: Packer, arrivals: Sequence[Shape]) -> dict[str, Any]:
    """Everything that came, in order: allocated and fragmented GPUs at the marks, and the time of each decision."""
    fleet, capacity = packer.fleet, packer.fleet.capacity_milli
    allocated: dict[str, float] = {}
    fragmented: dict[str, float] = {}
    seconds = np.zeros(len(arrivals))
    waiting = list(MARKS)
    arrived = 0

    def mark() -> None:
        name = str(waiting.pop(0))
        allocated[name] = round(100 * (1 - float(fleet.free.sum()) / capacity), 2)
        fragmented[name] = round(100 * fleet.fragmentation_milli / capacity, 2)

    for at, shape in enumerate(arrivals):
        arrived += shape.milli
        while waiting and arrived > capacity * waiting[0] / 100:
            mark()
        started = time.perf_counter()
        packer.place(shape)
        seconds[at] = time.perf_counter() - started
    while waiting:
        mark()
    p50, p99 = np.percentile(1e6 * seconds, [50, 99])
    return {
        "alloc_pct": allocated,
        "frag_pct": {name: fragmented[name] for name in ("100", "130")},
        "us_per_pod": {"p50": round(float(p50)), "p99": round(float(p99))},
        "moves": len(packer.moves) if isinstance(packer, MovingPacker) else 0,
    }


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def over(key: str) -> dict[str, float]:
        return {name: round(float(np.mean([row[key][name] for row in rows])), 2) for name in rows[0][key]}

    return {key: over(key) for key in ("alloc_pct", "frag_pct")}


def _published(path: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    found: dict[tuple[str, str, int], dict[str, Any]] = defaultdict(lambda: {"alloc_pct": {}, "frag_pct": {}})
    for row in _table(path) if path.exists() else ():
        mark = row["arrived_pct"]
        entry = found[row["workload"], row["policy"], int(row["seed"])]
        if mark in map(str, MARKS):
            entry["alloc_pct"][mark] = float(row["gpu_alloc_pct"])
        if mark in ("100", "130"):
            entry["frag_pct"][mark] = float(row["frag_pct_of_gpus"])
    return dict(found)


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a policy, workload and seed, with the policy's published figures; then means, with those of all published.

    Raises:
        SystemExit: without `--traces`, or if what is asked for is not in the files.
    """
    if options.traces is None:
        raise SystemExit("openb: --traces DIR says where the traces are")
    folder = Path(options.traces) / "openb"
    hosts = [
        Host(row["sn"], int(row["cpu_milli"]), int(row["memory_mib"]), int(row["gpu"]), row["model"])
        for row in _table(folder / "nodes_gpu.csv")
    ]
    orders: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in _table(folder / "arrival_order.csv.gz"):
        orders[row["workload"]][int(row["seed"])].append(row["pod_name"])
    published = _published(folder / "peer_published.csv.gz")
    workloads = [options.workload] if options.workload else list(orders)
    found: list[dict[str, Any]] = []
    for workload in workloads:
        seeds = [seed for seed in orders.get(workload, {}) if options.seeds is None or seed in options.seeds]
        if not seeds:
            raise SystemExit(f"openb: no arrivals of {workload} with these seeds; there are {sorted(orders[workload])}")
        pods = {row["name"]: _shape(row) for row in _table(folder / f"pods_{workload}.csv.gz")}
        usual = typical(list(pods.values()))
        for policy, make in POLICIES.items():
            mine = []
            for seed in seeds:
                arrivals = [pods[name] for name in orders[workload][seed]]
                result = replay(make(Fleet(hosts, usual), usual), arrivals)
                if peer := published.get((workload, PUBLISHED_AS.get(policy, ""), seed)):
                    result["published"] = peer
                mine.append({"policy": policy, "workload": workload, "seed": seed, **result})
            found += mine
        found += _means(found, workload, seeds, published, pods, orders, hosts)
    return found


def _means(
    found: Sequence[Mapping[str, Any]],
    workload: str,
    seeds: Sequence[int],
    published: Mapping[tuple[str, str, int], dict[str, Any]],
    pods: Mapping[str, Shape],
    orders: Mapping[str, Mapping[int, Sequence[str]]],
    hosts: Sequence[Host],
) -> list[dict[str, Any]]:
    """A row a policy: means over the seeds, the published policies' over the same seeds, and the limit."""
    capacity = GPU * sum(host.gpus for host in hosts)
    limit = np.mean([limit_pct([pods[name] for name in orders[workload][seed]], capacity) for seed in seeds])
    peers: dict[str, Any] = {}
    for peer in sorted({policy for name, policy, _ in published if name == workload}):
        theirs = [published[workload, peer, seed] for seed in seeds if (workload, peer, seed) in published]
        if theirs:
            peers[peer] = {"seeds": len(theirs), **_mean(theirs)}
    means = []
    for policy in POLICIES:
        mine = [row for row in found if row["workload"] == workload and row["policy"] == policy]
        times = {p: round(float(np.mean([row["us_per_pod"][p] for row in mine]))) for p in ("p50", "p99")}
        moves = round(float(np.mean([row["moves"] for row in mine])), 1)
        row = {
            "policy": policy,
            "workload": workload,
            "seed": "mean",
            **_mean(mine),
            "us_per_pod": times,
            "moves": moves,
        }
        means.append({**row, "limit_pct": round(float(limit), 2), "published": peers})
    return means
