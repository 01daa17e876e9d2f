"""What every solver must pass: `check_sound`, whatever the problem, and where it can be known the best there is.

What every capacity adapter must pass: all of `CAPACITY_CHECKS`, each in a fresh world.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from stint.capacity.adapter import CapacityAdapter, Change, Member, Order, Target
from stint.errors import ApiError
from stint.model.job import NodeName
from stint.model.market import Offering, PoolName
from stint.model.right import Right
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice, Solver, objective_usd
from stint.placement.timeline import Timeline
from stint.placement.verify import violations
from stint.testing.builders import NOW, an_offering
from stint.testing.fake_api import FakeApi


def solve(solver: Solver, problem: Problem, *, seed: int = 0) -> Assignment:
    """With a budget that is enough for tests."""
    return solver.solve(problem, budget_steps=2_000, rng=np.random.Generator(np.random.PCG64(seed)))


def best_of_all(problem: Problem) -> float:
    """The least cost over every order of the jobs and every choice of columns, each at its earliest. For tiny cases.

    Only starts that are known beforehand count: now, when nodes arrive, when running gangs end. Waiting for another
    gang of the same batch is not among them, and not what the exact solver looks at.
    """
    jobs = range(len(problem.jobs))
    fresh = Timeline(problem)
    known = {hours for o in range(len(problem.offerings)) for hours in fresh.instants(o)}
    columns = [
        [None, *np.flatnonzero((problem.columns.job == j) & np.isfinite(problem.columns.objective_usd))] for j in jobs
    ]
    best = np.inf
    for order in itertools.permutations(jobs):
        for picked in itertools.product(*(columns[j] for j in order)):
            capacity = Timeline(problem)
            choices: list[Choice | None] = [None] * len(problem.jobs)
            for j, column in zip(order, picked, strict=True):
                placed = None if column is None else capacity.place(problem.columns, int(column))
                if placed is not None and placed[0].start_hours in known:
                    capacity.take(problem.columns, placed[0])
                    choices[j] = placed[0]
            best = min(best, objective_usd(problem, Assignment(choices=tuple(choices))))
    return float(best)


def check_sound(solver: Solver, problem: Problem) -> None:
    """Whole gangs, within what there is; the same again with the same dice; never worse than placing no job."""
    answer = solve(solver, problem)
    assert violations(problem, answer) == []
    assert solve(solver, problem) == answer
    nothing = Assignment(choices=(None,) * len(problem.jobs))
    assert objective_usd(problem, answer) <= objective_usd(problem, nothing) + 1e-6


def best_by_force(problem: Problem) -> float:
    """The least cost over every way to spread every gang over nodes, as the verifier sees it. For the tiniest cases.

    It shares no code with any solver: not even the account of what is free. A gang starts now, or when nodes of its
    offering arrive or running gangs there end; one that buys nothing uses only nodes that are there or under way.
    """
    ways = [_ways(problem, j) for j in range(len(problem.jobs))]
    answers = (Assignment(choices=choices) for choices in itertools.product(*ways))
    return min(objective_usd(problem, a) for a in answers if not violations(problem, a))


def _ways(problem: Problem, job: int) -> list[Choice | None]:
    """Everything that a job could be given if it were alone."""
    columns = problem.columns
    found: list[Choice | None] = [None]
    for column in np.flatnonzero((columns.job == job) & np.isfinite(columns.objective_usd)):
        buys = bool(columns.buys[column])
        own = [int(n) for n in np.flatnonzero(problem.node_offering == columns.offering[column])]
        waits = {0.0, *(float(problem.node_from_hours[n]) for n in own)}
        waits |= {r.hours for r in problem.releases if r.node in own}
        for nodes in itertools.combinations_with_replacement(own, int(columns.workers[column])):
            if any(problem.node_is_new[n] for n in nodes) is not buys:
                continue
            for start in {0.0} if buys else sorted(h for h in waits if np.isfinite(h)):
                choice = Choice(column=int(column), start_hours=start, nodes=nodes)
                alone = [choice if j == job else None for j in range(len(problem.jobs))]
                if not violations(problem, Assignment(choices=tuple(alone))):
                    found.append(choice)
    return found


@runtime_checkable
class CapacityWorld(Protocol):
    """A pool that an adapter resizes, over an API server in memory."""

    @property
    def api(self) -> FakeApi:
        """What the adapter speaks to."""
        ...

    @property
    def target(self) -> Target | None:
        """The pool's spec.scaler.target."""
        ...

    def nodes(self) -> tuple[NodeName, ...]:
        """The nodes that there will be once all orders have arrived."""
        ...


CapacityCheck = Callable[[CapacityAdapter, CapacityWorld], Awaitable[None]]
POOL = PoolName("pool")
_ONE, _OTHER = an_offering(zone="a", pool=POOL), an_offering(zone="b", pool=POOL)


def _order(
    world: CapacityWorld,
    *changes: tuple[Offering, int, int],
    going: Sequence[NodeName] = (),
    busy: Sequence[NodeName] = (),
    asked: int | None = None,
) -> Order:
    return Order(
        pool=POOL,
        changes=tuple(Change(offering=o, from_nodes=a, to_nodes=b, going=tuple(going)) for o, a, b in changes),
        members=tuple(Member(name=n, busy=n in busy) for n in world.nodes()),
        now=NOW,
        target=world.target,
        asked=asked,
    )


async def _filled(adapter: CapacityAdapter, world: CapacityWorld, nodes: int) -> None:
    assert (await adapter.carry_out(_order(world, (_ONE, 0, nodes)), world.api)).refused == ""
    assert len(world.nodes()) == nodes


async def grows_and_asks_for_nothing_twice(adapter: CapacityAdapter, world: CapacityWorld) -> None:
    """A restart repeats an order that was carried out already."""
    order = _order(world, (_ONE, 0, 3))
    for _ in range(2):
        assert (await adapter.carry_out(order, world.api)).refused == ""
        assert len(world.nodes()) == 3
    await adapter.carry_out(_order(world, (_ONE, 3, 5), asked=3), world.api)
    assert len(world.nodes()) == 5


async def two_changes_of_one_pool_add_up(adapter: CapacityAdapter, world: CapacityWorld) -> None:
    """The last one must not win."""
    await adapter.carry_out(_order(world, (_ONE, 0, 2), (_OTHER, 0, 1)), world.api)
    assert len(world.nodes()) == 3


async def gives_empty_nodes_back(adapter: CapacityAdapter, world: CapacityWorld) -> None:
    """Also where the order is repeated."""
    await _filled(adapter, world, 4)
    order = _order(world, (_ONE, 4, 2), going=world.nodes()[:2], asked=4)
    for _ in range(2):
        assert (await adapter.carry_out(order, world.api)).refused == ""
        assert len(world.nodes()) == 2


async def keeps_busy_nodes(adapter: CapacityAdapter, world: CapacityWorld) -> None:
    """Whatever the order says."""
    await _filled(adapter, world, 3)
    nodes = world.nodes()
    outcome = await adapter.carry_out(_order(world, (_ONE, 3, 0), going=nodes, busy=nodes[:2], asked=3), world.api)
    # A target that chooses itself might choose a busy one, so none goes.
    assert world.nodes() == (nodes if adapter.traits.chooses_nodes else nodes[:2])
    assert outcome.note, "people are told why nodes stay"


async def counts_nodes_of_other_offerings(adapter: CapacityAdapter, world: CapacityWorld) -> None:
    """A pool may have nodes that are not what it describes, as in another zone: they are not traded for the new one."""
    await _filled(adapter, world, 3)
    nodes = world.nodes()
    await adapter.carry_out(_order(world, (_OTHER, 0, 1), busy=nodes, asked=3), world.api)
    assert len(world.nodes()) == 4
    assert set(nodes) <= set(world.nodes())


async def answers_a_refusal_with_a_value(adapter: CapacityAdapter, world: CapacityWorld) -> None:
    """Others' pools are resized all the same."""
    for status in (403, 404, 422, 500):
        error = ApiError(status, "Refused", f"refused with {status}")
        world.api.refuses = error
        outcome = await adapter.carry_out(_order(world, (_ONE, 0, 1)), world.api)
        assert str(status) in outcome.refused
    assert world.nodes() == ()


async def does_what_its_rights_allow(adapter: CapacityAdapter, world: CapacityWorld) -> None:
    """Every request is covered by a right that it declares, or by one that Stint has anyway."""
    await _filled(adapter, world, 2)
    await adapter.carry_out(_order(world, (_ONE, 2, 1), going=world.nodes()[:1], asked=2), world.api)
    rights = (*adapter.rights(world.target), Right("list", "", "nodes", "GPUs are found"))
    granted = {(r.verb, r.group, r.resource) for r in rights}
    assert {_asked_for(verb, path) for verb, path in world.api.requests} <= granted
    assert all(len(r.why.split()) >= 4 for r in rights[:-1]), "a right says what it is for"


def _asked_for(verb: str, path: str) -> tuple[str, str, str]:
    """Verb, group and resource of a request, as a Role names them."""
    root, *rest = path.strip("/").split("/")
    group = rest.pop(0) if root == "apis" else ""
    rest = rest[1:]  # without the version
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    return verb, group, "/".join(rest[::2])


CAPACITY_CHECKS: Sequence[CapacityCheck] = (
    grows_and_asks_for_nothing_twice,
    two_changes_of_one_pool_add_up,
    gives_empty_nodes_back,
    keeps_busy_nodes,
    counts_nodes_of_other_offerings,
    answers_a_refusal_with_a_value,
    does_what_its_rights_allow,
)
