"""The 500 pods that Karpenter was given: the fleet planner's plan for them, and what the operator's decisions come to.

First all of them come at once; then half of them end. To the operator they are jobs of ten hours. It decides again and
again, and what it decides is carried out, until it leaves everything as it is.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np

from hack.bench.consolidate import Gate, consolidate
from hack.bench.planner import plan_from_nothing, sound
from stint.decide import decide
from stint.feeds import bundled
from stint.model.cluster import Node
from stint.model.job import Binding, Checkpoint, Job, JobId, NodeName
from stint.model.market import Offering
from stint.model.offering import CapacityType, OfferingId
from stint.model.plan import Placement, Plan
from stint.model.resources import Resources
from stint.model.situation import Settings, Situation
from stint.placement.fleet.fluid import FluidProgramme
from stint.placement.fleet.model import Fleet, FleetPlan
from stint.placement.fleet.offers import offers_of
from stint.testing.builders import NOW, a_job, a_node, a_pool, a_situation, an_offering

Rows = list[dict[str, Any]]
_PODS = ((1, 4, 16), (1, 8, 32), (2, 12, 64), (4, 24, 128), (8, 48, 256))  # GPUs, cores, GiB
_WEIGHTS = (0.4, 0.2, 0.15, 0.1, 0.15)
_COUNT = 500
_NOT_NVIDIA = ("inf", "trn", "dl1", "g4ad")
_MOVES_PER_HOUR = 60
_HOURS, _SINCE = 10.0, timedelta(hours=2)


def rows(_: argparse.Namespace) -> Rows:
    """Three rows of the planner, two of the operator."""
    dice = random.Random(1)
    pods = dice.choices(_PODS, _WEIGHTS, k=_COUNT)
    ended = set(dice.sample(range(_COUNT), _COUNT // 2))
    by_planner, bounds = _planned(pods, ended)
    return by_planner + _decided(pods, ended, bounds)


def _row(by: str, moment: str, usd: float, bound: float, nodes: int, moves: int, seconds: float) -> dict[str, Any]:
    return {
        "by": by,
        "moment": moment,
        "usd_h": round(usd, 2),
        "bound_usd_h": round(bound, 2),
        "over_bound_pct": round(100.0 * (usd / bound - 1.0), 2),
        "moves": moves,
        "seconds": round(seconds, 3),
        "nodes": nodes,
    }


def _types() -> list[tuple[str, str, Resources, float]]:
    """Name, GPU model, size and list price of what AWS has with NVIDIA's GPUs."""
    catalogue = bundled.load()
    found = []
    for name, machine in sorted((m.name, m) for m in catalogue.instances.values() if m.provider == "aws"):
        price = catalogue.price("aws", "us-east-1", name, CapacityType.ON_DEMAND)
        if price is None or name.startswith(_NOT_NVIDIA):
            continue
        assert machine.vcpu is not None, name
        assert machine.memory_gib is not None, name
        size = Resources(
            gpus=int(machine.gpu_count), cpu=float(machine.vcpu), memory_gib=float(machine.memory_gib), pods=110
        )
        found.append((name, machine.gpu_model, size, price.value))
    return found


# -- the fleet planner


def _fleet(wanted: list[tuple[int, int, int]]) -> Fleet:
    types = _types()
    count = Counter(wanted)
    shapes = sorted(count)
    one = np.zeros(len(shapes), dtype=np.int64)
    return Fleet(
        capacity=np.array([size.as_row()[:3] for _, _, size, _ in types]),
        usd_per_hour=np.array([usd for *_, usd in types]),
        limit=np.full(len(types), np.inf),
        market=np.zeros(len(types), dtype=np.int64),
        shape=np.array(shapes, dtype=float),
        class_shape=np.arange(len(shapes)),
        count=np.array([count[s] for s in shapes], dtype=np.int64),
        column_class=np.arange(len(shapes)),
        column_market=one,
        column_workers=one + 1,
        column_usd_per_hour=np.zeros(len(shapes)),
    )


def _planned(pods: list[tuple[int, int, int]], ended: set[int]) -> tuple[Rows, tuple[float, float]]:
    given = _fleet(pods)
    started = time.perf_counter()
    planned = plan_from_nothing(given)
    seconds = time.perf_counter() - started
    sound(given, planned.plan)
    bound = planned.bound_usd_per_hour
    first = _of_plan("all", planned.plan, bound, 0, seconds)

    order = np.argsort([sorted(set(pods)).index(p) for p in pods], kind="stable")  # jobs are in the order of classes
    kept = np.flatnonzero([int(i) not in ended for i in order])
    half = _fleet([p for i, p in enumerate(pods) if i not in ended])
    stays = np.isin(planned.plan.worker_job, kept)
    used = np.unique(planned.plan.worker_node[stays])
    pools = planned.plan.node_pool[used]
    before = FleetPlan(
        column=np.repeat(np.arange(len(half.count)), half.count),
        node_pool=pools,
        worker_job=np.searchsorted(kept, planned.plan.worker_job[stays]),
        worker_node=np.searchsorted(used, planned.plan.worker_node[stays]),
        workers=planned.plan.workers[stays],
        usd_per_hour=float(half.usd_per_hour[pools].sum()),
    )
    sound(half, before)
    proof = FluidProgramme(half, offers_of(half)).solve().proof
    nothing = np.zeros(len(kept))
    started = time.perf_counter()
    after = consolidate(half, before, proof, Gate(move_usd=nothing, hours=nothing + 1.0, most_moves=_MOVES_PER_HOUR))
    seconds = time.perf_counter() - started
    sound(half, after.plan)
    of_half = proof.bound_usd_per_hour
    return [
        first,
        _of_plan("half, empty nodes given back", before, of_half, 0, 0.0),
        _of_plan("half", after.plan, of_half, len(after.moved), seconds),
    ], (bound, of_half)


def _of_plan(moment: str, plan: FleetPlan, bound: float, moves: int, seconds: float) -> dict[str, Any]:
    return _row("fleet planner", moment, plan.usd_per_hour, bound, len(plan.node_pool), moves, seconds)


# -- the operator's decisions


@dataclass
class _World:
    """Nodes, who runs on them and who waits. A job is one worker."""

    given: Situation
    offerings: Mapping[OfferingId, Offering]
    nodes: dict[NodeName, OfferingId] = field(default_factory=dict)
    runs: dict[JobId, Job] = field(default_factory=dict)
    waits: dict[JobId, Job] = field(default_factory=dict)
    moves: int = 0
    seconds: float = 0.0  # of deciding

    def usd_per_hour(self) -> float:
        return sum(p.value for o in self.nodes.values() if (p := self.offerings[o].usd_per_node_hour) is not None)

    def situation(self, cycle: int) -> Situation:
        now = NOW + _SINCE + timedelta(seconds=5 * cycle)
        jobs = (*self.runs.values(), *self.waits.values())
        return replace(self.given, now=now, nodes=tuple(self._node(n) for n in self.nodes), jobs=jobs)

    def _node(self, name: NodeName) -> Node:
        on = [j.per_worker for j in self.runs.values() if j.assignment is not None and name in j.assignment.nodes]
        empty_since = None if on else NOW
        node = a_node(name, self.offerings[self.nodes[name]], empty_since=empty_since, removable=True)
        return replace(node, used=sum(on, Resources()))

    def settle(self) -> None:
        """Decide and carry out, until nothing is decided any more."""
        for cycle in range(10 * _COUNT):
            situation = self.situation(cycle)
            started = time.perf_counter()
            plan = decide(situation)
            self.seconds += time.perf_counter() - started
            if not self.carry_out(situation, plan):
                return

    def carry_out(self, situation: Situation, plan: Plan) -> bool:
        """Whether there was anything to do."""
        for resize in plan.resizes:
            for name in resize.give_back:
                del self.nodes[name]
            for i in range(resize.from_nodes, resize.to_nodes):
                self.nodes[NodeName(f"{resize.offering}-{len(self.nodes)}-{i}")] = resize.offering
        for requeue in plan.requeues:
            job = self.runs.pop(requeue.job)
            self.waits[job.id] = replace(job, assignment=None, moved_at=situation.now, avoid=requeue.avoid)
            self.moves += 1
        for placement in plan.placements:
            self.runs[placement.job] = self._placed(self.waits.pop(placement.job), placement, situation)
        return bool(plan.resizes or plan.requeues or plan.placements)

    def _placed(self, job: Job, placement: Placement, situation: Situation) -> Job:
        place = Binding(
            offering=placement.chosen.offering,
            nodes=placement.nodes,
            since=situation.now,
            released=True,
            running=True,
            finish=placement.chosen.finish,
            usd_per_hour=placement.chosen.usd_per_hour,
        )
        return replace(job, assignment=place, avoid=())


def _decided(pods: list[tuple[int, int, int]], ended: set[int], bounds: tuple[float, float]) -> Rows:
    offerings, speeds = [], {}
    for name, model, size, usd in _types():
        offering = an_offering(name.replace(".", "-"), usd=usd, model=model, instance_type=name)
        offerings.append(replace(offering, per_node=size, watts_per_node=None, g_co2_per_kwh=None))
        speeds[model] = 1.0
    pools = [a_pool(o, scaler="kwok", most=2 * _COUNT, cold_start_seconds=0.0) for o in offerings]
    checkpoint = Checkpoint(every=timedelta(minutes=15), restart=timedelta(minutes=2))
    jobs = [
        replace(
            a_job(f"j{i:03}", gpus=gpus, hours=_HOURS, speeds=speeds, checkpoint=checkpoint),
            per_worker=Resources(gpus=gpus, cpu=float(cpu), memory_gib=float(gib), pods=1),
        )
        for i, (gpus, cpu, gib) in enumerate(pods)
    ]
    given = a_situation(offerings=offerings, pools=pools, settings=Settings(moves_per_hour=_MOVES_PER_HOUR))
    world = _World(given, {o.id: o for o in offerings}, waits={j.id: j for j in jobs})
    first = world.situation(0)
    started = time.perf_counter()
    plan = decide(first)
    seconds = time.perf_counter() - started
    world.carry_out(first, plan)
    world.settle()
    all_at_once = _row("operator", "all", world.usd_per_hour(), bounds[0], len(world.nodes), world.moves, seconds)

    for i in sorted(ended):
        del world.runs[jobs[i].id]
    for job_id, job in world.runs.items():
        assert job.assignment is not None
        done = replace(job.work, units_done=_SINCE.total_seconds())
        world.runs[job_id] = replace(job, work=done, assignment=replace(job.assignment, since=NOW))
    world.moves, world.seconds = 0, 0.0
    world.settle()
    half = _row("operator", "half", world.usd_per_hour(), bounds[1], len(world.nodes), world.moves, world.seconds)
    return [all_at_once, half]
