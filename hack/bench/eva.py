"""The bill of a rented cluster where tasks that share a node slow each other down: Eva's policy beside ours.

`hack/bench.py eva --traces DIR`: DIR/eva has `jobs.csv`, `instance_types.csv` and `colocation_throughput.csv`. The
rules are those of `eva_world`, for everybody. Ours is the fleet planner's plan of which jobs share a node (`sharing`),
asked anew whenever a job has come or ended. `stint` knows the table of how tasks bear each other, `stint-learns` finds
out as it goes, as Eva does. Like Eva, neither knows how long a job will run.

The limit is the fluid plan of all the work together, with the same slowing: nobody does that work for less, whenever
they do it and however often they move it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from hack.bench import eva_peer as peer
from hack.bench.eva_world import Need, Phase, Place, Policy, Speeds, Task, Type, Work, World
from hack.bench.sharing import Shared, Sharing, Stands, patterns_of, prices, share

PAYS_FOR_H = 1.0  # for which a move is reckoned to pay
_Class = tuple[str, Need]
_Keeps = Callable[[str, tuple[str, ...]], float]


def _table(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))


def _need(row: Mapping[str, str]) -> Need:
    return float(row["gpu"]), float(row["cpu"]), float(row["mem_gb"])


def read(folder: Path) -> tuple[list[Work], list[Type], Speeds]:
    """The jobs, by arrival, what there is to rent, and how tasks bear each other."""
    types = [
        Type(
            name=r["instance_type"],
            capacity=_need(r),
            usd_per_hour=float(r["usd_per_hour"]),
            given_s=int(r["instantiate_delay_s"]),
            boot_s=int(r["run_worker_delay_s"]) + int(r["worker_register_delay_s"]),
        )
        for r in _table(folder / "instance_types.csv")
    ]
    beside = {
        (r["workload"], r["colocated_with"]): float(r["relative_throughput"])
        for r in _table(folder / "colocation_throughput.csv")
        if r["relative_throughput"]
    }
    jobs = [
        Work(
            name=r["job_id"],
            variant=r["name"],
            workload=r["workload"],
            arrives_s=int(r["arrival_s"]),
            need=_need(r),
            iterations=float(r["total_iters"]),
            per_s=float(r["full_throughput"]),
            fetch_s=int(r["fetch_delay_s"]),
            build_s=int(r["build_image_delay_s"]),
            start_s=int(r["init_delay_s"]),
            stop_s=int(r["kill_delay_s"]),
            upload_s=int(r["upload_delay_s"]),
        )
        for r in _table(folder / "jobs.csv")
    ]
    return sorted(jobs, key=lambda j: j.arrives_s), types, Speeds(beside)


def _classes(jobs: Sequence[Work]) -> tuple[list[_Class], list[int]]:
    """Jobs that may be treated alike, and the class of each."""
    found = sorted({(j.workload, j.need) for j in jobs})
    return found, [found.index((j.workload, j.need)) for j in jobs]


def _sharing(classes: Sequence[_Class], of: Sequence[int], types: Sequence[Type], keeps: _Keeps) -> Sharing:
    return Sharing(
        capacity=np.array([t.capacity for t in types]),
        usd_per_hour=np.array([t.usd_per_hour for t in types]),
        shape=np.array([need for _, need in classes]),
        count=np.bincount(of, minlength=len(classes)),
        kept=np.array([[keeps(a, (b,)) for b, _ in classes] for a, _ in classes]),
    )


def limit_usd(jobs: Sequence[Work], types: Sequence[Type], speeds: Speeds) -> float:
    """What all the work costs at least."""
    classes, of = _classes(jobs)
    given = _sharing(classes, of, types, speeds.kept)
    hours = np.bincount(of, [j.iterations / j.per_s / 3600.0 for j in jobs], minlength=len(classes))
    usd, _ = prices(given, patterns_of(given), hours)
    return usd


class Stint:
    """The fleet planner's plan, asked whenever a job has come or ended."""

    def __init__(self, *, learns: bool = False) -> None:
        self._learned = peer.Learned(lambda work: work.workload) if learns else None

    def plan(self, world: World) -> list[Place]:
        """See `Policy`."""
        if self._learned is not None:
            self._learned.look(world)
        nodes = [n for n in world.nodes.values() if n.bound]
        if not world.changed or not world.tasks:
            return [Place(n.id, n.type, tuple(n.bound)) for n in nodes]
        tasks = list(world.tasks.values())
        classes, numbers = _classes([t.work for t in tasks])
        of = {t.id: c for t, c in zip(tasks, numbers, strict=True)}
        keeps = self._learned.keeps if self._learned is not None else world.speeds.kept
        given = _sharing(classes, numbers, world.types, keeps)

        def counted(some: Sequence[int]) -> Int[np.ndarray, " class"]:
            return np.bincount(np.array([of[t] for t in some], dtype=np.int64), minlength=len(classes))

        moving = [[t for t in n.bound if world.tasks[t].phase is Phase.MOVING] for n in nodes]
        standing = [
            Stands(pool=n.type, holds=counted(n.bound), fixed=counted(fixed))
            for n, fixed in zip(nodes, moving, strict=True)
        ]
        start_usd = np.array([t.boot_s * t.usd_per_hour / 3600.0 for t in world.types]) / PAYS_FOR_H
        plan = share(given, standing, move_usd=_move_usd(tasks, of, world) / PAYS_FOR_H, start_usd=start_usd)
        return _places(world, plan, of, [n.id for n in nodes])


def _move_usd(tasks: Sequence[Task], of: Mapping[int, int], world: World) -> np.ndarray:
    """Of a job of each class, alone on the cheapest node that holds it for as long as it pauses."""
    usd = np.zeros(max(of.values()) + 1)
    for task in tasks:
        work = task.work
        pause_s = work.stop_s + work.upload_s + work.fetch_s + work.build_s + work.start_s
        hourly = world.types[peer.cheapest_type(world, work.need)].usd_per_hour
        usd[of[task.id]] = max(usd[of[task.id]], pause_s / 3600.0 * hourly)
    return usd


def _places(world: World, plan: Sequence[Shared], of: Mapping[int, int], ids: Sequence[int]) -> list[Place]:
    """Jobs by name: those stay that may, the others go where one of their class is wanted."""
    loose = sorted(of)
    found: list[tuple[int | None, Shared, list[int], np.ndarray]] = []
    for node in plan:
        lacks, here = node.holds.copy(), list[int]()
        if node.stands is not None:
            bound = world.nodes[ids[node.stands]].bound
            for t in sorted(bound, key=lambda t: (world.tasks[t].phase is not Phase.MOVING, t)):
                if lacks[of[t]]:
                    lacks[of[t]] -= 1
                    here.append(t)
                    loose.remove(t)
        found.append((ids[node.stands] if node.stands is not None else None, node, here, lacks))
    emptied = sorted(world.nodes.keys() - {n for n, *_ in found})
    places = []
    for name, node, here, lacks in found:
        for t in list(loose):
            if lacks[of[t]]:
                lacks[of[t]] -= 1
                here.append(t)
                loose.remove(t)
        if name is None:
            name = next((n for n in emptied if world.nodes[n].type == node.pool), None)
            emptied = [n for n in emptied if n != name]
        places.append(Place(name, node.pool, tuple(here)))
    return places


POLICIES: Mapping[str, Callable[[], Policy]] = {
    "no-packing": peer.NoPacking,
    "eva": peer.Eva,
    "stint": Stint,
    "stint-learns": partial(Stint, learns=True),
}


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a policy. The files hold no seeds."""
    if options.traces is None:
        raise SystemExit("eva: --traces DIR says where the traces are")
    jobs, types, speeds = read(Path(options.traces) / "eva")
    limit = limit_usd(jobs, types, speeds)
    found = []
    for name, policy in POLICIES.items():
        ended = World(jobs, types, speeds).run(policy())
        taken = [end - j.arrives_s for end, j in zip(ended.end_s, jobs, strict=True)]
        found.append(
            {
                "policy": name,
                "total_usd": round(ended.usd, 2),
                "mean_jct_h": round(float(np.mean(taken)) / 3600.0, 3),
                "instances": ended.instances,
                "migrations": ended.migrations,
                "slowed_pct": round(100.0 * ended.lost_s / ended.work_s, 2),
                "limit_usd": round(limit, 2),
            }
        )
    return found
