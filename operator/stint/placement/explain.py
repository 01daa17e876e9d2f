"""Why this and not that: every job's runner-up, and for each offering it does not get the first thing in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from stint.estimate.runtime import hours_after
from stint.model.cluster import ZONE
from stint.model.job import WhyNoNew
from stint.model.offering import OfferingId
from stint.model.plan import Candidate, Cost, Explanation, Reason, Rejection
from stint.placement.columns import Columns
from stint.placement.fit import HAIR, workers_per_node
from stint.placement.greedy import cheapest, columns_of_jobs
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice
from stint.placement.timeline import Timeline

MOST_WEIGHED = 1_000  # jobs that wait for a place and are told what else there is
_COST_FIELDS = tuple(f for f in Cost.__dataclass_fields__ if f != "usd")


def candidate(problem: Problem, columns: Columns, choice: Choice, objective_usd: float) -> Candidate:
    """A choice in words that leave the core: names, dates, dollars."""
    c = choice.column
    now = problem.situation.now
    arrive = max((float(problem.node_from_hours[n]) for n in choice.nodes if problem.node_is_new[n]), default=0.0)
    start = hours_after(now, max(choice.start_hours, arrive))
    rate = float(columns.usd_per_node_hour[c] * columns.share[c]) * int(columns.workers[c])
    return Candidate(
        offering=problem.offerings[columns.offering[c]].id,
        workers=int(columns.workers[c]),
        new_nodes=len({n for n in choice.nodes if problem.node_is_new[n]}),
        cost=Cost(
            usd=float(columns.cost.total_usd[c]),
            **{name: float(getattr(columns.cost, name)[c]) for name in _COST_FIELDS},
        ),
        usd_per_hour=rate,
        objective_usd=objective_usd,
        start=start,
        finish=hours_after(now, choice.start_hours + float(columns.cost.finish_hours[c])),
    )


def full_capacity(problem: Problem, assignment: Assignment) -> Timeline:
    """What is left when every job has what the assignment gives it: what the solver counted, where it did."""
    if assignment.left is not None and assignment.left.is_of(problem, assignment.choices):
        return assignment.left
    capacity = Timeline(problem)
    for choice in assignment.choices:
        if choice is not None:
            capacity.take(problem.columns, choice)
    return capacity


def explanations(problem: Problem, assignment: Assignment, capacity: Timeline) -> list[Explanation]:
    """One for each job. `capacity` is what is left after the assignment, and stays as it is.

    A job's own place is not given back meanwhile: what else it could have had is on other offerings, where that would
    change nothing. It is looked for where a job goes now, and for the first `MOST_WEIGHED` that wait: what the others
    wait for will have changed by the time that it is their turn.
    """
    result = []
    room = _Room(problem, capacity)
    waiting = 0
    for j, candidates in enumerate(columns_of_jobs(problem.columns, len(problem.jobs))):
        choice = assignment.choices[j]
        if choice is None:
            result.append(_without_place(problem, room, j, candidates))
            continue
        waiting += choice.start_hours > 0 or bool(problem.columns.buys[choice.column])
        if waiting > MOST_WEIGHED:
            result.append(Explanation(rejected=tuple(sorted(problem.rejections[j], key=_by_precedence))))
            continue
        result.append(_explain(problem, room, j, candidates, choice))
    return result


def _without_place(problem: Problem, room: _Room, job: int, candidates: np.ndarray) -> Explanation:
    rejected = [*problem.rejections[job], *_endless(problem, job, candidates)]
    rejected += [room.lacks(job, int(o)) for o in np.unique(problem.columns.offering[candidates])]
    return Explanation(rejected=tuple(sorted(rejected, key=_by_precedence)))


def _explain(problem: Problem, room: _Room, job: int, candidates: np.ndarray, choice: Choice) -> Explanation:
    columns = problem.columns
    others = candidates[columns.offering[candidates] != columns.offering[choice.column]]
    found = cheapest(room.capacity, columns, others)
    runner_up = candidate(problem, columns, *found) if found else None
    second = None if found is None else int(columns.offering[found[0].column])
    rejected = [*problem.rejections[job], *_endless(problem, job, candidates)]
    offerings, first = np.unique(columns.offering[others], return_index=True)  # they are sorted by J
    for o, least in zip(offerings.tolist(), columns.objective_usd[others[first]].tolist(), strict=True):
        if o == second:
            continue
        if found is not None and least >= found[1]:
            text = f"costs {least:.2f} USD at best, with time valued; the runner-up costs {found[1]:.2f} USD"
            rejected.append(Rejection(offering=problem.offerings[o].id, reason=Reason.DEARER, message=text))
        else:
            rejected.append(room.lacks(job, o))
    return Explanation(runner_up=runner_up, rejected=tuple(sorted(rejected, key=_by_precedence)))


_PRECEDENCE = {reason: i for i, reason in enumerate(Reason)}


def _by_precedence(rejection: Rejection) -> tuple[int, str]:
    return _PRECEDENCE[rejection.reason], rejection.offering


def _endless(problem: Problem, job: int, candidates: np.ndarray) -> Iterator[Rejection]:
    """Offerings that nothing forbids, and where the job would run for ever all the same."""
    told = {r.offering for r in problem.rejections[job]}
    possible = set(problem.columns.offering[candidates].tolist())
    for o, offering in enumerate(problem.offerings):
        if o in possible or offering.id in told:
            continue
        text = "it would not finish there within a hundred thousand years"
        if (often := offering.interruptions_per_hour) is not None:
            text += f": a node is interrupted {often.value:g} times an hour; write checkpoints more often"
        yield Rejection(offering=offering.id, reason=Reason.NEVER_FINISHES, message=text)


class _Room:
    """What offerings that would do lack for jobs, while nothing is taken or given back. Like jobs lack the same."""

    def __init__(self, problem: Problem, capacity: Timeline) -> None:
        self._problem = problem
        self.capacity = capacity
        self._known: dict[tuple[object, ...], Rejection] = {}

    def lacks(self, job: int, offering: int) -> Rejection:
        """How much an offering has, how much is needed, what would help."""
        wanted = self._problem.jobs[job]
        of_pods = (self._problem.topology[job], wanted.id if self._problem.together[job] is not None else "")
        alike = (offering, wanted.per_worker, wanted.roles, wanted.min_workers, *of_pods, id(self._problem.admits[job]))
        if alike not in self._known:
            self._known[alike] = self._lacks(job, offering)
        return self._barred(job, offering, self._known[alike])

    def _barred(self, job: int, offering: int, lacks: Rejection) -> Rejection:
        """With why its pool does not grow for the job, where it would otherwise."""
        bars = {n.offering: n for n in self._problem.jobs[job].no_new if n.why is not WhyNoNew.ON_ORDER}
        bar = bars.get(lacks.offering) or bars.get(OfferingId(""))
        if bar is None or self._problem.pools[self._problem.pool_of_offering[offering]].scaler is None:
            return lacks
        return replace(lacks, reason=Reason(bar.why.value), message=f"{bar.message}; {lacks.message}")

    def _lacks(self, job: int, offering: int) -> Rejection:
        problem, capacity = self._problem, self.capacity
        o, wanted = problem.offerings[offering], problem.jobs[job]
        on_nodes = capacity.room(job, offering, 0.0, 1e-6)
        room, gpus, within = int(on_nodes.sum()), wanted.per_worker.gpus, ""
        workers = wanted.min_workers - wanted.others
        pool = problem.pools[problem.pool_of_offering[offering]]
        grows = pool.scaler is not None
        topology = problem.topology[job]
        if topology is not None and topology.required:
            key = topology.key
            grows = grows and key == ZONE  # more nodes would do, as they are all in one
            if not grows and (never := self._never(job, offering, key)):
                return Rejection(offering=o.id, reason=Reason.TOPOLOGY_MISMATCH, message=never)
            room, within = int(capacity.of_domains(job, offering, on_nodes).max(initial=0)), f" within one {key}"
        what = f"parts ({o.slices.name}) of {o.gpu_model}" if o.slices else o.gpu_model
        where = f"the best of {o.id}" if within else o.id
        text = self._unlike(job, offering, what + within, where) if wanted.roles else self._short(job, offering, room)
        text = text or f"needs {workers * gpus} {what}{within}, {room * gpus} free in {where}"
        if other := problem.partly[job].get(offering, ""):
            text += f"; besides, {other}"
        if room >= workers and problem.together[job] is not None and not wanted.roles:
            apart = "its podAntiAffinity, host ports or topology spread keep its workers apart"
            text = f"{apart}, and the nodes of {o.id} with room for them are too few"
            return Rejection(offering=o.id, reason=Reason.BESIDE_OTHERS, message=text)
        each = max(1, workers_per_node(wanted.per_worker, o.new_node))
        lacking = max(-(-(workers - room) // each), 1 if wanted.roles else 0)
        headroom = int(capacity.headroom[problem.pool_of_offering[offering]])
        if grows and lacking > headroom:
            text += f"; {lacking} more nodes are needed, "
            text += f"and pool {pool.name} may grow by {headroom} to its {pool.max_nodes}"
            return Rejection(offering=o.id, reason=Reason.POOL_LIMIT, message=text)
        return Rejection(offering=o.id, reason=Reason.NOT_ENOUGH_GPUS, message=text)

    def _unlike(self, job: int, offering: int, what: str, where: str) -> str:
        """What a gang of unlike pods needs, and what is free where any of them may go."""
        problem, wanted = self._problem, self._problem.jobs[job]
        nodes = self.capacity.nodes_of(offering)
        may = np.logical_or.reduce([problem.admits[job][nodes], *(p.admits[nodes] for p in problem.parts[job])])
        nodes = nodes[may & ~problem.node_is_new[nodes]]
        free, domain = np.zeros(len(problem.need[job])), problem.domain[job]
        of_nodes = {int(n): self.capacity.free_at(int(n), 0.0) for n in nodes}
        topology = problem.topology[job]
        if domain is None or topology is None or not topology.required:
            domain = np.zeros(len(problem.admits[job]), dtype=np.int64)
        for one in sorted({int(domain[n]) for n in of_nodes if domain[n] >= 0}):
            here = np.sum([f for n, f in of_nodes.items() if domain[n] == one], axis=0)
            free = here if here[0] > free[0] else free
        needs = np.sum(problem.needs(job, wanted.min_workers), axis=0)
        short = [i for i in range(len(needs)) if needs[i] > free[i] + HAIR]
        each = [("workers", wanted.min_workers - wanted.others, wanted.per_worker.gpus)]
        each += [(r.name, r.replicas, r.per_pod.gpus) for r in wanted.roles]
        words = ", ".join(f"{name} {count} x {gpus}" for name, count, gpus in each)
        if short and short[0] > 0:
            names = ("GPUs", "CPU cores", "GiB of memory", "pods", *problem.extended)
            i = short[0]
            return f"needs {needs[i]:.10g} {names[i]} for all of it ({words}), {free[i]:.10g} free in {where}"
        return f"needs {wanted.gpus(wanted.min_workers)} {what} ({words}), {int(free[0])} free in {where}"

    def _short(self, job: int, offering: int, room: int) -> str:
        """What a gang is short of, where that is not GPUs: the resource by which the fewest workers would fit."""
        problem, capacity = self._problem, self.capacity
        wanted = problem.jobs[job]
        if room >= wanted.min_workers:
            return ""
        nodes = capacity.nodes_of(offering)
        nodes = nodes[problem.admits[job][nodes] & ~problem.node_is_new[nodes]]
        if not len(nodes):
            return ""
        need = problem.need[job]
        free = np.array([capacity.free_at(int(n), 0.0) for n in nodes])
        asked = np.flatnonzero(need > 0)
        fitting = np.floor((free[:, asked] + HAIR) / need[asked]).sum(axis=0)
        least = int(asked[fitting.argmin()])
        if least == 0 or fitting[asked == 0].min(initial=np.inf) <= fitting.min():
            return ""
        names = ("GPUs", "CPU cores", "GiB of memory", "pods", *problem.extended)
        most = float(free[:, least].max())
        return (
            f"needs {wanted.min_workers} workers with {need[least]:.10g} {names[least]} each, and has room for {room}; "
            f"the most that is free of that on a node of {problem.offerings[offering].id} is {most:.10g}"
        )

    def _never(self, job: int, offering: int, key: str) -> str:
        """Why no domain of an offering would hold a gang even if nothing else were there; empty: one would."""
        problem, capacity = self._problem, self.capacity
        wanted, o, nodes = problem.jobs[job], problem.offerings[offering], capacity.nodes_of(offering)
        domain = problem.domain[job]
        if domain is None or not len(nodes):
            return ""
        if (domain[nodes] < 0).all():
            if problem.node_is_new[nodes].all():
                return f"what {key} new nodes would have is not known beforehand, and spec.topology requires one"
            return f"its nodes lack the label {key}, which spec.topology.within asks for"
        sizes = [problem.nodes[n].allocatable if n < len(problem.nodes) else o.per_node for n in nodes]
        empty = np.array([workers_per_node(wanted.per_worker, size) for size in sizes], dtype=np.int64)
        most = int(capacity.of_domains(job, offering, empty).max(initial=0))
        workers = wanted.min_workers - wanted.others
        if most >= workers:
            return ""
        return f"needs {workers} workers within one {key}, at most {most} fit in one, even when it is empty"
