"""Starts operators quickly: a process that has imported everything already and forks.

A life of a second or less would otherwise be spent on importing. Reads one JSON list of arguments a line, answers with
the child's process id.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType

from hack.cluster import ROOT


class Nursery:
    """The forking process, seen from outside."""

    def __init__(self, log: Path) -> None:
        """`log`: what the operators write."""
        self.log = log
        path = os.pathsep.join((str(ROOT), str(ROOT / "operator")))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hack.faults.nursery", str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            cwd=ROOT,
        )

    def __enter__(self) -> Nursery:
        """Ready when the first child is asked for."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It ends, and its last child with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def start(self, arguments: list[str]) -> int:
        """`stint ARGUMENTS`; returns its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def alive(pid: int) -> bool:
    """Whether a child still runs; the nursery reaps them at once."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    """Until standard input ends."""
    import stint.controllers.logs
    import stint.controllers.wiring  # noqa: F401
    from stint.cli.main import main as run

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    pid = 0
    for line in sys.stdin:
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        code = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            target = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(target, 1)
            os.dup2(target, 2)
            code = run(json.loads(line))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    if pid and alive(pid):
        os.kill(pid, signal.SIGKILL)  # whoever asked for it may have been killed himself
    return 0


if __name__ == "__main__":
    sys.exit(main())
