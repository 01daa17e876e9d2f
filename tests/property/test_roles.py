"""Gangs of unlike pods on random nodes: who is placed fits, and hardly one is held that some way would place."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stint.decide import decide
from stint.model.job import Job, Role
from stint.model.resources import Resources
from stint.testing.builders import a_job, a_node, a_situation, an_offering

_GANGS = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 2)), min_size=1, max_size=3, unique_by=lambda g: g[0])
_FREE = st.lists(st.integers(0, 8), min_size=1, max_size=4)


def gang(kinds: list[tuple[int, int]]) -> Job:
    largest_first = sorted(kinds, reverse=True)
    (gpus, workers), others = largest_first[0], largest_first[1:]
    roles = tuple(
        Role(name=f"of-{g}", replicas=n, per_pod=Resources(gpus=g, cpu=4.0 * g, memory_gib=32.0 * g, pods=1))
        for g, n in others
    )
    return a_job("unlike", gpus=gpus, workers=workers + sum(r.replicas for r in roles), roles=roles)


def can_be_packed(asked: list[int], free: list[int]) -> bool:

    def fits(way: tuple[int, ...]) -> bool:
        return all(sum(a for a, n in zip(asked, way, strict=True) if n == i) <= f for i, f in enumerate(free))

    return any(fits(way) for way in itertools.product(range(len(free)), repeat=len(asked)))


@settings(max_examples=150, deadline=None)
@given(kinds=_GANGS, free=_FREE)
def test_placed_gangs_fit_and_what_is_held_has_no_room(kinds, free):
    offering, job = an_offering(), gang(kinds)
    nodes = [a_node(f"n{i}", offering, used_gpus=8 - f) for i, f in enumerate(free)]
    plan = decide(a_situation(jobs=[job], nodes=nodes, offerings=[offering]))
    asked = [r.gpus for r in job.by_rank(job.workers)]
    assert bool(plan.placements) <= can_be_packed(asked, free)
    for placed in plan.placements:
        taken = Counter()
        for name, gpus in zip(placed.nodes, asked, strict=True):
            taken[name] += gpus
        assert all(taken[f"n{i}"] <= f for i, f in enumerate(free))
    if not plan.placements and can_be_packed(asked, free):
        # Largest first, tightest node first: what it misses is rare, and never a gang that leaves a node's worth free.
        assert sum(free) - sum(asked) < 8


@settings(max_examples=60, deadline=None)
@given(kinds=_GANGS, free=_FREE, solver=st.sampled_from(["greedy", "annealing", "exact", "portfolio"]))
def test_every_solver_places_them_soundly_beside_plain_gangs(kinds, free, solver):
    offering = an_offering()
    nodes = [a_node(f"n{i}", offering, used_gpus=8 - f) for i, f in enumerate([*free, 8])]
    jobs = [gang(kinds), a_job("plain", gpus=3, workers=2), a_job("one", gpus=1)]
    situation = a_situation(jobs=jobs, nodes=nodes, offerings=[offering])
    asked = replace(situation.settings, solver=solver, budget_steps=200)
    plan = decide(replace(situation, settings=asked))  # it verifies its answer
    taken = Counter()
    of = {j.id: j for j in jobs}
    for p in plan.placements:
        for name, held in of[p.job].on_nodes(p.nodes).items():
            taken[name] += held.gpus
    assert all(taken[f"n{i}"] <= f for i, f in enumerate([*free, 8]))
