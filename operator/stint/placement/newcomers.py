"""One more job among thousands: placed at the prices of the last decision about everybody, without another one.

After a decision about a long queue its `LastFullPlan` goes with the next situation. While nothing has changed but that
jobs came, or got the places that they were given, jobs that wait keep what they were promised. A new job is served by
`serve_by_rent` on what is left beside all promises, at the prices of capacity that were found then. Its **regret** is
what it costs there, rent included, less the least that it would cost at those prices anywhere: what a decision about
everybody could win back at the most, as far as prices tell. Everybody is decided about again

    when regrets add up to 1 % of what the queue costs, or to 5 % of what those cost who would go, or have nodes bought,
    at once; after a minute; when a job that is new would be late, or must wait and comes before somebody who waits; and
    when anything else has changed.

Without the 5 %, a trace of 600 jobs cost 17 % more than with a decision about everybody each time; with it, 0.2 %.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec
import numpy as np

from stint.estimate.runtime import hours_between
from stint.model.cluster import Node
from stint.model.job import Job, JobId, NodeName, held_by_node
from stint.model.last_full_plan import LastFullPlan, Reserved, UnitPrice
from stint.model.market import PoolName
from stint.model.plan import Hold, Plan, Reason, Resize
from stint.model.resources import Resources
from stint.model.situation import Situation
from stint.placement import outcome
from stint.placement.horizons import lay_out, usual_horizons
from stint.placement.portfolio import STRENGTHS, serve_by_rent
from stint.placement.prices import Prices, prove
from stint.placement.problem import Problem, build_problem
from stint.placement.solver import Assignment, Choice, idle_usd
from stint.placement.timeline import Timeline

MANY = 200  # jobs that wait: for fewer, a decision about everybody takes no longer than anybody would notice
_GOOD_FOR = timedelta(minutes=1)
_MOST_REGRET = 0.01  # of what the queue costs
_MOST_OWN = 0.05  # of what those cost who go or buy now: that cannot be taken back


@dataclass(frozen=True, slots=True)
class Served:
    """Newcomers with their places, and what is left."""

    problem: Problem
    answer: Assignment
    capacity: Timeline
    regret_usd: float


def whats_new(situation: Situation) -> tuple[Job, ...] | None:
    """The jobs that came since the last decision about everybody; None: another such decision is due."""
    before = situation.before
    if before is None or not before.decided_at < situation.now < before.good_until:
        return None
    held = set(before.held)
    waiting = {j.id for j in situation.jobs if j.waiting}
    placed = {j.id for j in situation.jobs if j.assignment is not None}
    if not waiting >= held or not placed >= set(before.placed) or _world(situation, held) != before.world:
        return None
    return tuple(j for j in situation.jobs if j.waiting and j.id not in held)


def serve(situation: Situation, before: LastFullPlan, jobs: Sequence[Job]) -> Served | None:
    """Places for jobs that are new, beside what the others were promised; None: everybody has to be looked at."""
    problem = _beside_orders(build_problem(situation, jobs), before)
    market = lay_out(problem, np.array(before.horizon_hours))
    unit = np.zeros_like(market.capacity)
    index = {o.id: i for i, o in enumerate(problem.offerings)}
    for price in before.prices:
        unit[index[price.offering]] = price.usd
    prices = prove(problem, market, unit)
    capacity = _beside_promises(situation, problem, before)
    answer = serve_by_rent(problem, prices, strength=STRENGTHS[0], capacity=capacity)
    regret = _regret(situation, problem, prices, answer)
    if before.regret_usd + regret > before.most_regret_usd:
        return None
    return Served(problem, answer, capacity, regret)


def _beside_orders(problem: Problem, before: LastFullPlan) -> Problem:
    """Pools may grow by that much less."""
    ordered = dict(before.bought)
    less = np.array([ordered.get(p.name, 0) for p in problem.pools], dtype=np.int64)
    return replace(problem, headroom=np.maximum(problem.headroom - less, 0))


def _beside_promises(situation: Situation, problem: Problem, before: LastFullPlan) -> Timeline:
    capacity = Timeline(problem)
    passed = hours_between(before.decided_at, situation.now)
    index = {n.name: i for i, n in enumerate(problem.nodes)}
    jobs = {j.id: j for j in situation.jobs}
    for r in before.reserved:
        start = max(0.0, r.from_hours - passed)
        end = start + r.until_hours - r.from_hours  # whoever was to go by now waits still, and will be as long there
        for name, held in sorted(_promised(r, jobs[r.job]).items()):
            if name in index:
                capacity.reserve(index[name], start, end, np.array(held.row(problem.extended)))
    return capacity


def _promised(reserved: Reserved, job: Job) -> dict[NodeName, Resources]:
    """What a gang was promised of nodes that are there.

    Of unlike pods some of which go to nodes that are still to be bought, nobody can tell which: each is a worker then.
    """
    if len(reserved.nodes) < job.min_workers:
        job = replace(job, roles=())
    return job.on_nodes(reserved.nodes)


def _regret(situation: Situation, problem: Problem, prices: Prices, answer: Assignment) -> float:
    """USD; inf where one of them may not simply stand behind those who wait, or would do now what costs too much."""
    before = situation.before
    assert before is not None
    held = set(before.held)
    least = min((j.priority for j in situation.jobs if j.id in held), default=0)
    market = prices.market
    rents = market.rents(problem, prices.unit_usd)
    position = {int(c): i for i, c in enumerate(market.column)}
    total, at_once, own = 0.0, idle_usd(problem, answer), 0.0  # the last two of those who go or buy now
    for j, (job, choice) in enumerate(zip(problem.jobs, answer.choices, strict=True)):
        if not math.isfinite(prices.least_usd[j]):
            continue  # nobody can do anything for it
        waits = choice is None or not outcome.goes_now(problem, choice)
        late = (
            problem.is_late(problem.columns, choice.column, choice.start_hours) if choice else job.deadline is not None
        )
        if late or (waits and job.priority > least):
            return math.inf
        if choice is None:
            continue  # there is no room beside what others were promised, now or later
        usd = problem.objective_at(problem.columns, choice.column, choice.start_hours)
        bucket = int(np.searchsorted(market.horizon_hours, choice.start_hours))
        regret = max(0.0, usd + float(rents[position[choice.column], bucket]) - float(prices.least_usd[j]))
        total += regret
        if not waits or problem.columns.buys[choice.column]:
            at_once += regret
            own += float(prices.least_usd[j])
    return math.inf if at_once > _MOST_OWN * own else total


# -- what stands afterwards


def summary_of(situation: Situation, problem: Problem, answer: Assignment, plan: Plan) -> LastFullPlan | None:
    """After a decision about everybody; None: the queue is short, or there are no prices."""
    if len(plan.holds) < MANY or answer.unit_usd is None or plan.certificate is None or plan.requeues:
        return None
    held = tuple(sorted(h.job for h in plan.holds))
    return LastFullPlan(
        decided_at=situation.now,
        good_until=min([situation.now + _GOOD_FOR, *_back(situation, held)]),
        world=_world(situation, held),
        held=held,
        placed=_placed(plan),
        reserved=_promises(problem, answer, plan.holds),
        bought=_orders(problem, answer.choices),
        horizon_hours=tuple(usual_horizons(problem).tolist()),
        prices=tuple(
            UnitPrice(offering=o.id, usd=tuple((float(g), float(c), float(m)) for g, c, m in usd))
            for o, usd in zip(problem.offerings, answer.unit_usd, strict=True)
            if usd.any()
        ),
        regret_usd=0.0,
        most_regret_usd=_MOST_REGRET * plan.certificate.objective_usd,
    )


def summary_with(situation: Situation, served: Served | None, plan: Plan) -> LastFullPlan:
    """After a decision about those who are new."""
    before = situation.before
    assert before is not None
    held = tuple(sorted({*before.held, *(h.job for h in plan.holds)}))
    after = replace(
        before,
        good_until=min([before.good_until, *_back(situation, held)]),
        world=before.world if held == before.held else _world(situation, held),  # it was looked at before
        held=held,
        placed=_placed(plan),
    )
    if served is None:
        return after
    passed = hours_between(before.decided_at, situation.now)
    new = (
        replace(r, from_hours=r.from_hours + passed, until_hours=r.until_hours + passed)
        for r in _promises(served.problem, served.answer, plan.holds)
    )
    bought = Counter(dict(before.bought))
    bought.update(dict(_orders(served.problem, served.answer.choices)))
    return replace(
        after,
        reserved=(*before.reserved, *new),
        bought=tuple(sorted(bought.items())),
        regret_usd=before.regret_usd + served.regret_usd,
    )


def whole(plan: Plan, last: Plan | None) -> Plan:
    """A decision about those who are new, with the last one about everybody: what to do now, and what to tell.

    No node is given back once more: where that was refused, somebody who is new may have got the node since.
    """
    if last is None or not plan.is_about_newcomers:
        return plan
    told = {x.job for some in (plan.placements, plan.holds, plan.stays, plan.requeues) for x in some}
    return replace(
        plan,
        holds=tuple(sorted((*(h for h in last.holds if h.job not in told), *plan.holds), key=lambda h: h.job)),
        resizes=_both((r for r in last.resizes if r.advise_only or not r.give_back), plan.resizes),
        certificate=last.certificate,
    )


def _both(before: Iterable[Resize], more: Iterable[Resize]) -> tuple[Resize, ...]:
    """Orders for those who are new on top of those that were given."""
    found = {(r.offering, r.advise_only): r for r in before}
    for r in more:
        key = (r.offering, r.advise_only)
        if key in found and found[key].to_nodes > found[key].from_nodes:
            old = found[key]
            r = replace(
                old,
                to_nodes=old.to_nodes + r.to_nodes - r.from_nodes,
                for_jobs=(*old.for_jobs, *r.for_jobs),
                usd_per_hour=old.usd_per_hour + r.usd_per_hour,
                message=f"{old.message}; {r.message}",
            )
        found[key] = r
    return tuple(found.values())


def _placed(plan: Plan) -> tuple[JobId, ...]:
    return tuple(sorted([*(s.job for s in plan.stays), *(p.job for p in plan.placements)]))


def _back(situation: Situation, held: Iterable[JobId]) -> list[datetime]:
    """When those who back off compete again."""
    wait = set(held)
    times = (j.not_before for j in situation.jobs if j.id in wait)
    return [t for t in times if t is not None and t > situation.now]


def _promises(problem: Problem, answer: Assignment, holds: Iterable[Hold]) -> tuple[Reserved, ...]:
    held = {h.job for h in holds if h.reason is not Reason.MISSES_DEADLINE}
    found = []
    for job, choice in zip(problem.jobs, answer.choices, strict=True):
        if choice is None or job.id not in held:
            continue
        there = tuple(problem.nodes[n].name for n in choice.nodes if n < len(problem.nodes))
        if not there:
            continue
        start, end = choice.start_hours, choice.start_hours + float(problem.columns.held_hours[choice.column])
        if problem.columns.buys[choice.column]:  # the gang waits for its nodes, while the bill runs
            start = max(float(problem.node_from_hours[n]) for n in choice.nodes)
        found.append(Reserved(job=job.id, nodes=there, from_hours=start, until_hours=end))
    return tuple(found)


def _orders(problem: Problem, choices: Iterable[Choice | None]) -> tuple[tuple[PoolName, int], ...]:
    new = {n for c in choices if c is not None for n in c.nodes if problem.node_is_new[n]}
    count = Counter(problem.pools[problem.pool_of_offering[problem.node_offering[n]]].name for n in new)
    return tuple(sorted(count.items()))


def _world(situation: Situation, held: Iterable[JobId]) -> str:
    """A digest of what a decision about everybody went by, without those who run and what they use."""
    wait = set(held)
    ours = held_by_node(situation.jobs)
    said = (
        sorted(situation.offerings, key=lambda o: o.id),
        sorted(situation.pools, key=lambda p: p.name),
        situation.rates,
        situation.settings,
        sorted((_without(n, ours.get(n.name, Resources())) for n in situation.nodes), key=lambda n: n.name),
        sorted((j for j in situation.jobs if j.id in wait), key=lambda j: j.id),
    )
    return hashlib.sha256(msgspec.msgpack.encode(said, order="sorted")).hexdigest()


def _without(node: Node, ours: Resources) -> Node:
    """What others use of a node, to what a float can tell; when it fell empty is no reason to decide again at once."""
    used = node.used
    others = Resources(
        gpus=used.gpus - ours.gpus,
        cpu=round(used.cpu - ours.cpu, 3) + 0.0,
        memory_gib=round(used.memory_gib - ours.memory_gib, 3) + 0.0,
        pods=used.pods - ours.pods,
    )
    return replace(node, used=others, empty_since=None)
