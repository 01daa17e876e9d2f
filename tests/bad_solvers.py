"""The process that decides, with solvers that should not be: `python -m tests.bad_solvers [NAME=OTHER ...] PARENT`.

`greedy=hangs` puts one in another's place. One that hangs leaves a file named after its process in $HANGING.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stint.controllers.planner_worker import main
from stint.placement.greedy import Greedy
from stint.placement.problem import Problem
from stint.placement.solver import Assignment, Choice, Solver
from stint.placement.solvers import SOLVERS


@dataclass(frozen=True)
class Bad:
    """A solver that is not to be trusted."""

    name: str
    does: Callable[[Problem], Assignment]

    def solve(self, problem: Problem, *, budget_steps: int, rng: np.random.Generator) -> Assignment:
        del budget_steps, rng
        return self.does(problem)


def raises(problem: Problem) -> Assignment:
    raise ZeroDivisionError(f"{len(problem.jobs)} jobs are too many")


def hangs(problem: Problem) -> Assignment:
    (Path(os.environ["HANGING"]) / str(os.getpid())).touch()
    while problem:
        time.sleep(1)
    raise AssertionError


def lies(problem: Problem) -> Assignment:
    """Everybody is given the first node, be it full or not."""
    first = [int(np.flatnonzero(problem.columns.job == j)[0]) for j in range(len(problem.jobs))]
    return Assignment(choices=tuple(Choice(column=c, start_hours=0.0, nodes=(0,)) for c in first))


def talks(problem: Problem) -> Assignment:
    """As a library does that prints how far it is."""
    print("iteration 1: nothing found yet", flush=True)
    os.write(1, b"from the depths of a library\n")
    return Greedy().solve(problem, budget_steps=1, rng=np.random.Generator(np.random.PCG64(0)))


def ends(problem: Problem) -> Assignment:
    """As a library does that calls abort."""
    os._exit(7 if problem else 8)


if __name__ == "__main__":
    bad: list[Solver] = [Bad(f.__name__, f) for f in (raises, hangs, lies, talks, ends)]
    known = {**SOLVERS, **{s.name: s for s in bad}}
    swapped = dict(argument.split("=") for argument in sys.argv[1:-1])
    main(int(sys.argv[-1]), {**known, **{name: known[other] for name, other in swapped.items()}})
