"""Data-parallel training that is small and real: what every worker of a gang runs, with the standard library alone.

The gang fits a linear regression by stochastic gradient descent. Each rank has its own shard of samples; gradients are
averaged at every step by an all-reduce. Which samples a step takes depends on rank and step only, and sums are taken in
the order of the ranks: however often a run is interrupted, its final loss is the same to the last bit.

What stops a run, and how it exits:

    all steps done                             0
    SIGTERM, to any of the ranks             143  all stop after the same step, once its checkpoint is on disk
    SIGTERM before the gang is together      143  there is nothing to save yet
    a peer is lost, or never came             75

Events are JSON lines on stdout. `seconds_useful` and `seconds_lost` are the gang's: compute time, mean over its ranks.
The first is of the steps that still count, and falls back to the checkpoint when steps after it are lost. The second
only grows, and is known when the next attempt resumes.

Environment: STEPS and CHECKPOINT_DIR must be set. STEP_SECONDS, CHECKPOINT_EVERY (steps), RENDEZVOUS_SECONDS,
PEER_SECONDS (how long a peer may be silent; longer than a step) and BACKEND (`gloo`, where torch is there) may be.
Who a process is comes from torchrun's variables, or from those that an Indexed Job and the operator set.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

FEATURES = 8
SAMPLES_PER_RANK = 256
BATCH = 32
LEARNING_RATE = 0.05
NOISE = 0.1

EXIT_LOST = 75  # EX_TEMPFAIL: the same again may well succeed
EXIT_TERMINATED = 128 + signal.SIGTERM

_LENGTH = struct.Struct("!I")
_FRAME_LIMIT = 1 << 20
_HELLO_SECONDS = 5.0
_CONNECT_SECONDS = 2.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0

_Number = TypeVar("_Number", int, float)


class SettingsError(ValueError):
    """The environment does not say what to do. Names every mistake."""


class LostError(Exception):
    """A peer went away, or never came."""


def log(event: str, rank: int, step: int, **more: object) -> None:
    """One line, in one write: a signal handler may log while the program does."""
    line = {"event": event, "rank": rank, "step": step, "time": time.time(), **more}
    os.write(1, (json.dumps(line) + "\n").encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    rank: int
    world: int
    host: str
    port: int
    steps: int
    step_seconds: float
    checkpoint_dir: Path
    checkpoint_every: int
    rendezvous_seconds: float
    peer_seconds: float
    gloo: bool

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """Raises SettingsError."""
        mistakes: list[str] = []

        def number(
            kind: Callable[[str], _Number], names: tuple[str, ...], default: _Number | None, least: int
        ) -> _Number:
            name = next((n for n in names if env.get(n)), None)
            if name is None and default is not None:
                return default
            try:
                value = kind(env[name or names[-1]])
            except (KeyError, ValueError):
                mistakes.append(f"{' or '.join(names)} must be a number")
                return kind("0")
            if not least <= value < math.inf:
                mistakes.append(f"{name} is {value}, and must not be less than {least}")
            return value

        # The operator counts GPUs in WORLD_SIZE, for torchrun starts a process for each. Without torchrun there is
        # one process in a pod, and pods are what counts.
        sizes = ("WORLD_SIZE",) if env.get("RANK") else ("PET_NNODES", "WORLD_SIZE")
        settings = cls(
            rank=number(int, ("RANK", "JOB_COMPLETION_INDEX"), None, 0),
            world=number(int, sizes, None, 1),
            host=env.get("MASTER_ADDR") or env.get("PET_MASTER_ADDR") or "localhost",
            port=number(int, ("MASTER_PORT", "PET_MASTER_PORT"), 29500, 1),
            steps=number(int, ("STEPS",), None, 1),
            step_seconds=number(float, ("STEP_SECONDS",), 0.0, 0),
            checkpoint_dir=Path(env.get("CHECKPOINT_DIR") or "."),
            checkpoint_every=number(int, ("CHECKPOINT_EVERY",), 50, 1),
            rendezvous_seconds=number(float, ("RENDEZVOUS_SECONDS",), 60.0, 0),
            peer_seconds=number(float, ("PEER_SECONDS",), 60.0, 1),
            gloo=env.get("BACKEND") == "gloo",
        )
        if not env.get("CHECKPOINT_DIR"):
            mistakes.append("CHECKPOINT_DIR must be set")
        if not mistakes and settings.rank >= settings.world:
            mistakes.append(f"rank {settings.rank} is not one of {settings.world}")
        if mistakes:
            raise SettingsError("; ".join(mistakes))
        return settings


class Collective(Protocol):
    """What a rank needs of the others."""

    def all_reduce(self, values: list[float]) -> list[float]:
        """The sum over all ranks, the same bits everywhere. Raises LostError."""

    def close(self) -> None: ...


def _send(peer: socket.socket, values: list[float]) -> None:
    payload = struct.pack(f"!{len(values)}d", *values)
    peer.sendall(_LENGTH.pack(len(payload)) + payload)


def _receive(peer: socket.socket) -> list[float]:
    """Raises OSError, also where what comes is not one of our frames."""
    (length,) = _LENGTH.unpack(_exactly(peer, _LENGTH.size))
    if length > _FRAME_LIMIT or length % 8:
        raise ConnectionError(f"a frame of {length} bytes is not ours")
    return list(struct.unpack(f"!{length // 8}d", _exactly(peer, length)))


def _exactly(peer: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = peer.recv(size - len(parts))
        if not part:
            raise ConnectionError("the connection was closed")
        parts += part
    return bytes(parts)


class Sockets:
    """A star: rank 0 adds up and sends the sum back. `peers` by rank; of another rank, rank 0 alone."""

    def __init__(self, rank: int, peers: dict[int, socket.socket]) -> None:
        self._rank = rank
        self._peers = dict(sorted(peers.items()))

    def all_reduce(self, values: list[float]) -> list[float]:
        if self._rank:
            self._tell(values)
            return self._hear(0, len(values))
        total = list(values)
        for rank in self._peers:  # in order: sums of floats depend on it
            total = [a + b for a, b in zip(total, self._hear(rank, len(values)), strict=True)]
        self._tell(total)
        return total

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()

    def _tell(self, values: list[float]) -> None:
        for rank, peer in self._peers.items():
            try:
                _send(peer, values)
            except OSError as error:
                raise LostError(f"rank {rank}: {error}") from error

    def _hear(self, rank: int, size: int) -> list[float]:
        try:
            values = _receive(self._peers[rank])
        except OSError as error:
            raise LostError(f"rank {rank}: {error}") from error
        if len(values) != size:
            raise LostError(f"rank {rank}: sent {len(values)} values instead of {size}")
        return values


def gather(settings: Settings) -> Sockets:
    """Bring the gang together. Raises LostError where it is not whole in time."""
    until = time.monotonic() + settings.rendezvous_seconds
    peers: dict[int, socket.socket] = {}
    try:
        if settings.rank:
            peers[0] = _join(settings, until)
        else:
            _host(settings, until, peers)
        for peer in peers.values():
            peer.settimeout(settings.peer_seconds)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:  # SIGTERM leaves here too, as SystemExit
        Sockets(settings.rank, peers).close()
        raise
    return Sockets(settings.rank, peers)


def _host(settings: Settings, until: float, peers: dict[int, socket.socket]) -> None:
    """Wait for all the others, then bid them welcome."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    with socket.create_server(("", settings.port), family=family, backlog=128, dualstack_ipv6=dual) as server:
        while len(peers) < settings.world - 1:
            left = until - time.monotonic()
            if left <= 0:
                missing = sorted(set(range(1, settings.world)) - set(peers))
                raise LostError(f"ranks {missing} did not come within {settings.rendezvous_seconds:g} s")
            server.settimeout(left)
            try:
                peer, _ = server.accept()
            except TimeoutError:
                continue
            rank = _greeted(peer, settings.world)
            if rank is None:
                peer.close()  # a probe, or a worker of another gang
                continue
            if rank in peers:
                peers[rank].close()  # the later one is alive
            peers[rank] = peer
    for rank, peer in peers.items():
        try:
            _send(peer, [float(settings.world)])
        except OSError as error:
            raise LostError(f"rank {rank}: {error}") from error


def _greeted(peer: socket.socket, world: int) -> int | None:
    """The rank that a caller says it has; None where it is none of ours."""
    peer.settimeout(_HELLO_SECONDS)
    try:
        rank, size = _receive(peer)
    except (OSError, ValueError):
        return None
    return int(rank) if size == world and rank in range(1, world) else None


def _join(settings: Settings, until: float) -> socket.socket:
    """Call rank 0 until it answers. Its name may not be known yet, nor its process be up."""
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            peer = socket.create_connection((settings.host, settings.port), timeout=_CONNECT_SECONDS)
            try:
                _send(peer, [float(settings.rank), float(settings.world)])
                peer.settimeout(max(until - time.monotonic(), 0.001))
                _receive(peer)
            except BaseException:
                peer.close()
                raise
            return peer
        except OSError as error:
            if time.monotonic() + wait_s >= until:
                raise LostError(f"rank 0 at {settings.host}:{settings.port}: {error}") from error
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


class Gloo:
    """torch.distributed's, for images that have torch. While it gathers the gang it is deaf to SIGTERM."""

    def __init__(self, torch: Any, settings: Settings) -> None:
        self._torch = torch
        try:
            torch.distributed.init_process_group(
                "gloo",
                init_method=f"tcp://{settings.host}:{settings.port}",
                rank=settings.rank,
                world_size=settings.world,
                timeout=timedelta(seconds=settings.rendezvous_seconds),
            )
        except (RuntimeError, OSError) as error:  # by version: DistError is the one, TimeoutError the other
            raise LostError(str(error)) from error

    def all_reduce(self, values: list[float]) -> list[float]:
        tensor = self._torch.tensor(values, dtype=self._torch.float64)
        try:
            self._torch.distributed.all_reduce(tensor)
        except RuntimeError as error:
            raise LostError(str(error)) from error
        return [float(value) for value in tensor.tolist()]

    def close(self) -> None:
        self._torch.distributed.destroy_process_group()


def collective(settings: Settings) -> Collective:
    """Gloo where it is asked for and there, sockets otherwise. Raises LostError."""
    if settings.gloo:
        try:
            torch: Any = importlib.import_module("torch")
            importlib.import_module("torch.distributed")
        except ImportError:
            return gather(settings)
        return Gloo(torch, settings)
    return gather(settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a checkpoint holds, and all ranks agree on."""

    step: int = 0
    attempt: int = 0
    seconds_useful: float = 0.0
    seconds_lost: float = 0.0
    steps_lost: int = 0  # by the attempt before this one
    weights: tuple[float, ...] = (0.0,) * FEATURES

    def as_values(self) -> list[float]:
        counters = (self.step, self.attempt, self.seconds_useful, self.seconds_lost, self.steps_lost)
        return [*map(float, counters), *self.weights]

    @classmethod
    def of_values(cls, values: list[float]) -> State:
        step, attempt, useful, lost, steps_lost, *weights = values
        return cls(
            step=int(step),
            attempt=int(attempt),
            seconds_useful=useful,
            seconds_lost=lost,
            steps_lost=int(steps_lost),
            weights=tuple(weights),
        )


class Checkpoints:
    """Two files. Of both, only rank 0 knows.

    checkpoint.json  what to resume from; survives the node.
    progress.json    how far the attempt has come since; not forced to disk, for it is written at every step.
    """

    def __init__(self, folder: Path) -> None:
        self._checkpoint = folder / "checkpoint.json"
        self._progress = folder / "progress.json"

    def resume(self) -> State:
        """Begin an attempt: what the last one did after its checkpoint is booked as lost, in the same write."""
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        before = State()
        if self._checkpoint.exists():
            told = json.loads(self._checkpoint.read_text())
            before = State(**{**told, "weights": tuple(told["weights"])})
        steps, seconds = self._unsaved(before)
        state = replace(
            before, attempt=before.attempt + 1, seconds_lost=before.seconds_lost + seconds, steps_lost=steps
        )
        self.save(state)
        return state

    def save(self, state: State) -> None:
        """On disk when it returns."""
        _replace(self._checkpoint, asdict(state), durable=True)

    def progress(self, state: State, saved: State) -> None:
        """`saved`: the checkpoint that the attempt has behind it."""
        seconds = state.seconds_useful - saved.seconds_useful
        _replace(
            self._progress,
            {"attempt": state.attempt, "step": state.step, "seconds_since_checkpoint": seconds},
            durable=False,
        )

    def _unsaved(self, saved: State) -> tuple[int, float]:
        """Steps and seconds done since; none where the file tells of another attempt, or of the checkpoint's own step.

        After a crash of the node it may be empty or old, and then a little less is known to be lost than was.
        """
        try:
            told = json.loads(self._progress.read_text())
            if told["attempt"] == saved.attempt and told["step"] > saved.step:
                return told["step"] - saved.step, float(told["seconds_since_checkpoint"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        return 0, 0.0


def _replace(path: Path, content: dict[str, object], *, durable: bool) -> None:
    """Whoever reads sees the old content or the new, whole."""
    new = path.with_suffix(".tmp")
    with new.open("w") as file:
        json.dump(content, file)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Shard:
    """A rank's own samples of the same linear truth."""

    def __init__(self, rank: int) -> None:
        truth = random.Random("truth")
        self._slopes = [truth.uniform(-1, 1) for _ in range(FEATURES)]
        self._rank = rank
        rng = random.Random(f"shard/{rank}")
        self._samples = [self._sample(rng) for _ in range(SAMPLES_PER_RANK)]

    def _sample(self, rng: random.Random) -> tuple[list[float], float]:
        x = [rng.gauss(0, 1) for _ in range(FEATURES)]
        return x, _dot(self._slopes, x) + rng.gauss(0, NOISE)

    def gradient(self, weights: tuple[float, ...], step: int) -> tuple[list[float], float]:
        """Of half the mean squared error over the step's batch, and that error."""
        batch = random.Random(f"batch/{self._rank}/{step}").sample(self._samples, BATCH)
        misses = [_dot(weights, x) - y for x, y in batch]
        gradient = [sum(m * x[i] for m, (x, _) in zip(misses, batch, strict=True)) / BATCH for i in range(FEATURES)]
        return gradient, sum(m * m for m in misses) / (2 * BATCH)

    def loss(self, weights: tuple[float, ...]) -> float:
        """Half the mean squared error over the whole shard."""
        return sum((_dot(weights, x) - y) ** 2 for x, y in self._samples) / (2 * SAMPLES_PER_RANK)


def _dot(a: list[float] | tuple[float, ...], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


@dataclass(slots=True)
class Worker:
    """One rank. `state` is the same on all ranks between steps."""

    settings: Settings
    state: State = field(default_factory=State)
    gang: Collective | None = None
    asked_to_stop: bool = False

    def on_sigterm(self, _number: int, _frame: object) -> None:
        """Before the gang is together nobody waits for our word, so we leave at once."""
        self._log("sigterm")
        self.asked_to_stop = True
        if self.gang is None:
            raise SystemExit(EXIT_TERMINATED)

    def run(self) -> int:
        """The exit status."""
        self._log("start", world=self.settings.world, steps=self.settings.steps)
        try:
            gang = collective(self.settings)
            self.gang = gang
            self._log("rendezvous", backend=type(gang).__name__.lower())
            try:
                return self._train(gang)
            finally:
                gang.close()
        except LostError as error:
            self._log("lost", reason=str(error), attempt=self.state.attempt)
            return EXIT_LOST

    def _train(self, gang: Collective) -> int:
        store = Checkpoints(self.settings.checkpoint_dir) if self.settings.rank == 0 else None
        # Added up with zeros, rank 0's values arrive as they are.
        mine = store.resume() if store else State()
        self.state = State.of_values(gang.all_reduce(mine.as_values()))
        if self.state.attempt > 1:
            self._log("resume", steps_lost=self.state.steps_lost, **self._counters())
        saved = self.state
        shard = Shard(self.settings.rank)
        while self.state.step < self.settings.steps:
            loss, stop = self._step(gang, shard)
            if store:
                store.progress(self.state, saved)
            self._log("step", loss=loss, seconds_useful=self.state.seconds_useful)
            if self.state.step == self.settings.steps:
                break
            if stop or self.state.step % self.settings.checkpoint_every == 0:
                self._save(store)
                saved = self.state
            if stop:
                gang.all_reduce([0.0])  # nobody leaves before the checkpoint is on disk
                return EXIT_TERMINATED
        (loss,) = gang.all_reduce([shard.loss(self.state.weights)])
        if saved != self.state:
            self._save(store)
        gang.all_reduce([0.0])
        self._log("done", loss=loss / self.settings.world, **self._counters())
        return 0

    def _step(self, gang: Collective, shard: Shard) -> tuple[float, bool]:
        """The loss on the step's batches, and whether any rank wants to stop."""
        started = time.monotonic()
        gradient, loss = shard.gradient(self.state.weights, self.state.step)
        time.sleep(max(self.settings.step_seconds - (time.monotonic() - started), 0))
        took = time.monotonic() - started
        *gradient, loss, took, stops = gang.all_reduce([*gradient, loss, took, float(self.asked_to_stop)])
        rate = LEARNING_RATE / self.settings.world
        before = self.state
        self.state = replace(
            before,
            step=before.step + 1,
            seconds_useful=before.seconds_useful + took / self.settings.world,
            weights=tuple(w - rate * g for w, g in zip(before.weights, gradient, strict=True)),
        )
        return loss / self.settings.world, stops > 0

    def _save(self, store: Checkpoints | None) -> None:
        if store:
            store.save(self.state)
            self._log("checkpoint", **self._counters())

    def _counters(self) -> dict[str, float]:
        state = self.state
        return {
            "attempt": state.attempt,
            "seconds_useful": state.seconds_useful,
            "seconds_lost": state.seconds_lost,
        }

    def _log(self, event: str, **more: object) -> None:
        log(event, self.settings.rank, self.state.step, **more)


def main() -> int:
    try:
        settings = Settings.read(os.environ)
    except SettingsError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    worker = Worker(settings)
    # Said here because a container's first process has no default for it: the kernel would drop the signal.
    signal.signal(signal.SIGTERM, worker.on_sigterm)
    return worker.run()


if __name__ == "__main__":
    sys.exit(main())
