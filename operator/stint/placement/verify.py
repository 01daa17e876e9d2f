"""Is an assignment sound? Asked of every answer, by code that shares nothing with those who make answers.

It works from the problem's raw arrays: the nodes, what becomes free when, what each worker needs.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice

_SLACK = 1e-6


def violations(problem: Problem, assignment: Assignment) -> list[str]:
    """Every rule that the assignment breaks, in words; empty: it is sound.

    The rules: a choice is a possible column of its own job; every worker has a node of the column's offering that
    admits the job and is there when the gang starts; they share one domain of a topology that is required; no node ever
    holds more than it has; pools stay within their limits; nodes are bought only by columns that buy.
    """
    if len(assignment.choices) != len(problem.jobs):
        return [f"{len(assignment.choices)} choices for {len(problem.jobs)} jobs"]
    broken: list[str] = []
    for j, choice in enumerate(assignment.choices):
        if choice is not None:
            broken += [f"{problem.jobs[j].id}: {text}" for text in _own_rules(problem, j, choice)]
    return broken or _shared_rules(problem, assignment)


def _own_rules(problem: Problem, j: int, choice: Choice) -> list[str]:
    columns, c = problem.columns, choice.column
    if not 0 <= c < len(columns.job):
        return [f"column {c} does not exist"]
    texts = []
    if columns.job[c] != j:
        texts.append(f"column {c} is another job's")
    if not math.isfinite(float(columns.objective_usd[c])):
        texts.append(f"column {c} is impossible")
    if len(choice.nodes) != columns.workers[c]:
        texts.append(f"{len(choice.nodes)} nodes for {columns.workers[c]} workers")
    if choice.start_hours < 0:
        texts.append("starts in the past")
    for n in sorted(set(choice.nodes)):
        if not 0 <= n < len(problem.node_offering) or problem.node_offering[n] != columns.offering[c]:
            texts.append(f"node {n} is not of its offering")
        elif not all(admits[n] for admits in _admitting(problem, j, choice, n)):
            texts.append(f"node {n} does not admit it")
        elif (
            problem.node_is_new[n] and not columns.buys[c] and choice.start_hours < problem.node_from_hours[n] - _SLACK
        ):
            texts.append(f"node {n} would have to be bought first")
        elif not math.isfinite(float(problem.node_from_hours[n])):
            texts.append(f"node {n} is not usable")
    topology, domain, together = problem.topology[j], problem.domain[j], problem.together[j]
    if not texts and topology is not None and topology.required:
        domains = {-1 if domain is None else int(domain[n]) for n in choice.nodes}
        if len(domains) != 1 or min(domains) < 0:
            texts.append(f"nodes {sorted(set(choice.nodes))} do not share one {topology.key}")
    if not texts and together is not None:
        own = np.flatnonzero((problem.node_offering == columns.offering[c]) & problem.admits[j])
        workers = choice.nodes[: len(choice.nodes) - sum(p.count for p in problem.parts[j])]
        if broken := together.broken(own, problem.node_is_new[own], workers):
            texts.append(broken)
    return texts


def _roles(problem: Problem, j: int, choice: Choice) -> list[int]:
    """By rank, the place of each pod's part in `Problem.parts`; -1: a worker."""
    others = [i for i, part in enumerate(problem.parts[j]) for _ in range(part.count)]
    return [-1] * (len(choice.nodes) - len(others)) + others


def _admitting(problem: Problem, j: int, choice: Choice, node: int) -> list[np.ndarray]:
    """The nodes that admit each kind of pod of the gang that is on this one."""
    kinds = {i for i, n in zip(_roles(problem, j, choice), choice.nodes, strict=True) if n == node}
    return [problem.admits[j] if i < 0 else problem.parts[j][i].admits for i in sorted(kinds)]


def _taken(problem: Problem, j: int, choice: Choice) -> dict[int, np.ndarray]:
    taken: dict[int, np.ndarray] = {}
    for i, n in zip(_roles(problem, j, choice), choice.nodes, strict=True):
        need = problem.need[j] if i < 0 else problem.parts[j][i].need
        taken[n] = taken.get(n, np.zeros_like(need)) + need
    return dict(sorted(taken.items()))


def _span(problem: Problem, choice: Choice) -> tuple[float, float]:
    """When a gang's workers are on its nodes. A gang that buys waits for its nodes, while the bill runs."""
    columns, c = problem.columns, choice.column
    held = float(columns.held_hours[c])
    if not columns.buys[c]:
        return choice.start_hours, choice.start_hours + held
    return max(float(problem.node_from_hours[n]) for n in choice.nodes), held


def _shared_rules(problem: Problem, assignment: Assignment) -> list[str]:
    texts = []
    on_node: dict[int, list[tuple[float, float, np.ndarray]]] = {}
    bought: set[int] = set()
    buyers: set[int] = set()
    for j, choice in enumerate(assignment.choices):
        if choice is None:
            continue
        start, end = _span(problem, choice)
        for n, need in _taken(problem, j, choice).items():
            on_node.setdefault(n, []).append((start, end, need))
            if problem.node_is_new[n]:
                bought.add(n)
                if problem.columns.buys[choice.column]:
                    buyers.add(n)
    texts += [f"node {n} is used though nobody buys it" for n in sorted(bought - buyers)]
    for n, gangs in sorted(on_node.items()):
        for instant in sorted({start for start, _, _ in gangs}):
            used = sum((need for start, end, need in gangs if start <= instant + _SLACK and instant < end - _SLACK))
            there = float(problem.node_from_hours[n]) <= instant + _SLACK
            have = problem.node_free[n] * there
            have = have + sum(r.resources for r in problem.releases if r.node == n and r.hours <= instant + _SLACK)
            if (np.asarray(used) > have + _SLACK).any():
                texts.append(f"node {n} is overbooked {instant:.3f} h from now")
    count = Counter(int(problem.pool_of_offering[problem.node_offering[n]]) for n in bought)
    texts += [
        f"pool {problem.pools[p].name} would get {k} new nodes, {problem.headroom[p]} are allowed"
        for p, k in sorted(count.items())
        if k > problem.headroom[p]
    ]
    return texts
