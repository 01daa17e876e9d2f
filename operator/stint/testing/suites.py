"""What every solver must pass: `check_sound`, whatever the problem, and where it can be known the best there is."""

from __future__ import annotations

import itertools

import numpy as np

from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice, Solver, objective_usd
from stint.placement.timeline import Timeline
from stint.placement.verify import violations


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
    """Whole gangs, within what there is; the same again; never worse than leaving everybody out."""
    answer = solve(solver, problem)
    assert violations(problem, answer) == []
    assert solve(solver, problem, seed=1 if solver.name != "greedy" else 0) == answer
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
