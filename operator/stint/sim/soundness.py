"""Can the world do what a plan says? Asked of every plan of every policy, by code that makes none."""

from __future__ import annotations

from collections import Counter

from stint.errors import StintError
from stint.model.job import NodeName
from stint.model.plan import Placement, Plan, Requeue, Resize
from stint.model.resources import Resources
from stint.model.situation import Situation
from stint.placement import fit

_SLACK = 1e-6


class UnsoundPlanError(StintError):
    """A policy asked for what cannot be. Its run ends."""

    def __init__(self, policy: str, broken: list[str]) -> None:
        self.broken = tuple(broken)
        more = f"; and {len(broken) - 5} more" if len(broken) > 5 else ""
        super().__init__(f"policy {policy} made an unsound plan: {'; '.join(broken[:5])}{more}")


def unsound(situation: Situation, plan: Plan) -> list[str]:
    """Every rule that a plan breaks, in words; empty: it is sound.

    The rules: jobs that are placed wait, and jobs that are requeued do not; a gang is placed whole, on nodes that are
    there, of one offering that it may use; no node holds more than it has; pools stay within their limits; what is
    given back is empty and ours.
    """
    broken = [f"job {job} is decided about {n} times" for job, n in _said(plan).items() if n > 1]
    broken += [text for r in plan.requeues if (text := _requeue(situation, r))]
    broken += _placements(situation, plan.placements)
    promised = {name for p in plan.placements for name in p.nodes}
    return broken + _resizes(situation, [r for r in plan.resizes if not r.advise_only], promised)


def _said(plan: Plan) -> Counter[str]:
    return Counter(x.job for some in (plan.placements, plan.holds, plan.stays, plan.requeues) for x in some)


def _requeue(situation: Situation, requeue: Requeue) -> str:
    job = next((j for j in situation.jobs if j.id == requeue.job), None)
    return f"job {requeue.job} has no place to be requeued from" if job is None or job.assignment is None else ""


def _placements(situation: Situation, placements: tuple[Placement, ...]) -> list[str]:
    if not placements:
        return []
    broken: list[str] = []
    jobs = {j.id: j for j in situation.jobs}
    nodes = {n.name: n for n in situation.nodes}
    offerings = {o.id: o for o in situation.offerings}
    taken: dict[NodeName, Resources] = {}
    for p in placements:
        job, offering = jobs.get(p.job), offerings.get(p.chosen.offering)
        if job is None or not job.waiting:
            broken.append(f"job {p.job} does not wait for a place")
            continue
        if offering is None:
            broken.append(f"job {p.job}: there is no offering {p.chosen.offering}")
            continue
        if no := fit.why_not(job, offering):
            broken.append(f"job {p.job} may not use {offering.id}: {no[1]}")
        if not job.min_workers <= len(p.nodes) <= job.max_workers:
            broken.append(f"job {p.job} has {len(p.nodes)} workers, not {job.min_workers} to {job.max_workers}")
        for name, seat in zip(p.nodes, job.seats(len(p.nodes)), strict=True):
            node = nodes.get(name)
            if node is None or not node.usable:
                broken.append(f"job {p.job}: node {name} is {'not usable' if node else 'not there'}")
            elif node.offering != offering.id:
                broken.append(f"job {p.job}: node {name} is not of {offering.id}")
            elif not fit.node_admits(seat, node):
                broken.append(f"job {p.job}: node {name} does not admit it")
            taken[name] = taken.get(name, Resources()) + seat.per_worker
    for name, more in sorted(taken.items()):
        if (node := nodes.get(name)) is not None:
            pairs = zip((node.used + more).as_row(), node.allocatable.as_row(), strict=True)
            if any(holds > has + _SLACK for holds, has in pairs):
                broken.append(f"node {name} would hold {node.used + more}, and has {node.allocatable}")
    return broken


def _resizes(situation: Situation, resizes: list[Resize], promised: set[NodeName]) -> list[str]:
    broken: list[str] = []
    pools = {p.name: p for p in situation.pools}
    nodes = {n.name: n for n in situation.nodes}
    pool_of = {o.id: o.pool for o in situation.offerings}
    counted = [n for n in situation.nodes if not n.interrupted]  # what replaces those is ordered before they are gone
    have = Counter(n.offering for n in counted)
    after = Counter(pool_of[n.offering] for n in counted)
    for r in resizes:
        pool = pools.get(r.pool)
        if pool is None or r.offering not in pool.offerings:
            broken.append(f"pool {r.pool} {'has no offering ' + r.offering if pool else 'is not there'}")
            continue
        if pool.scaler is None:
            broken.append(f"pool {r.pool} cannot be resized")
        for name in r.give_back:
            node = nodes.get(name)
            if node is None or not node.removable or node.used.gpus or name in promised or node.offering != r.offering:
                broken.append(f"node {name} is not an empty one of ours, of {r.offering}, that nobody is promised")
        after[r.pool] += max(0, r.to_nodes - have[r.offering])
        after[r.pool] -= sum(1 for n in counted if n.name in r.give_back)
        if r.to_nodes > have[r.offering] and after[r.pool] > pool.max_nodes:
            broken.append(f"pool {r.pool} would have {after[r.pool]} nodes, and its limit is {pool.max_nodes}")
    return broken
