"""The process that decides, and does nothing else: `python -m stint.controllers.planner_worker PARENT`.

A solver that hangs, runs out of memory or is killed takes this process with it and not the operator, which goes on to
answer probes and watches meanwhile. `stint.controllers.planner_client` starts it and speaks to it over pipes: one
request and one answer at a time, each with its length before it, in MessagePack. For 1,000 jobs on 600 nodes that takes
the operator 1.4 ms to encode and 15 ms to decode; pickle takes 14 and 48 ms, and JSON cannot write an infinite price.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import msgspec

from stint.controllers.gc_tuning import collect_rarely
from stint.decide import decide
from stint.errors import UnsoundAssignmentError
from stint.model.job import Job, JobId
from stint.model.plan import Hold, Plan, Reason
from stint.model.situation import Situation
from stint.placement.greedy import Greedy
from stint.placement.solver import Solver
from stint.placement.solvers import SOLVERS

SIZE_BYTES = 8  # of the length before each message
READY = b"ready"
_PR_SET_PDEATHSIG = 1  # of prctl(2)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Decide about this, with the solver that its settings name."""

    situation: Situation
    sparing: bool = False  # leave out jobs for which deciding fails; the solver is greedy then


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, or why there is none."""

    plan: Plan | None = None
    error: str = ""  # in a line
    trace: str = ""  # for the log; empty: the answer was unsound


def answer(request: Request, solvers: Mapping[str, Solver] = SOLVERS) -> Answer:
    """Decide. Whatever goes wrong is told, not raised."""
    try:
        if request.sparing:
            return Answer(plan=without_culprits(request.situation))
        return Answer(plan=decide(request.situation, solver=solvers[request.situation.settings.solver]))
    except UnsoundAssignmentError as error:
        return Answer(error=f"{error!s:.500}")
    except Exception as error:
        return Answer(error=f"{error!r:.500}", trace=traceback.format_exc())


def without_culprits(situation: Situation) -> Plan:
    """A decision for all jobs but those that, each by itself, cannot be decided about; those are told so.

    Raises:
        Exception: whatever `decide` raises for the others together.
    """
    culprits = _culprits(situation, situation.jobs)
    rest = tuple(j for j in situation.jobs if j.id not in culprits)
    plan = decide(replace(situation, jobs=rest), solver=Greedy())
    held = tuple(
        Hold(
            job=job.id,
            reason=Reason.INTERNAL_ERROR,
            message=f"Stint cannot decide about it: {culprits[job.id]!r:.500}. That is a mistake of Stint's; please "
            "report it with this TrainingJob. The other jobs go on",
        )
        for job in situation.jobs
        if job.id in culprits and job.waiting
    )
    return replace(plan, holds=tuple(sorted((*plan.holds, *held), key=lambda h: h.job)))


def _culprits(situation: Situation, jobs: tuple[Job, ...]) -> dict[JobId, Exception]:
    """Those of some jobs that fail alone, found by halves: one among a thousand costs about as much as two plans."""
    try:
        decide(replace(situation, jobs=jobs), solver=Greedy())
    except Exception as error:
        if len(jobs) < 2:
            return {job.id: error for job in jobs}
        half = len(jobs) // 2
        return _culprits(situation, jobs[:half]) | _culprits(situation, jobs[half:])
    return {}


def send(pipe: BinaryIO, message: bytes) -> None:
    """One message, whole."""
    pipe.write(len(message).to_bytes(SIZE_BYTES))
    pipe.write(message)
    pipe.flush()


def serve(requests: BinaryIO, answers: BinaryIO, solvers: Mapping[str, Solver]) -> None:
    """Answer until nobody asks any more."""
    send(answers, READY)
    while len(size := requests.read(SIZE_BYTES)) == SIZE_BYTES:
        message = requests.read(int.from_bytes(size))
        if len(message) < int.from_bytes(size):
            return
        send(answers, msgspec.msgpack.encode(answer(msgspec.msgpack.decode(message, type=Request), solvers)))


def main(parent: int, solvers: Mapping[str, Solver] = SOLVERS) -> None:
    """The process: ends with its parent, whatever either of the two is doing then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return  # it had ended before
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # rather this process than the operator
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what solvers print must not get between answers
    collect_rarely()
    with suppress(BrokenPipeError):
        serve(sys.stdin.buffer, answers, solvers)


if __name__ == "__main__":
    main(int(sys.argv[1]))
