"""Who keeps a cluster alive, so that the next start clears away what a killed one left, in whatever folder it was.

A cluster in a `with` block belongs to the process that entered it, which is noted in the cache folder. `make up` leaves
no such note: what it starts is meant to stay.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from hack.build import cache_folder
from hack.cluster.provider import provider
from hack.processes import started_at, write_whole


def _notes() -> Path:
    folder = cache_folder() / "claims"
    folder.mkdir(exist_ok=True)
    return folder


def _note(state: Path) -> Path:
    return _notes() / (hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:16] + ".json")


def claim(state: Path, provider_name: str = "embedded") -> None:
    """Whatever runs from this state folder is of no use once this process is gone."""
    told = {"state": str(state.resolve()), "pid": os.getpid(), "started": started_at(os.getpid())}
    told["provider"] = provider_name
    write_whole(_note(state), json.dumps(told))


def release(state: Path) -> None:
    """It was cleared away in order."""
    _note(state).unlink(missing_ok=True)


def clear_orphans() -> None:
    """End what belongs to processes that are no more."""
    for note in _notes().glob("*.json"):
        try:
            told = json.loads(note.read_text())
        except FileNotFoundError:  # its owner was quicker
            continue
        if started_at(told["pid"]) == told["started"]:
            continue
        state = Path(told["state"])
        known = state.is_dir()
        provider(state, name=told.get("provider")).stop()
        if not known:  # its containers may have outlived it
            shutil.rmtree(state)
        note.unlink(missing_ok=True)
