"""Whatever becomes of bought nodes, their jobs and the operator: of no node more is booked than what it costs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stint.ledger.days import whole
from tests.bought import SETTLE_S, USD_PER_S, Pod, Scene
from tests.property.test_cost import UNHURRIED

POOLS, JOBS = ("red", "blue"), ("a", "b", "c")


class Histories:
    """Orders, nodes that come and go, gangs that get there, jobs that end, and kills, as dice have it."""

    def __init__(
        self, seed: int, *, kills: bool, down_s: float = 400.0, jobs_end: bool = True, gangs: bool = True
    ) -> None:
        self.rng, self.kills, self.down_s = random.Random(seed), kills, down_s
        self.jobs_end, self.gangs = jobs_end, gangs
        self.scene = Scene(POOLS, JOBS)
        # Around midnight: the day begins at noon.
        self.now = self.rng.choice([1.0, 43_000.0])
        self.scene.look(self.now)

    def step(self) -> None:
        """Something happens, then Stint looks, or is killed."""
        rng, scene = self.rng, self.scene
        alive = [j for j, end in scene.jobs.items() if end > self.now]
        for pool in POOLS:
            if rng.random() < 0.4 and alive and not any(m.pool == pool and m.gone > self.now for m in scene.machines):
                self._buy(pool)
        if self.jobs_end and rng.random() < 0.05 and len(alive) > 1:
            job = rng.choice(alive)
            scene.jobs[job] = self.now + rng.uniform(0, 50)
            scene.failed |= {job} if rng.random() < 0.5 else set()
        if self.kills and rng.random() < 0.2:
            self.now += rng.uniform(0, self.down_s)
            scene.away(self.now)
        self.now += rng.uniform(0.5, 90)
        scene.look(self.now, write=rng.random() < 0.3)

    def _buy(self, pool: str) -> None:
        rng, scene = self.rng, self.scene
        jobs = rng.sample([j for j, end in scene.jobs.items() if end > self.now], k=1)
        jobs += [j for j in JOBS if j not in jobs and scene.jobs[j] > self.now and rng.random() < 0.4]
        weights = [rng.choice([1, 1, 3]) for _ in jobs]
        shares = {j: w / sum(weights) for j, w in zip(jobs, weights, strict=True)}
        scene.order(pool, **shares)
        created = float(int(self.now)) + rng.randrange(1, 120)
        node = scene.comes(created, pool, name=f"n{rng.randrange(2)}", **shares)
        at = created
        for job in rng.sample(JOBS, k=rng.randrange(3) if self.gangs else 0):
            bound = at + rng.randrange(0, 200)
            end = bound + rng.randrange(1, 400)
            if bound + 1 < scene.jobs[job]:
                node.pods.append(Pod(job=job, gpus=rng.choice([4, 8]), bound=bound, end=end))
            at = end + 1
        node.gone = at + rng.randrange(100, 400)  # it is seen, where somebody looks

    def truth(self, pool: str) -> float:
        """What jobs held or used of its nodes by now, in USD."""
        scene = self.scene
        nodes = (m for m in scene.machines if m.pool == pool)
        return sum(sum(m.truth(scene.jobs, self.now).values()) for m in nodes)


@settings(UNHURRIED, max_examples=15)
@given(seed=st.integers(0, 2**32), kills=st.booleans())
def test_at_no_time_more_is_booked_than_jobs_held_and_no_node_is_paid_for_twice(seed, kills):
    history = Histories(seed, kills=kills)
    for _ in range(30):
        history.step()
        scene = history.scene
        for pool in POOLS:
            booked = scene.booked_usd(pool)
            assert kills or booked <= history.truth(pool) + 1e-9
            lives = (max(0.0, min(m.gone, history.now) - m.created) for m in scene.machines if m.pool == pool)
            assert booked <= sum(lives) * USD_PER_S + 1e-9
            nodes = sum(row.usd for place, row in scene.nodes.items() if place[1] == pool)
            assert kills or booked <= nodes + SETTLE_S * USD_PER_S, "what is left for nobody is never less than nothing"
        for ledger in scene.ledgers.values():
            line = whole(ledger)
            assert line is None or line.usd.total == pytest.approx(line.components.total)


@settings(UNHURRIED, max_examples=10)
@given(seed=st.integers(0, 2**32), kills=st.booleans())
def test_all_that_jobs_held_is_booked_also_where_the_operator_is_killed(seed, kills):
    """Nothing happens to nodes while no operator runs; then nothing is lost, whatever statuses had been written."""
    history = Histories(seed, kills=kills, down_s=0.0, jobs_end=False, gangs=not kills)
    for _ in range(30):
        history.step()
    scene = history.scene
    end = 70.0 + max([history.now, *(m.gone for m in scene.machines)])
    while history.now < end:
        history.now += 60.0
        scene.look(history.now)
    for pool in POOLS:
        assert scene.booked_usd(pool) == pytest.approx(history.truth(pool))
    assert [p.status.bought for p in scene.pools.values()] == [[], []], "nothing is remembered for longer than needed"
