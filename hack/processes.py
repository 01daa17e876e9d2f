"""Processes that outlive the one that starts them, and that can be found and ended again.

Each is noted in the state folder with its pid and the time it started, so that a pid that has been given to another
process since is never touched.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class HopelessError(Exception):
    """It makes no sense to wait any longer."""


class NotYetError(Exception):
    """What is waited for has not happened in time."""


def eventually(check: Callable[[], T], *, timeout: float = 30, what: str = "", every: float = 0.05) -> T:
    """Call `check` until it returns something true and raises nothing; then return that.

    Raises:
        NotYetError: with the last answer or the last error.
    """
    end = time.monotonic() + timeout
    while True:
        last: object
        try:
            last = found = check()
            if found:
                return found
        except HopelessError:
            raise
        except Exception as error:
            last = error
        if time.monotonic() > end:
            raise NotYetError(f"{what or 'condition'}: not within {timeout:.0f} s; last: {last!r}")
        time.sleep(every)


_given: set[int] = set()


def listens(port: int) -> bool:
    """Whether somebody on this machine does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nobody listens on, not given out before, and below those that outgoing connections take."""
    for port in random.sample(range(10_000, 32_000), 200):
        if port not in _given and not listens(port):
            _given.add(port)
            return port
    raise HopelessError("found no free port on 127.0.0.1")


def write_whole(path: Path, text: str) -> None:
    """Whoever reads it finds all of it or nothing, even if this process is killed now."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


def started_at(pid: int) -> str | None:
    """When a process started, in the kernel's clock ticks; None: there is none, or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def children(pid: int) -> list[int]:
    """Of any of its threads, that run."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return sorted(child for child in found if started_at(child) is not None)


@dataclass(frozen=True)
class Process:
    """One that was started here."""

    name: str
    pid: int
    started: str
    log: Path

    @property
    def alive(self) -> bool:
        """The very same process still runs."""
        return started_at(self.pid) == self.started

    def end(self, *, grace_s: float = 10) -> None:
        """Ask it to end, wait, and insist."""
        for number, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            if not self.alive:
                break
            self.signal(number)
            try:
                eventually(lambda: not self.alive, timeout=patience, what=f"{self.name} to end")
            except NotYetError:
                continue
        _reap(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is still the same process."""
        if self.alive:
            os.kill(self.pid, number)
        if number is signal.SIGKILL:
            eventually(lambda: not self.alive, timeout=10, what=f"{self.name} to die")
            _reap(self.pid)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


class Processes:
    """Those of one state folder."""

    def __init__(self, state: Path) -> None:
        self._notes = state / "processes"
        self._logs = state / "logs"
        self._notes.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)

    def start(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Process:
        """Start one in a session of its own, its output in a log file, and note it."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        process = Process(name, child.pid, started_at(child.pid) or "", log)
        note = {"name": name, "pid": process.pid, "started": process.started, "log": str(log)}
        write_whole(self._notes / f"{name}.json", json.dumps(note))
        child.returncode = 0  # it is ours to end by pid; keeps Popen from warning that it still runs
        return process

    def noted(self) -> list[Process]:
        """All that were started and not yet ended, latest first."""
        notes = sorted(self._notes.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
        found = [json.loads(p.read_text()) for p in notes]
        return [Process(n["name"], n["pid"], n["started"], Path(n["log"])) for n in found]

    def find(self, name: str) -> Process | None:
        """The one of that name, if it runs."""
        return next((p for p in self.noted() if p.name == name and p.alive), None)

    def end(self, process: Process) -> None:
        """End one and forget it."""
        process.end()
        (self._notes / f"{process.name}.json").unlink(missing_ok=True)

    def end_all(self) -> None:
        """End all, the latest first."""
        for process in self.noted():
            self.end(process)
