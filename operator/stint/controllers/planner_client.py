"""Gets plans made: by a process of its own, within a time limit, and one rung lower where that fails.

    the solver that is configured -> greedy -> greedy without the jobs that it fails for -> everything stays as it is

Each step down is counted, logged and told. The process is kept from plan to plan; it is killed when it overruns, and
started anew when it has ended. Where none can be started, the operator decides in a thread of its own within the same
limit; one that overruns is waited for, and until it has ended everything stays as it is. A job that cannot be handed
over to the process is left out and told so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import traceback
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from stint.controllers.planner_worker import READY, SIZE_BYTES, Answer, Request, answer
from stint.estimate.runtime import hours_between
from stint.lifecycle.requeue import requeues
from stint.metrics.exporter import Failure, Fallback, Metrics
from stint.model.job import Job
from stint.model.plan import Hold, Plan, Reason, Stay
from stint.model.situation import Situation
from stint.placement.greedy import Greedy
from stint.placement.newcomers import whole

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
MOST_TIMEOUT_S = 90.0  # three rungs of it still leave the liveness probe in peace
START_S = 30.0
HANGS_UP_S = 1.0  # from closing its pipes to its end
COMMAND = (sys.executable, "-P", "-m", "stint.controllers.planner_worker")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_AT_ONCE_BYTES = 2**26  # that may wait in memory to be read
_GREEDY = Greedy().name


@dataclass(frozen=True, slots=True)
class Verdict:
    """A plan, and what it was made of: decided again, that gives the same plan, unless everything was left as it is."""

    situation: Situation  # with the solver that answered, and a note of each one that did not
    made: Plan  # perhaps about those alone who came since the last one about everybody
    plan: Plan  # with the last one about everybody


class _NoPlanError(Exception):
    def __init__(self, reason: Failure, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.trace = trace


class _NoWorkerError(Exception):
    pass


class _UnsendableError(Exception):
    pass


class Planner:
    """One process to decide, and what to do without it.

    Args:
        tell: writes an event for people about a step down; the text is the same for the same failure.
        timeout_s: for one answer.
        command: starts the process; its own id is added, so that the process can tell whether it is still wanted.
    """

    def __init__(
        self,
        metrics: Metrics,
        tell: Callable[[str], Awaitable[object]],
        *,
        timeout_s: float = TIMEOUT_S,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._metrics = metrics
        self._tell = tell
        self._timeout_s = timeout_s
        self._command = tuple(command)
        self._worker: asyncio.Task[Process] | None = None
        self._last: Plan | None = None
        self._thread: asyncio.Task[Answer] | None = None  # that decides where no process can

    def warm_up(self) -> None:
        """Have the process started, so that the first plan need not wait for it."""
        if self._worker is None:
            self._worker = asyncio.create_task(self._start())

    async def close(self) -> None:
        """End the process."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.cancel()  # without effect where it is done
        with suppress(asyncio.CancelledError, _NoWorkerError):
            await _end(await worker)

    async def plan(self, situation: Situation) -> Verdict:
        """A plan, always."""
        situation, unsent = _sendable(situation)
        verdict = await self._plan(situation)
        if not unsent:
            return verdict
        log.error("left out, as they cannot be handed over: %s", "; ".join(h.message for h in unsent))
        return replace(verdict, plan=replace(verdict.plan, holds=(*verdict.plan.holds, *unsent)))

    async def _plan(self, situation: Situation) -> Verdict:
        solver, sparing = situation.settings.solver, False
        notes, last = situation.notes, self._last
        self._last = None
        while True:
            settings = replace(situation.settings, solver=solver)
            asked = replace(situation, settings=settings, notes=notes, before=last.standing if last else None)
            try:
                made = await self._ask(Request(situation=asked, sparing=sparing))
                self._last = whole(made, last)
                return Verdict(asked, made, self._last)
            except _NoPlanError as error:
                who = f"solver {solver}" if not sparing else f"{solver}, one job after the other,"
                if solver != _GREEDY:
                    solver, step = _GREEDY, Fallback.GREEDY
                elif error.reason is Failure.RAISED and not sparing:
                    sparing, step = True, Fallback.SPARING
                else:
                    step = Fallback.AS_IS
                text = f"{who} {error}; {_INSTEAD[step]}"
                await self._step_down(step, error.reason, text, error.trace)
            notes, last = (*notes, text), None
            if step is Fallback.AS_IS:
                plan = as_it_is(situation, text)
                return Verdict(replace(situation, notes=notes), plan, plan)

    async def _step_down(self, step: Fallback, reason: Failure, text: str, trace: str = "") -> None:
        log.error("%s%s", text, f"\n{trace}" if trace else "")
        self._metrics.fell_back(step, reason)
        await self._tell(text)

    async def _ask(self, request: Request) -> Plan:
        """From the process, or from a thread.

        Raises:
            _NoPlanError: it has none.
        """
        try:
            message = _encoded(request)
            worker = await self._running()
        except _UnsendableError as error:
            raise _NoPlanError(Failure.RAISED, str(error)) from error
        except _NoWorkerError as error:
            text = f"no process can decide this ({error}); the operator decides itself, within {self._timeout_s:g} s"
            await self._step_down(Fallback.THREAD, Failure.NOT_STARTED, text)
            found = await self._in_a_thread(request)
        else:
            found = await self._exchange(worker, message)
        if found.plan is not None:
            return found.plan
        if found.trace:
            raise _NoPlanError(Failure.RAISED, f"failed with {found.error}", found.trace)
        raise _NoPlanError(Failure.UNSOUND, f"was not believed: {found.error}")

    async def _in_a_thread(self, request: Request) -> Answer:
        """Nothing can end a thread: while one that overran goes on, no other one is started.

        Raises:
            _NoPlanError: it has no answer in time.
        """
        if self._thread is not None and not self._thread.done():
            raise _NoPlanError(Failure.OVERRAN, "is still not done with what it was asked before")
        self._thread = asyncio.create_task(asyncio.to_thread(answer, request))
        try:
            return await asyncio.wait_for(asyncio.shield(self._thread), self._timeout_s)
        except TimeoutError as error:
            raise _NoPlanError(Failure.OVERRAN, f"had no answer within {self._timeout_s:g} s") from error
        except RuntimeError as error:  # no thread can be started either
            raise _NoPlanError(Failure.NOT_STARTED, f"cannot be started in a thread: {error}") from error

    async def _exchange(self, worker: Process, message: bytes) -> Answer:
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            async with asyncio.timeout(self._timeout_s):
                worker.stdin.write(len(message).to_bytes(SIZE_BYTES))
                worker.stdin.write(message)
                await worker.stdin.drain()
                found = await _receive(worker.stdout)
            return msgspec.msgpack.decode(found, type=Answer)
        except TimeoutError as error:
            await self.close()
            text = f"had no answer within {self._timeout_s:g} s, and its process was killed"
            raise _NoPlanError(Failure.OVERRAN, text) from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await _ended(worker)
            await self.close()
            raise _NoPlanError(Failure.DIED, f"lost its process: {_end_of(worker)}") from error
        except BaseException as error:
            await self.close()  # what is under way would be taken for the answer to the next question
            if isinstance(error, Exception):  # what cannot be put in a message, or read from one
                raise _NoPlanError(Failure.RAISED, f"failed with {error!r:.500}", traceback.format_exc()) from error
            raise

    async def _running(self) -> Process:
        """The process.

        Raises:
            _NoWorkerError: there is none, and none can be started.
        """
        if self._worker is not None and self._worker.done():
            failed = self._worker.cancelled() or self._worker.exception() is not None
            if failed or self._worker.result().returncode is not None:
                await self.close()
        self.warm_up()
        assert self._worker is not None
        return await asyncio.shield(self._worker)

    async def _start(self) -> Process:
        env = {**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = (*self._command, str(os.getpid()))
        try:
            worker = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, env=env, limit=_AT_ONCE_BYTES
            )
        except (OSError, RuntimeError) as error:  # the latter: no thread that waits for its end
            raise _NoWorkerError(str(error)) from error
        assert worker.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                if await _receive(worker.stdout) != READY:
                    raise _NoWorkerError("it does not speak our language")
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            await _ended(worker)
            await _end(worker)
            raise _NoWorkerError(_end_of(worker)) from error
        except BaseException:
            await _end(worker)
            raise
        return worker


_INSTEAD = {
    Fallback.GREEDY: "greedy decides instead",
    Fallback.SPARING: "the jobs that it fails for are left out",
    Fallback.AS_IS: "everything is left as it is until the next cycle",
}


def as_it_is(situation: Situation, why: str) -> Plan:
    """The plan of a cycle that no solver answers: gangs that can go on do, jobs that wait are told why, pools stay."""
    waiting = sorted((j for j in situation.jobs if j.waiting), key=lambda j: j.id)
    placed = sorted((j for j in situation.jobs if j.assignment is not None), key=lambda j: j.id)
    requeued = requeues(situation)  # reads facts only: a gang that cannot go on does not wait for a solver
    gone = {r.job for r in requeued}
    return Plan(
        decided_at=situation.now,
        holds=tuple(Hold(job=j.id, reason=Reason.NO_PLAN, message=why) for j in waiting if j.id not in gone),
        stays=tuple(_stay(j, situation) for j in placed if j.id not in gone),
        requeues=requeued,
    )


def _stay(job: Job, situation: Situation) -> Stay:
    """At the rate and until the time that were last told; deciding itself may be what fails."""
    assert job.assignment is not None
    rate, finish = job.assignment.usd_per_hour, job.assignment.finish
    hours = max(0.0, hours_between(situation.now, finish)) if finish else 0.0
    return Stay(job=job.id, cost_to_finish_usd=rate * hours, usd_per_hour=rate, finish=finish)


def _encoded(request: Request) -> bytes:
    """As it goes over the pipe. What somebody wrote into an object may be something that cannot."""
    try:
        return msgspec.msgpack.encode(request)
    except Exception as error:
        raise _UnsendableError(f"cannot be asked: {error!r:.200}") from error


def _sendable(situation: Situation) -> tuple[Situation, tuple[Hold, ...]]:
    """What can be handed over of it; and each job that cannot, told so where it waits."""
    try:
        msgspec.msgpack.encode(situation)
    except Exception:
        wrong = {j.id: text for j in situation.jobs if (text := _unsendable(j))}
        wrong |= {g.job: text for g in situation.gangs if (text := _unsendable(g))}
        rest = replace(
            situation,
            jobs=tuple(j for j in situation.jobs if j.id not in wrong),
            gangs=tuple(g for g in situation.gangs if g.job not in wrong),
        )
        waits = {j.id for j in situation.jobs if j.assignment is None}
        said = {
            job: f"it has a figure or date that cannot be used: {wrong[job]}" for job in sorted(waits & wrong.keys())
        }
        return rest, tuple(Hold(job=job, reason=Reason.INTERNAL_ERROR, message=text) for job, text in said.items())
    return situation, ()


def _unsendable(thing: object) -> str:
    try:
        msgspec.msgpack.encode(thing)
    except Exception as error:
        return repr(error)[:200]
    return ""


async def _receive(pipe: asyncio.StreamReader) -> bytes:
    """One message.

    Raises:
        IncompleteReadError: whoever sends has ended.
    """
    return await pipe.readexactly(int.from_bytes(await pipe.readexactly(SIZE_BYTES)))


async def _ended(worker: Process) -> None:
    """Wait for one that hangs up to have ended: if it were killed meanwhile, asyncio might miss how it did."""
    with suppress(TimeoutError):
        await asyncio.wait_for(worker.wait(), HANGS_UP_S)


async def _end(worker: Process) -> None:
    with suppress(ProcessLookupError):
        worker.kill()
    assert worker.stdin is not None
    worker.stdin.close()
    await worker.wait()


def _end_of(worker: Process) -> str:
    code = worker.returncode
    if code is None or code >= 0:
        return f"it ended with exit code {code}"
    return f"it was killed by {signal.Signals(-code).name}"
