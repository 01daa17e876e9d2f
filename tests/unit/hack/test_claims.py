from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hack.cluster import claims
from hack.processes import Processes, free_port, listens

SLEEP = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_belongs_to_a_process_that_is_gone_is_ended(tmp_path: Path):
    state = tmp_path / "state"
    orphan = Processes(state).start("orphan", SLEEP)
    script = (
        f"import sys; from pathlib import Path; from hack.cluster import claims; claims.claim(Path({str(state)!r}))"
    )
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={"PYTHONPATH": ".", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    )
    claims.clear_orphans()
    assert not orphan.alive
    assert Processes(state).noted() == []


def test_what_belongs_to_a_living_process_is_left_alone(tmp_path: Path):
    processes = Processes(tmp_path / "state")
    mine = processes.start("mine", SLEEP)
    claims.claim(tmp_path / "state")
    claims.clear_orphans()
    assert mine.alive
    claims.release(tmp_path / "state")
    processes.end_all()


def test_a_state_folder_that_is_gone_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "state").mkdir()
    claims.claim(tmp_path / "state")
    (tmp_path / "state").rmdir()
    monkeypatch.setattr(claims, "started_at", lambda _: None)
    claims.clear_orphans()
    assert list((tmp_path / "cache" / "stint" / "claims").iterdir()) == []


def test_ports_are_free_and_not_given_twice():
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert not any(map(listens, ports))
