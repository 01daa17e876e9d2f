"""`stint simulate SCENARIO.yaml`, or jobs from a log: each policy's month, in money."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stint.api import snapshot
from stint.cli import history, tables
from stint.cli import scenario as files
from stint.errors import InvalidInputError, Mistake, StintError
from stint.model.plan import Plan
from stint.model.situation import Situation
from stint.sim import loop, report
from stint.sim.books import APART
from stint.sim.outcome import Outcome
from stint.sim.policies import POLICIES
from stint.sim.policy import Policy
from stint.sim.stage import Stage

STOPPED = 130  # as shells call a program that Ctrl-C ended
PLAN_TIMEOUT_S = 300.0
_AGAIN_S = 1.0  # a policy that swallows what ends it is told again

_NUMBERS = (
    *("SEED", "$ TOTAL", "$ USEFUL", "$ IDLE", "$ HELD", "$ REWORK", "$ START-UP", "$ OTHER"),
    *("WAIT P50 H", "P99 H", "MEAN JCT H", "MISSES", "UNFINISHED", "DECISIONS"),
)


class HangingPolicyError(StintError):
    """A policy has been at one decision for too long."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A policy that may take so long for a decision, by the clock on the wall.

    The alarm goes off between two steps of Python: what hangs in a library of C goes on until that returns.
    """

    policy: Policy
    limit_s: float

    @property
    def name(self) -> str:
        """Of the policy."""
        return self.policy.name

    def __call__(self, situation: Situation) -> Plan:
        """See `Policy`.

        Raises:
            HangingPolicyError: it has no plan in time.
        """

        def ring(number: int, frame: object) -> None:
            del number, frame
            text = f"has no plan for {situation.now:%Y-%m-%d %H:%M:%S} after {self.limit_s:g} s; see --plan-timeout"
            raise HangingPolicyError(f"policy {self.name} {text}")

        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, self.limit_s, _AGAIN_S)
            return self.policy(situation)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line."""
    verb = verbs.add_parser("simulate", help="what a month would cost, by this and other policies; needs no cluster")
    verb.add_argument(
        "scenario",
        type=Path,
        nargs="?",
        help="a YAML file: fleet, prices, interruptions, jobs, policies, seeds; beside a log its jobs do not count",
    )
    history.add_options(verb)
    verb.add_argument("--policy", action="append", metavar="NAME", help="instead of the file's; may be repeated")
    verb.add_argument("--seed", type=int, action="append", help="instead of the file's; may be repeated")
    verb.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with plots and the decision log")
    verb.add_argument(
        "--plan-timeout",
        type=float,
        default=PLAN_TIMEOUT_S,
        metavar="SECONDS",
        help="a policy that is at one decision for so long is ended (default: %(default)s)",
    )
    verb.add_argument("-o", "--output", choices=("table", "json"), default="table")


def simulate(options: argparse.Namespace) -> int:
    """Returns the exit code: 0, or 130 after Ctrl-C, with what there is until then."""
    if unknown := [p for p in options.policy or () if p not in POLICIES]:
        text = f"must be one of {', '.join(POLICIES)}"
        raise InvalidInputError("the command line", [Mistake("--policy", p, text) for p in unknown])
    if wrong := [s for s in options.seed or () if s < 0]:
        raise InvalidInputError("the command line", [Mistake("--seed", str(s), "must be 0 or more") for s in wrong])
    if not 0 < options.plan_timeout < float("inf"):
        mistake = Mistake("--plan-timeout", f"{options.plan_timeout:g}", "must be more than 0")
        raise InvalidInputError("the command line", [mistake])
    read, notes = _read(options)
    seeds, policies = options.seed or read.scenario.seeds, options.policy or read.scenario.policies
    outcomes: list[Outcome] = []
    failures: list[str] = []
    stopped = False
    with _bar() as bar, _ctrl_c() as asked:
        for name, seed in [(p, s) for p in policies for s in seeds]:
            try:
                stage, policy = read.stage(seed), Bounded(POLICIES[name], options.plan_timeout)
                outcomes.append(_run(stage, policy, seed, bar, asked))
            except InvalidInputError:
                raise  # it is the same for everybody
            except StintError as error:
                failures.append(str(error))
            if stopped := asked() or any(o.interrupted for o in outcomes):
                break
    if options.output == "json":
        sys.stdout.write(snapshot.canonical([asdict(o) for o in outcomes]).decode())
    else:
        _show(outcomes)
    for text in notes:
        print(f"stint: {text}", file=sys.stderr)
    for text in failures:
        print(f"stint: {text}", file=sys.stderr)
    if options.report is not None:
        _write(options.report, report.page(read.scenario.name, outcomes))
    if stopped:
        print("stint: stopped; this is what there was until then", file=sys.stderr)
        return STOPPED
    return 1 if failures else 0


def _read(options: argparse.Namespace) -> tuple[files.Read, tuple[str, ...]]:
    """What to simulate, and what to say of it."""
    if history.asked_for(options):
        found = history.read(options)
        return found.read, found.notes
    if options.scenario is None:
        text = "name a scenario, or give --from-csv, --from-sacct or --from-cluster"
        raise InvalidInputError("the command line", [Mistake("SCENARIO", "nothing", text)])
    return files.read(options.scenario), ()


def _run(stage: Stage, policy: Policy, seed: int, bar: Progress | None, asked: Callable[[], bool]) -> Outcome:
    task = bar.add_task(f"{policy.name}, seed {seed}", total=max(1, len(stage.jobs)), day=0.0) if bar else None

    def watch(so_far: loop.Progress) -> None:
        if bar is not None and task is not None and so_far.decisions % 10 == 0:
            bar.update(task, completed=so_far.ended, day=so_far.now_s / 86_400.0)
        if asked():
            raise KeyboardInterrupt

    outcome = loop.simulate(stage, policy, seed=seed, watch=watch)
    if bar is not None and task is not None:
        bar.update(task, completed=outcome.finished, day=outcome.hours / 24.0)
    return outcome


@contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Whether somebody has pressed it: then the run ends after this decision, with the books in order.

    Pressed again, it ends everything at once.
    """
    pressed = False

    def note(number: int, frame: object) -> None:
        nonlocal pressed
        del number, frame
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar() -> Iterator[Progress | None]:
    """On standard error, where somebody looks at it."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} jobs, day {task.fields[day]:.1f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield bar


def _show(outcomes: list[Outcome]) -> None:
    table = tables.table("POLICY", *_NUMBERS, right=_NUMBERS)
    for o in outcomes:
        other = sum(o.usd[n] for n in APART)
        usd = [o.total_usd, *(o.usd[n] for n in ("useful", "idle", "held", "rework", "startup")), other]
        hours = [o.p50_wait_h, o.p99_wait_h, o.mean_jct_h]
        table.add_row(
            o.policy + (" (stopped)" if o.interrupted else ""),
            str(o.seed),
            *(f"{x:,.2f}" for x in usd),
            *(f"{x:.2f}" for x in hours),
            str(o.misses),
            str(len(o.unfinished)),
            str(o.decisions),
        )
    out = tables.console()
    out.print(table if outcomes else "No policy came to an end.")
    for o in outcomes:
        for job, why in list(o.unfinished.items())[:5]:
            out.print(f"{o.policy}: {job} has not ended: {why or 'it was still running'}")


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(text)
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise StintError(f"the report cannot be written to {path}: {error.strerror}") from error
