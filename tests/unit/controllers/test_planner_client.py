"""Plans are made by a real process, and when that goes wrong in whatever way there is a sound plan, or none at all."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from hack.processes import Processes, children, eventually, started_at
from stint.api.snapshot import encode_plan
from stint.controllers import planner_client
from stint.controllers.planner_client import Planner, Verdict
from stint.controllers.planner_worker import answer
from stint.decide import decide
from stint.metrics.exporter import Metrics
from stint.model.job import Checkpoint
from stint.model.plan import Reason
from stint.model.situation import Settings, Situation
from stint.testing.builders import NOW, a_job, a_node, a_pool, a_situation, an_offering, running_on
from tests.queues import a_newcomer, queue, then

ROOT = Path(__file__).resolve().parents[3]
A100 = an_offering()
WITH_BAD = (sys.executable, "-P", "-m", "tests.bad_solvers")
SHORT_S, LONG_S = 3.0, 60.0


def situation(solver: str = "greedy", **changes: Any) -> Situation:
    """Two free nodes, one that is busy, and three jobs for them; a pool may grow."""
    busy, free, other = a_node("a", A100, used_gpus=8), a_node("b", A100), a_node("c", A100)
    runs = running_on(a_job("runs"), busy, offering=A100, hours_left=3)
    waiting = [a_job("one"), a_job("two"), a_job("three", workers=2)]
    made = a_situation(
        jobs=[runs, *waiting],
        nodes=[busy, free, other],
        offerings=[A100],
        pools=[a_pool(A100, scaler="kwok", most=3)],
        settings=Settings(solver=solver),
    )
    return replace(made, **changes)


@dataclass
class Bench:
    """A planner, and what it told."""

    hanging: Path
    metrics: Metrics = field(default_factory=Metrics)
    told: list[str] = field(default_factory=list)
    made: list[Planner] = field(default_factory=list)

    def planner(self, *swapped: str, timeout_s: float = LONG_S, command: tuple[str, ...] = WITH_BAD) -> Planner:
        async def tell(text: str) -> None:
            self.told.append(text)

        self.made.append(Planner(self.metrics, tell, timeout_s=timeout_s, command=(*command, *swapped)))
        return self.made[-1]

    def steps(self) -> dict[tuple[str, str], float]:
        """Every step down that was counted, by what decided and why."""
        samples = [s for f in self.metrics.registry.collect() for s in f.samples]
        fell = [s for s in samples if s.name == "stint_plan_fallbacks_total" and s.value]
        return {(s.labels["step"], s.labels["reason"]): s.value for s in fell}

    async def hangs(self) -> int:
        """The process that does, once it does."""
        while not (found := list(self.hanging.iterdir())):
            await asyncio.sleep(0.01)
        found[0].unlink()
        return int(found[0].name)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("HANGING", str(tmp_path))
    made = Bench(tmp_path)
    yield made
    for planner in made.made:
        await planner.close()


def is_left_as_it_is(verdict: Verdict) -> bool:
    """Nobody moves, everybody is told why, and no pool grows."""
    plan = verdict.plan
    assert (plan.placements, plan.requeues, plan.resizes) == ((), (), ())
    assert [s.job for s in plan.stays] == ["team/runs"]
    assert [h.job for h in plan.holds] == ["team/one", "team/three", "team/two"]
    assert {h.reason for h in plan.holds} == {Reason.NO_PLAN}
    assert {h.message for h in plan.holds} == {verdict.situation.notes[-1]}
    return True


async def test_the_plan_is_the_one_that_deciding_here_gives(bench):
    planner = bench.planner()
    for solver in ("greedy", "exact"):
        verdict = await planner.plan(situation(solver))
        made = decide(situation(solver))
        assert verdict == Verdict(situation(solver), made, made)
    assert verdict.plan.placements
    nobody = situation(jobs=())
    for given in (situation(), nobody):  # to the byte: 0 is equal to 0.0, and not the same in a file
        assert encode_plan((await planner.plan(given)).plan) == encode_plan(decide(given))
    assert (bench.steps(), bench.told) == ({}, [])


async def test_in_a_long_queue_newcomers_are_decided_about_alone_and_everybody_is_told(bench):
    planner = bench.planner("exact=raises")
    first = await planner.plan(queue())
    assert first.made == first.plan == decide(queue())
    later = replace(then(first.plan, a_newcomer()), before=None)  # what stood is the planner's to know
    second = await planner.plan(later)
    assert second.situation.before == first.plan.standing
    assert second.made.is_about_newcomers
    assert second.made == decide(second.situation), "what is recorded replays"
    assert [p.job for p in second.plan.placements] == ["team/new"]
    assert second.plan.holds == first.plan.holds
    failed = await planner.plan(replace(later, settings=Settings(solver="exact")))
    assert not failed.made.is_about_newcomers
    third = await planner.plan(replace(later, now=later.now + timedelta(seconds=1)))
    assert third.situation.before is None, "greedy, which decided instead, leaves nothing to go on from"
    assert len(third.made.holds) == len(first.plan.holds)


@pytest.mark.parametrize(
    ("solver", "reason", "says"),
    [
        (
            "raises",
            "raised",
            "solver raises failed with ZeroDivisionError('3 jobs are too many'); greedy",
        ),
        ("lies", "unsound", "solver lies was not believed: the solver's answer is unsound: "),
        ("hangs", "overran", "solver hangs had no answer within 3 s, and its process was killed; greedy decides"),
        ("ends", "died", "solver ends lost its process: it ended with exit code 7; greedy decides instead"),
        ("unheard-of", "raised", "KeyError('unheard-of')"),
    ],
)
async def test_greedy_decides_where_a_solver_fails_and_people_are_told(bench, solver, reason, says):
    verdict = await bench.planner(timeout_s=SHORT_S).plan(situation(solver))
    assert verdict.plan == decide(situation("greedy"))
    assert bench.steps() == {("greedy", reason): 1}
    assert bench.told == list(verdict.situation.notes)
    assert says in bench.told[0]
    assert decide(verdict.situation) == verdict.plan, "what is recorded replays"


async def test_a_process_that_is_killed_while_it_decides_is_missed_and_replaced(bench):
    planner = bench.planner()
    plan = asyncio.create_task(planner.plan(situation("hangs")))
    os.kill(await bench.hangs(), signal.SIGKILL)  # which could not happen here if planning kept the loop to itself
    assert (await plan).plan == decide(situation("greedy"))
    assert bench.steps() == {("greedy", "died"): 1}
    assert "it was killed by SIGKILL" in bench.told[0]


async def test_a_process_that_died_between_two_plans_is_replaced(bench):
    planner = bench.planner("exact=hangs", timeout_s=SHORT_S)
    await planner.plan(situation())
    plan = asyncio.create_task(planner.plan(situation("exact")))
    first = await bench.hangs()
    await plan
    assert started_at(first) is None
    assert (await planner.plan(situation())).plan == decide(situation())
    assert bench.steps() == {("greedy", "overran"): 1}


@pytest.mark.parametrize(("bad", "reason"), [("hangs", "overran"), ("lies", "unsound"), ("ends", "died")])
async def test_where_greedy_fails_too_everything_is_left_as_it_is(bench, bad, reason):
    verdict = await bench.planner(f"greedy={bad}", f"exact={bad}", timeout_s=SHORT_S).plan(situation("exact"))
    assert is_left_as_it_is(verdict)
    assert bench.steps() == {("greedy", reason): 1, ("leave-as-is", reason): 1}
    assert bench.told[-1].endswith("everything is left as it is until the next cycle")
    assert verdict.situation.notes == tuple(bench.told)


async def test_who_runs_keeps_the_word_that_was_given_when_everything_is_left_as_it_is(bench):
    given = situation()
    runs = given.jobs[0]
    assert runs.assignment is not None
    runs = replace(runs, assignment=replace(runs.assignment, usd_per_hour=8.0))
    verdict = await bench.planner("greedy=ends").plan(replace(given, jobs=(runs, *given.jobs[1:])))
    (stay,) = verdict.plan.stays
    assert (stay.usd_per_hour, stay.cost_to_finish_usd) == (8.0, 24.0)
    assert stay.finish == runs.assignment.finish
    assert verdict.plan.decided_at == NOW


async def test_jobs_for_which_deciding_fails_are_left_out_and_told_so(bench):
    given = situation()
    poison = a_job("poison", checkpoint=Checkpoint(every=timedelta(0)))
    plan = (await bench.planner().plan(replace(given, jobs=(*given.jobs, poison)))).plan
    (hold,) = [h for h in plan.holds if h.job == poison.id]
    assert hold.reason is Reason.INTERNAL_ERROR
    assert "checkpoint_every_hours must be > 0" in hold.message
    assert plan.placements == decide(given).placements
    assert bench.steps() == {("without-culprits", "raised"): 1}


async def test_what_solvers_print_does_not_get_between_the_answers(bench):
    planner = bench.planner("greedy=talks")
    for _ in range(2):
        assert (await planner.plan(situation())).plan.placements == decide(situation()).placements
    assert bench.steps() == {}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("/nowhere/python",), "No such file or directory"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "it ended with exit code 3"),
        ((sys.executable, "-c", "print('\\0' * 8, end='')"), "it does not speak our language"),
    ],
)
async def test_where_no_process_can_be_started_the_operator_decides_itself_and_says_so(bench, command, says):
    verdict = await bench.planner(command=command).plan(situation())
    assert verdict.plan == decide(situation())
    assert bench.steps() == {("thread", "not-started"): 1}
    assert "the operator decides itself, within " in bench.told[0]
    assert says in bench.told[0]


async def test_a_thread_that_overruns_is_waited_for_and_nothing_moves_meanwhile(bench, monkeypatch):
    release, asked = threading.Event(), []

    def slow(request):
        asked.append(request)
        release.wait(30)
        return answer(request)

    monkeypatch.setattr(planner_client, "answer", slow)
    planner = bench.planner(command=("/nowhere/python",), timeout_s=0.05)
    try:
        for _ in range(2):
            verdict = await planner.plan(situation())
            assert {h.reason for h in verdict.plan.holds} == {Reason.NO_PLAN}
        assert len(asked) == 1
    finally:
        release.set()
    assert planner._thread is not None
    await planner._thread
    planner._timeout_s = LONG_S
    assert (await planner.plan(situation())).plan == decide(situation())


async def test_a_job_that_cannot_be_handed_over_is_left_out_and_told_so(bench):
    given = situation()
    odd = a_job("odd", deadline=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))
    plan = (await bench.planner().plan(replace(given, jobs=(*given.jobs, odd)))).plan
    (hold,) = [h for h in plan.holds if h.job == odd.id]
    assert "has a figure or date that cannot be used" in hold.message
    assert plan.placements == decide(given).placements
    assert bench.steps() == {}


async def test_the_process_ends_when_the_planner_is_closed_while_it_decides(bench):
    planner = bench.planner()
    plan = asyncio.create_task(planner.plan(situation("hangs")))
    pid = await bench.hangs()
    plan.cancel()
    with pytest.raises(asyncio.CancelledError):
        await plan
    await planner.close()
    assert started_at(pid) is None


PARENT = """
    import asyncio, sys
    from stint.controllers.planner_client import Planner
    from stint.metrics.exporter import Metrics
    from tests.unit.controllers.test_planner_client import WITH_BAD, situation

    async def main():
        await Planner(Metrics(), print, timeout_s=600, command=WITH_BAD).plan(situation(sys.argv[1]))
        print("planned", flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


@pytest.mark.parametrize("solver", ["hangs", "greedy"])
def test_the_process_ends_with_its_parent_however_that_ends(tmp_path, solver):
    processes = Processes(tmp_path / "state")
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    command = [sys.executable, "-c", textwrap.dedent(PARENT), solver]
    path = os.pathsep.join((str(ROOT), str(ROOT / "operator")))
    parent = processes.start("parent", command, env={"PYTHONPATH": path, "HANGING": str(hanging)})
    try:

        def child() -> int:
            assert parent.alive, parent.tail()
            if solver == "hangs":
                return int(next(hanging.iterdir()).name)
            assert "planned" in parent.tail()
            (only,) = children(parent.pid)
            return only

        worker = eventually(child, what="the process that decides")
        assert started_at(worker) is not None
        parent.signal(signal.SIGKILL)
        eventually(lambda: started_at(worker) is None, what="it to end with its parent")
    finally:
        processes.end_all()
