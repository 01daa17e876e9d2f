"""The workload as pods run it: processes that find each other over TCP, are ended, and go on."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hack.kind.workload import train
from hack.kind.workload.train import Checkpoints, Settings, SettingsError, State

WORLD = 3
STEPS = 60
SLOW = 0.2  # seconds a step: what is interrupted must not be over before
PATIENCE_S = 60.0

Event = dict[str, Any]


class Gang:
    """Its processes by rank, and what they have said so far."""

    def __init__(self, env: dict[str, str]) -> None:
        self.port = free_port()
        self._env = env | {"MASTER_PORT": str(self.port)}
        self.processes: list[subprocess.Popen[str]] = []
        self.events: list[Event] = []
        self._readers: list[threading.Thread] = []
        self._heard = threading.Condition()

    def start(self, rank: int) -> None:
        env = self._env | {"JOB_COMPLETION_INDEX": str(rank)}
        process = subprocess.Popen([sys.executable, train.__file__], env=env, stdout=subprocess.PIPE, text=True)
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self.processes.append(process)
        self._readers.append(reader)
        reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._heard:
                self.events.append(json.loads(line))
                self._heard.notify_all()

    def until(self, event: str, *, rank: int = 0, step: int = 0) -> Event:
        """The first such event at that step or later."""

        def found() -> Event | None:
            return next((e for e in self.all(event, rank) if e["step"] >= step), None)

        with self._heard:
            if not self._heard.wait_for(lambda: found() is not None, PATIENCE_S):
                raise AssertionError(f"no {event} of rank {rank} at step {step}: {self.events}")
            last = found()
            assert last is not None
            return last

    def all(self, event: str, rank: int) -> list[Event]:
        return [e for e in self.events if e["event"] == event and e["rank"] == rank]

    def one(self, event: str, rank: int) -> Event:
        (only,) = self.all(event, rank)
        return only

    def codes(self) -> list[int]:
        """Exit statuses by rank, once all have ended and all they said is heard."""
        until = time.monotonic() + PATIENCE_S
        codes = [process.wait(max(until - time.monotonic(), 0.1)) for process in self.processes]
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return codes

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.codes()
        for process in self.processes:
            assert process.stdout is not None
            process.stdout.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def running(
    folder: Path, *, seconds: float = 0.0, every: int = 1000, world: int = WORLD, **more: str
) -> Iterator[Gang]:
    """The first `world` of a gang's ranks at work. By default a checkpoint is made only where a test asks for one."""
    gang = Gang(
        {
            "PATH": os.environ["PATH"],
            "WORLD_SIZE": str(WORLD),
            "MASTER_ADDR": "127.0.0.1",
            "STEPS": str(STEPS),
            "STEP_SECONDS": str(seconds),
            "CHECKPOINT_DIR": str(folder),
            "CHECKPOINT_EVERY": str(every),
            **more,
        }
    )
    try:
        for rank in range(world):
            gang.start(rank)
        yield gang
    finally:
        gang.close()


def checkpoint(folder: Path) -> Event:
    told: Event = json.loads((folder / "checkpoint.json").read_text())
    return told


def loss_of(folder: Path, **env: str) -> float:
    """The final loss of a run that goes on in that folder, which all ranks must agree on."""
    with running(folder, **env) as gang:
        assert gang.codes() == [0] * WORLD
        (loss,) = {gang.one("done", rank)["loss"] for rank in range(WORLD)}
        assert isinstance(loss, float)
        return loss


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The final loss of a run that nothing happened to."""
    return loss_of(tmp_path_factory.mktemp("undisturbed"))


def test_a_run_learns_and_tells_of_it(tmp_path: Path, undisturbed: float):
    with running(tmp_path, every=25, seconds=0.01) as gang:
        assert gang.codes() == [0] * WORLD
    for rank in range(WORLD):
        said = [e["event"] for e in gang.events if e["rank"] == rank and e["event"] != "checkpoint"]
        assert said == ["start", "rendezvous", *["step"] * STEPS, "done"]
    assert [e["step"] for e in gang.all("step", 1)] == list(range(1, STEPS + 1))
    assert [e["step"] for e in gang.all("checkpoint", 0)] == [25, 50, STEPS]
    done = gang.one("done", 0)
    assert done["loss"] == undisturbed  # when checkpoints are written changes nothing
    assert done["loss"] < gang.all("step", 0)[0]["loss"] / 10
    assert (done["attempt"], done["seconds_lost"]) == (1, 0)
    assert done["seconds_useful"] >= STEPS * 0.01
    assert checkpoint(tmp_path)["step"] == STEPS


def test_a_finished_run_that_is_started_again_has_nothing_to_do(tmp_path: Path):
    first = loss_of(tmp_path)
    with running(tmp_path) as gang:
        assert gang.codes() == [0] * WORLD
    assert not gang.all("step", 0)
    assert gang.one("done", 0)["loss"] == first


@pytest.mark.parametrize("rank", [0, 2])
def test_sigterm_to_one_rank_stops_all_at_a_checkpoint(tmp_path: Path, undisturbed: float, rank: int):
    with running(tmp_path, seconds=SLOW) as gang:
        gang.until("step", rank=rank, step=2)
        gang.processes[rank].send_signal(signal.SIGTERM)
        assert gang.codes() == [143] * WORLD
    assert len(gang.all("sigterm", rank)) == 1
    step = gang.one("checkpoint", 0)["step"]
    assert {gang.all("step", r)[-1]["step"] for r in range(WORLD)} == {step}
    assert checkpoint(tmp_path)["step"] == step

    with running(tmp_path) as gang:
        assert gang.codes() == [0] * WORLD
    for r in range(WORLD):
        resumed = gang.one("resume", r)
        assert (resumed["step"], resumed["seconds_lost"], resumed["steps_lost"]) == (step, 0, 0)
        assert resumed["attempt"] == 2
        assert gang.one("done", r)["loss"] == undisturbed


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_fails_the_gang_and_what_it_cost_is_known(tmp_path: Path, undisturbed: float, victim: int):
    with running(tmp_path, seconds=SLOW) as gang:  # something to come back to
        gang.until("step", step=1)
        gang.processes[0].send_signal(signal.SIGTERM)
        assert gang.codes() == [143] * WORLD
    kept = checkpoint(tmp_path)

    with running(tmp_path, seconds=SLOW) as gang:
        gang.until("step", step=kept["step"] + 2)
        gang.processes[victim].kill()
        codes = gang.codes()
    assert codes == [-signal.SIGKILL if rank == victim else 75 for rank in range(WORLD)]
    assert all(len(gang.all("lost", rank)) == 1 for rank in range(WORLD) if rank != victim)
    last = gang.all("step", 0)[-1]

    with running(tmp_path) as gang:
        assert gang.codes() == [0] * WORLD
    resumed, done = gang.one("resume", 1), gang.one("done", 1)
    assert (resumed["step"], resumed["attempt"]) == (kept["step"], 3)
    assert resumed["seconds_useful"] == kept["seconds_useful"]
    # Rank 0 writes down a step before it tells of it: where it is killed between the two, one more is known.
    assert resumed["steps_lost"] in {last["step"] - kept["step"] + extra for extra in range(2 if victim == 0 else 1)}
    told = last["seconds_useful"] - kept["seconds_useful"]
    assert resumed["seconds_lost"] >= max(told, resumed["steps_lost"] * SLOW) - 1e-6
    assert done["seconds_lost"] == resumed["seconds_lost"]
    assert done["loss"] == undisturbed


def test_what_was_lost_is_counted_once(tmp_path: Path):
    store = Checkpoints(tmp_path)
    first = store.resume()
    store.progress(State(step=4, attempt=1, seconds_useful=2.0), first)
    second = store.resume()
    assert (second.attempt, second.step, second.steps_lost, second.seconds_lost) == (2, 0, 4, 2.0)
    third = store.resume()  # the attempt between did not do a step
    assert (third.attempt, third.steps_lost, third.seconds_lost) == (3, 0, 2.0)


def test_torn_progress_is_no_progress(tmp_path: Path):
    store = Checkpoints(tmp_path)
    store.resume()
    (tmp_path / "progress.json").write_text("")
    assert store.resume().steps_lost == 0


def test_a_rank_that_never_comes_is_given_up_for_lost(tmp_path: Path):
    with running(tmp_path, world=2, RENDEZVOUS_SECONDS="1") as gang:
        assert gang.codes() == [75, 75]
    assert "ranks [2]" in gang.one("lost", 0)["reason"]
    assert not list(tmp_path.iterdir())


def test_a_rank_that_falls_silent_is_lost_too(tmp_path: Path):
    with running(tmp_path, seconds=SLOW, PEER_SECONDS="1") as gang:
        gang.until("step", step=1)
        gang.processes[1].send_signal(signal.SIGSTOP)
        assert [gang.processes[rank].wait(PATIENCE_S) for rank in (0, 2)] == [75, 75]
        gang.processes[1].kill()
        gang.codes()
    assert "rank 1" in gang.one("lost", 0)["reason"]


def test_sigterm_before_the_gang_is_together_ends_a_rank_at_once(tmp_path: Path):
    with running(tmp_path, world=1) as gang:
        gang.until("start")
        gang.processes[0].send_signal(signal.SIGTERM)
        assert gang.codes() == [143]


def test_callers_that_are_none_of_the_gang_are_sent_away(tmp_path: Path, undisturbed: float):
    with running(tmp_path, world=1) as gang:
        for said in (
            b"GET / HTTP/1.1\r\n\r\n",
            struct.pack("!I2d", 16, 1, WORLD + 1),
            struct.pack("!I2d", 16, 0, WORLD),
        ):
            with called(gang.port) as caller:
                caller.sendall(said)
                with suppress(ConnectionResetError):
                    assert caller.recv(1) == b""
        for rank in range(1, WORLD):
            gang.start(rank)
        assert gang.codes() == [0] * WORLD
    assert gang.one("done", 0)["loss"] == undisturbed


def called(port: int) -> socket.socket:
    """Rank 0, as soon as it listens."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        except ConnectionRefusedError:
            assert time.monotonic() < until, "rank 0 does not listen"
            time.sleep(0.01)


if importlib.util.find_spec("torch"):  # it is an extra of its own

    def test_gloo_finds_the_same_loss_however_often_it_is_interrupted(tmp_path: Path):
        told = {"BACKEND": "gloo", "GLOO_SOCKET_IFNAME": "lo"}
        plain = loss_of(tmp_path / "plain", **told)
        with running(tmp_path / "cut", seconds=SLOW, **told) as gang:
            gang.until("step", step=2)
            assert gang.one("rendezvous", 0)["backend"] == "gloo"
            gang.processes[1].send_signal(signal.SIGTERM)
            assert gang.codes() == [143] * WORLD
        with running(tmp_path / "cut", seconds=SLOW, **told) as gang:
            gang.until("step", step=checkpoint(tmp_path / "cut")["step"] + 2)
            gang.processes[1].kill()
            assert gang.codes() == [75, -signal.SIGKILL, 75]
        assert loss_of(tmp_path / "cut", **told) == plain


TOLD = {"STEPS": "5", "CHECKPOINT_DIR": "/c", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("env", "rank", "world"),
    [
        ({"RANK": "5", "WORLD_SIZE": "8", "JOB_COMPLETION_INDEX": "1", "PET_NNODES": "2"}, 5, 8),  # under torchrun
        ({"JOB_COMPLETION_INDEX": "1", "WORLD_SIZE": "8", "PET_NNODES": "2"}, 1, 2),  # one process for four GPUs
        ({"JOB_COMPLETION_INDEX": "1", "WORLD_SIZE": "8"}, 1, 8),
    ],
)
def test_who_a_process_is(env: dict[str, str], rank: int, world: int):
    settings = Settings.read(TOLD | env)
    assert (settings.rank, settings.world) == (rank, world)


def test_every_mistake_is_named():
    with pytest.raises(SettingsError, match=r"RANK or JOB.*WORLD_SIZE.*STEPS is 0.*STEP_SECONDS.*CHECKPOINT_DIR must"):
        Settings.read({"STEPS": "0", "STEP_SECONDS": "soon"})
    with pytest.raises(SettingsError, match="rank 2 is not one of 2"):
        Settings.read(TOLD | {"RANK": "2", "WORLD_SIZE": "2"})
