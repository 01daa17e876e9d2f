"""The loop: let things happen, and when something has changed, ask the policy and do what its plan says.

Changes are taken together as the operator's cycle takes them: at most one decision in `Stage.every_s`, and none where
nothing has changed and no moment that the last plan named has come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from stint.errors import StintError
from stint.model.plan import Hold, Plan, Reason
from stint.model.situation import Situation
from stint.placement.newcomers import whole
from stint.sim.diary import Diary
from stint.sim.events import Kind
from stint.sim.outcome import Outcome, conclude
from stint.sim.policy import Policy
from stint.sim.soundness import UnsoundPlanError, unsound
from stint.sim.stage import Stage
from stint.sim.world import World

MOST_IN_VAIN = 20_000  # decisions in a row without one job that ends or starts for the first time
AGAIN_S = 600.0  # what a plan foresees is looked at no sooner than this after it


class EndlessPolicyError(StintError):
    """A policy decides and decides, and nothing comes of it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    now_s: float
    decisions: int
    ended: int
    jobs: int


def simulate(
    stage: Stage,
    policy: Policy,
    *,
    seed: int = 0,
    watch: Callable[[Progress], None] = lambda _: None,
    keep: Callable[[Situation, Plan], None] = lambda *_: None,
    most_in_vain: int = MOST_IN_VAIN,
) -> Outcome:
    """Run a policy until every job has ended, nothing more can happen, or the stage's time is up.

    Args:
        watch: is told now and then how far it is. What it raises ends the run: KeyboardInterrupt gives the outcome so
            far, marked as cut short.
        keep: is given every situation and its plan.
    Raises:
        UnsoundPlanError: the policy asked for what cannot be.
        EndlessPolicyError: nothing came of `most_in_vain` decisions.
        ValueError: a price that is negative or no number came into the books.
    """
    run = _Run(World(stage, seed), policy, watch, keep, most_in_vain)
    interrupted = False
    try:
        run.to_the_end()
    except KeyboardInterrupt:
        interrupted = True
    run.world.settle()
    return conclude(run.world, policy.name, run.diary, digest=run.digest.hexdigest(), interrupted=interrupted)


class _Run:
    def __init__(
        self,
        world: World,
        policy: Policy,
        watch: Callable[[Progress], None],
        keep: Callable[[Situation, Plan], None],
        most_in_vain: int,
    ) -> None:
        self.world, self.policy, self.watch, self.keep, self.most_in_vain = world, policy, watch, keep, most_in_vain
        self.diary = Diary()
        self.digest = hashlib.sha256()
        self._decided_s = float("-inf")
        self._looks_s = float("inf")  # the decision that is foreseen already
        self._last: Plan | None = None
        self._vain = 0
        self._so_far = (0, 0)

    def to_the_end(self) -> None:
        world, stage = self.world, self.world.stage
        until_s = float("inf") if stage.until_s is None else stage.until_s
        due = False
        while world.events and world.events.next_s <= until_s and not world.over:
            now_s = world.events.next_s
            while world.events and world.events.next_s <= now_s:
                due |= world.happen(world.events.pop())
                self.diary.events += 1
            if not due:
                continue
            earliest_s = self._decided_s + stage.every_s
            if now_s < earliest_s:
                self._look_at(earliest_s)
                continue
            due = False
            self._decide(now_s)
        if until_s < float("inf") and (world.events or world.open):
            world.now_s = until_s

    def _look_at(self, at_s: float) -> None:
        if not self.world.now_s < self._looks_s <= at_s:
            self._looks_s = at_s
            self.world.events.foresee(at_s, Kind.LOOK)

    def _decide(self, now_s: float) -> None:
        world = self.world
        situation = replace(world.situation(), before=self._last.standing if self._last else None)
        made = self.policy(situation)
        plan = self._last = whole(made, self._last)
        if broken := unsound(situation, plan):
            raise UnsoundPlanError(self.policy.name, broken)
        self.keep(situation, made)
        self._decided_s = now_s
        for requeue in plan.requeues:
            world.requeue(requeue)
        for placement in plan.placements:
            world.place(placement, situation)
        for resize in plan.resizes:
            if not resize.advise_only:
                world.resize(resize)
        said = self.diary.note(world, plan)
        self.digest.update(said.encode())
        if plan.requeues:
            self._look_at(now_s + world.stage.every_s)
            for requeue in plan.requeues:
                if requeue.not_before is not None:
                    self._look_at((requeue.not_before - world.stage.start) / timedelta(seconds=1))
        if later := [s for h in plan.holds if (s := _starts(h)) is not None and s > situation.now]:
            at_s = (min(later) - world.stage.start) / timedelta(seconds=1)
            self._look_at(max(at_s, now_s + max(AGAIN_S, world.stage.every_s)))
        if (until := _everybody_is_due(situation, made)) is not None:
            self._look_at((until - world.stage.start) / timedelta(seconds=1))
        self._count()

    def _count(self) -> None:
        world = self.world
        ended = len(world.lives) - len(world.open)
        so_far = (ended, self.diary.started)
        self._vain = self._vain + 1 if so_far == self._so_far else 0
        self._so_far = so_far
        if self._vain > self.most_in_vain:
            raise EndlessPolicyError(
                f"policy {self.policy.name}: nothing came of {self._vain} decisions in a row; "
                f"{len(world.open)} jobs are left at hour {world.now_s / 3600:.1f}"
            )
        self.watch(Progress(world.now_s, self.diary.decisions, ended, len(world.lives) + world.unborn))


def _everybody_is_due(situation: Situation, made: Plan) -> datetime | None:
    """When a decision about newcomers alone is to be followed by one about everybody, where that may change something.

    The operator looks every few seconds, whether anything happens or not.
    """
    if made.standing is None or not made.is_about_newcomers:
        return None
    open_ends = made.holds or any(n.empty_since is not None for n in situation.nodes)
    return made.standing.good_until if open_ends else None


def _starts(hold: Hold) -> datetime | None:
    """When a gang is meant to start, if that follows from nothing but time. Nodes tell when they are there."""
    if hold.chosen is None or hold.reason is Reason.NODES_ON_THE_WAY:
        return None
    return hold.chosen.start
